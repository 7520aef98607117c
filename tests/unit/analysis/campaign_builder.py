"""Hand-written runs: events with exact stamps (milliseconds in, nanoseconds out), as records or as folders."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecrl.config.block_order import BALANCED, SHUFFLED, build_block_orders
from ecrl.config.hashing import content_hash
from ecrl.config.load import load
from ecrl.config.run import RunSpec
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.records import correctness
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.reader import Event, RunRecord, compute_event_digests
from ecrl.records.result import RESULT_SCHEMA

MS = 1_000_000
_UNKNOWN_WALL_S = 1.0
Events = dict[tuple[int, int], list[Event]]


def at(kind: str, t: float, /, **fields: Any) -> Event:
    """An event at t ms."""
    return {"e": kind, "t": round(t * MS)} | fields


def span(kind: str, t0: float, t: float, /, **fields: Any) -> Event:
    """An event that lasts from t0 to t ms."""
    return {"e": kind, "t0": round(t0 * MS), "t": round(t * MS)} | fields


def step(s: int, t0: float, t: float, loss: float | None = None, ids: str | None = None) -> Event:
    """A step; its loss is 1/s unless given, its sample ids are named after it."""
    return span("step", t0, t, s=s, loss=1 / s if loss is None else loss, ids=ids or f"ids-{s}")


def save(s: int, t0: float, slot: float, staged: float, t: float) -> Event:
    """A visit to the engine."""
    return span("save", t0, t, s=s, t_slot=round(slot * MS), t_staged=round(staged * MS))


def start(t: float, **fields: Any) -> Event:
    return at("start", t, **{"boot_id": "boot", "real_minus_boot_ns": 5, **fields})


def restored(s: int, t0: float, t: float, live: str = "same") -> Event:
    return span("restored", t0, t, step=s, digest_recorded="same", digest_live=live, passed_over=[])


def final(s: int, t: float, digest: str = "end") -> Event:
    return at("final", t, s=s, digest=digest, params_digest=f"p-{digest}", rng_digest="r")


def spec(**changes: Any) -> RunSpec:
    """A run of 4 steps on one rank, checkpoint every 2, one failure planned after step 3."""
    train = TrainSettings(**{"steps": 4, "batch_size": 8, "nproc": 1, **changes.pop("train", {})})
    values: dict[str, Any] = {
        "prefix": "p", "suite_id": "s-00000000", "dataset": "fashion-mini", "model": "cnn", "failure_label": "base",
        "checkpoint_every": 2, "max_inflight": 4, "variant": "blocking", "seed": 1, "device": "cpu", "train": train,
        "checkpoint": CheckpointSettings(), "failures": ({"index": 0, "at": 3, "kind": "kill", "rank": 0},),
        "block_order": ("blocking",), "claims_hash": "c",
    }  # fmt: skip
    return RunSpec(**values | changes)


def record(run: RunSpec, events: Events, launcher: list[Event], outcome: str | None = "completed") -> RunRecord:
    """A record as `read_run` would give it; outcome None: no valid result."""
    raw = json.loads(json.dumps(dataclasses.asdict(run) | {"run_hash": run.hash}))
    result = None if outcome is None else _result(run, outcome)
    return RunRecord(raw, result, events, launcher)  # type: ignore[arg-type]


def _result(run: RunSpec, outcome: str) -> dict[str, Any]:
    gate = {"passed": True, "evidence": "as recorded"}
    return {
        "schema": RESULT_SCHEMA, "run_hash": run.hash, "outcome": outcome,
        "reason": "" if outcome == "completed" else "rank 0 raised RuntimeError", "log": "logs/torchrun.log",
        "exit_code": 0 if outcome == "completed" else 1, "wall_s": _UNKNOWN_WALL_S, "restarts": 0,
        "failures_planned": 0, "failures_fired": 0, "gates": {"C1": gate, "C2": gate, "C3": gate, "C5": gate},
        "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z",
        "machine": {
            "host": "h", "boot_id": "boot", "cores": 4, "memory_bytes": 2**34, "pressure_before": {"load1": 1.5},
        },
    }  # fmt: skip


def settle(found: RunRecord) -> None:
    """Have the result say of the run what its events say, where nobody has changed the result."""
    result, stamps = found.result, {event["e"]: event["t"] for event in found.launcher}
    if result is None or result.get("wall_s") != _UNKNOWN_WALL_S or "exit" not in stamps:
        return
    found.result = {
        **result,
        "wall_s": (stamps["exit"] - stamps["spawn"]) / 1e9,
        "restarts": correctness.count_restarts(found),
        "gates": correctness.compute_gates(found, result["exit_code"]),
    }


def write(paths: RunPaths, found: RunRecord, run: RunSpec) -> None:
    """The record as a run's folder."""
    paths.folder.mkdir(parents=True)
    run.write(paths.spec)
    for (attempt, rank), events in found.events.items():
        paths.events(attempt, rank).write_text("".join(json.dumps(e) + "\n" for e in events))
    paths.launcher_events.write_text("".join(json.dumps(e) + "\n" for e in found.launcher))
    if found.result is not None:
        paths.result.write_text(json.dumps({**found.result, "events": compute_event_digests(paths)}))


# -- whole campaigns ------------------------------------------------------------------------------------------

MATRIX = """
[matrix]
datasets = {datasets}
launchers = {launchers}
models = ["cnn"]
checkpoint_every = [4]
max_inflight = {inflight}
seeds = {seeds}
variants = {variants}
[failures]
{failures}
[train]
steps = 12
nproc = 2
deterministic = true
{more}
{claims}
"""
CLAIM = """[[claims]]
name = "overlapping pays"
compare = ["overlapped", "blocking"]
expect = "ratio > 1.00"
"""


