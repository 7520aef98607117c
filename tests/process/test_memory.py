"""Slots that do not fit into memory are told before the first step, by a real run, with the numbers and its log."""

from pathlib import Path

import pytest

from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_run


@pytest.mark.process
@pytest.mark.timeout(240)
def test_a_run_whose_slots_do_not_fit_fails_before_its_first_step_and_says_what_it_needs(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    spec = RunSpec(
        prefix="p", suite_id="s", dataset="fashion-mini", model="cnn", failure_label="none", checkpoint_every=2,
        max_inflight=10_000_000, variant="overlapped", seed=1, device="cpu",
        train=TrainSettings(steps=4, batch_size=4, nproc=2), checkpoint=CheckpointSettings(), failures=(),
    )  # fmt: skip
    result = Supervisor(Cold(), tmp_path, SilentObserver(), StopRequest(), timeout_s=200).run(Run(spec, paths))
    assert result is not None
    assert result["outcome"] != "completed"
    assert "10000000 slots of" in result["reason"]
    assert "2 ranks need" in result["reason"]
    assert "max_inflight" in result["reason"]
    assert result["log"].endswith("stderr.log")
    assert "10000000 slots of" in (paths.folder / result["log"]).read_text(), "what the cold rank itself wrote"
    record = read_run(paths)
    assert not record.get_events("step")
    assert not record.get_events("ready")
