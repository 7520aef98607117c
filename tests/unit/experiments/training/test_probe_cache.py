"""The probe's answer is kept as long as nothing that it tells of has changed, and no longer."""

import dataclasses
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix
from ecrl.experiments.training import probe_cache
from ecrl.experiments.training.probe import Probe, run_probe
from ecrl.experiments.training.probe_cache import load_probe, save_probe
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.system.signals import StopRequest
from tests.unit.launch.stand_in import MATRIX, StandIn, answer, control, request
from tests.unit.workloads import idx_miniature


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The only file of the data set."""
    path = tmp_path / "data" / "images"
    path.parent.mkdir()
    path.write_bytes(b"123")
    return path


def matrix(tmp_path: Path, *, text: str = MATRIX, **run: object) -> Matrix:
    path = tmp_path / "m.toml"
    path.write_text(text)
    return load(path, overrides=[Override(("run", key), value, key) for key, value in run.items()])


def probe(asked: Matrix, *files: Path) -> Probe:
    told = answer(asked)
    told.datasets["noise"]["files"] = {str(f): [f.stat().st_size, f.stat().st_mtime_ns] for f in files}
    return told


@pytest.fixture
def kept(tmp_path: Path, data: Path) -> Path:
    """The answer for `matrix(tmp_path)`, kept."""
    path = tmp_path / "probe.json"
    told = probe(matrix(tmp_path), data)
    save_probe(path, told, matrix(tmp_path))
    assert load_probe(path, matrix(tmp_path)) == told
    return path


def test_what_decides_nothing_that_the_probe_tells_leaves_the_answer_valid(kept: Path, tmp_path: Path) -> None:
    assert load_probe(kept, matrix(tmp_path, retries=3, device="cpu")) is not None
    assert load_probe(kept, matrix(tmp_path, text=MATRIX.replace("steps = 6", "steps = 9"))) is not None


def test_another_request_is_asked_anew(kept: Path, tmp_path: Path) -> None:
    others = ('["cnn"]', '["resnet18"]'), ('["noise"]', '["fashion-mini"]'), ("nproc = 2", 'optimizer = "adamw"')
    for before, after in others:
        assert load_probe(kept, matrix(tmp_path, text=MATRIX.replace(before, after))) is None
    assert load_probe(kept, matrix(tmp_path, data_root="/elsewhere")) is None
    assert load_probe(kept, matrix(tmp_path, gpus=[0])) is None


def _new_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "99.0")


def _new_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_cache, "read_gpu_uuids", lambda: {"0": "GPU-a"})


def _new_visibility(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")


def _new_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_cache, "boot_id", lambda: "another")


@pytest.mark.parametrize("change", [_new_torch, _new_device, _new_visibility, _new_boot])
def test_another_machine_is_asked_anew(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    change(monkeypatch)
    assert load_probe(kept, matrix(tmp_path)) is None
    monkeypatch.undo()
    assert load_probe(kept, matrix(tmp_path)) is not None


def _remove(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    path.write_bytes(b"1234")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("deed", [_remove, _replace, _touch])
def test_a_data_set_that_has_gone_or_changed_is_asked_for_anew(
    kept: Path, tmp_path: Path, data: Path, deed: Callable[[Path], None]
) -> None:
    deed(data)
    assert load_probe(kept, matrix(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "probe": {"gpus": []}}'])
def test_a_damaged_answer_is_none(kept: Path, tmp_path: Path, text: str) -> None:
    kept.write_text(text)
    assert load_probe(kept, matrix(tmp_path)) is None


def test_what_could_not_be_checked_again_is_not_kept(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "probe.json", matrix(tmp_path)
    untold = probe(asked, data)
    untold.datasets["noise"]["files"] = None
    save_probe(path, untold, asked)
    monkeypatch.setattr(probe_cache, "_list_devices", list)
    save_probe(path, dataclasses.replace(probe(asked, data), gpus=("GPU",)), asked)
    assert not path.exists()


# The answer of a machine without GPUs, and a mark for each time that it was asked.
CHILD = """
import json, os, sys
asked = json.load(sys.stdin)
open(sys.argv[1], "a").write("asked\\n")
json.dump({"torch": "0", "gpus": [], "gpu_bytes": [], "footprints": {}, "precisions": {},
           "state_bytes": {f"{d}/{m}": 1 for d in asked["datasets"] for m in asked["models"]},
           "datasets": {d: {"ok": True, "files": {}} for d in asked["datasets"]}},
          open(int(os.environ["ECRL_REPLY_FD"]), "w"))
"""


def counted(marks: Path, launcher: StandIn) -> Control:
    """The way in with a real child as the probe, which leaves a mark each time that it is started."""

    def ask(wanted: Matrix, stop: StopRequest, look: Callable[[], None]) -> Probe:
        return run_probe(wanted, stop, look, [sys.executable, "-c", CHILD, str(marks)])

    return control(launcher, ask=ask)


def test_a_campaign_asks_once_and_every_later_start_of_it_not_at_all(tmp_path: Path) -> None:
    asked, marks = request(tmp_path / "results"), tmp_path / "marks"
    assert counted(marks, StandIn({"early/blocking": "crash"})).run(asked, Policy()) == 4
    assert counted(marks, StandIn()).resume(asked.paths, Policy(retry_failed=True)) == 0
    assert marks.read_text() == "asked\n"
    results = [json.loads(path.read_text()) for path in asked.paths.root.rglob("result.json")]
    assert {result["machine"]["torch"] for result in results} == {"0"}, "what was kept is recorded as what was asked"


def test_a_preview_writes_nothing_and_planning_asks_for_those_that_start_it_later(tmp_path: Path) -> None:
    asked, marks = request(tmp_path / "results"), tmp_path / "marks"
    way_in = counted(marks, StandIn())
    way_in.preview(asked)
    assert not asked.paths.results.exists()
    way_in.plan(asked)
    way_in.preview(asked)
    assert way_in.resume(asked.paths, Policy()) == 0
    assert marks.read_text() == "asked\n" * 2


@pytest.mark.timeout(300)  # it loads torch
def test_the_real_probe_tells_the_files_that_the_check_of_a_data_set_reads(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder = idx_miniature.write(root, "FashionMNIST/raw", compressed=True)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"of no use here")
    asked = matrix(tmp_path, text=MATRIX.replace('["noise"]', '["fashion-mnist", "noise"]'), data_root=str(root))
    told = run_probe(asked, StopRequest(), lambda: None)
    assert told.datasets["noise"]["files"] == {}
    read = {Path(name).relative_to(root).as_posix() for name in told.datasets["fashion-mnist"]["files"]}
    assert read == {f"FashionMNIST/raw/{name}.gz" for name in idx_miniature.contents()} | {"checksums.json"}
    save_probe(tmp_path / "probe.json", told, asked)
    assert load_probe(tmp_path / "probe.json", asked) == told
