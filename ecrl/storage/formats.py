"""Which other engine wrote a checkpoint folder, told by what lies in it: their formats have no COMMIT.json."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """A format of others. complete: the file without which the checkpoint is not there. parts: patterns of what
    it writes before that; none for a format whose folder gets its name last."""

    engine: str
    complete: str
    parts: tuple[str, ...] = ()


DCP = Format("dcp", ".metadata", parts=("*.distcp",))
TORCHSNAPSHOT = Format("torchsnapshot", ".snapshot_metadata", parts=("batched", "replicated", "[0-9]*/own"))
TORCH_SAVE = Format("torch-save", "rank-0.pt")
TORCH_CHECKPOINTING = Format("torch-checkpointing", "meta_0.json")
FORMATS = (DCP, TORCHSNAPSHOT, TORCH_SAVE, TORCH_CHECKPOINTING)


def find_complete_format(folder: Path) -> Format | None:
    """The format as which a folder holds a complete checkpoint."""
    return next((f for f in FORMATS if (folder / f.complete).is_file()), None)


def find_partial_format(folder: Path) -> Format | None:
    """The format as which a checkpoint was begun in a folder; None where that is removed meanwhile."""
    try:
        return next((f for f in FORMATS if any(any(folder.glob(part)) for part in f.parts)), None)
    except FileNotFoundError:
        return None
