"""What the documentation shows is run: every Python block of a page, one after the other, beside a campaign `demo`."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.analysis.campaign_builder import campaign

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("data.md",)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(tmp_path / "results", "demo")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, page, "exec"), names)
        shown = capsys.readouterr().out
        assert shown, "an example prints what it found"
        assert "NaN" not in shown
