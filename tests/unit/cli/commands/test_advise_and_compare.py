import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ecrl.cli.commands import advise, compare
from ecrl.errors import EcrlError
from tests.errors import has_error
from tests.unit.analysis.campaign_builder import campaign

Call = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def call() -> Call:
    app = typer.Typer()
    app.callback()(lambda: None)
    advise.register(app)
    compare.register(app)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, arguments, catch_exceptions=True)
        if isinstance(result.exception, EcrlError):
            return result.exception.exit_code, "", result.exception.format_message()
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def test_advice_is_a_table_and_sentences_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    paths = campaign(tmp_path, datasets=["cifar10"])
    before = sorted(paths.root.rglob("*"))
    code, out, err = call("advise", "--prefix", "exp", "--mtbf", "3h", "--results", str(tmp_path))
    assert code == 0
    assert "cifar10, cnn, 2 ranks, 4 in flight: overlapped every" in out
    assert "Saxena et al." in out
    assert sorted(paths.root.rglob("*")) == before
    assert "written" not in err
    assert max(map(len, out.splitlines()[:16])) <= 80


def test_advice_as_json_is_one_document(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, datasets=["cifar10"])
    arguments = ("advise", "--prefix", "exp", "--mtbf", "300h", "--nodes", "100", "--results", str(tmp_path))
    code, out, _ = call(*arguments, "--json", "--out", str(tmp_path / "curve.svg"))
    found = json.loads(out)
    assert code == 0
    assert (found["schema"], found["mtbf_s"]) == (2, 3 * 3600)
    assert {one["engine"] for one in found["advice"]} == {"blocking", "overlapped"}
    assert all(one["checkpoint_every_band"][0] <= one["checkpoint_every"] for one in found["advice"])
    assert "<svg" in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (("--mtbf", "soon"), "ECRL-102", ("--mtbf: ", "'soon'")),
        (("--mtbf", "0s"), "ECRL-102", ("--mtbf: ", "'0s'", "0")),
        (("--mtbf", "3h", "--restart", "x"), "ECRL-102", ("--restart: ", "'x'")),
        (("--mtbf", "3h", "--out", "/proc/x/y.svg"), "ECRL-106", ("/proc/x/y.svg: ", "--out")),
    ],
)
def test_wrong_advice_arguments_are_explained(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: str, facts: tuple[str, ...]
) -> None:
    campaign(tmp_path, datasets=["cifar10"], seeds=[1])
    exit_code, _, message = call("advise", "--prefix", "exp", "--results", str(tmp_path), *arguments)
    assert exit_code == 2
    assert has_error(message, code, *facts)


def test_a_comparison_shows_every_variant_and_what_differs(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, "old")
    campaign(tmp_path, "new")
    code, out, _ = call("compare", "old", "new", "--results", str(tmp_path))
    assert code == 0
    assert "blocking: new / old = 1 [1, 1], 6 pairs in 2 suites" in out
    assert "no change is shown" in out
    assert "recorded as equal" in out


def test_a_comparison_as_json_is_one_document(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, "old")
    campaign(tmp_path, "new", seeds=[3, 4])
    code, out, _ = call("compare", "old", "new", "--results", str(tmp_path), "--metric", "stall_s", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["variants"]["blocking"]["kind"] == "difference"
    assert found["variants"]["blocking"]["overall"]["n_pairs"] == 2
    assert {one["seed"] for one in found["variants"]["blocking"]["missing"]} == {1, 2, 4}


def test_a_campaign_is_not_compared_with_itself(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, "old", seeds=[1])
    code, _, message = call("compare", "old", "old", "--results", str(tmp_path))
    assert code == 2
    assert has_error(message, "ECRL-102", "'old'", "ecrl matrix list")
