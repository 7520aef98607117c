"""Names of suites."""

from ecrl.report.text.names import suite_names


def test_suites_are_called_by_what_tells_them_apart() -> None:
    base = {"dataset": "d", "model": "m", "failure_label": "base", "checkpoint_every": 50, "max_inflight": 4} | {
        "launcher": "cold"
    }
    rows = {"x-11111111": base, "y-22222222": base | {"model": "n"}, "z-33333333": base | {"checkpoint_every": 100}}
    assert suite_names(rows) == {
        "x-11111111": "m, every 50", "y-22222222": "n, every 50", "z-33333333": "m, every 100",
    }  # fmt: skip
    assert suite_names({"x-11111111": base}) == {"x-11111111": "d, m, base"}
    assert suite_names({"x-11111111": base, "x-22222222": base})["x-22222222"] == "d, m, base, 22222222"
    assert suite_names({}) == {}
