import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ecrl import plugins
from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.tables import build_detailed_frame, build_summary_frame, format_csv
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.verdict_frames import CLAIM_COLUMNS
from ecrl.cli.commands.report import register
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.experiments.training.report import PLUGIN
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from ecrl.report.formats.latex import escape
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.formats import parse_formats
from ecrl.report.pages.render import render
from ecrl.report.text.document import Block, Bullets, Paragraph, Table
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import format_fixed, interval, number, p_value, percent
from tests.unit.analysis.campaign_builder import Change, campaign
from tests.unit.analysis.external_table.test_table import ROWS, table
from tests.unit.cli.inline import run_inline

TITLES = [
    "Answer",
    "Scope and setup", "Integrity and recovery correctness", "Main quantitative results", "Where the time went",
    "Interpretation", "Claims", "Multiverse", "Registration", "Threats to validity",
    "Minimal next runs", "Artifact index",
]  # fmt: skip

EPOCH = "1700000000"
TEXTS = ("md", "html", "csv", "tex")


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.delenv("MATRIX_PREFIX", raising=False)


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def report_of(found: Evidence, folder: Path) -> str:
    render(found, folder, ["md"])
    return (folder / f"{found.prefix}_report.md").read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above `results` with a campaign of 2 suites, 3 variants and 3 seeds in which everything went well."""
    folder = tmp_path_factory.mktemp("home")
    campaign(folder / "results")
    return folder


@pytest.fixture(scope="module")
def whole(home: Path) -> Evidence:
    """That campaign."""
    return evidence(CampaignPaths(home / "results", "exp"))


WRITES = ("report", "--prefix", "exp", "--results", "results", "--format", ",".join(TEXTS), "--out")


@pytest.fixture(scope="module")
def written(home: Path) -> Path:
    """The folder of its report in every text format, as the command writes it."""
    folder = home / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        patch.delenv("MATRIX_PREFIX", raising=False)
        patch.chdir(home)
        done = run_inline(*WRITES, folder.name)
    assert done.returncode == 0, done.stderr
    named = [home / name for name in list_files(done.stdout)]
    assert sorted(named) == sorted(path for path in folder.rglob("*") if path.is_file())
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A campaign of which nothing ever ran."""
    return evidence(campaign(tmp_path_factory.mktemp("results"), change=lambda _run, _found: None))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Somebody else's table of four suites."""
    return load_table_evidence(table(tmp_path_factory.mktemp("table"), ROWS))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Two suites with one seed."""
    return evidence(campaign(tmp_path_factory.mktemp("results"), seeds=[1337]))


@pytest.mark.parametrize("name", plugins.names("report section"))
def test_every_section_has_a_title_a_place_and_something_to_say_about_anything(
    name: str, whole: Evidence, empty: Evidence, foreign: Evidence
) -> None:
    section = plugins.load("report section", name)
    assert section.title
    for found in (whole, empty, foreign):
        assert section.blocks(found, {})


def test_sections_stand_in_the_order_of_the_contract(written: Path) -> None:
    assert [section.title for section in PLUGIN.list_sections()] == TITLES
    assert re.findall(r"^## \d+\. (.*)$", (written / "exp_report.md").read_text(), re.M) == TITLES


def test_no_document_holds_an_absolute_path_or_a_not_a_number(written: Path) -> None:
    for path in (path for path in contents(written) if path.suffix != ".pdf"):
        text = (written / path).read_text()
        assert str(written.parent) not in text
        assert "/tmp" not in text
        assert not re.search(r"\b(nan|None)\b", re.sub(r"fill=.none.|none;", "", text)), path


def test_every_picture_and_artifact_that_is_named_exists(written: Path) -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", (written / "exp_report.md").read_text())
    assert len(pictures) == 10
    assert all((written / picture).is_file() for picture in pictures)


def test_launchers_stand_in_lines_and_columns_of_their_own(tmp_path: Path, whole: Evidence) -> None:
    found = evidence(campaign(tmp_path, datasets=["fashion-mini"], launchers=["cold", "warm"], seeds=[1, 2]))
    assert [str(arm) for arm in found.arms][:4] == [
        "reference, cold",
        "blocking, cold",
        "overlapped, cold",
        "reference, warm",
    ]
    text = report_of(found, tmp_path)
    for arm in found.arms:
        assert f"| {arm} " in text
        assert f"{arm} (s)" in text
    assert "### By launcher" in text
    ranking = next(line for line in text.splitlines() if line.startswith("|   # |"))
    assert "| launcher |" in ranking
    assert ">blocking, warm<" in (tmp_path / "plots" / "restarts.svg").read_text()
    assert ">blocking, warm<" in (tmp_path / "plots" / "ledger.svg").read_text()
    for frame in (found.frame, build_summary_frame(found.frame), build_detailed_frame(found.frame, found.dropped)):
        values = {row["launcher"] for row in csv.DictReader(format_csv(frame).splitlines())}
        assert values == {"cold", "warm"}
    # one launcher is the rule: it is named once, in the table of suites
    assert [str(arm) for arm in whole.arms] == ["reference", "blocking", "overlapped"]
    assert "By launcher" not in prose(whole)


def test_costs_of_warm_and_cold_runs_are_never_averaged(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, datasets=["fashion-mini"], launchers=["cold", "warm"], seeds=[1]))
    assert {costs.workload.launcher for costs in engine_costs(found.runs)} == {"cold", "warm"}
    assert {suite for c in (found.compare("overlapped", "blocking"),) for suite in c.suites} == set(found.suites)


def test_plots_hold_real_text_and_no_date(written: Path) -> None:
    for path in (written / "plots").glob("*.svg"):
        svg = path.read_text()
        assert "<text" in svg
        assert "<dc:date>" not in svg


def test_plots_of_an_earlier_report_go_when_their_data_are_gone(
    small: Evidence, empty: Evidence, tmp_path: Path
) -> None:
    render(small, tmp_path, ["md"])
    (tmp_path / "plots" / "mine.svg").write_text("kept")
    render(empty, tmp_path, ["md"])
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.svg"]


def prose(found: Evidence) -> str:
    return markdown([block for section in PLUGIN.list_sections() for block in section.blocks(found, {})])


def test_prose_claims_an_effect_only_where_the_numbers_support_it(whole: Evidence, small: Evidence) -> None:
    text = prose(whole)
    assert "a gain larger than its standard error allows for chance, for these suites" in text
    assert "| **CONFIRMED for these 2 suites, noise not measured** |" in text
    text = prose(small)
    assert "This is a direction, not a finding: 6 pairs are the least" in text
    assert "All runs share one seed (1337)" in text
    assert "over 2 suites, seed 1337: " in text
    assert "2 suites cannot show how an effect varies between workloads" in text
    for word in ("larger than its standard", "beyond noise", "consistent", "each suite has", "**CONFIRMED"):
        assert word not in text


def test_a_campaign_with_failed_and_missing_runs_still_has_a_report_that_names_them(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=lambda run, found: None if (run.variant, run.seed) == ("blocking", 2) else found)
    result = next(paths.root.glob("suites/*/overlapped/seed1/result.json"))
    raw = json.loads(result.read_text()) | {"outcome": "failed", "reason": "rank 1 died of OOM"}
    result.write_text(json.dumps(raw))
    text = prose(evidence(paths))
    assert "blocking/seed2` is missing: never started: there is no run.json." in text
    assert "overlapped/seed1` is failed: rank 1 died of OOM. Log: `suites/" in text
    assert "### Blocks that no comparison uses" in text
    assert "ecrl matrix resume --prefix exp --retry-failed" in text


def fails_to_keep(steps: Sequence[int]) -> Change:
    """`overlapped` with seed 1 keeps none of the checkpoints of these steps."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if (run.variant, run.seed) == ("overlapped", 1):
            for events in found.events.values():
                for event in list(events):
                    if event["e"] == "committed" and event["s"] in steps:
                        events.remove(event)
                    elif event["e"] == "persisted" and event["s"] in steps:
                        event |= {"e": "persist_failed", "reason": "rank 0: No space left on device"}
        return found

    return change


