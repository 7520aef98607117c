"""What a profile says about copies and kernels, read from traces as Kineto writes them; none came from a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl.selftest import cpu, overlap
from ecrl.selftest.overlap import judge_overlap, read_trace

MODEL_STREAM, COPY_STREAM = 7, 20


def kernel(begin: float, end: float, stream: int = MODEL_STREAM) -> dict[str, Any]:
    return {
        "ph": "X", "cat": "kernel", "name": "sgemm", "ts": begin, "dur": end - begin, "args": {"stream": stream},
    }  # fmt: skip


def copy(begin: float, end: float, stream: int = COPY_STREAM, to: str = "Pinned") -> dict[str, Any]:
    name = f"Memcpy DtoH (Device -> {to})"
    args = {"stream": stream, "bytes": 1000}
    return {"ph": "X", "cat": "gpu_memcpy", "name": name, "ts": begin, "dur": end - begin, "args": args}


UPLOAD = copy(0, 50) | {"name": "Memcpy HtoD (Pinned -> Device)"}
LABEL = {"ph": "M", "name": "process_name", "args": {}}


def test_the_share_counts_time_under_any_kernel_once() -> None:
    found = read_trace([LABEL, UPLOAD, kernel(0, 10), kernel(5, 12), kernel(16, 30), copy(8, 20), copy(40, 48)])
    assert found.copy_us == 20
    assert found.share == pytest.approx((4 + 4) / 20)
    assert (found.num_copies, found.copied_bytes) == (2, 2000)


def test_copies_under_kernels_on_a_stream_of_their_own_pass() -> None:
    finding = judge_overlap(read_trace([kernel(0, 100), copy(10, 30)]), 9.0, 10.0)
    assert finding.verdict == "pass"
    assert finding.evidence.startswith("100% of the time of 1 copies to pinned memory lay under kernels; 9 steps/s")


def test_a_low_share_is_a_warning() -> None:
    assert judge_overlap(read_trace([kernel(0, 12), copy(10, 30)]), 9.0, 10.0).verdict == "warn"


def test_a_pageable_copy_is_wrong() -> None:
    finding = judge_overlap(read_trace([kernel(0, 100), copy(10, 30), copy(31, 32, to="Pageable")]), 9.0, 10.0)
    assert finding.verdict == "wrong"
    assert "1 of 2 copies went to pageable memory" in finding.evidence


def test_copies_on_the_stream_of_the_kernels_are_wrong() -> None:
    finding = judge_overlap(read_trace([kernel(0, 10), copy(10, 30, stream=MODEL_STREAM)]), 9.0, 10.0)
    assert finding.verdict == "wrong"
    assert "share stream 7" in finding.evidence


@pytest.mark.parametrize("events", [[], [LABEL, UPLOAD], [kernel(0, 1)], [copy(0, 1)]])
def test_a_profile_without_copies_or_kernels_shows_nothing(events: list[dict[str, Any]]) -> None:
    assert judge_overlap(read_trace(events), 9.0, 10.0).verdict == "inconclusive"


def test_the_whole_check_runs_and_shows_nothing_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "_PROFILED_STEPS", 4)
    monkeypatch.setattr(overlap, "_TIMED_STEPS", 4)
    monkeypatch.setattr(overlap, "_TIMED_EVERY", 2)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    setup = cpu.make_setup("cnn", 3, tmp_path)
    finding = overlap.check_overlap(lambda: setup.subject("sgd"), setup.new_folder())
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    assert finding.verdict == "inconclusive"
    assert finding.details["steps_per_s"] > 0
    assert finding.details["steps_per_s_without_checkpoints"] > 0
