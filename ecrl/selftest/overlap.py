"""Check in a profile that copies overlap with kernels, and measure the throughput that remains."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ecrl.checkpoint.engine import Engine, NoCheckpoints
from ecrl.checkpoint.engines.overlapped import Overlapped
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import TrainingUnderTest, engine_context
from ecrl.selftest.verdict import INCONCLUSIVE, PASS, WARN, WRONG, CheckResult

LOW_SHARE = 0.5
_PROFILED_STEPS, _PROFILED_EVERY = 8, 2
_TIMED_STEPS, _TIMED_EVERY = 30, 10

Span = tuple[float, float]  # microseconds


@dataclass(frozen=True)
class Overlap:
    """The result of a profile. share: the part of the time of copies to the host during which a kernel ran too."""

    num_copies: int
    num_pageable: int
    copied_bytes: int
    copy_streams: frozenset[int]
    kernel_streams: frozenset[int]
    copy_us: float
    share: float | None


def read_trace(events: list[dict[str, Any]]) -> Overlap:
    """Read the `traceEvents` of a profile's Chrome trace."""
    spans = [e for e in events if e.get("ph") == "X"]
    copies = [e for e in spans if e.get("cat") == "gpu_memcpy" and "DtoH" in e["name"]]
    kernels = [e for e in spans if e.get("cat") == "kernel"]
    copied = _merge_spans([(e["ts"], e["ts"] + e["dur"]) for e in copies])
    computed = _merge_spans([(e["ts"], e["ts"] + e["dur"]) for e in kernels])
    copy_us = sum(end - begin for begin, end in copied)
    return Overlap(
        num_copies=len(copies),
        num_pageable=sum("Pageable" in e["name"] for e in copies),
        copied_bytes=sum(int(e["args"].get("bytes", 0)) for e in copies),
        copy_streams=frozenset(int(e["args"]["stream"]) for e in copies),
        kernel_streams=frozenset(int(e["args"]["stream"]) for e in kernels),
        copy_us=copy_us,
        share=_common_us(copied, computed) / copy_us if copy_us else None,
    )


def judge_overlap(overlap: Overlap, steps_per_s: float, steps_per_s_without: float) -> CheckResult:
    """The result of the check: copies into pageable memory or on the kernels' stream are wrong; a low share is not."""
    # A low share depends on the hardware.
    details = {
        "copies": overlap.num_copies,
        "pageable_copies": overlap.num_pageable,
        "copied_bytes": overlap.copied_bytes,
        "copy_streams": sorted(overlap.copy_streams),
        "kernel_streams": sorted(overlap.kernel_streams),
        "copy_ms": round(overlap.copy_us / 1000, 3),
        "overlap_share": overlap.share,
        "steps_per_s": steps_per_s,
        "steps_per_s_without_checkpoints": steps_per_s_without,
    }
    if overlap.share is None or not overlap.kernel_streams:
        return CheckResult(INCONCLUSIVE, "the profile shows no copies to the host, or no kernels", details)
    if overlap.num_pageable:
        evidence = f"{overlap.num_pageable} of {overlap.num_copies} copies went to pageable memory: they block"
        return CheckResult(WRONG, evidence, details)
    if common := overlap.copy_streams & overlap.kernel_streams:
        return CheckResult(WRONG, f"copies and kernels share stream {min(common)}: they cannot overlap", details)
    evidence = (
        f"{overlap.share:.0%} of the time of {overlap.num_copies} copies to pinned memory lay under kernels;"
        f" {steps_per_s:.3g} steps/s, {steps_per_s_without:.3g} without checkpoints"
    )
    return CheckResult(PASS if overlap.share >= LOW_SHARE else WARN, evidence, details)


def check_overlap(subject: Callable[[], TrainingUnderTest], folder: Path) -> CheckResult:
    """Profile the unmodified `overlapped` engine, and compare its speed with that of training without checkpoints."""
    folder.mkdir(parents=True)
    trace = folder / "trace.json"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    supported = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    with profile(activities=[a for a in activities if a in supported]) as profiled:
        _train(subject(), Overlapped, _PROFILED_STEPS, _PROFILED_EVERY, folder / "profiled")
    profiled.export_chrome_trace(str(trace))
    overlap = read_trace(json.loads(trace.read_text())["traceEvents"])
    without_s = _train(subject(), NoCheckpoints, _TIMED_STEPS, _TIMED_EVERY, folder / "without")
    with_s = _train(subject(), Overlapped, _TIMED_STEPS, _TIMED_EVERY, folder / "with")
    return judge_overlap(overlap, _TIMED_STEPS / with_s, _TIMED_STEPS / without_s)


def _train(subject: TrainingUnderTest, engine_type: type[Engine], steps: int, every: int, folder: Path) -> float:
    """Train with an engine. Returns the seconds from the second step to the end of the last."""
    stamps: list[float] = []

    class Stamped(engine_type):  # type: ignore[misc, valid-type] # any engine, with its clock read
        def before_forward(self) -> None:
            if len(stamps) < 2:
                stamps.append(_now(subject.device))
            super().before_forward()

        def drain(self) -> None:
            stamps.append(_now(subject.device))
            super().drain()

    folder.mkdir()
    recorder = Recorder(folder / "events-0-0.jsonl")
    engine: Engine = Stamped(engine_context(subject, folder, recorder, every))
    engine.prepare()
    subject.train(engine, steps)
    recorder.close()
    return (stamps[-1] - stamps[1]) * steps / (steps - 1)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.monotonic()


def _merge_spans(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _common_us(some: list[Span], others: list[Span]) -> float:
    """The length in microseconds of the intersection of two ordered lists of disjoint spans."""
    common, i, j = 0.0, 0, 0
    while i < len(some) and j < len(others):
        common += max(0.0, min(some[i][1], others[j][1]) - max(some[i][0], others[j][0]))
        if some[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return common
