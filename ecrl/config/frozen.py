"""The frozen matrix of a prefix and the matrices that it extends, checked against the hashes in their headers."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ecrl.config.block_order import SHUFFLED
from ecrl.config.hashing import content_hash
from ecrl.config.load import load
from ecrl.config.matrix import Matrix
from ecrl.errors import RecordError
from ecrl.records.paths import CampaignPaths, next_prefix


@dataclass(frozen=True)
class FrozenMatrix:
    """What a prefix registered.

    header: the comments in the frozen file's header, by key. older: the matrices that `matrix` extends, oldest first.
    """

    matrix: Matrix
    header: dict[str, str]
    older: tuple[Matrix, ...]

    @property
    def order_rule(self) -> str:
        """How the orders of blocks are dealt. It stays that of the first matrix, so old orders stay valid."""
        return self.header.get("orders", SHUFFLED)

    @property
    def generations(self) -> tuple[Matrix, ...]:
        """Every matrix, oldest first."""
        return (*self.older, self.matrix)


def load_frozen_matrix(paths: CampaignPaths) -> FrozenMatrix:
    """Load the frozen matrix of a prefix and the older generations of it.

    Raises:
        RecordError: the content of a file does not match the hash in its header, or the hash is gone.
    """
    files = [*_list_older(paths), paths.matrix]
    headers = [read_header(path) for path in files]
    matrices = [
        _load_checked(path, header.get("experiment"), paths) for path, header in zip(files, headers, strict=True)
    ]
    # If ecrl was killed between keeping a matrix and freezing the next one, the last kept matrix is still the frozen
    # one.
    *older, newest = matrices
    return FrozenMatrix(newest, headers[-1], tuple(one for one in older if one.content != newest.content))


def _load_checked(path: Path, said: str | None, paths: CampaignPaths) -> Matrix:
    matrix = load(path, frozen=True)
    # Every version has written the hash. A header without it was edited, and could hide any other edit.
    if content_hash(matrix.content) != said:
        raise RecordError(
            "ECRL-307",
            f"{path}: its content does not match the experiment hash in its header; it was edited or damaged.\n"
            f"Undo the edit, or run the edited matrix under another prefix: ecrl matrix run"
            f" {next_prefix(paths).options} {shlex.quote(str(path))}",
        )
    return matrix


def get_older_path(paths: CampaignPaths, number: int) -> Path:
    """The file that keeps generation `number`; the first one is 1."""
    return paths.table(f"matrix.{number}.toml")


def _list_older(paths: CampaignPaths) -> list[Path]:
    found: list[Path] = []
    while (path := get_older_path(paths, len(found) + 1)).is_file():
        found.append(path)
    return found


def read_header(path: Path) -> dict[str, str]:
    """The comments in the header of a frozen matrix, by key."""
    comments = (line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    return {m[1]: m[2] for m in (re.fullmatch(r"(\w+): (.*)", c) for c in comments) if m}
