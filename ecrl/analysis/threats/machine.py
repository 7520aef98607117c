"""Threats from the machine and the session: other loads, mixed environments, clocks, page cache."""

from collections.abc import Iterable
from typing import Any

from ecrl.analysis.run.buckets import residual_allowed_s
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.analysis.threats.base import (
    CampaignFacts,
    CheckRegistry,
    Threat,
    explain_no_manifest,
    format_count,
    join_some,
    pick_numbers,
)
from ecrl.config.axes import PLACE_KEY
from ecrl.records.manifest import store as manifest
from ecrl.units import format_bytes

CONTENDED_LOAD_SHARE = 0.2  # of the cores, beyond the run's own ranks
CONTENDED_PSI_PERCENT = 10.0
STOLEN_SHARE = 0.01  # of processor time: the part that the hypervisor gave to other machines
CLOCK_STEP_NS = 50_000_000
CACHED_MEMORY_RATIO = 10  # memory of the machine over bytes of a checkpoint

NEARLY_FULL_SHARE = 0.10  # of the disk, or room for fewer than this many checkpoints
NEARLY_FULL_CHECKPOINTS = 3
THROTTLED_SHARE = 0.05  # drop of the CPU's clock
SUSPENDED_NS = 1_000_000  # change of CLOCK_BOOTTIME - CLOCK_MONOTONIC; only a suspend changes it
THROTTLING_REASONS = ("thermal", "power_cap", "power_brake", "hw_slowdown")  # NVML clocks-event reasons

# code -> the machine facts of `result.json` that its check needs: in pressure_before, _during, _after, or at the top.
# The report names missing facts with the check. GPU_FACTS are needed only if runs used GPUs.
NEEDED_FACTS = {
    "mixed_environment": ("host", "boot_id", "torch", "git", "driver", "gpu_uuids", "environment"),
    "cpu_contention": ("load1", "psi_cpu_some_avg10", "cpu_steal_s"),
    "disk_nearly_full": ("disk_free_bytes",),
    "suspended": ("boot_minus_mono_ns",),
    "throttled": ("cpu_mhz", "clock_event_reasons"),
    "gpu_contention": ("gpu_foreign_processes",),
    "page_cache_only": ("memory_bytes",),
}
GPU_FACTS = frozenset({"driver", "gpu_uuids", "clock_event_reasons", "gpu_foreign_processes"})

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness


def _explain_no_ledger(facts: CampaignFacts) -> str | None:
    return None if any(run.row["residual_s"] is not None for run in facts.begun) else "no run has a ledger"


@_checks.register("ledger_residual", blocks=True, blind=_explain_no_ledger)
def _check_residual(facts: CampaignFacts) -> Iterable[Threat]:
    over = [
        f"{run.label} ({run.row['residual_s']:.3f} s of {run.row['wall_s']:.1f} s)"
        for run in facts.begun
        if run.row["residual_s"] is not None and abs(run.row["residual_s"]) > residual_allowed_s(run.row["wall_s"])
    ]
    if over:
        yield Threat(
            "ledger_residual", True, f"ledgers that leave too much time unexplained ({len(over)}): {join_some(over)}"
        )


@_checks.register("mixed_environment", blocks=True)
def _check_mixed(facts: CampaignFacts) -> Iterable[Threat]:
    for (suite, seed), block in facts.blocks.items():
        if names := _find_differing_facts(run.facts.get("machine", {}) for run in block):
            yield Threat(
                "mixed_environment",
                True,
                f"inside block {facts.label(suite, f'seed{seed}')}: {', '.join(names)} differ",
            )
    names = _find_differing_facts(run.facts.get("machine", {}) for run in facts.begun)
    if PLACE_KEY in facts.campaign.matrix.axes:  # several disks are what the campaign compares
        names = [name for name in names if name != "checkpoint_disk"]
    if names:
        yield Threat("mixed_environment", False, f"between blocks: {', '.join(names)} differ")