def test_checkpoints_that_could_not_be_kept_are_counted_named_and_held_against_claims(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, change=fails_to_keep([8])))
    [threat] = [threat for threat in found.threats.found if threat.code == "checkpoints_not_kept"]
    assert threat.blocking  # one of three
    assert "overlapped/seed1 (33%)" in threat.evidence
    text = prose(found)
    # 12 runs with checkpoints, each asks for 4, 8 and 12
    assert "36 checkpoints asked for = 34 committed + 2 that could not be kept + 0 that a failure" in text
    assert "checkpoint 8 could not be kept: rank 0: No space left on device" in text


def test_an_empty_campaign_has_a_report_that_says_so(empty: Evidence, tmp_path: Path) -> None:
    text = report_of(empty, tmp_path)
    assert "0 of 18 runs completed" in text
    assert "No run completed, so there is no result." in text


@pytest.mark.parametrize("variants", [["overlapped"], ["reference", "overlapped"]])
def test_one_suite_with_one_engine_has_a_report(tmp_path: Path, variants: list[str]) -> None:
    paths = campaign(tmp_path, variants=variants, seeds=[1], datasets=["cifar10"], claims="")
    text = report_of(evidence(paths), tmp_path / "out")
    assert ("nothing to compare it with" in text) == (len(variants) == 1)
    assert "## 3. Main quantitative results" in text


