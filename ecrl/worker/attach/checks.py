"""What `ecrl.attach` refuses: models and optimizers whose state a checkpoint could not hold or protect."""

import math
from collections.abc import Sequence

import torch

from ecrl import plugins
from ecrl.errors import EcrlError, unknown_name
from ecrl.worker.attach.state import list_parameters

AUTO, CONTINUOUS = "auto", "continuous"  # values of `every`
_SHOWN = 4  # parameters that a message names


def check_counts(**counts: int) -> None:
    """Check that every number is a whole one of at least 1.

    Raises:
        EcrlError: one is not.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise EcrlError(
                "ECRL-650", f"{name}: found {count!r} in ecrl.attach, expected a whole number of at least 1."
            )


def check_every(every: int | str, mtbf: float | None) -> None:
    """Check that a job knows when to take its checkpoints. mtbf: seconds.

    Raises:
        EcrlError: it does not.
    """
    if isinstance(every, str):
        if every not in (AUTO, CONTINUOUS):
            raise EcrlError(
                "ECRL-650",
                f"every: found {every!r} in ecrl.attach, expected a number of steps, {AUTO!r} or {CONTINUOUS!r}.",
            )
    else:
        check_counts(every=every)
    if (every == AUTO) != (mtbf is not None) or (mtbf is not None and not 0 < mtbf < math.inf):
        raise EcrlError(
            "ECRL-650",
            f"mtbf: found {mtbf!r} with every = {every!r} in ecrl.attach, expected the mean time between failures in"
            f" seconds with every = {AUTO!r}, and none with another.",
        )


def check_engine(engine: str) -> None:
    """Check that an engine can hold the state of a user's loop.

    Raises:
        EcrlError: it cannot, or there is no such engine.
    """
    fitting = [name for name in plugins.names("engine") if plugins.declared("engine", name).get("late_state")]
    if engine not in plugins.names("engine"):
        raise EcrlError("ECRL-291", f"engine: {unknown_name('engine', engine, fitting)}")
    if engine not in fitting:
        raise EcrlError(
            "ECRL-660",
            f"engine: found {engine!r}, which cannot hold the state of a script, expected one of {', '.join(fitting)}.",
        )


def check_optimizers(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Check that the optimizers update every trainable parameter of the model, in their `step` alone.

    Raises:
        EcrlError: they do not.
    """
    given = set(list_parameters(optimizers))
    named = dict(model.named_parameters())
    left = [name for name, p in named.items() if p.requires_grad and p not in given]
    if left and any(_is_split(p) for p in named.values()) and not any(_is_split(p) for p in given):
        raise EcrlError(
            "ECRL-652",
            "ecrl.attach: the optimizer was built before fully_shard, so it updates other tensors than the model's.\n"
            "Build it from the model's parameters after fully_shard.",
        )
    if left:
        raise EcrlError(
            "ECRL-651",
            f"ecrl.attach: {_list_names(left)} can be trained but no optimizer that was given updates it.\n"
            "Give every optimizer, ecrl.attach(model, [first, second], ...), or set requires_grad = False.",
        )
    in_backward = [name for name, p in named.items() if getattr(p, "_post_accumulate_grad_hooks", None)]
    if in_backward:
        raise EcrlError(
            "ECRL-653",
            f"ecrl.attach: {_list_names(in_backward)} may be updated during backward, by a hook on its gradient.\n"
            "A copy could then hold half an update. Update parameters in optimizer.step().",
        )


def _is_split(parameter: torch.Tensor) -> bool:
    return hasattr(parameter, "device_mesh")


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