def _find_differing_facts(machines: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the facts that differ between the machines, and of environment variables. Measurements are ignored.

    They are numbers with a fraction, and facts with names of measurements, such as load and psi.
    """
    there = list(machines)
    values: dict[str, set[str]] = {}
    environments = [machine["environment"] for machine in there if isinstance(machine.get("environment"), dict)]
    for name in set().union(*environments):
        values[name] = {str(environment.get(name)) for environment in environments}
    for machine in there:
        for name, value in machine.items():
            if isinstance(value, str | int | list) and not name.startswith(
                ("load", "psi", "free", "available", "real_", "disk_free", "boot_minus")
            ):
                values.setdefault(name, set()).add(str(value))
    return sorted(name for name, seen in values.items() if len(seen) > 1)


@_checks.register("interrupted", blocks=True, blind=explain_no_manifest)
def _check_interrupted(facts: CampaignFacts) -> Iterable[Threat]:
    rows = facts.campaign.statuses.values()
    stopped = [facts.label(row.suite_id) for row in rows if row.status == manifest.INTERRUPTED]
    if stopped:
        yield Threat(
            "interrupted", True, f"suites that were stopped and not continued ({len(stopped)}): {join_some(stopped)}"
        )
    again = [f"{facts.label(row.suite_id)} ({row.attempts} times)" for row in rows if row.attempts > 1]
    if again:  # runs are repeated from the start, so a second begin does not invalidate a run
        yield Threat("interrupted", False, f"suites that were begun more than once ({len(again)}): {join_some(again)}")


@_checks.register("reused_runs", blind=explain_no_manifest)
def _check_reused(facts: CampaignFacts) -> Iterable[Threat]:
    rows = facts.campaign.statuses.values()
    reused = [facts.label(row.suite_id) for row in rows if row.status == manifest.SKIPPED]
    if reused:
        yield Threat("reused_runs", False, f"suites kept from an earlier session ({len(reused)}): {join_some(reused)}")


@_checks.register("drained_before_kill", blocks=True)
def _check_drained(facts: CampaignFacts) -> Iterable[Threat]:
    drained = [run.label for run in facts.begun if run.facts["drained_before_failure"]]
    if drained:
        yield Threat("drained_before_kill", True, f"checkpoints were drained before a failure in {join_some(drained)}")


@_checks.register("cpu_contention")
def _check_contended(facts: CampaignFacts) -> Iterable[Threat]:
    nproc = max((run.row["nproc"] for run in facts.begun), default=0)
    cores = {run.facts["machine"]["cores"] for run in facts.begun if "cores" in run.facts.get("machine", {})}
    if cores and nproc > min(cores):
        yield Threat("cpu_contention", False, f"{nproc} ranks share {min(cores)} cores")
    busy = [text for run in facts.begun if (text := _load(run)) is not None]
    if busy:
        yield Threat("cpu_contention", False, f"runs on a busy machine ({len(busy)}): {join_some(busy)}")
    stolen = {run.label: share for run in facts.begun if (share := compute_stolen_share(run)) is not None}
    if much := {name: share for name, share in stolen.items() if share > STOLEN_SHARE}:
        worst = max(much, key=lambda name: much[name])
        evidence = f"the hypervisor took processor time from {format_count(len(much), 'run')} of {len(stolen)}"
        yield Threat("cpu_contention", False, f"{evidence} ({much[worst]:.1%} in {worst})")


def compute_stolen_share(run: RunAnalysis) -> float | None:
    """The share of processor time that the hypervisor gave to other machines during a run; None if not known."""
    stamps = [get_fact(run, name, when) for name in ("cpu_steal_s", "cpu_total_s") for when in ("before", "after")]
    if None in stamps or stamps[3] <= stamps[2]:
        return None
    return float((stamps[1] - stamps[0]) / (stamps[3] - stamps[2]))


def _load(run: RunAnalysis) -> str | None:
    nproc = run.row["nproc"]
    machine = run.facts.get("machine", {})
    before = machine.get("pressure_before")  # later values include the run's own load
    facts = pick_numbers(before if isinstance(before, dict) else machine)
    load, cores = facts.get("load1"), machine.get("cores")
    if load is not None and cores and load - nproc > CONTENDED_LOAD_SHARE * cores:
        return f"{run.label} (load {load:.1f} with {nproc} ranks on {cores:.0f} cores)"
    psi = max((value for name, value in facts.items() if name.startswith(("psi_cpu", "psi_io"))), default=0.0)
    return f"{run.label} (pressure {psi:.0f} %)" if psi > CONTENDED_PSI_PERCENT else None


def _explain_no_clocks(facts: CampaignFacts) -> str | None:
    seen = any(run.facts["clock_step_ns"] is not None for run in facts.begun)
    return None if seen else "no run recorded its clocks"


@_checks.register("clock_step", blind=_explain_no_clocks)
def _check_clock(facts: CampaignFacts) -> Iterable[Threat]:
    stepped = [r.label for r in facts.begun if (r.facts["clock_step_ns"] or 0) > CLOCK_STEP_NS]
    if stepped:
        yield Threat(
            "clock_step", False, f"runs during which the wall clock was set ({len(stepped)}): {join_some(stepped)}"
        )


@_checks.register("page_cache_only")
def _check_cached(facts: CampaignFacts) -> Iterable[Threat]:
    sizes = [run.facts["checkpoint_bytes"] for run in facts.begun if run.facts["checkpoint_bytes"]]
    memories = [m for run in facts.begun if (m := _free_memory(run))]
    if facts.plans_failures and sizes and memories and min(memories) > CACHED_MEMORY_RATIO * max(sizes):
        ratio = min(memories) / max(sizes)
        yield Threat(
            "page_cache_only",
            False,
            f"free memory is {ratio:,.0f} times a checkpoint: restores read the page cache, not the disk",
        )


def _free_memory(run: RunAnalysis) -> float | None:
    """Bytes available to the page cache when the run began; all memory if that was not recorded."""
    free = get_fact(run, "available_memory_bytes", "before") or get_fact(run, "memory_bytes")
    return None if free is None else float(free)


def get_fact(run: RunAnalysis, name: str, when: str | None = None) -> Any:
    """A machine fact of a run; None if it was not recorded.

    when: 'before' or 'after' the run. Without it, the first found of during, after, before and the whole run.
    """
    machine = run.facts.get("machine", {})
    for place in ("pressure_during", "pressure_after", "pressure_before") if when is None else (f"pressure_{when}",):
        found = machine.get(place)
        if isinstance(found, dict) and name in found:
            return found[name]
    return machine.get(name) if when is None else None


@_checks.register("disk_nearly_full")
def _check_disk(facts: CampaignFacts) -> Iterable[Threat]:
    found = []
    for run in facts.begun:
        free, total = get_fact(run, "disk_free_bytes"), get_fact(run, "disk_total_bytes")
        need = NEARLY_FULL_CHECKPOINTS * (run.facts["checkpoint_bytes"] or 0)
        if free is not None and (free < need or (total and free < NEARLY_FULL_SHARE * total)):
            found.append(f"{run.label} ({format_bytes(free)} free)")
    if found:
        yield Threat(
            "disk_nearly_full", False, f"runs on a disk that is nearly full ({len(found)}): {join_some(found)}"
        )


@_checks.register("suspended", blocks=True)
def _check_suspended(facts: CampaignFacts) -> Iterable[Threat]:
    found = []
    for run in facts.begun:
        before, after = (get_fact(run, "boot_minus_mono_ns", when) for when in ("before", "after"))
        if before is not None and after is not None and after - before > SUSPENDED_NS:
            found.append(f"{run.label} ({(after - before) / 1e9:.0f} s)")
    if found:
        yield Threat("suspended", True, f"runs during which the machine slept ({len(found)}): {join_some(found)}")
    for went_on, what in (
        (False, "ecrl stood still and no rank recorded anything: machine or container may have been frozen"),
        (True, "ecrl stood still and the ranks went on (Ctrl-Z, or want of processor time or memory)"),
    ):
        pauses = {
            run.label: [p.seconds for p in run.facts["pauses"] if p.ranks_went_on is went_on] for run in facts.begun
        }
        if paused := [f"{label} ({sum(seconds):.0f} s)" for label, seconds in pauses.items() if seconds]:
            evidence = f"runs during which {what} ({len(paused)}): {join_some(paused)}"
            yield Threat("suspended", not went_on, evidence)


@_checks.register("throttled")
def _check_throttled(facts: CampaignFacts) -> Iterable[Threat]:
    found = []
    for run in facts.begun:
        before, after = (get_fact(run, "cpu_mhz", when) for when in ("before", "after"))
        if before and after and after < (1 - THROTTLED_SHARE) * before:
            found.append(f"{run.label} (CPU {before:.0f} to {after:.0f} MHz)")
        reasons = [
            r for r in get_fact(run, "clock_event_reasons") or () if any(w in str(r) for w in THROTTLING_REASONS)
        ]
        if reasons:
            found.append(f"{run.label} ({', '.join(map(str, reasons))})")
    if found:
        yield Threat("throttled", False, f"runs on a throttled processor ({len(found)}): {join_some(found)}")


@_checks.register("gpu_contention")
def _check_foreign_on_gpu(facts: CampaignFacts) -> Iterable[Threat]:
    found = [run.label for run in facts.begun if get_fact(run, "gpu_foreign_processes")]
    if found:
        yield Threat(
            "gpu_contention", False, f"runs beside other processes on their GPU ({len(found)}): {join_some(found)}"
        )
