"""`ecrl selftest` around its child: what it refuses, what it shows, and the exit code. No torch in this process's
part of it; the children are programs behind the real interface, one of them the real one with a fence removed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer

from ecrl.cli.commands import selftest as command
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.selftest import runner as selftest
from ecrl.selftest.runner import Check, Report, Selftest
from tests.errors import raises

MACHINE = {"e": "machine", "device_name": "a GPU", "torch": "9", "cuda": "99", "driver": "1.2"}
PASSES = {"e": "check", "name": "it holds", "verdict": "pass", "evidence": "20 of 20", "wall_s": 0.5, "details": {}}

BROKEN = """
import sys
from ecrl.checkpoint.sharded.snapshot import ThreadStager
ThreadStager.before_update = lambda self: False
from ecrl.selftest.__main__ import main
sys.argv.insert(1, "check")
main()
"""


def saying(*told: dict[str, Any], then: str = "") -> tuple[str, ...]:
    lines = "".join(json.dumps(one) + "\n" for one in told)
    return sys.executable, "-c", f"import os; os.write(int(os.environ['ECRL_REPLY_FD']), {lines.encode()!r})\n{then}"


def run(*told: dict[str, Any], device: str = "cpu", then: str = "") -> Report:
    return Selftest(device, command=saying(*told, then=then), kills=False).run(StopRequest(), lambda _: None)


def check(verdict: str) -> dict[str, Any]:
    return PASSES | {"verdict": verdict, "name": f"it is {verdict}"}


@pytest.mark.parametrize(
    ("verdicts", "worst", "exit_code"),
    [
        (["pass"], "pass", 0),
        (["pass", "warn"], "pass", 0),
        (["pass", "inconclusive"], "inconclusive", 4),
        (["inconclusive", "wrong"], "wrong", 4),
        (["wrong", "torn", "pass"], "torn", 4),
        ([], "inconclusive", 4),
    ],
)
def test_the_worst_check_is_the_verdict(verdicts: list[str], worst: str, exit_code: int) -> None:
    report = run(MACHINE, *(check(verdict) for verdict in verdicts))
    assert (report.verdict, report.exit_code) == (worst, exit_code)
    assert [c.verdict for c in report.checks] == verdicts


def test_a_stand_in_never_succeeds() -> None:
    report = run(MACHINE | {"device_name": "FakeCUDA (no kernels)"}, PASSES)
    assert (report.verdict, report.exit_code) == ("inconclusive", 4)


def test_a_child_that_dies_is_a_check_that_went_wrong() -> None:
    report = run(MACHINE, PASSES, then="import os; os.write(2, b'it hurts\\n'); os.abort()")
    assert report.verdict == "wrong"
    assert report.checks[-1].evidence.endswith(" -6: it hurts")


def test_without_torch_the_error_says_what_to_install() -> None:
    with raises("ECRL-506", sys.executable, "pip install torch"):
        run(then="import torch_is_not_here")


@pytest.mark.parametrize(
    ("wanted", "facts"),
    [
        ({"device": "cdua"}, ("--device: ", "'cdua'", "'cuda'")),
        ({"device": "cpu", "model": "resnet19"}, ("--model: ", "'resnet19'", "'resnet18'")),
        ({"device": "cpu", "steps": 2}, ("--steps: ", "found 2", "3")),
    ],
)
def test_nonsense_is_refused_before_anything_starts(wanted: dict[str, Any], facts: tuple[str, ...]) -> None:
    with raises("ECRL-102", *facts) as refused:
        Selftest(**wanted, command=("/nowhere",)).run(StopRequest(), lambda _: None)
    assert refused.value.exit_code == 2


def test_a_signal_ends_the_child_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stop, pids = StopRequest(), []

    def show(shown: Check) -> None:
        pids.append(int(shown.evidence))
        threading.Timer(0.05, stop.request, [signal.SIGTERM]).start()

    program = (
        f"import json, os, time; told = json.dumps({PASSES!r} | {{'evidence': str(os.getpid())}})\n"
        "os.write(int(os.environ['ECRL_REPLY_FD']), f'{told}\\n'.encode()); time.sleep(60)"
    )
    with pytest.raises(StoppedError) as stopped:
        Selftest("cpu", command=(sys.executable, "-c", program), kills=False).run(stop, show)
    assert stopped.value.exit_code == 143
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")  # noqa: PTH110
def test_cuda_without_a_gpu_is_refused_in_three_lines_at_most() -> None:
    with raises("ECRL-803", "--device: ", "ecrl selftest --device cpu") as refused:
        Selftest("cuda").run(StopRequest(), lambda _: None)
    assert refused.value.exit_code == 2
    assert len(str(refused.value).splitlines()) <= 3


# --- the killed run -----------------------------------------------------------------------------------------


def record(**final: str) -> Any:
    from ecrl.records.reader import RunRecord

    result: Any = {"outcome": "completed", "reason": "", "gates": {"C2": {"passed": True, "evidence": "2 restores"}}}
    events: list[dict[str, Any]] = [
        {"e": "restored", "step": 0},
        {"e": "final", "digest": "a", "rng_digest": "b"} | final,
    ]
    return RunRecord({"variant": "overlapped"}, result, {(0, 0): events}, [])


def test_equal_ends_pass_and_others_are_wrong() -> None:
    assert selftest.compare_final_states(record(), record())[0] == "pass"
    for final in ({"digest": "x"}, {"rng_digest": "x"}):
        verdict, evidence, _ = selftest.compare_final_states(record(), record(**final))
        assert verdict == "wrong"
        assert "ended in another state than the uninterrupted one" in evidence


def test_a_restore_that_differs_from_its_snapshot_is_wrong() -> None:
    struck = record()
    struck.result["gates"]["C2"] = {"passed": False, "evidence": "attempt 1 rank 0 step 4"}
    assert selftest.compare_final_states(record(), struck)[:2] == ("wrong", "restored state: attempt 1 rank 0 step 4")


def test_a_run_that_failed_is_wrong_with_its_reason() -> None:
    struck = record()
    struck.result |= {"outcome": "failed", "reason": "not what was planned"}
    assert selftest.compare_final_states(record(), struck)[:2] == (
        "wrong",
        "the run overlapped failed: not what was planned",
    )


# --- what is shown ------------------------------------------------------------------------------------------


def shown(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    child: tuple[str, ...],
    *,
    as_json: bool = False,
) -> tuple[int, str, str]:
    class Small(Selftest):
        def __init__(self, device: str, model: str, steps: int) -> None:
            super().__init__(device, model, steps, child, kills=False)

    monkeypatch.setattr(selftest, "Selftest", Small)
    with pytest.raises(typer.Exit) as ended:
        command.selftest("cpu", "cnn", 4, as_json)
    out, err = capsys.readouterr()
    return ended.value.exit_code, out, err


def test_a_broken_stager_exits_4_and_says_torn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exit_code, out, err = shown(capsys, monkeypatch, (sys.executable, "-c", BROKEN))
    assert exit_code == 4
    assert "TORN: right code, copies late, sgd: " in out
    assert "TORN: right code, copies late, adamw: " in out
    assert "selftest: TORN on " in err
    assert "Traceback" not in out + err


def test_each_check_is_a_line_on_stdout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    exit_code, out, err = shown(capsys, monkeypatch, saying(MACHINE, PASSES, check("inconclusive")))
    assert exit_code == 4
    assert out.splitlines() == ["pass: it holds: 20 of 20", "inconclusive: it is inconclusive: 20 of 20"]
    assert err.startswith("selftest: inconclusive on a GPU (torch 9), 2 checks in ")


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    exit_code, out, _ = shown(capsys, monkeypatch, saying(MACHINE, PASSES), as_json=True)
    document = json.loads(out)
    assert exit_code == 0
    assert document["schema"] == 1
    assert (document["device"], document["verdict"]) == ("cpu", "pass")
    assert document["machine"].keys() == {"device_name", "torch", "cuda", "driver"}
    assert document["checks"] == [{k: v for k, v in PASSES.items() if k != "e"}]


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, err = shown(capsys, monkeypatch, saying(MACHINE, PASSES))
    assert "selftest --device cpu" in out
    assert "20 of 20" in out
    assert "pass: it holds (0.50 s)" in err


def test_the_orchestrators_side_loads_no_torch() -> None:
    code = "import sys, json, ecrl.cli.commands.selftest, ecrl.selftest.runner; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "numpy", "pandas"} & set(loaded)
