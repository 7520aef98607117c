"""The tables `[train]` and `[checkpoint]`. `matrix.py` validates them with the bounds annotated here.

docs/matrix.md is generated from the text under each field.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from ecrl.config.hashing import NEVER, Later


@dataclass(frozen=True)
class Member:
    """Marks a field that holds the name of a member of a family (ecrl/plugins.py)."""

    # A mark instead of a pydantic validator: workers load this file, but not pydantic.

    family: str


@dataclass(frozen=True)
class Folder:
    """Marks a field that holds the absolute path of a folder."""


Place = Annotated[str, Folder()]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """`[train]`: how every run of a campaign trains."""

    steps: Annotated[int, Ge(1)]
    """optimizer steps of a complete run"""
    batch_size: Annotated[int, Ge(1)] = 128
    """samples (images, or sequences of text) per rank and micro-batch, of which a step has `accumulate`"""
    nproc: Annotated[int, Ge(1)] = 1
    """ranks"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW"""
    lr: Annotated[float, Gt(0)] = 0.05
    """peak learning rate, reached after `warmup_steps` and then following `schedule`"""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """momentum of `sgd`; `adamw` has none"""
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    """weight decay of the optimizer"""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """how the learning rate falls after its peak"""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """steps in which the learning rate rises from 0 to its peak"""
    sequence_length: Annotated[int, Ge(1), Later(legacy=128)] = 128
    """tokens per sample of text; images have none"""
    augment: bool = True
    """random crops and flips of the images"""
    deterministic: bool = True
    """bitwise reproducible kernels, which gate C6 needs"""
    threads: Annotated[int, Ge(1)] = 1
    """CPU threads per rank"""
    launcher: Annotated[str, Member("launcher")] = "cold"
    """launcher that starts the ranks, by name"""
    backend: Annotated[Literal["auto", "nccl", "gloo"], Later(legacy="auto")] = "auto"
    """how ranks communicate. auto: NCCL between GPUs, gloo on the CPU; gloo on GPUs lets several ranks share one"""
    parallel: Annotated[str, Member("parallelism"), Later(legacy="ddp")] = "ddp"
    """how the model is spread over the ranks: ddp (whole on each), fsdp2 (split over all), hsdp (split in groups)"""
    shard_ranks: Annotated[int, Ge(0), Later(legacy=0)] = 0
    """ranks that one whole model is split over, with parallel = hsdp; 0 with the others"""
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Later(legacy="fp32")] = "fp32"
    """type of the model's arithmetic. bf16 and fp16: autocast over weights of fp32; fp16 also scales the loss, and
    skips steps whose gradients overflow"""
    accumulate: Annotated[int, Ge(1), Later(legacy=1)] = 1
    """micro-batches per step, whose gradients add up to that of one batch of accumulate x batch_size samples a rank"""
    clip_grad_norm: Annotated[float, Ge(0), Later(legacy=0.0)] = 0.0
    """largest norm of a step's gradient, over all parameters; longer ones are scaled down to it; 0.0: any"""

    def get_backend(self, device: str) -> str:
        """The backend of the ranks' process group on a device (cpu or cuda). Resolves `auto`."""
        return self.backend if self.backend != "auto" else "nccl" if device == "cuda" else "gloo"


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """`[checkpoint]`: what is kept and where, and how long a rank waits."""

    keep: Annotated[int, Ge(2)] = 2
    """committed checkpoints kept during a run"""
    commit_timeout_s: Annotated[float, Gt(0), Le(86400)] = 120.0
    """seconds that a rank waits for durable shards of the other ranks; the checkpoint is then given up and counted"""
    dir: Annotated[Place | None, NEVER] = None
    """an absolute path: checkpoints are written to a folder of their own below it, to which `checkpoints` in the run's
    folder is a link; left out: into the run's folder. As an axis, its values make suites"""
    fallback_dirs: Annotated[tuple[Place, ...], NEVER] = ()
    """absolute paths, for ecrl's own engines: a checkpoint that `dir` refuses (a full, failing or read-only disk, a
    quota, missing permission) is written to the first of these that takes it"""

    @property
    def places(self) -> tuple[str | None, ...]:
        """Where checkpoints are written, the preferred place first. None: the run's folder."""
        return (self.dir, *self.fallback_dirs)
