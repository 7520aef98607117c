"""How every command behaves: exit codes, wrong usage, completion, plain output, and what it loads."""

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ecrl.cli.ui.messages import print_json
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.campaign.recover import Policy
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error
from tests.matrices import without_warm_up
from tests.test_arrows import HEAVY, loaded
from tests.unit.cli.inline import run_inline
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

ECRL = [sys.executable, "-m", "ecrl"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a planned campaign `exp`."""
    for name in (
        "MATRIX_PREFIX",
        "NPROC",
        "PROFILE",
        "SEEDS_CSV",
        "CHECKPOINT_EVERY_CSV",
        "DATASETS_CSV",
        "MODELS_CSV",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.toml").write_text(without_warm_up(MATRIX))
    control(StandIn()).plan(request(tmp_path / "results"))
    return tmp_path


def program(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*ECRL, *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=50)


def patched(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program after some code has changed it."""
    whole = f"import sys; sys.argv = ['ecrl', *{arguments!r}]\n{code}\nfrom ecrl.__main__ import main\nmain()"
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=50)


# -- exit codes, one test each --------------------------------------------------------------------------------------


def test_exit_0_all_is_well() -> None:
    assert program("matrix", "list").returncode == 0


def test_exit_1_is_a_bug_of_ours_with_its_traceback() -> None:
    done = patched(
        "import ecrl.cli.ui.campaign_tables as s\ndef bug(_): raise KeyError('x')\ns.show_list = bug", "matrix", "list"
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_exit_2_wrong_usage() -> None:
    assert program("matrix", "status", "--prefix", "exq").returncode == 2


def test_exit_4_something_failed(here: Path) -> None:
    (here / "checkpoints").mkdir()
    assert program("checkpoint", "verify", "checkpoints").returncode == 4


def test_exit_5_another_ecrl_holds_the_prefix() -> None:
    with prefix_lease(CampaignPaths(Path("results"), "exp")):
        done = program("matrix", "resume", "--prefix", "exp")
    assert done.returncode == 5
    assert f"pid {os.getpid()}" in done.stderr


def test_exit_6_unfit_with_json_on_stdout() -> None:
    code = "import resource; resource.getrlimit = lambda _: (100, 100)\nimport ecrl.launch.doctor.gpu as g\n"
    done = patched(code + "g.check_gpus = lambda wanted, say: iter(())", "doctor", "--json")
    assert done.returncode == 6, done.stderr
    told = json.loads(done.stdout)
    assert (told["schema"], told["fit"]) == (1, False)
    unfit = [finding for finding in told["findings"] if finding["state"] == "unfit"]
    assert {"open files", "processes"} >= {finding["check"] for finding in unfit} > set()


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_exit_129_130_143_a_signal_while_planning_writes_nothing(here: Path, signum: signal.Signals) -> None:
    command = [*ECRL, "matrix", "plan", "--prefix", "new", "m.toml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert "checking" in process.stderr.readline()  # the probe imports PyTorch now
        process.send_signal(signum)
        rest = process.stderr.read()
        assert process.wait(30) == 128 + signum
    assert has_error(rest, "ECRL-312", signum.name, "same command")
    assert "Traceback" not in rest
    assert not (here / "results" / "new").exists()


def test_ctrl_c_while_reporting_ends_with_130_and_a_word() -> None:
    code = (
        "import os, signal, time, ecrl.analysis.campaign.load as load\n"
        "def interrupted(*_): os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
        "load.load_campaign = interrupted"
    )
    done = patched(code, "report", "--prefix", "exp")
    assert done.returncode == 130, done.stderr
    assert "SIGINT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["matrix", "list"], ["matrix", "status", "--prefix", "exp", "--json"], ["-h"]])
def test_exit_141_the_reader_of_stdout_has_gone(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*ECRL, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=50)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("arguments", "code"), [(["list"], 0), (["stop", "--prefix", "exp"], 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_cost_no_exit_code(arguments: list[str], code: int, closed: str) -> None:
    command = shlex.join([*ECRL, "matrix", *arguments])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, timeout=50)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_message_that_nobody_reads_costs_no_exit_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*ECRL, "matrix", "stop", "--prefix", "exp"], stderr=writing, timeout=50)
    os.close(writing)
    assert done.returncode == 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_non_blocking_pipe_cannot_take_at_once_is_not_lost(stream: str) -> None:
    code = (
        "import os, sys, ecrl.cli.ui.campaign_tables as s\n"
        f"s.show_list = lambda _: print('x' * 999_999, file=sys.{stream})\n"
        f"os.set_blocking(sys.{stream}.fileno(), False)"
    )
    done = patched(code, "matrix", "list")
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(getattr(done, stream)) == 1_000_000


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_told_in_a_line(more: list[str]) -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", *more]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=50)
    assert done.returncode == 2
    assert has_error(done.stderr, "ECRL-105", "stdout: No space left on device")
    assert len(done.stderr.splitlines()) == 2


# -- wrong usage -----------------------------------------------------------------------------------------------------


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


# -- output ------------------------------------------------------------------------------------------------------------

READS = [
    ["matrix", "list"],
    ["matrix", "status", "--prefix", "exp"],
    ["matrix", "show", "early"],
    ["matrix", "clean", "--prefix", "exp"],
    ["matrix", "plan", "--count", "--prefix", "new", "m.toml"],
]


@pytest.mark.parametrize("arguments", READS, ids=lambda arguments: arguments[1])
def test_what_can_be_read_is_plain_off_a_terminal_and_has_a_versioned_json(arguments: list[str]) -> None:
    plain = program(*arguments, FORCE_COLOR="")
    assert plain.returncode == 0, plain.stderr
    assert "\x1b" not in plain.stdout + plain.stderr
    assert "\r" not in plain.stdout + plain.stderr
    told = json.loads(run_inline(*arguments, "--json").stdout)
    assert told["schema"] == 1


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the program shows on a terminal of 80 columns that knows colours."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    told = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    with subprocess.Popen(
        [*ECRL, *arguments],
        env=told | {"TERM": "xterm-256color"} | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # that is how a terminal tells that nobody writes to it any more
            while data := os.read(master, 65536):
                shown += data
        assert process.wait(50) == 0, shown
    os.close(master)
    return shown.decode()


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")


def test_a_terminal_has_colours_and_with_no_color_it_has_none(here: Path) -> None:
    control(StandIn()).run(request(here / "results"), Policy())
    assert COLOUR.search(on_a_terminal("matrix", "status", "--prefix", "exp"))
    assert not COLOUR.search(on_a_terminal("matrix", "status", "--prefix", "exp", NO_COLOR="1"))


@pytest.mark.parametrize("arguments", READS[:3], ids=lambda arguments: arguments[1])
def test_tables_fit_a_terminal_of_80_columns(arguments: list[str]) -> None:
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", on_a_terminal(*arguments))
    assert "exp" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_watch_off_a_terminal_prints_one_snapshot_an_interval_as_plain_lines() -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", "--watch", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20) == 0  # Ctrl-C is how one leaves
    assert "exp: 0/6 runs; 2 suites (2 pending); ETA unknown" in first
    assert first[20:] == second[20:]
    assert "\x1b" not in first + second + rest


def test_watch_json_is_one_document_a_line() -> None:
    command = [*ECRL, "matrix", "status", "--prefix", "exp", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(20) == 0
    assert (told["schema"], told["counts"]["pending"]) == (1, 2)


# -- completion and what is loaded ----------------------------------------------------------------------------------


def completed(words: str) -> list[str]:
    environment = {"_ECRL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return run_inline(**environment).stdout.split()


def test_the_shell_completes_commands_prefixes_and_suite_ids() -> None:
    assert completed("ecrl matr") == ["matrix"]
    whole = program(_ECRL_COMPLETE="complete_bash", COMP_WORDS="ecrl matr", COMP_CWORD="1")
    assert whole.stdout.split() == ["matrix"]
    assert completed("ecrl matrix status --prefix e") == ["exp"]
    assert [name[:15] for name in completed("ecrl logs noise-cnn-e")] == ["noise-cnn-early"]
    assert len(completed("ecrl matrix resume --prefix exp --rerun noise")) == 2
    assert completed("ecrl matrix show --prefix none noise") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ecrl report --prefix e", {"exp"}),
        ("ecrl advise --prefix ", {"exp"}),
        ("ecrl compare e", {"exp"}),
        ("ecrl bundle e", {"exp"}),
        ("ecrl selftest --prefix e", {"exp"}),
        ("ecrl report --format html,p", {"html,parquet"}),
        ("ecrl matrix run --models cnn,re", {"cnn,resnet18", "cnn,resnet50"}),
        ("ecrl matrix run --datasets cifar100,cifar10", {"cifar100,cifar10"}),
        ("ecrl matrix run --variants re", {"reference"}),
        ("ecrl matrix run --variants blocking,o", {"blocking,overlapped"}),
        ("ecrl matrix run m.toml --failures e", {"early"}),
        ("ecrl matrix run absent.toml --failures e", set()),
        ("ecrl matrix run p.toml --profile sm", {"small"}),
        ("ecrl matrix run p.toml --variants tun", {"tuned"}),
        ("ecrl matrix run --device c", {"cpu", "cuda"}),
        ("ecrl matrix clean --kinds temporary,ch", {"temporary,checkpoints"}),
        ("ecrl compare --metric stall_s", {"stall_s"}),
        ("ecrl logs --variant over", {"overlapped"}),
        ("ecrl bench engines --engines blocking,over", {"blocking,overlapped"}),
    ],
)
def test_the_shell_completes_values(here: Path, words: str, expected: set[str]) -> None:
    (here / "p.toml").write_text("[profiles.small]\n[variants.tuned]\nengine = 'overlapped'\n")
    found = completed(words)
    assert set(found) == expected, found


def test_completion_and_the_commands_that_look_load_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    unwanted = HEAVY | {"psutil", "rich"}
    for arguments in (["matrix", "status", "--prefix", "exp"], ["matrix", "show", "early"], ["matrix", "list"]):
        assert not loaded(*arguments) & unwanted, arguments
    monkeypatch.setenv("_ECRL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "ecrl matrix show noise")
    monkeypatch.setenv("COMP_CWORD", "3")
    modules = loaded("matrix")
    assert "ecrl.cli.typer_support.complete" in modules
    assert not modules & unwanted


@pytest.mark.timing
def test_help_and_status_start_fast() -> None:
    def fastest(*arguments: str) -> float:
        seconds = []
        for _ in range(5):
            begun = time.monotonic()
            assert program(*arguments).returncode == 0
            seconds.append(time.monotonic() - begun)
        return min(seconds)

    assert fastest("--help") < 0.6  # 0.1 s where nobody else computes; torch or pandas alone would take longer
    assert fastest("matrix", "status", "--prefix", "exp") < 0.9


def test_status_of_a_large_campaign_shows_what_needs_attention() -> None:
    code = "import ecrl.cli.ui.campaign_tables as s; s._MANY = 1"
    done = patched(code, "matrix", "status", "--prefix", "exp")
    assert "noise-cnn" not in done.stdout
    assert "2 " in done.stderr
    assert ": ecrl matrix status --prefix exp --all" in done.stderr
    assert patched(code, "matrix", "status", "--prefix", "exp", "--all").stdout.count("noise-cnn") == 2


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_document_of_many_suites_is_written_as_they_come_and_is_one_document(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = [{"suite_id": f"é{n}", "seeds": [1, 2], "message": None} for n in range(number)]
    print_json({"schema": 1, "counts": {"pending": number}, "suites": iter(suites), "last": "x"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"schema": 1, "counts": {"pending": number}, "suites": suites, "last": "x"}
    assert len(out.splitlines()) == 6 + number + (number > 0)
