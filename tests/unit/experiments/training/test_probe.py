"""Asking the machine, and refusing what it cannot run. The probes here are programs behind the real interface."""

import dataclasses
import importlib.metadata
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix
from ecrl.errors import DataMissingError, EcrlError
from ecrl.experiments.training.probe import Probe, build_probe_request, run_probe
from ecrl.launch.system.signals import StoppedError, StopRequest
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, answer

ECHO = """
import json, os, sys
asked = json.load(sys.stdin)
json.dump({"torch": "0", "gpus": [], "gpu_bytes": [], "footprints": {}, "precisions": {},
           "asked": asked, "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
           "datasets": {d: {"ok": True} for d in asked["datasets"]}, "state_bytes": {}},
          open(int(os.environ["ECRL_REPLY_FD"]), "w"))
"""

TABLES = {"backend": "train", "nproc": "train"}


def matrix(tmp_path: Path, **run: object) -> Matrix:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    return load(path, overrides=[Override((TABLES.get(key, "run"), key), value, key) for key, value in run.items()])


def with_gpus(tmp_path: Path, count: int) -> Probe:
    return dataclasses.replace(answer(matrix(tmp_path)), gpus=("GPU",) * count)


def no_look() -> None: ...


def command(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_the_probe_is_asked_about_this_matrix_with_the_gpus_of_its_runs(tmp_path: Path) -> None:
    probe = run_probe(matrix(tmp_path, gpus=[1, 3]), StopRequest(), no_look, command(ECHO))
    assert probe.facts["asked"]["datasets"] == ["noise"]
    assert probe.facts["asked"]["models"] == ["cnn"]
    assert probe.facts["visible"] == "1,3"


def test_without_torch_the_error_says_what_to_install(tmp_path: Path) -> None:
    with raises("ECRL-506", sys.executable, "'torch_is_not_here'", "pip install torch_is_not_here"):
        run_probe(matrix(tmp_path), StopRequest(), no_look, command("import torch_is_not_here"))


def test_a_probe_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(EcrlError, match="exit code 1: ZeroDivisionError"):
        run_probe(matrix(tmp_path), StopRequest(), no_look, command("1/0"))


def test_a_probe_that_answers_nonsense_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="hello"):
        run_probe(
            matrix(tmp_path),
            StopRequest(),
            no_look,
            command("import os; os.write(int(os.environ['ECRL_REPLY_FD']), b'hello')"),
        )


def test_what_is_printed_beside_the_answer_is_no_answer(tmp_path: Path) -> None:
    noisy = f"print('a start-up file of the site prints here')\n{ECHO}\nprint('and here')"
    assert run_probe(matrix(tmp_path), StopRequest(), no_look, command(noisy)).facts["asked"]["models"] == ["cnn"]


def test_a_signal_while_the_probe_works_ends_it(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.request(signal.SIGINT)
    with pytest.raises(StoppedError, match="Nothing was started") as stopped:
        run_probe(matrix(tmp_path), stop, no_look, command("import time; time.sleep(60)"))
    assert stopped.value.exit_code == 130


def test_missing_data_is_told_before_anything_starts(tmp_path: Path) -> None:
    told = answer(matrix(tmp_path))
    told.datasets["noise"] = {"ok": False, "error": "noise: not found in /data"}
    with pytest.raises(DataMissingError, match="noise: not found in /data"):
        told.check(matrix(tmp_path))


@pytest.mark.parametrize(
    ("gpus", "run", "message"),
    [
        (0, {"device": "cuda"}, "--device: found cuda, but PyTorch sees no GPU"),
        (1, {"device": "cuda"}, "--nproc: found 2 ranks for 1 GPU, .* --nproc 1"),
        (1, {"device": "auto"}, "--nproc: found 2 ranks for 1 GPU"),
        (1, {"device": "auto"}, 'share a GPU, write backend = "gloo"'),
        (1, {"backend": "nccl"}, "--nproc: found 2 ranks for 1 GPU"),
        (0, {"device": "cuda", "backend": "gloo"}, "--device: found cuda, but PyTorch sees no GPU"),
        (0, {"backend": "nccl"}, "train.backend: found nccl, expected auto or gloo"),
        (1, {"device": "cuda", "gpus": [0, 9]}, "--gpus: found 0,9, but PyTorch sees 1 of them"),
    ],
)
def test_too_few_gpus_are_named(tmp_path: Path, gpus: int, run: dict[str, object], message: str) -> None:
    with pytest.raises(EcrlError, match=message):
        with_gpus(tmp_path, gpus).check(matrix(tmp_path, **run))


def test_a_precision_that_the_cpu_lacks_is_named_unless_gpus_train(tmp_path: Path) -> None:
    def lacking(gpus: int) -> Probe:
        return dataclasses.replace(with_gpus(tmp_path, gpus), precisions={"bf16": "", "fp16": "no kernel for Half"})

    with raises("ECRL-630", "train.precision", "found fp16", "no kernel for Half", '"fp32"'):
        lacking(0).check(matrix(tmp_path))
    lacking(2).check(matrix(tmp_path))
    dataclasses.replace(with_gpus(tmp_path, 0), precisions={"bf16": ""}).check(matrix(tmp_path))


def test_the_probe_is_asked_for_short_precisions_of_every_suite(tmp_path: Path) -> None:
    assert build_probe_request(matrix(tmp_path))["precisions"] == []
    more = 'precision = "bf16"\n[axes]\n"train.precision" = ["fp32", "fp16"]\n'
    path = tmp_path / "axis.toml"
    path.write_text(MATRIX + more)
    assert build_probe_request(load(path))["precisions"] == ["fp16"]


def test_over_gloo_ranks_may_outnumber_gpus(tmp_path: Path) -> None:
    with_gpus(tmp_path, 1).check(matrix(tmp_path, device="cuda", backend="gloo", nproc=5))


def test_auto_is_cuda_where_there_are_gpus(tmp_path: Path) -> None:
    assert with_gpus(tmp_path, 2).device("auto") == "cuda"
    assert with_gpus(tmp_path, 0).device("auto") == "cpu"
    assert with_gpus(tmp_path, 2).device("cpu") == "cpu"
    with_gpus(tmp_path, 2).check(matrix(tmp_path, device="cuda"))


def test_the_request_is_json(tmp_path: Path) -> None:
    assert (
        json.dumps(run_probe(matrix(tmp_path), StopRequest(), no_look, command(ECHO)).facts["asked"]["data_root"])
        == "null"
    )


@pytest.mark.timeout(300)  # it loads torch
def test_the_real_probe_knows_torchvision_without_the_time_it_takes_to_load() -> None:
    code = (
        "import json, sys\nfrom ecrl.worker.probe import probe\n"
        "asked = {'datasets': ['noise'], 'models': ['cnn'], 'optimizer': 'sgd', 'data_root': None, "
        "'sequence_length': 1, 'global_batch': 1, 'precisions': []}\n"
        "print(json.dumps([probe(asked)['torchvision'], 'torchvision' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [importlib.metadata.version("torchvision"), False]


def test_a_slow_probe_says_what_it_waits_for(tmp_path: Path) -> None:
    looks: list[float] = []
    slow = command(f"import time; time.sleep(0.5)\n{ECHO}")
    run_probe(matrix(tmp_path), StopRequest(), lambda: looks.append(0.1), slow)
    assert len(looks) >= 2
