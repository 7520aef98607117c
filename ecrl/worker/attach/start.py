"""Attach ecrl to a user's training loop, as a run of a campaign or as a checkpointer in production."""

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ecrl import plugins
from ecrl.checkpoint.engine import Engine, EngineContext, EnginePlugin, NoCheckpoints
from ecrl.checkpoint.state_view import UnsupportedDtypeError
from ecrl.config.train import CheckpointSettings
from ecrl.errors import EcrlError
from ecrl.failures.injector import Injector, NoFailures
from ecrl.worker.attach.checks import AUTO, CONTINUOUS, check_counts, check_engine, check_every, check_optimizers
from ecrl.worker.attach.interval import AgreedInterval, Automatic, Continuous, Interval, Rule
from ecrl.worker.attach.job import Job
from ecrl.worker.attach.log_recorder import LogRecorder
from ecrl.worker.attach.session import Session, get_session
from ecrl.worker.attach.state import AttachedState, Stateful, unwrap, unwrap_optimizer
from ecrl.worker.attach.world import World
from ecrl.worker.injection import build_injector
from ecrl.worker.losses import LossReader

# The run of all checkpoints without a campaign: whoever names their folder continues it.
_PRODUCTION = "attach"
_REBUCKETED_RANKS = 3  # sums of this many addends depend on their order, which a new DDP changes

_newest: list["weakref.ref[Job]"] = []


@dataclass(frozen=True, kw_only=True)
class Production:
    """The settings of a job without a campaign; see `ecrl.attach`."""

    engine: str
    every: int | str
    mtbf: float | None
    root: str | os.PathLike[str]
    keep: int
    max_inflight: int


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """What was given to `ecrl.attach`, checked. model: without its wrappers."""

    steps: int
    model: torch.nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    state: AttachedState
    device: torch.device
    world: World

    def build_context(self, commit_timeout_s: float, **settings: Any) -> EngineContext:
        return EngineContext(
            state=self.state,
            device=self.device,
            rank=self.world.rank,
            world_size=self.world.size,
            attempt=self.world.attempt,
            agree=lambda: self.world.new_agreement(commit_timeout_s),
            **settings,
        )

    def build_job(
        self, engine: Engine, interval: Interval, failures: Injector, losses: LossReader, *, has_records: bool
    ) -> Job:
        return Job(
            steps=self.steps,
            model=self.model,
            optimizers=self.optimizers,
            state=self.state,
            engine=engine,
            interval=interval,
            failures=failures,
            losses=losses,
            world=self.world,
            has_records=has_records,
        )


def start(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    *,
    steps: int,
    parts: Mapping[str, Stateful | None],
    production: Production,
) -> Job:
    """See `ecrl.attach`. parts: the other objects with a state, by name. production: if there is no campaign."""
    session = get_session()
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else optimizer
    given = {name: part for name, part in parts.items() if part is not None}
    _check_first(session)
    check_counts(steps=steps)
    if session is None:
        check_counts(keep=production.keep, max_inflight=production.max_inflight)
        check_every(production.every, production.mtbf)
        check_engine(production.engine)
    inner, own = unwrap(model), [unwrap_optimizer(optimizer) for optimizer in optimizers]
    check_optimizers(inner, own)
    device = next((p.device for p in inner.parameters()), torch.device("cpu"))
    world = World(device)
    ddp = _find_ddp(model)
    is_replicated = ddp is not None or world.size == 1
    state = AttachedState(inner, own, given, device, replicated=is_replicated)
    _check_state(state, world)
    loop = _Loop(steps=steps, model=inner, optimizers=own, state=state, device=device, world=world)
    if session is None:
        job = _attach_in_production(loop, production)
    else:
        job = session.job = _attach_to_run(loop, session)
        rebuckets = ddp is not None and not ddp.find_unused_parameters and world.size >= _REBUCKETED_RANKS
        session.recorder.event("attached", replicated=is_replicated, rebuckets=rebuckets)
    _newest[:] = [weakref.ref(job)]
    return job


def _check_first(session: Session | None) -> None:
    before = session.job if session else _newest[0]() if _newest else None
    if before is not None and (session or before.is_open):
        raise EcrlError(
            "ECRL-654",
            "ecrl.attach was called a second time, expected one call for one training loop.\n"
            "Give everything to one call, ecrl.attach(model, [first, second], extra={...}, steps=N), or call"
            " job.close() in between.",
        )


def _find_ddp(model: torch.nn.Module) -> DistributedDataParallel | None:
    """The DistributedDataParallel that the model is, or that torch.compile has wrapped."""
    outer = getattr(model, "_orig_mod", model)
    return outer if isinstance(outer, DistributedDataParallel) else None


def _check_state(state: AttachedState, world: World) -> None:
    try:
        state.view(0).build_layout(world.rank, world.size)
    except UnsupportedDtypeError as error:
        raise EcrlError("ECRL-655", f"ecrl.attach: {error}.\nExpected real numbers, integers or booleans.") from error


def _attach_to_run(loop: _Loop, session: Session) -> Job:
    spec, recorder = session.spec, session.recorder
    if loop.steps != spec.train.steps:
        raise EcrlError(
            "ECRL-650",
            f"steps: found {loop.steps} in ecrl.attach and train.steps = {spec.train.steps} in the matrix, expected"
            " the same.\nChange one of them.",
        )
    recorder.event("imported")
    recorder.event("group")
    losses = LossReader(loop.device, lambda step, value: recorder.event("loss", s=step, loss=value))
    failures = build_injector(
        spec, session.paths, session.rank_info, recorder, session.already_fired, loop.device, losses
    )
    context = loop.build_context(
        spec.checkpoint.commit_timeout_s,
        root=session.paths.checkpoints,
        run_hash=spec.hash,
        checkpoint_every=spec.checkpoint_every,
        max_inflight=spec.max_inflight,
        keep=spec.checkpoint.keep,
        recorder=recorder,
        options=spec.engine_options,
        reached=failures.on_phase,
        verify=session.verify,
    )
    engine = NoCheckpoints(context) if spec.engine is None else _load_plugin(spec.engine).build(context)
    return loop.build_job(engine, Interval(engine, last=False), failures, losses, has_records=True)


def _attach_in_production(loop: _Loop, settings: Production) -> Job:
    root, recorder = Path(settings.root).absolute(), LogRecorder()
    root.parent.mkdir(parents=True, exist_ok=True)
    context = loop.build_context(
        CheckpointSettings().commit_timeout_s,
        root=root,
        run_hash=_PRODUCTION,
        # An engine that waits for the device at its interval must not do so at every step of an agreed one.
        checkpoint_every=settings.every if isinstance(settings.every, int) else loop.steps + 1,
        max_inflight=settings.max_inflight,
        keep=settings.keep,
        keep_at_end=settings.keep,
        recorder=recorder,
    )
    engine = _load_plugin(settings.engine).build(context)
    losses = LossReader(loop.device, lambda _step, _value: None)
    interval = Interval(engine, last=True)
    if rule := _make_rule(settings):
        interval = AgreedInterval(engine, context.agree(), rule, lambda: recorder.settled)
    return loop.build_job(engine, interval, NoFailures(), losses, has_records=False)


def _make_rule(settings: Production) -> Rule | None:
    """How the job decides when to take checkpoints; None: at a fixed interval."""
    if settings.every == CONTINUOUS:
        return Continuous()
    return Automatic(settings.mtbf) if settings.every == AUTO and settings.mtbf else None


def _load_plugin(engine: str) -> EnginePlugin:
    plugin: EnginePlugin = plugins.load("engine", engine)
    return plugin
