"""The table `[job]`: a training script of the user's, which ecrl runs instead of a model and a data set of its own."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ecrl.config.hashing import NEVER


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """A script as every run of a campaign executes it: `script` with `args`, from a copy whose SHA-256 is `sha256`."""

    script: Annotated[str, NEVER]
    args: list[str] = field(default_factory=list)
    sha256: str = ""

    @property
    def name(self) -> str:
        """What stands for the script in tables: its file's name without the ending."""
        return Path(self.script).stem


def compute_script_digest(script: Path) -> str:
    """SHA-256 of a script's bytes."""
    return hashlib.sha256(script.read_bytes()).hexdigest()
