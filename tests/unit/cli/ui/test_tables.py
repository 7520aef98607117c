"""Tables on terminals of several widths."""

import pytest

from ecrl.cli.ui.tables import fit_table

HEADER = ["variant", "goodput kept", "stall per checkpoint (s)"]
ROWS = [["overlapped", "0.522 [0.478, 0.570]", "0.00927"], ["blocking", "0.50 [0.40, 0.63]", "0.0882"]]


def test_a_table_that_is_wider_than_the_terminal_lies_on_its_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert fit_table(HEADER, ROWS) == (HEADER, ROWS)
    monkeypatch.setenv("COLUMNS", "50")
    assert fit_table(HEADER, ROWS) == (
        ["variant", "overlapped", "blocking"],
        [
            ["goodput kept", "0.522 [0.478, 0.570]", "0.50 [0.40, 0.63]"],
            ["stall per checkpoint (s)", "0.00927", "0.0882"],
        ],
    )
