"""Finds the line of a key, or of the first mistake, in a TOML file, for error messages."""

# tomllib reports no line numbers for keys.

import re
import tomllib

_TABLE = re.compile(r"\s*\[(?P<array>\[)?\s*(?P<name>[^\[\]]+?)\s*\]")
_KEY = re.compile(
    r"""\s*(?P<key>(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*\.?""")


class Locator:
    """Maps key paths of one TOML text to line numbers, counted from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str | int, ...], int] = {}
        table: tuple[str | int, ...] = ()
        counts: dict[tuple[str, ...], int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _TABLE.match(line):
                name = _parts(header["name"])
                if header["array"]:
                    counts[name] = counts.get(name, -1) + 1
                table = (*name, counts[name]) if header["array"] else name
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                path = table
                for part in _parts(key["key"]):
                    path = (*path, part)
                    self._lines.setdefault(path, number)

    def line(self, loc: tuple[str | int, ...], *, least: int = 1) -> int | None:
        """The line of the longest known prefix of `loc` with at least `least` parts; None if there is none."""
        for end in range(len(loc), least - 1, -1):
            if (found := self._lines.get(loc[:end])) is not None:
                return found
        return None


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(next(group for group in match.groups() if group is not None) for match in _PART.finditer(dotted))


def find_first_bad_line(text: str) -> int:
    """The line, of a text that is not TOML, in which the first statement begins that is none, counted from 1.

    The parser itself names the line where it gives up: of an unclosed array, a later one or the end of the document.
    """
    lines = text.splitlines()
    return next(number for number in range(len(lines), 0, -1) if _is_toml("\n".join(lines[: number - 1])))


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
