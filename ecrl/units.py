"""Parses and formats quantities for people: durations, counts and bytes."""

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def parse_duration_s(text: str) -> float:
    """The seconds of a duration such as '90', '90s', '10m', '1h30m' or '2d'.

    Raises:
        ValueError: the text is not a duration.
    """
    compact = text.strip().replace(" ", "")
    parts = _DURATION.findall(compact)
    if not parts or "".join(n + u for n, u in parts) != compact:
        raise ValueError(f"found {text!r}, expected a duration like 90s, 10m or 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds == float("inf"):
        raise ValueError(f"found {text[:20]!r}..., expected a duration like 90s, 10m or 1h30m")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration as text: '0.42 s', '12.3 s', '4 m 05 s' or '2 h 05 m'."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m"


def format_count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: '1 suite', '2 suites'. plural: the plural of the noun if it is not the noun plus 's'."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def format_bytes(count: float) -> str:
    """Bytes in decimal units: '512 B', '89.4 MB', '1.2 GB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