def refreeze(paths: CampaignPaths, old: str, new: str) -> None:
    """Edit the frozen matrix as a forger would: with the hash that fits."""
    paths.matrix.write_text(paths.matrix.read_text().replace(old, new))
    matrix = load(paths.matrix, frozen=True)
    paths.matrix.write_text(matrix.to_toml(f"experiment: {content_hash(matrix.content)}"))


Change = Callable[[RunSpec, RunRecord], RunRecord | None]


def campaign(
    results: Path,
    prefix: str = "exp",
    *,
    datasets: Sequence[str] = ("fashion-mini", "cifar10"),
    seeds: Sequence[int] = (1, 2, 3),
    variants: Sequence[str] = ("reference", "blocking", "overlapped"),
    claims: str = CLAIM,
    device: str = "cpu",
    launchers: Sequence[str] = ("cold",),
    failures: str = "inside = [6]",
    more: str = "",
    change: Change = lambda _, found: found,
    orders_of: str = "",
    inflight: Sequence[int] = (4,),
    order_rule: str = SHUFFLED,
) -> CampaignPaths:
    """A campaign on disk, every run simulated; `change` may alter a record or leave the run out (None).

    orders_of: the text that orders of blocks are drawn from, instead of the experiment's hash. order_rule: see
    `block_order`; older versions wrote none into the frozen matrix.
    failures: the lines of `[failures]`. more: other tables of the matrix, e.g. `[axes]` and `[variants.NAME]`.
    """
    paths = CampaignPaths(results, prefix)
    paths.root.mkdir(parents=True)
    quoted = {"datasets": json.dumps(list(datasets)), "variants": json.dumps(list(variants))}
    quoted["launchers"] = json.dumps(list(launchers))
    text = MATRIX.format(
        seeds=list(seeds), inflight=list(inflight), claims=claims, failures=failures, more=more, **quoted
    )
    paths.matrix.write_text(text)
    matrix = load(paths.matrix)
    rule = f"orders: {order_rule}\n" if order_rule == BALANCED else ""
    paths.matrix.write_text(matrix.to_toml(f"{rule}experiment: {content_hash(matrix.content)}"))
    suites, now = expand_matrix(matrix), 0.0
    orders = build_block_orders(suites, orders_of or content_hash(matrix.content), order_rule)
    for suite in suites:
        for seed in suite.seeds:
            order = orders[suite.suite_id, seed]
            for run in build_run_specs(
                suite, seed, order, prefix=prefix, device=device, data_root=None, claims_hash=matrix.claims_hash
            ):
                found = change(run, simulated(run, now))
                now += 10_000
                if found is not None:
                    settle(found)
                    write(paths.run(suite.suite_id, run.variant, seed), found, run)
    return paths


# the stall (ms) of one visit to the engine
STALL_MS = {"blocking": 40.0, "overlapped": 2.0, "torch-save": 60.0}


def simulated(run: RunSpec, begin: float) -> RunRecord:
    """A run whose steps take 100 ms plus a jitter of the seed, which fails right after step 6 and restores step 4."""
    ranks, steps, every = range(run.train.nproc), run.train.steps, run.checkpoint_every
    step_ms = 100.0 + (run.seed * 7 + len(run.variant) * 3) % 5
    now, events, launcher = begin + 1000, {}, [at("spawn", begin, pid=1)]
    todo = [(0, range(1, (run.failures[0]["at"] if run.failures else steps) + 1))]
    if run.failures:
        todo.append((1, range(run.failures[0]["at"] // every * every + 1, steps + 1)))
    for attempt, planned in todo:
        own: list[Event] = [start(now - 900), at("ready", now - 100)]
        own.append(restored(planned[0] - 1, now - 90, now - 10))
        for s in planned:
            own.append(step(s, now, now + step_ms))
            now += step_ms
            if run.engine is not None and s % every == 0:
                own.append(_visit(run.engine, s, now))
                now += STALL_MS[run.engine]
        last = attempt == len(todo) - 1
        for rank in ranks:
            extra = [] if last or rank else [at("failure", now, index=0, at=planned[-1], kind="kill")]
            if last:
                extra = [span("drain", now, now + 5), final(steps, now + 6), at("end", now + 7)]
            commits = [at("committed", e["t"] / MS + 1, s=e["s"]) for e in own if e["e"] == "save" and not rank]
            durable = [
                span("persisted", e["t_staged"] / MS, e["t"] / MS + 1, s=e["s"], bytes=1000)
                for e in own
                if e["e"] == "save"
            ]
            events[attempt, rank] = [*own, *commits, *durable, *extra]
        if not last:
            launcher.append(at("worker_failed", now + 300, local_rank=0, exitcode=-9))
            now += 1500
    launcher.append(at("exit", now + 200, code=0))
    return record(run, events, launcher)


def warmed(found: RunRecord, ms: float) -> RunRecord:
    """The same run, the first step of every attempt longer by `ms`."""
    firsts = {attempt: min(e["t"] for e in events if e["e"] == "step") for (attempt, _), events in found.events.items()}

    def shift(event: Event) -> Event:
        stamps = {"t", "t0", "t_slot", "t_staged"} & event.keys()
        return event | {
            key: event[key] + round(ms * MS) * sum(first <= event[key] for first in firsts.values()) for key in stamps
        }

    found.events = {key: list(map(shift, events)) for key, events in found.events.items()}
    found.launcher = list(map(shift, found.launcher))
    return found


def _visit(engine: str, s: int, now: float) -> Event:
    staged = now + (2 if engine == "overlapped" else 10)
    return save(s, now, now, staged, now + STALL_MS[engine])
