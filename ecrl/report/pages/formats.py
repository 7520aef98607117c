"""The formats of a report, known without loading what writes them."""

import importlib.util

from ecrl import plugins
from ecrl.errors import EcrlError, unknown_name

FORMATS = ("md", "html", "csv", "json", "tex", "parquet")
DEFAULT_FORMATS = ("md", "html", "csv", "json")
# format -> the extra of pyproject.toml that it needs, and the module that the extra installs
_EXTRAS = {"parquet": ("parquet", "pyarrow")}


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats in a text such as 'md,html,csv'.

    Raises:
        EcrlError: the text names no format, an unknown format, or a format whose extra is not installed.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in found:
        if name not in FORMATS:
            raise EcrlError("ECRL-102", f"--format: {unknown_name('format', name, FORMATS)}")
    if not found:
        raise EcrlError("ECRL-102", f"--format: found nothing, expected some of {', '.join(FORMATS)}")
    for name, (extra, module) in _EXTRAS.items():
        if name in found and importlib.util.find_spec(module) is None:
            needs = f"--format {name} needs the extra `{extra}`: pip install 'ecrl[{extra}]'"
            raise plugins.MissingExtraError("ECRL-290", needs)
    return found