def test_a_table_from_elsewhere_has_the_same_sections(foreign: Evidence, tmp_path: Path) -> None:
    text = report_of(foreign, tmp_path)
    assert re.findall(r"^## \d+\. (.*)$", text, re.M) == TITLES
    assert "What this table cannot support" in text
    assert "No ledger: the time of the runs was not recorded by phase." in text
    assert "signed: mean 0, mean absolute 0.0015" in text
    assert "| cifar10 " in text


class _Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        self.ids += [values["id"]] if values.get("id") else []  # type: ignore[list-item]
        self.tables += tag == "table"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_one_file_that_fetches_nothing(written: Path) -> None:
    text = (written / "exp_report.html").read_text()
    found = _Page()
    found.feed(text)
    assert found.open == []
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "url(http" not in text
    assert "@import" not in text
    assert text.count("<svg") == 10
    assert found.tables > 10
    assert "color-scheme" in text


def test_text_from_records_cannot_become_markup(tmp_path: Path) -> None:
    rows = [row.replace("cifar100", "<script>alert(1)</script>") for row in ROWS]
    render(load_table_evidence(table(tmp_path, rows)), tmp_path / "out")
    assert "<script>alert" not in (tmp_path / "out" / "old_report.html").read_text()


def test_markdown_holds_no_html_and_no_link_of_somebody_elses_label() -> None:
    label = "<img src=x onerror=alert(1)> [a](http://b) p < 0.1 `<suite_id>`"
    safe = "\\<img src=x onerror=alert(1)> [a\\](http://b) p < 0.1 `<suite_id>`"
    blocks: list[Block] = [Paragraph(label), Bullets((label,)), Table(("name",), ((label,),), frozenset({"name"}))]
    assert markdown(blocks).count(safe) == 3
    assert markdown([Paragraph("\\`<img>` ``<img>")]) == "\\`\\<img>` ``\\<img>"  # no code spans


@pytest.mark.parametrize(
    ("value", "text"), [(1 - 1e-9, "+0.00 %"), (0.9999, "-0.01 %"), (1.02, "+2.00 %"), (0.99996, "+0.00 %")]
)
def test_a_zero_has_no_minus(value: float, text: str) -> None:
    assert percent(value) == text
    assert format_fixed(-0.001) == "0.00"
    assert format_fixed(-0.006) == "-0.01"


def test_markdown_tables_are_aligned_and_escaped() -> None:
    text = markdown([Table(("name", "n"), (("a|b", "1,234"), ("c", "5")), frozenset({"name"}))])
    assert text.splitlines() == ["| name |     n |", "| ---- | ----: |", "| a\\|b | 1,234 |", "| c    |     5 |"]


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (None, 3, 1234567.8, 0.012342, 0.0, float("inf"))] == [
        "–", "3", "1,234,568", "0.01234", "0", "∞",
    ]  # fmt: skip
    assert (percent(1.0365), format_fixed(1234.567), p_value(1e-9), interval(None, 2)) == (
        "+3.65 %",
        "1,234.57",
        "< 0.0001",
        "–",
    )


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def call() -> Callable[..., "tuple[int, str, str]"]:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=True)
        if isinstance(result.exception, EcrlError):
            return result.exception.exit_code, "", str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


