"""Wrong usage of every command, and variables that stand in for flags."""

import re
from pathlib import Path

import pytest

from tests.errors import has_error
from tests.unit.cli.inline import run_inline

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["matrx"], "ECRL-101", ("'matrx'", "'matrix'")),
        (["lgos"], "ECRL-101", ("'lgos'", "'logs'")),
        (["matrix", "stauts"], "ECRL-101", ("'stauts'", "'status'")),
        (["matrix", "status", "--prefx", "x"], "ECRL-101", ("'--prefx'", "'--prefix'")),
        (["matrix", "run", "--retry-faild"], "ECRL-101", ("'--retry-faild'", "'--retry-failed'")),
        (["matrix", "status", "--prefix", "exq"], "ECRL-301", ("'exq'", "'exp'")),
        (["matrix", "resume", "--prefix", "exp", "--only", "modle=cnn"], "ECRL-320", ("'modle'", "'model'")),
        (["matrix", "resume", "--prefix", "exp", "--rerun", "nois-cnn"], "ECRL-322", ("--rerun: ", "'nois-cnn'")),
        (["matrix", "clean", "--prefix", "exp", "--kinds", "set-asde"], "ECRL-102", ("'set-asde'", "'set-aside'")),
        (
            ["matrix", "run", "--prefix", "y", "m.toml", "--variants", "blokcing"],
            "ECRL-211",
            ("--variants: ", "'blokcing'", "'blocking'"),
        ),
        (["matrix", "run", "--prefix", "y", "mm.toml"], "ECRL-201", ("mm.toml: ",)),
        (["matrix", "resume", "--prefix", "exp", "--limit", "0"], "ECRL-102", ("--limit: found 0", "1")),
        (["matrix", "status", "--prefix", "exp", "--interval", "x"], "ECRL-102", ("--interval: found 'x'",)),
        (["matrix", "resume"], "ECRL-102", ("--prefix", "ecrl matrix list")),
        (["matrix", "clean", "--yes"], "ECRL-102", ("--prefix", "ecrl matrix list")),
        (["matrix", "status", "--results", "none"], "ECRL-301", ("--prefix", "none/")),
        (["run", "m.toml"], "ECRL-101", ("'run'", "'ecrl matrix run'")),
        (["status"], "ECRL-101", ("'status'", "'ecrl matrix status'")),
        (["verify", "x"], "ECRL-101", ("'verify'", "'ecrl checkpoint verify'")),
        (["matrix", "report"], "ECRL-101", ("matrix: ", "'report'", "'ecrl report'")),
        (["logs", "early"], "ECRL-324", ("-early-", "ecrl logs -f")),
        (["matrix", "stpo", "--prefix", "exp"], "ECRL-101", ("'stpo'", "'stop'")),
        (["bench", "engins"], "ECRL-101", ("'engins'", "'engines'")),
        (["checkpoint", "verfy", "x"], "ECRL-101", ("'verfy'", "'verify'")),
        (["selftest", "--device", "cdua"], "ECRL-102", ("--device: ", "'cdua'", "'cuda'")),
        (["report", "--prefix", "exp", "--format", "htm"], "ECRL-102", ("'htm'", "'html'")),
        (["matrix", "run", "--prefix", "y", "m.toml", "--failures", "eraly"], "ECRL-219", ("'eraly'", "'early'")),
        (["matrix", "run", "--prefix", "y", "m.toml", "--jobs", "two"], "ECRL-102", ("--jobs: found 'two'",)),
        (["matrix", "run", "--prefix", "y", "m.toml", "--aa"], "ECRL-101", ("--aa reference",)),  # once without value
        (
            ["matrix", "run", "--prefix", "y", "m.toml", "--aa", "--jobs", "2"],
            "ECRL-102",
            ("--aa: ", "'--jobs'", "--aa reference"),
        ),
        (["matrix", "run", "--prefix", "y", "--aa", "m.toml"], "ECRL-102", ("--aa: ", "'m.toml'", "--aa reference")),
        (["matrix", "run", "--prefix", "y", "m.toml", "--aa", ""], "ECRL-102", ("--aa: ", "''", "--aa reference")),
        (["matrix", "attach", "--prefx", "exp"], "ECRL-101", ("'--prefx'", "ecrl matrix attach --help")),
        (["matrix", "attach", "--prefix", "exp"], "ECRL-314", ("attach", "ecrl matrix resume --prefix exp")),
        (["matrix", "stop", "--prefix", "exp"], "ECRL-314", ("stop", "ecrl matrix resume --prefix exp")),
        (["matrix", "stop", "--prefix", "exq"], "ECRL-301", ("'exq'", "'exp'")),
    ],
)
def test_an_error_is_one_to_three_lines_on_stderr_with_exit_2(
    arguments: list[str], code: str, facts: tuple[str, ...]
) -> None:
    done = run_inline(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert has_error(done.stderr, code, *facts)
    assert 1 <= len(done.stderr.strip().splitlines()) <= 3
    assert done.stderr.startswith("ecrl: ")


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "code", "facts"),
    [
        ("MATRIX_PREFIX", "a/b", ["matrix", "status"], "ECRL-302", ("'a/b'",)),
        ("MATRIX_PREFIX", "exq", ["matrix", "attach"], "ECRL-301", ("'exq'", "results/", "'exp'")),
        ("MATRIX_PREFIX", "exq", ["report"], "ECRL-301", ("'exq'",)),
        ("PROFILE", "smal", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-219", ("'smal'",)),
        ("PROFILE", "smal", ["matrix", "run", "--prefix", "exp"], "ECRL-305", ("'smal'", "campaign exp")),
        ("SEEDS_CSV", "1,x", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-211", ("matrix.seeds #2: ", "'x'")),
        (
            "CHECKPOINT_EVERY_CSV",
            "9",
            ["matrix", "plan", "--prefix", "y", "m.toml"],
            "ECRL-212",
            ("matrix.checkpoint_every: ", "found 9"),
        ),
        ("DATASETS_CSV", "nois", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-211", ("'nois'",)),
        ("MODELS_CSV", "cn", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-211", ("'cn'", "'cnn'")),
        ("NPROC", "two", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-102", ("'two'",)),
        ("NPROC", "0", ["matrix", "plan", "--prefix", "y", "m.toml"], "ECRL-211", ("train.nproc: ", "found 0")),
    ],
)
def test_an_error_of_a_variables_value_names_the_variable(
    variable: str, value: str, arguments: list[str], code: str, facts: tuple[str, ...]
) -> None:
    done = run_inline(*arguments, **{variable: value})
    assert done.returncode == 2
    text = done.stderr.replace("ecrl: ", "", 1)
    assert has_error(text, code, *facts)
    assert re.search(rf"^{variable}: .*\[{code}\]$", text, re.MULTILINE), done.stderr


@pytest.mark.parametrize(
    ("variables", "note"),
    [
        ({"NPROC": "3"}, "note: NPROC=3 (environment) replaces train.nproc = 2"),
        ({"ECRL_NPROC": "1", "NPROC": "3"}, "note: ECRL_NPROC=1 (environment) replaces train.nproc = 2"),
        ({"SEEDS_CSV": "1,2"}, "note: SEEDS_CSV=1,2 (environment) stands in for matrix.seeds"),
        ({"ECRL_RESULTS": "there"}, "note: ECRL_RESULTS=there (environment) stands in for --results"),
    ],
)
def test_a_variable_that_replaces_something_is_said(variables: dict[str, str], note: str) -> None:
    done = run_inline("matrix", "plan", "--prefix", "y", "m.toml", "--count", **variables)
    assert done.returncode == 0, done.stderr
    assert note in done.stderr.splitlines()
    assert "note: " not in run_inline("matrix", "plan", "--prefix", "y", "m.toml", "--count").stderr


def test_the_name_with_ecrl_names_the_campaign() -> None:
    done = run_inline("matrix", "status", ECRL_PREFIX="exp", MATRIX_PREFIX="no-such")
    assert done.returncode == 0, done.stderr
    assert "note: ECRL_PREFIX=exp (environment) stands in for --prefix" in done.stderr


def test_a_flag_that_hides_a_variable_is_named_itself() -> None:
    done = run_inline("matrix", "plan", "--prefix", "y", "m.toml", "--profile", "smal", PROFILE="other")
    assert done.stderr.startswith("ecrl: --profile: ")
    assert has_error(done.stderr, "ECRL-219", "'smal'")


@pytest.mark.parametrize("slip", ["--rerunn", "--dryrun", "--yess", "--noww", "--assume-deed"])
def test_no_suggestion_sets_aside_removes_or_kills(slip: str) -> None:
    for command in ("run", "resume", "clean", "stop"):
        told = run_inline("matrix", command, "--prefix", "exp", slip).stderr
        assert "ECRL-101" in told
        assert not re.search(r"mean '--(rerun|yes|now|assume-dead)'", told), told


READERS = [
    ["matrix", "status"],
    ["matrix", "attach"],
    ["report"],
    ["advise", "--mtbf", "3h"],
    ["bundle"],
    ["selftest", "--statistics"],
]


@pytest.mark.parametrize("arguments", READERS, ids=lambda arguments: arguments[-1])
def test_a_command_that_reads_takes_the_only_campaign_and_says_so(arguments: list[str]) -> None:
    done = run_inline(*arguments)
    assert "campaign: exp, the only one in results/\n" in done.stderr
    assert not has_error(done.stderr, "ECRL-102", "--prefix")


@pytest.mark.parametrize("arguments", READERS, ids=lambda arguments: arguments[-1])
def test_of_two_campaigns_a_command_takes_none_and_names_both(here: Path, arguments: list[str]) -> None:
    (here / "results" / "other").mkdir()
    (here / "results" / "other" / "other_matrix.toml").touch()
    done = run_inline(*arguments)
    assert done.returncode == 2
    assert has_error(done.stderr, "ECRL-323", "--prefix: ", "2 campaigns", "exp, other")
