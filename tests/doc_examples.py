"""The complete examples of docs/extending.md: fenced blocks whose title is the file that they are."""

import re
from pathlib import Path

EXTENDING = Path(__file__).parents[1] / "docs" / "extending.md"
_EXAMPLE = re.compile(r'^```python title="([^"\n]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def read_examples() -> dict[str, str]:
    """File, from the root of the repository -> its text."""
    return dict(_EXAMPLE.findall(EXTENDING.read_text(encoding="utf-8")))
