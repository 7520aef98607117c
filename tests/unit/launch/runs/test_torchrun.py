"""torchrun's command, environment and log lines."""

import dataclasses
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.torchrun import _unix_ns, build_run_environment, parse_failure
from ecrl.launch.system.device_leases import DeviceSet, Lease
from ecrl.records.paths import RunPaths
from tests.unit.launch.stand_in import MATRIX

LINE = (
    "E{stamp} 4809 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: -9) local_rank: 1"
    " (pid: 4815) of binary: /usr/bin/python"
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    order = ("blocking", "reference", "overlapped")
    spec = build_run_specs(
        expand_matrix(load(path))[0], 1337, order, prefix="p", device="cpu", data_root=None, claims_hash="c"
    )[0]
    return Run(spec, RunPaths(Path("/r/run")))


def test_the_command_allows_one_restart_for_every_planned_failure(run: Run) -> None:
    command = Cold().command(run)
    assert command[:4] == [sys.executable, "-P", "-m", "torch.distributed.run"]
    assert command[command.index("--max-restarts") + 1] == str(len(run.spec.failures)) == "1"
    lasting = {"index": 1, "at": 9, "kind": "scale", "rank": 0, "ends_attempt": False}
    more = dataclasses.replace(run, spec=dataclasses.replace(run.spec, failures=(*run.spec.failures, lasting)))
    assert Cold().command(more) == command, "a failure that ends no attempt needs no restart"
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert command[-3:] == ["-m", "ecrl.worker", "/r/run"]


def test_the_environment_keeps_the_callers_and_adds_what_a_run_needs(run: Run) -> None:
    base = {"PYTHONPATH": "/mine", "OMP_NUM_THREADS": "8", "HOME": "/home"}
    environment = build_run_environment(base, run, Path("/r"))
    assert environment["PYTHONPATH"] == "/mine"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (environment["ECRL_CAMPAIGN"], environment["ECRL_RUN"]) == ("/r", "/r/run")
    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_a_run_sees_the_devices_of_its_lease_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    lease = Lease(DeviceSet(("gpu-a", "gpu-b"), ("2", "3")), Path("/leases"))
    assert Cold(lease).environment(run, Path("/r"))["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert Cold().environment(run, Path("/r"))["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_a_reported_failure_gives_rank_exit_code_and_instant() -> None:
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now)) + ".250000"
    failed = parse_failure(LINE.format(stamp=stamp))
    assert failed is not None
    assert (failed.local_rank, failed.exitcode) == (1, -9)
    assert failed.unix_ns is not None
    assert failed.unix_ns / 1e9 == pytest.approx(int(now) + 0.25, abs=1e-3)
    assert parse_failure("W1121 23:45:46.068000 4809 api.py:1028] Sending process 4814 closing signal") is None


def test_a_stamp_has_no_year_and_takes_the_nearest() -> None:
    new_year = datetime(2027, 1, 1, 0, 0, 5)
    told = _unix_ns("1231 23:59:58.000000", new_year)
    assert told is not None
    assert new_year.timestamp() - told / 1e9 == pytest.approx(7)
    assert _unix_ns("0229 12:00:00.000000", datetime(2027, 3, 1)) is not None  # of 2028, the only one near
