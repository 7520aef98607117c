"""Threats that lie in the machine and the session: other loads, mixed environments, clocks, order, page cache."""

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from ecrl.analysis.metrics import RunAnalysis, residual_allowed_s
from ecrl.analysis.threat import Checks, Scene, Threat, numbers, some
from ecrl.records import manifest

CONTENDED_LOAD_SHARE = 0.2  # of the cores, beyond the run's own ranks
CONTENDED_PSI_PERCENT = 10.0
CLOCK_STEP_NS = 50_000_000
CACHED_MEMORY_RATIO = 10  # memory of the machine over bytes of a checkpoint

_checks = Checks()
CHECKS = _checks.by_code


@_checks.of("ledger_residual")
def _residual(scene: Scene) -> Iterable[Threat]:
    over = [
        f"{run.name} ({run.row['residual_s']:.3f} s of {run.row['wall_s']:.1f} s)"
        for run in scene.begun
        if run.row["residual_s"] is not None and abs(run.row["residual_s"]) > residual_allowed_s(run.row["wall_s"])
    ]
    if over:
        yield Threat(
            "ledger_residual", True, f"ledgers that leave too much time unexplained ({len(over)}): {some(over)}"
        )


@_checks.of("mixed_environment")
def _mixed(scene: Scene) -> Iterable[Threat]:
    for (suite, seed), block in scene.blocks.items():
        if names := _differing(run.facts.get("machine", {}) for run in block):
            yield Threat("mixed_environment", True, f"inside block {suite}/seed{seed}: {', '.join(names)} differ")
    if names := _differing(run.facts.get("machine", {}) for run in scene.begun):
        yield Threat("mixed_environment", False, f"between blocks: {', '.join(names)} differ")


def _differing(machines: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the facts that are not the same on all machines; measurements (numbers with a fraction) aside."""
    values: dict[str, set[str]] = {}
    for machine in machines:
        for name, value in machine.items():
            if isinstance(value, str | int | list) and not name.startswith(
                ("load", "psi", "free", "available", "real_")
            ):
                values.setdefault(name, set()).add(str(value))
    return sorted(name for name, seen in values.items() if len(seen) > 1)


@_checks.of("not_interleaved")
def _not_interleaved(scene: Scene) -> Iterable[Threat]:
    orders = {run.facts["block_order"] for run in scene.begun if run.facts.get("block_order")}
    blocks = len({(run.row["suite_id"], run.row["seed"]) for run in scene.begun})
    if len(orders) == 1 and blocks > 2 and len(next(iter(orders))) > 1:
        order = ", ".join(next(iter(orders)))
        yield Threat(
            "not_interleaved", True, f"all {blocks} blocks ran in one order ({order}): drift favours a variant"
        )
    stamped = [] if len(_boots(scene)) > 1 else [r for r in scene.begun if r.facts["spawn_t"] is not None]
    ordered = sorted(stamped, key=lambda run: run.facts["spawn_t"])
    sizes = Counter((run.row["suite_id"], run.row["seed"]) for run in ordered)
    torn = []
    for key, group in itertools.groupby(ordered, key=lambda run: (run.row["suite_id"], run.row["seed"])):
        if len(list(group)) < sizes[key]:
            torn.append(f"{key[0]}/seed{key[1]}")
    if torn:
        names = sorted(set(torn))
        yield Threat(
            "not_interleaved", True, f"blocks between whose variants other runs came ({len(names)}): {some(names)}"
        )


def _boots(scene: Scene) -> set[str]:
    return {str(r.facts["machine"]["boot_id"]) for r in scene.begun if "boot_id" in r.facts.get("machine", {})}


@_checks.of("interrupted")
def _interrupted(scene: Scene) -> Iterable[Threat]:
    rows = scene.campaign.statuses.values()
    stopped = [row.suite_id for row in rows if row.status == manifest.INTERRUPTED]
    if stopped:
        yield Threat(
            "interrupted", True, f"suites that were stopped and not continued ({len(stopped)}): {some(stopped)}"
        )
    again = [f"{row.suite_id} ({row.attempts} times)" for row in rows if row.attempts > 1]
    if again:  # runs are repeated whole, never continued, so this alone spoils no run
        yield Threat("interrupted", False, f"suites that were begun more than once ({len(again)}): {some(again)}")


@_checks.of("reused_runs")
def _reused(scene: Scene) -> Iterable[Threat]:
    reused = [row.suite_id for row in scene.campaign.statuses.values() if row.status == manifest.SKIPPED]
    if reused:
        yield Threat("reused_runs", False, f"suites kept from an earlier session ({len(reused)}): {some(reused)}")


@_checks.of("drained_before_kill")
def _drained(scene: Scene) -> Iterable[Threat]:
    drained = [run.name for run in scene.begun if run.facts["drained_before_failure"]]
    if drained:
        yield Threat("drained_before_kill", True, f"checkpoints were drained before a failure in {some(drained)}")


@_checks.of("cpu_contention")
def _contended(scene: Scene) -> Iterable[Threat]:
    nproc = scene.campaign.matrix.train_settings.nproc
    cores = {run.facts["machine"]["cores"] for run in scene.begun if "cores" in run.facts.get("machine", {})}
    if cores and nproc > min(cores):
        yield Threat("cpu_contention", False, f"{nproc} ranks share {min(cores)} cores")
    busy = [text for run in scene.begun if (text := _load(run, nproc)) is not None]
    if busy:
        yield Threat("cpu_contention", False, f"runs on a busy machine ({len(busy)}): {some(busy)}")


def _load(run: RunAnalysis, nproc: int) -> str | None:
    machine = run.facts.get("machine", {})
    before = machine.get("pressure_before")  # what came after holds the run's own load
    facts = numbers(before if isinstance(before, dict) else machine)
    load, cores = facts.get("load1"), machine.get("cores")
    if load is not None and cores and load - nproc > CONTENDED_LOAD_SHARE * cores:
        return f"{run.name} (load {load:.1f} with {nproc} ranks on {cores:.0f} cores)"
    psi = max((value for name, value in facts.items() if name.startswith(("psi_cpu", "psi_io"))), default=0.0)
    return f"{run.name} (pressure {psi:.0f} %)" if psi > CONTENDED_PSI_PERCENT else None


@_checks.of("clock_step")
def _clock(scene: Scene) -> Iterable[Threat]:
    stepped = [r.name for r in scene.begun if (r.facts["clock_step_ns"] or 0) > CLOCK_STEP_NS]
    if stepped:
        yield Threat("clock_step", False, f"runs during which the wall clock was set ({len(stepped)}): {some(stepped)}")


@_checks.of("page_cache_only")
def _cached(scene: Scene) -> Iterable[Threat]:
    sizes = [run.facts["checkpoint_bytes"] for run in scene.begun if run.facts["checkpoint_bytes"]]
    memories = [m for run in scene.begun if (m := run.facts.get("machine", {}).get("memory_bytes"))]
    if sizes and memories and min(memories) > CACHED_MEMORY_RATIO * max(sizes):
        ratio = min(memories) / max(sizes)
        yield Threat(
            "page_cache_only",
            False,
            f"memory is {ratio:,.0f} times a checkpoint: restores read the page cache, not the disk",
        )
