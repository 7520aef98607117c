"""The command `ecrl report`: what it is given, what it writes where, and how it exits."""

import csv
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest
import typer

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.verdict_frames import CLAIM_COLUMNS
from ecrl.cli.commands import report as report_module
from ecrl.launch.system import wait
from ecrl.launch.system.wait import keep_saying
from ecrl.report.pages import render as render_module
from ecrl.report.pages.formats import parse_formats
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.analysis.external_table.test_table import ROWS, table
from tests.unit.report.pages.reports import Call, evidence, list_files


def test_the_command_lists_what_it_wrote_and_exits_0_whatever_the_verdicts(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, seeds=[1])
    code, out, err = call("--prefix", "exp", "--results", str(tmp_path), "--format", "csv,md")
    assert code == 0
    assert all(Path(line).is_file() for line in list_files(out))
    assert any(line.endswith("exp_report.md") for line in out.splitlines())
    assert "warning: exp_manifest.csv: not found" in err


def test_what_takes_long_is_spoken_of_until_the_answer_is_there_and_not_below_it(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(tmp_path, seeds=[1])
    told: list[str] = []

    def soon(what: str, _say: Callable[[str], None]) -> AbstractContextManager[None]:
        return keep_saying(what, told.append, 0.05)

    def answer_late(_evidence: Evidence) -> str:
        told.clear()
        time.sleep(0.5)
        return "the answer"

    def echo(text: str = "", **_: object) -> None:
        said.append((text.strip(), len(told)))

    said: list[tuple[str, int]] = []
    monkeypatch.setattr(wait, "_LOOK_S", 0.02)
    monkeypatch.setattr(report_module, "keep_saying", soon)
    monkeypatch.setattr(render_module, "format_answer", answer_late)
    monkeypatch.setattr(typer, "echo", echo)
    assert call("--prefix", "exp", "--results", str(tmp_path), "--format", "csv")[0] == 0
    [(_, before)] = [line for line in said if line[0] == "the answer"]
    assert before > 0
    assert len(told) == before


def test_a_pair_that_somebody_chose_is_the_main_comparison(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, seeds=[1], claims="")
    source = ("--prefix", "exp", "--results", str(tmp_path))
    code, out, _ = call(*source, "--format", "csv", "--compare", "blocking, overlapped")
    assert code == 0
    assert "from deciding between blocking and overlapped" in out
    for wrong, fact in (
        ("blocking,overlaped", "Did you mean 'overlapped'? Valid: blocking, overlapped, reference"),
        ("blocking", "expected two different variants"),
        ("blocking,blocking", "Variants here: reference, blocking, overlapped."),
        ("a,b,c", "unknown variant 'a'"),
        (",", "expected two different variants"),
    ):
        code, _, error = call(*source, "--compare", wrong)
        assert code == 2
        assert fact in error
    foreign = table(tmp_path, ROWS)
    code, out, _ = call("--table", str(foreign), "--compare", "blocking,overlapped")
    assert code == 0
    assert "between blocking and overlapped" in out
    assert call("--table", str(foreign), "--compare", "blocking,torch")[0] == 2


def test_threats_are_looked_for_in_the_pair_that_somebody_chose(tmp_path: Path) -> None:
    paths = campaign(
        tmp_path, claims="", change=lambda run, found: None if (run.variant, run.seed) == ("reference", 1) else found
    )
    found = load_campaign(paths)

    def list_pairs(chosen: tuple[str, str] | None) -> list[tuple[str, ...]]:
        threats = build_evidence(found, chosen=chosen).threats.found
        return [threat.variants for threat in threats if threat.code == "missing_blocks"]

    assert list_pairs(None) == [("overlapped", "blocking")]
    assert list_pairs(("blocking", "reference")) == [("blocking", "reference")]


def test_the_csv_format_writes_what_the_report_says_of_claims_and_threats(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, seeds=[1])
    code, out, _ = call("--prefix", "exp", "--results", str(tmp_path), "--format", "csv")
    assert code == 0
    names = ["runs", "summary", "detailed_table", "claims", "threats"]
    assert [Path(line).name for line in list_files(out)] == [f"exp_{name}.csv" for name in names]
    claims = (tmp_path / "exp" / "exp_claims.csv").read_text().splitlines()
    assert claims[0] == ",".join(CLAIM_COLUMNS)
    first = "overlapping pays,goodput_steps_per_s,overlapped;blocking,,INCONCLUSIVE,for these 2 suites,false,1.02"
    assert claims[1].startswith(first)
    assert claims[1].endswith(",2,2,1,n_pairs_lt_6;one_seed")
    threats = (tmp_path / "exp" / "exp_threats.csv").read_text()
    assert threats.splitlines()[0] == "code,state,weight,evidence"
    assert "one_seed,found,blocks,every run has seed 1: nothing can be said about another" in threats.splitlines()
    assert "\nsuspended,cannot be seen,blocks,not recorded by any run\n" in threats


def test_a_table_from_elsewhere_has_threats_and_no_claims(call: Call, tmp_path: Path) -> None:
    assert call("--table", str(table(tmp_path, ROWS)), "--format", "csv")[0] == 0
    folder = tmp_path / "old_report"
    assert len((folder / "old_claims.csv").read_text().splitlines()) == 1
    threats = list(csv.DictReader((folder / "old_threats.csv").read_text().splitlines()))
    said = "the table has no goodput of a reference"
    assert {"code": "no_reference", "state": "found", "weight": "warns", "evidence": said} in threats
    assert {row["state"] for row in threats} == {"found", "not found", "cannot be seen"}


def test_parquet_holds_the_runs_with_their_types(call: Call, tmp_path: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        assert not os.environ.get("CI"), "CI installs the extra `parquet`"
        pytest.skip("the format needs the extra `parquet`")
    paths = campaign(tmp_path, seeds=[1], change=lambda run, found: None if run.variant == "overlapped" else found)
    code, out, _ = call("--prefix", "exp", "--results", str(tmp_path), "--format", "parquet")
    assert code == 0
    assert list_files(out) == [str(paths.root / "exp_runs.parquet")]
    first = (paths.root / "exp_runs.parquet").read_bytes()
    back = pd.read_parquet(paths.root / "exp_runs.parquet")
    expected = evidence(paths).frame
    numeric_axes = {"checkpoint_every": "int64", "max_inflight": "int64"}  # the format has dictionaries of words alone
    assert back.dtypes.map(str).to_dict() == expected.dtypes.map(str).to_dict() | numeric_axes
    assert to_rows(back) == to_rows(expected)
    assert call("--prefix", "exp", "--results", str(tmp_path), "--format", "parquet")[0] == 0
    assert (paths.root / "exp_runs.parquet").read_bytes() == first


def test_parquet_without_its_extra_is_refused_before_anything_is_written(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = campaign(tmp_path, seeds=[1])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name))
    before = sorted(paths.root.iterdir())
    code, _, message = call("--prefix", "exp", "--results", str(tmp_path), "--format", "csv,parquet")
    assert (code, message) == (2, "--format parquet needs the extra `parquet`: pip install 'ecrl[parquet]'")
    assert sorted(paths.root.iterdir()) == before


def test_require_confirmed_turns_verdicts_into_an_exit_code(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path / "a")
    campaign(tmp_path / "b", seeds=[1])
    arguments = ("--prefix", "exp", "--format", "csv", "--require-confirmed", "--results")
    assert call(*arguments, str(tmp_path / "a"))[0] == 0
    code, _, err = call(*arguments, str(tmp_path / "b"))
    assert code == 4
    assert "overlapping pays: INCONCLUSIVE" in err


def test_the_prefix_may_come_from_the_environment(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign(tmp_path, seeds=[1])
    monkeypatch.setenv("MATRIX_PREFIX", "exp")
    assert call("--results", str(tmp_path), "--format", "csv")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prefix", "ex"), "There are: exp"),
        (("--prefix", "a/b"), "found 'a/b'"),
        (("--prefix", "exp", "--format", "pdf"), "unknown format 'pdf'"),
        (("--prefix", "exp", "--format", ","), "found nothing"),
        (("--prefix", "exp", "--manifest", "m.csv"), "found it without --table"),
        (("--table", "absent.csv"), "absent.csv: cannot be read"),
    ],
)
def test_wrong_usage_is_explained(call: Call, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    campaign(tmp_path, seeds=[1])
    code, _, message = call(*arguments, "--results", str(tmp_path))
    assert code == 2
    assert words in message
    assert message.count("\n") <= 2


def test_a_folder_that_cannot_be_written_is_an_error_and_not_a_traceback(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, seeds=[1])
    (tmp_path / "file").write_text("")
    code, _, message = call("--prefix", "exp", "--results", str(tmp_path), "--out", str(tmp_path / "file" / "x"))
    assert code == 2
    assert "cannot be written" in message


def test_a_table_is_reported_beside_itself_and_never_written_over(call: Call, tmp_path: Path) -> None:
    path = table(tmp_path, ROWS)
    before = path.read_bytes()
    code, out, _ = call("--table", str(path))
    assert code == 0
    assert str(tmp_path / "old_report" / "old_report.html") in out.splitlines()
    assert call("--table", str(path), "--out", str(tmp_path))[0] == 0
    assert path.read_bytes() == before


def test_importing_the_command_loads_no_pandas_scipy_or_matplotlib() -> None:
    script = (
        "import ecrl.cli.commands.report, sys; "
        "print(sorted({'pandas', 'scipy', 'matplotlib', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_several_prefixes_are_pooled_into_a_report_of_their_own(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, "a", seeds=[1])
    campaign(tmp_path, "b", seeds=[2])
    arguments = ("--prefix", "a", "--prefix", "b", "--results", str(tmp_path), "--format", "md")
    code, out, _ = call(*arguments)
    assert code == 0
    text = (tmp_path / "a+b" / "a+b_report.md").read_text()
    assert str(tmp_path / "a+b" / "a+b_report.md") in out.splitlines()
    assert "Pooled: the campaigns a and b" in text
    assert "| `../b/b_matrix.toml`" in text
    assert "**Mixed**" not in text


def test_campaigns_that_differ_are_pooled_only_when_told_and_the_report_says_so(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, "a", seeds=[1])
    campaign(tmp_path, "b", seeds=[2], claims="")
    arguments = ("--prefix", "a", "--prefix", "b", "--results", str(tmp_path), "--format", "md")
    code, _, message = call(*arguments)
    assert code == 2
    assert "claims: a has overlapping pays" in message
    assert call(*arguments, "--mix")[0] == 0
    assert "**Mixed**: these campaigns differ" in (tmp_path / "a+b" / "a+b_report.md").read_text()


def test_commands_to_type_fit_the_folder_that_the_user_is_in(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(tmp_path / "runs", seeds=[1], claims="")
    monkeypatch.chdir(tmp_path)
    assert call("--prefix", "exp", "--results", str(tmp_path / "runs"), "--format", "md")[0] == 0
    text = (tmp_path / "runs" / "exp" / "exp_report.md").read_text()
    assert "ecrl matrix run --prefix exp-2seeds runs/exp/exp_matrix.toml --seeds 1,2 --results runs" in text
    assert str(tmp_path) not in text


def test_a_report_written_elsewhere_points_to_the_runs(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path / "runs", seeds=[1])
    assert call("--prefix", "exp", "--results", str(tmp_path / "runs"), "--out", str(tmp_path / "x"))[0] == 0
    assert "| `../runs/exp/exp_matrix.toml`" in (tmp_path / "x" / "exp_report.md").read_text()


def test_formats_are_read_from_one_word_each() -> None:
    assert parse_formats("md, csv") == ("md", "csv")
