"""Queries nvidia-smi: cards, processes that compute on them, and limits of their clocks. Only this module runs it."""

import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass

_TIMEOUT_S = 20.0
_FACTS = ("uuid", "name", "driver_version")
_MASK = re.compile(r"0x[0-9a-fA-F]+")
_hung = threading.Event()
# The bit mask of reasons why a card runs below its full clock; drivers before 535 know only the second name.
_REASON_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
# nvml.h, nvmlClocksEventReason*
_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


@dataclass(frozen=True)
class Sample:
    """The state of some cards at one instant.

    reasons: what limits the clock of any card; None if the driver does not report it. pids: processes that compute on
    any card; None if the driver does not list them.
    """

    uuids: tuple[str, ...]
    names: tuple[str, ...]
    driver: str
    reasons: frozenset[str] | None
    pids: frozenset[int] | None


def take_sample(gpus: Sequence[str]) -> Sample | None:
    """A sample of the cards with these numbers or UUIDs (empty: all). None: nvidia-smi does not answer for them."""
    chosen = ["-i", ",".join(gpus)] if gpus else []
    told, field = "", ""
    for field in (*_REASON_FIELDS, ""):  # last without reasons, for a driver that knows neither name
        columns = [*_FACTS, *([field] if field else [])]
        told, problem = query_smi([*chosen, f"--query-gpu={','.join(columns)}"])
        if not problem:
            break
    cards = parse_table(told, len(_FACTS) + bool(field))
    if not cards:
        return None
    uuids = tuple(card[0] for card in cards)
    return Sample(
        uuids,
        tuple(card[1] for card in cards),
        cards[0][2],
        _reasons([card[len(_FACTS)] for card in cards]) if field else None,
        _pids(uuids),
    )


def _reasons(masks: Sequence[str]) -> frozenset[str] | None:
    """Names of the bits that are set in any mask. None: no card reports a mask ('[N/A]')."""
    known = [int(found[0], 16) for mask in masks if (found := _MASK.match(mask))]
    return frozenset(name for bit, name in _REASONS.items() if any(mask & bit for mask in known)) if known else None


def _pids(uuids: Sequence[str]) -> frozenset[int] | None:
    told, problem = query_smi(["--query-compute-apps=gpu_uuid,pid"])
    if problem:
        return None
    return frozenset(int(pid) for uuid, pid in parse_table(told, 2) if uuid in uuids and pid.isdecimal())


def parse_table(told: str, columns: int) -> list[list[str]]:
    """The rows of an answer. Lines with another number of columns are dropped."""
    rows = [line.split(", ") for line in told.splitlines()]
    return [row for row in rows if len(row) == columns]


def query_smi(arguments: Sequence[str]) -> tuple[str, str]:
    """(nvidia-smi's answer as CSV without a header, ''), or ('', what went wrong).

    After a timeout, this process does not run nvidia-smi again.
    """
    # Each query of a hung driver would cost another timeout.
    if _hung.is_set():
        return "", "it did not answer before and is not asked again"
    command = ["nvidia-smi", *arguments, "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if isinstance(error, subprocess.TimeoutExpired):
            stop_querying()
        return "", " ".join(str(error).split())[:200]
    lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    return (done.stdout, "") if done.returncode == 0 else ("", lines[0][:200])


def stop_querying() -> None:
    """Make every later query fail at once."""
    # nvidia-smi hangs, perhaps so deep in its driver that it cannot even be killed.
    _hung.set()
