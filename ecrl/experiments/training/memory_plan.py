"""What a training job needs of memory at least, and the refusal of one that cannot fit, before anything starts.

A lower bound: the tensors of the ranks and the snapshots of ecrl's own engines. What PyTorch itself, other engines and
short-lived results of operations take is not counted, so what fits is never refused.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecrl import plugins
from ecrl.config.matrix import Matrix
from ecrl.config.suite import Suite, expand_matrix, list_train_settings
from ecrl.config.train import TrainSettings
from ecrl.errors import UnfitError
from ecrl.experiments.training.probe import Probe
from ecrl.records.machine import usable_memory_bytes
from ecrl.units import format_bytes, format_count


@dataclass(frozen=True)
class Footprint:
    """The bytes of a model: its parameters, its buffers, and what one sample keeps for the backward pass."""

    parameters: int
    buffers: int
    activations: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of the runs that one machine makes at once.

    slots: the snapshots of the whole state in host memory, of the engine that has the most. jobs: runs at once.
    gpus: among which the ranks are divided; the plan is then that of the fullest GPU. 0: the ranks share one memory.
    """

    footprint: Footprint
    train: TrainSettings
    slots: int
    jobs: int
    gpus: int = 0

    @property
    def parts(self) -> list[tuple[str, int]]:
        """What one rank holds, in words and bytes."""
        train, weights = self.train, self.footprint.parameters
        own = weights // self._num_parts
        activations = self.footprint.activations * train.batch_size  # of one micro-batch at a time
        return [
            ("weights", own),
            # Micro-batches before the last one leave whole gradients on each rank, see `Parallelism.no_sync`.
            ("gradients", own if train.accumulate == 1 else weights),
            (train.optimizer, own * self._num_moments),
            ("buffers", self.footprint.buffers),
            (
                f"activations of {format_count(train.batch_size, 'sample')}",
                # In a short type they are half as large, but for those that stay in fp32.
                activations if train.precision == "fp32" else activations // 2,
            ),
        ]

    @property
    def rank_bytes(self) -> int:
        """What one rank holds."""
        return sum(size for _, size in self.parts)

    @property
    def slot_bytes(self) -> int:
        """One snapshot, the shares of all ranks together."""
        return self.footprint.parameters * (1 + self._num_moments) + self.footprint.buffers * self.train.nproc

    def count_bytes(self, *, on_gpus: bool) -> int:
        """The host memory that is needed."""
        ranks = 0 if on_gpus else self.num_ranks * self.rank_bytes
        return self.jobs * (ranks + self.slots * self.slot_bytes)

    @property
    def num_ranks(self) -> int:
        """The ranks that share one memory."""
        return -(-self.train.nproc // self.gpus) if self.gpus else self.train.nproc

    @property
    def _num_parts(self) -> int:
        """The ranks that one whole model is split over. A block's gathered weights are not counted."""
        if not plugins.declared("parallelism", self.train.parallel).get("sharded"):
            return 1
        return self.train.shard_ranks or self.train.nproc

    @property
    def _num_moments(self) -> int:
        return 2 if self.train.optimizer == "adamw" else int(self.train.momentum > 0)

    def list_smaller(self) -> Iterator[tuple[str, "MemoryPlan"]]:
        """The plans that one setting makes smaller, each with that setting."""
        if self.jobs > 1:
            yield "jobs = 1", dataclasses.replace(self, jobs=1)
        for slots in range(self.slots - 1, 0, -1):
            yield f"max_inflight = {slots}", dataclasses.replace(self, slots=slots)
        for batch_size in _halve(self.train.batch_size):
            yield f"batch_size = {batch_size}", self._change(batch_size=batch_size)
        for nproc in range(self.train.nproc - 1, 0, -1):
            if self.gpus and self._num_parts > 1:
                break  # fewer ranks have larger parts
            if nproc % (self.train.shard_ranks or 1) == 0:
                yield f"nproc = {nproc}", self._change(nproc=nproc)
        if self.train.optimizer == "adamw":
            yield 'optimizer = "sgd"', self._change(optimizer="sgd")
        elif self.train.momentum:
            yield "momentum = 0.0", self._change(momentum=0.0)

    def _change(self, **changes: object) -> "MemoryPlan":
        return dataclasses.replace(self, train=dataclasses.replace(self.train, **changes))  # type: ignore[arg-type]


def _halve(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number


def check_memory(matrix: Matrix, probe: Probe) -> None:
    """Raise if a suite cannot fit into the memory of this machine, whatever else happens.

    Raises:
        UnfitError: the message has the sum, how much is too much, and the settings that would make it fit.
    """
    on_gpus, free = probe.device(matrix.run.device) == "cuda", usable_memory_bytes()
    longest = max(train.sequence_length for train in list_train_settings(matrix))
    seen = set[tuple[object, ...]]()
    for suite, _ in expand_matrix(matrix).group_equivalent():
        key = suite.dataset, suite.model, suite.train, suite.max_inflight
        told = probe.footprints.get(f"{suite.dataset}/{suite.model}")
        if key in seen or told is None:
            continue
        seen.add(key)
        copies = count_slots(matrix, suite.max_inflight, on_gpus=on_gpus)
        # The probe has measured the longest sequence; of shorter ones it is unknown.
        kept = (told["activations"] or 0) if suite.train.sequence_length == longest else 0
        footprint = Footprint(told["parameters"] or 0, told["buffers"] or 0, kept)
        plan = MemoryPlan(footprint, suite.train, copies, matrix.run.jobs)
        if plan.count_bytes(on_gpus=on_gpus) > free:
            raise UnfitError("ECRL-621", _explain(suite, plan, free, "of memory available", on_gpus=on_gpus))
        if on_gpus and probe.gpu_bytes:
            _check_gpus(suite, plan, min(probe.gpu_bytes), len(probe.gpu_bytes))


def _check_gpus(suite: Suite, plan: MemoryPlan, size: int, number: int) -> None:
    alone = dataclasses.replace(plan, gpus=number, slots=0, jobs=1)
    if alone.count_bytes(on_gpus=False) > size:
        raise UnfitError("ECRL-621", _explain(suite, alone, size, "of memory on a GPU", on_gpus=False))


def count_slots(matrix: Matrix, max_inflight: int, *, on_gpus: bool) -> int:
    """The snapshots that the engine with the most keeps in host memory at once."""
    return max((_count_of(engine, max_inflight, on_gpus=on_gpus) for engine in matrix.engines), default=0)


def _count_of(engine: str, max_inflight: int, *, on_gpus: bool) -> int:
    told = plugins.declared("engine", engine)
    if "format" in told:  # not ecrl's own: what it copies is its own business
        return 0
    if told.get("streams") and not on_gpus:
        return 0
    return 1 if told.get("ignores_max_inflight") else max_inflight


def _explain(suite: Suite, plan: MemoryPlan, free: int, where: str, *, on_gpus: bool) -> str:
    need = plan.count_bytes(on_gpus=on_gpus)
    terms = []
    if not on_gpus:
        parts = " + ".join(f"{what} {format_bytes(size)}" for what, size in plan.parts if size)
        terms.append(f"{format_count(plan.num_ranks, 'rank')} x ({parts})")
    if plan.slots:
        terms.append(f"{format_count(plan.slots, 'snapshot')} x {format_bytes(plan.slot_bytes)}")
    times = f"{plan.jobs} jobs x " if plan.jobs > 1 else ""
    return (
        f"{suite.model} on {suite.dataset}: found a need of at least {format_bytes(need)}, expected at most the"
        f" {format_bytes(free)} {where}: {format_bytes(need - free)} too much.\n"
        f"It is {times}({' + '.join(terms)}).\n"
        f"{_advise(plan, free, on_gpus=on_gpus)}"
    )


def _advise(plan: MemoryPlan, free: int, *, on_gpus: bool) -> str:
    """The settings that would make it fit: any of several, or the least number of them together."""
    alone: dict[str, str] = {}
    for setting, smaller in plan.list_smaller():
        if (need := smaller.count_bytes(on_gpus=on_gpus)) <= free:
            alone.setdefault(setting.partition(" ")[0], f"{setting} ({format_bytes(need)})")
    if alone:
        return f"It would fit with {' or '.join(alone.values())}."
    settings, least = _take_all(plan)
    need = least.count_bytes(on_gpus=on_gpus)
    if need <= free:
        return f"It would fit with {', '.join(settings)} together ({format_bytes(need)})."
    rest = f" even with {', '.join(settings)}" if settings else ""
    return f"No setting makes it fit ({format_bytes(need)}{rest}): take a smaller model, or a machine with more memory."


def _take_all(plan: MemoryPlan) -> tuple[Sequence[str], MemoryPlan]:
    """Every setting at its smallest, and the plan with them."""
    settings: dict[str, str] = {}
    while smaller := list(plan.list_smaller()):
        last = {setting.partition(" ")[0]: (setting, one) for setting, one in smaller}
        key, (setting, plan) = next(iter(last.items()))
        settings[key] = setting
    return list(settings.values()), plan
