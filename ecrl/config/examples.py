"""The matrices that ship with ecrl, and those below the current folder."""

import shlex
from pathlib import Path

_SHIPPED = Path(__file__).parents[1] / "matrices"


def list_examples() -> list[str]:
    """The names of the shipped matrices."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def read_example(name: str, target: Path) -> str:
    """The text of a shipped matrix. The commands in its comments name `target` in place of the shipped file, and the
    script of a job is one of the user's."""
    text = (_SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    text = text.replace('script = "../examples/ddp.py"', 'script = "train.py"  # yours, beside this file')
    return text.replace(f"matrices/{name}.toml", shlex.quote(str(target)))


def list_matrix_files() -> list[str]:
    """The files `matrices/*.toml` of the current folder, as in a clone of ecrl."""
    return sorted(str(path) for path in Path("matrices").glob("*.toml"))
