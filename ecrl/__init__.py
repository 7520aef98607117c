"""ecrl: elastic checkpoint & recovery lab."""

from typing import TYPE_CHECKING

from ecrl.version import VERSION

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import torch

    from ecrl.analysis.campaign_frames import Campaign
    from ecrl.worker.attach.job import Job
    from ecrl.worker.attach.state import Stateful

__all__ = ["__version__", "attach", "load"]
__version__ = VERSION


def attach(
    model: "torch.nn.Module",
    optimizer: "torch.optim.Optimizer | Sequence[torch.optim.Optimizer]",
    *,
    steps: int,
    scheduler: "Stateful | None" = None,
    scaler: "Stateful | None" = None,
    extra: "Mapping[str, Stateful] | None" = None,
    root: "str | os.PathLike[str]" = "checkpoints",
    engine: str = "overlapped",
    every: "int | str" = 100,
    mtbf: float | None = None,
    keep: int = 2,
    max_inflight: int = 2,
) -> "Job":
    """Attach checkpoints and their restore to a training loop: `for step in ecrl.attach(model, optimizer, steps=N):`.

    The loop restores the newest checkpoint and yields the steps that are still to be done, from 1 to `steps`. The state
    of a step is saved once the loop asks for the next one: model, optimizers, generators, and what has a `state_dict`.
    See docs/own-script.md.

    model: as the loop calls it, e.g. wrapped by DistributedDataParallel or torch.compile. optimizer: one, or all of
    them. scheduler, scaler, extra: objects with `state_dict` and `load_state_dict`; extra: by name.

    The others count where the script runs without a campaign (a campaign's matrix decides them). root: the folder of
    the checkpoints, the same for all ranks. engine: blocking or overlapped. every: steps between two checkpoints;
    "continuous": one as soon as the last is durable; "auto": the interval that pays, by what the first ones cost here,
    for failures every `mtbf` seconds. keep: checkpoints that are kept. max_inflight: those in flight at once, at most.

    Raises:
        ecrl.errors.EcrlError: the state of the loop could not be saved or restored; docs/errors.md lists the codes.
    """
    # Imported here: `import ecrl` must stay fast.
    from ecrl.worker.attach.start import Production, start

    named = {"scheduler": scheduler, "scaler": scaler} | {f"extra/{name}": part for name, part in (extra or {}).items()}
    production = Production(engine=engine, every=every, mtbf=mtbf, root=root, keep=keep, max_inflight=max_inflight)
    return start(model, optimizer, steps=steps, parts=named, production=production)


def load(path: "str | os.PathLike[str]") -> "Campaign":
    """Load the campaign in the folder `results/<prefix>` as pandas frames.

    The frames are `.runs`, `.summary`, `.suites`, `.claims`, `.threats`, `.events(run)` and `.steps(run)`
    (docs/data.md). They are built from the records, not from a report's tables; a running campaign can be loaded too.

    Raises:
        ecrl.errors.EcrlError: the folder holds no campaign, or its frozen matrix cannot be read.
    """
    # Imported here: `import ecrl` must stay fast in a training script.
    from ecrl.analysis.campaign_frames import open_campaign

    return open_campaign(path)