Call = Callable[..., "tuple[int, str, str]"]


def list_files(out: str) -> list[str]:
    """The files that the command named on stdout. The answer stands below them, after an empty line."""
    files, gap, answer = out.partition("\n\n")
    assert gap
    assert answer
    return files.splitlines()


def test_the_command_lists_what_it_wrote_and_exits_0_whatever_the_verdicts(call: Call, tmp_path: Path) -> None:
    campaign(tmp_path, seeds=[1])
    code, out, err = call("--prefix", "exp", "--results", str(tmp_path), "--format", "csv,md")
    assert code == 0
    assert all(Path(line).is_file() for line in list_files(out))
    assert any(line.endswith("exp_report.md") for line in out.splitlines())
    assert "warning: exp_manifest.csv: not found" in err


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


@pytest.mark.process
@pytest.mark.timeout(180)
def test_the_same_evidence_gives_the_same_bytes_whatever_hash_seed_time_zone_and_locale(
    home: Path, written: Path
) -> None:
    surroundings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run(
        [sys.executable, "-m", "ecrl", *WRITES, "again"],
        cwd=home, env={**os.environ, **surroundings}, check=True, capture_output=True, timeout=160,
    )  # fmt: skip
    assert contents(home / "again") == contents(written)
    assert len(contents(written)) > 20
    assert "2023-11-14 22:13 UTC" in (written / "exp_report.md").read_text()


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


def test_tex_holds_every_table_and_a_pdf_for_every_figure(written: Path) -> None:
    text = (written / "exp_tables.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") > 10
    assert len(re.findall(r"\\label{([^}]*)}", text)) == len(set(re.findall(r"\\label{([^}]*)}", text)))
    captions = re.findall(r"\\caption{(.*)}$", text, re.MULTILINE)
    assert len(captions) == len(set(captions))
    figures = re.findall(r"\\includegraphics{([^}]*)}", text)
    assert len(figures) == 10
    for figure in figures:
        assert (written / figure).read_bytes().startswith(b"%PDF")
    assert not re.search(
        r"(?<!\\)[%&#_](?![^\n]*\.pdf)", re.sub(r"^%.*$|^\\providecommand.*$|\\label.*| & ", "", text, flags=re.M)
    )


def test_tex_escapes_what_latex_would_read() -> None:
    assert escape("a_b & 5 % **x** `y_z` {[1]} – ~") == (
        r"a\_b \& 5 \% \textbf{x} \texttt{y\_\allowbreak{}z} \{{[}1]\} -- \textasciitilde{}"
    )


def test_a_minus_is_set_as_one_and_a_hyphen_stays() -> None:
    assert escape("-0.5 [-2.1, -.3] a-1 1-2 overlapped - blocking") == (
        "$-$0.5 {[}$-$2.1, $-$.3] a-1 1-2 overlapped - blocking"
    )


PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{array,booktabs,graphicx}
\begin{document}
\input{exp_tables}
\end{document}
"""


@pytest.mark.process
@pytest.mark.timeout(180)
def test_tex_compiles_and_nothing_sticks_out_of_the_page(written: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: apt-get install texlive-latex-recommended)")
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    (tmp_path / "paper.tex").write_text(PAPER)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Overfull" not in done.stdout


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


def test_the_report_holds_predicted_against_measured_goodput(whole: Evidence) -> None:
    text = prose(whole)
    assert text.index("## Predicted against measured goodput") > text.index("### Failures")
    assert "its stall plus the mean interference, also where that is not told from 0" in text
    assert re.search(r"Mean error, with its sign: blocking [-+]\d\.\d\d %, overlapped [-+]\d\.\d\d %\.", text)


def test_formats_are_read_from_one_word_each() -> None:
    assert parse_formats("md, csv") == ("md", "csv")
