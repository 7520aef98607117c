"""torchrun's command, environment and log lines."""

import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.config.run import RunSpec
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.launch.launchers.base import build_run_environment
from ecrl.launch.launchers.torchrun import Torchrun, _unix_ns
from ecrl.records.paths import RunPaths
from tests.unit.launch.stand_in import MATRIX

LINE = (
    "E{stamp} 4809 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: -9) local_rank: 1"
    " (pid: 4815) of binary: /usr/bin/python"
)


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    order = ("blocking", "reference", "overlapped")
    return build_run_specs(
        expand_matrix(load(path))[0], 1337, order, prefix="p", device="cpu", data_root=None, claims_hash="c"
    )[0]


def test_the_command_allows_one_restart_for_every_planned_failure(spec: RunSpec) -> None:
    command = Torchrun().command(spec, RunPaths(Path("/r/run")))
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert command[command.index("--max-restarts") + 1] == str(len(spec.failures)) == "1"
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert command[-3:] == ["-m", "ecrl.worker", "/r/run"]


def test_the_environment_keeps_the_callers_and_adds_what_a_run_needs(spec: RunSpec) -> None:
    base = {"PYTHONPATH": "/mine", "OMP_NUM_THREADS": "8", "HOME": "/home"}
    environment = build_run_environment(base, spec, RunPaths(Path("/r/run")), Path("/r"), (2, 3))
    assert environment["PYTHONPATH"] == "/mine"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (environment["ECRL_CAMPAIGN"], environment["ECRL_RUN"]) == ("/r", "/r/run")
    assert "CUDA_VISIBLE_DEVICES" not in build_run_environment(base, spec, RunPaths(Path("/r/run")), Path("/r"), ())


def test_a_reported_failure_gives_rank_exit_code_and_instant() -> None:
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now)) + ".250000"
    failed = Torchrun().parse_failure(LINE.format(stamp=stamp))
    assert failed is not None
    assert (failed.local_rank, failed.exitcode) == (1, -9)
    assert failed.unix_ns is not None
    assert failed.unix_ns / 1e9 == pytest.approx(int(now) + 0.25, abs=1e-3)
    assert (
        Torchrun().parse_failure("W1121 23:45:46.068000 4809 api.py:1028] Sending process 4814 closing signal") is None
    )


def test_a_stamp_has_no_year_and_takes_the_nearest() -> None:
    new_year = datetime(2027, 1, 1, 0, 0, 5)
    told = _unix_ns("1231 23:59:58.000000", new_year)
    assert told is not None
    assert new_year.timestamp() - told / 1e9 == pytest.approx(7)
    assert _unix_ns("0229 12:00:00.000000", datetime(2027, 3, 1)) is not None  # of 2028, the only one near
