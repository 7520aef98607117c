"""Training loops as users write them, each with another kind of state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import ecrl
from ecrl.checkpoint.state_view import state_digest

STEPS, EVERY = 12, 3


class Counter:
    """A user's own object with a state of plain values."""

    def __init__(self) -> None:
        self.seen: dict[Any, Any] = {"samples": 0, 7: (1, [2.5, None]), "bytes": b"\0\1"}

    def state_dict(self) -> dict[str, Any]:
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class Loop:
    """A model with everything that belongs to its training, made anew as a script makes it.

    work: trains one step. extra: what `ecrl.attach` gets besides.
    """

    def __init__(self, kind: str) -> None:
        torch.manual_seed(3)
        self.model: nn.Module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(self.model.parameters(), lr=0.01)]
        self.given: dict[str, Any] = {}
        self.work: Callable[[int], torch.Tensor] = self._step
        getattr(self, f"_make_{kind}")()
        torch.manual_seed(5)

    def _make_plain(self) -> None:
        pass

    def _make_scheduler(self) -> None:
        sgd = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        warm_up = torch.optim.lr_scheduler.LinearLR(sgd, total_iters=4)
        decay = torch.optim.lr_scheduler.MultiStepLR(sgd, [3, 6])
        self.optimizers = [sgd]
        self.given = {"scheduler": torch.optim.lr_scheduler.SequentialLR(sgd, [warm_up, decay], [4])}

    def _make_scaler(self) -> None:
        # Its scale grows every other step, so one of an earlier moment would show.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=2)
        self.given = {"scaler": scaler}

        def work(step: int) -> torch.Tensor:
            loss = self._loss()
            overflow = float("inf") if step == 4 else 1.0  # GradScaler skips this update: no hook runs
            torch.autograd.backward(scaler.scale(loss * overflow))
            scaler.step(self.optimizers[0])
            scaler.update()
            self.optimizers[0].zero_grad()
            return loss

        self.work = work

    def _make_average(self) -> None:
        average = AveragedModel(self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
        counter = Counter()
        self.given = {"extra": {"average": average, "counter": counter}}

        def work(step: int) -> torch.Tensor:
            loss = self._step(step)
            average.update_parameters(self.model)
            counter.seen["samples"] += 4
            return loss

        self.work = work

    def _make_two_optimizers(self) -> None:
        first, *_, last = self.model.children()
        norm = list(self.model.children())[1]
        self.optimizers = [
            torch.optim.SGD([*first.parameters(), *norm.parameters()], lr=0.1, momentum=0.5),
            torch.optim.Adagrad(last.parameters(), lr=0.1),
        ]

    def _make_lbfgs(self) -> None:
        self.model = nn.Linear(6, 3)
        lbfgs = torch.optim.LBFGS(self.model.parameters(), lr=0.1, max_iter=4)
        self.optimizers = [lbfgs]

        def work(_step: int) -> torch.Tensor:
            state = torch.get_rng_state()

            def closure() -> torch.Tensor:
                torch.set_rng_state(state)
                lbfgs.zero_grad()
                loss = self._loss()
                torch.autograd.backward(loss)
                return loss

            loss: torch.Tensor = lbfgs.step(closure)  # type: ignore[no-untyped-call]
            return loss

        self.work = work

    def _loss(self) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(torch.randn(4, 6)), torch.randint(3, (4,)))

    def _step(self, _: int) -> torch.Tensor:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = self._loss()
        torch.autograd.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()
        if "scheduler" in self.given:
            self.given["scheduler"].step()
        return loss

    def digest(self) -> tuple[str, str]:
        """The digest of all tensors, and the other state as text."""
        state = {"model": self.model.state_dict(), "optimizers": [one.state_dict() for one in self.optimizers]}
        parts = {k: v for k, v in self.given.items() if k != "extra"} | self.given.get("extra", {})
        found: dict[str, torch.Tensor] = {"generator": torch.get_rng_state()}
        rest = repr(_split(state | {k: v.state_dict() for k, v in parts.items()}, "", found))
        return state_digest({name: found[name] for name in sorted(found)}), rest


def _split(value: Any, name: str, found: dict[str, torch.Tensor]) -> Any:
    """`value` without its tensors, which are added to `found`."""
    if isinstance(value, torch.Tensor):
        found[name] = value
        return "tensor"
    if isinstance(value, dict):
        return sorted((str(key), _split(item, f"{name}/{key}", found)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [_split(item, f"{name}/{place}", found) for place, item in enumerate(value)]
    return value


def train(kind: str, root: Path, engine: str, *, stop_in: int | None = None) -> tuple[list[int], tuple[str, str]]:
    """Train as a script does. Returns the steps that were done, and the digest at the end.

    stop_in: the step that is never completed: the loop stops after its update.
    """
    loop, done = Loop(kind), []
    job = ecrl.attach(loop.model, loop.optimizers, steps=STEPS, root=root, engine=engine, every=EVERY, **loop.given)
    for step in job:
        loss = loop.work(step)
        if step == stop_in:
            job.close()
            break
        job.log(loss=loss)
        done.append(step)
    return done, loop.digest()
