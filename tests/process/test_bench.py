"""`ecrl bench engines` on a small model: every number there, one JSON document, a plot, and no checkpoints left."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ecrl.cli.commands import bench
from tests.errors import raises

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def run(*arguments: str) -> Any:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    bench.register(app)
    return CliRunner().invoke(app, ["bench", "engines", *arguments], catch_exceptions=False)


def test_a_bench_of_two_ranks_measures_every_engine_it_is_told(tmp_path: Path) -> None:
    out = tmp_path / "bench"
    small = ["--model", "cnn", "--rounds", "1", "--checkpoints", "2", "--nproc", "2", "--device", "cpu"]
    small += ["--parallel", "fsdp2"]
    done = run(*small, "--engines", "overlapped,dcp-async", "--out", str(out), "--json")
    assert done.exit_code == 0
    assert done.stderr.startswith("note: the order is not balanced with --rounds 1; 6 is the least that is\n")
    document = json.loads(done.stdout)
    assert document == json.loads((out / "engines.json").read_text())
    assert [e["engine"] for e in document["engines"]] == ["overlapped", "dcp-async"]
    for engine in document["engines"]:
        assert engine["checkpoints_requested"] == 4
        assert engine["checkpoints_failed"] == 0
        assert engine["stall_s"]["median"] > 0
        assert engine["restore_s"]["median"] > 0
        assert engine["written_bytes"] >= document["state_bytes"]
    assert {e["engine"]: e["fsyncs_per_checkpoint"] > 3 for e in document["engines"]}["overlapped"]
    assert document["copy_floor_s"]["median"] > 0
    assert {t["verdict"] for t in document["targets"]} == {"not judged"}  # too small a state to judge
    assert (out / "engines.svg").read_text().lstrip().startswith("<?xml")
    assert not (out / "engines").exists()


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--engines", "overlaped"], ("--engines: ", "'overlaped'", "'overlapped'")),
        (["--model", "resnet"], ("--model: ", "'resnet'")),
        (["--device", "tpu"], ("--device: ", "'tpu'")),
        (["--parallel", "hsdp"], ("--parallel: ", "'hsdp'", "ddp, fsdp2")),
    ],
)
def test_wrong_names_are_told_before_anything_starts(
    tmp_path: Path, arguments: list[str], facts: tuple[str, ...]
) -> None:
    with raises("ECRL-102", *facts):
        run(*arguments, "--out", str(tmp_path / "bench"))
    assert not (tmp_path / "bench").exists()


def test_an_engine_that_cannot_save_a_split_model_is_refused_by_name(tmp_path: Path) -> None:
    with raises("ECRL-220", "--engines: ", "'torch-save'", "overlapped"):
        run("--parallel", "fsdp2", "--engines", "blocking,torch-save", "--out", str(tmp_path / "bench"))
    assert not (tmp_path / "bench").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with raises("ECRL-106", "--out: ", str(tmp_path)):
        run("--out", str(tmp_path))
