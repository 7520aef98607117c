"""What `python -m bench.gpu` asks, in which order, and what it reads from the answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu
from bench.steps import OK, SKIPPED, Step
from ecrl import plugins
from ecrl.config.load import load
from tests.unit.bench_gpu.test_steps import step


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", "")  # put back afterwards, whatever main makes of it


def test_on_a_gpu_everything_is_asked_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    monkeypatch.setattr(plugins, "names", lambda _family: ("cnn", "resnet50"))
    steps = gpu.build_steps("cuda", "p")
    assert [step.name for step in steps] == [
        "environment", "doctor", "selftest", "engines resnet50", "campaign nccl", "report nccl", "campaign shared",
        "report shared",
    ]  # fmt: skip
    shared = steps[-2].command
    assert shared.startswith("CUDA_VISIBLE_DEVICES=6 ecrl matrix run --prefix p-shared ")
    assert shared.endswith("gpu.toml --profile shared --json")


def test_the_largest_transformer_is_asked_about_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("cnn", "gpt2", "gpt2-medium", "gpt2-nano", "resnet50")
    assert gpu.get_transformer(names) == "gpt2-medium"
    assert gpu.get_transformer(("gpt2", "gpt2-small", "gpt2-nano")) == "gpt2"
    assert gpu.get_transformer(("cnn", "resnet50")) is None
    tasks = {"gpt2-medium": "text", "images": "image", "prose": "text"}
    monkeypatch.setattr(plugins, "names", lambda family: names if family == "model" else ("images", "prose"))
    monkeypatch.setattr(plugins, "declared", lambda _family, name: {"task": tasks.get(name)})
    assert "engines gpt2-medium" in [step.name for step in gpu.build_steps("cuda", "p")]
    (asked,) = [step for step in gpu.build_steps("cuda", "p") if step.name == "engines gpt2-medium"]
    assert asked.arguments[asked.arguments.index("--dataset") + 1] == "prose"


def test_on_the_cpu_nothing_needs_a_gpu() -> None:
    steps = gpu.build_steps("cpu", "p")
    assert [step.name for step in steps][-2:] == ["campaign cpu", "report cpu"]
    assert not any("cuda" in step.command.lower() for step in steps)


@pytest.mark.parametrize(
    ("profile", "nproc", "device", "backend"),
    [(None, 1, "cuda", "nccl"), ("shared", 2, "cuda", "gloo"), ("cpu", 2, "cpu", "gloo")],
)
def test_the_matrix_has_the_profiles_that_are_asked_for(
    profile: str | None, nproc: int, device: str, backend: str
) -> None:
    matrix = load(Path(__file__).parents[3] / "matrices" / "gpu.toml", profile=profile)
    train = matrix.train_settings
    assert (train.nproc, matrix.run.device, train.get_backend(device)) == (nproc, device, backend)


@pytest.mark.parametrize(
    "command", [step for device in ("cuda", "cpu") for step in gpu.build_steps(device, "p") if step.module == "ecrl"]
)
def test_ecrl_knows_every_option_that_it_is_given(command: Step) -> None:
    words = [word for word in command.arguments if not word.startswith("-")]
    asked = words[:2] if words[0] in ("matrix", "bench") else words[:1]
    said = subprocess.run(
        [sys.executable, "-m", "ecrl", *asked, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in said for word in command.arguments if word.startswith("--"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_figures_are_read_from_what_the_steps_wrote(tmp_path: Path) -> None:
    checks = [{"name": "a", "verdict": "pass"}, {"name": "b", "verdict": "torn"}]
    told = write(tmp_path / "selftest", json.dumps({"verdict": "torn", "checks": checks}))
    assert gpu.read_selftest(told, told) == "torn, 2 checks; torn: b"
    engines = [{"engine": name, "stall_s": {"median": s}} for name, s in (("blocking", 0.3), ("overlapped", 0.0006))]
    told = write(tmp_path / "engines", json.dumps({"engines": engines, "copy_floor_s": {"median": 0.016}}))
    assert gpu.read_engines(told) == "stall 0.6 ms overlapped, 300 ms blocking (a plain copy: 16 ms)"
    suites = [{"runs_done": 2, "runs_total": 3, "message": "rank 1 died"}]
    told = write(tmp_path / "campaign", json.dumps({"suites": suites}))
    assert gpu.read_campaign(told, told) == "2 of 3 runs done; rank 1 died"
    findings = (
        "ok     memory         22 GB\nwarn   processors     2 cores, load 3.4\n                      -> See: top\n"
    )
    told = write(tmp_path / "doctor", findings)
    errors = write(tmp_path / "errors", "fit, 1 warning\n\n")
    assert gpu.read_doctor(told, errors) == "fit, 1 warning; processors: 2 cores, load 3.4"


def test_the_figure_of_a_report_is_made_of_the_completed_runs(tmp_path: Path) -> None:
    runs = (
        "variant,outcome,stall_s,checkpoints_requested,restarts,restart_s,correct\n"
        "reference,completed,0,0,0,0,true\n"
        "blocking,completed,0.5,5,2,6,true\n"
        "overlapped,completed,0.01,5,2,8,false\n"
        "overlapped,failed,,,,,\n"
    )
    figure = gpu.read_report(write(tmp_path / "runs.csv", runs))
    assert figure == "stall 2 ms overlapped, 100 ms blocking; restart 3.5 s; 2 of 3 runs correct"
    assert gpu.read_report(write(tmp_path / "runs.csv", runs.partition("\n")[0])) == "no run is complete"


def test_without_a_usable_gpu_only_the_doctor_goes_on(tmp_path: Path) -> None:
    told = write(tmp_path / "environment.json", json.dumps({"cuda_available": False}))
    doctor, engines = step("doctor", "ok"), step("engines", "ok")
    assert gpu.get_reason_to_skip("cuda", told, doctor) == ""
    assert "--device cpu" in gpu.get_reason_to_skip("cuda", told, engines)
    assert gpu.get_reason_to_skip("cpu", told, engines) == ""
    assert gpu.get_reason_to_skip("cuda", write(told, json.dumps({"cuda_available": True})), engines) == ""
    assert gpu.get_reason_to_skip("cuda", write(told, ""), engines) == "", "nothing is known against trying"


def test_the_table_ends_stdout_and_the_exit_code_says_whether_all_are_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write(tmp_path / "p_report.md", "# a report\n")
    good = step("good", "ok", copies=(made,))
    arguments = ["--device", "cpu", "--budget-s", "60", "--out"]
    assert gpu.main([*arguments, str(tmp_path / "one")], lambda *_: [good]) == 0
    assert capsys.readouterr().out.splitlines() == ["step  state  seconds  figure", "good  ok     0        42"]
    assert (tmp_path / "one" / "p_report.md").read_text() == "# a report\n"
    assert gpu.main([*arguments, str(tmp_path / "two")], lambda *_: [step("bad", "fail"), good]) == 4
    assert capsys.readouterr().out.splitlines()[-1].startswith("good  ok")
    summary = (tmp_path / "two" / "summary.md").read_text()
    assert "| bad | failed | 0 | exit 1: it went wrong |" in summary
    assert "before it went wrong\nit went wrong" in summary
    assert "Copied here: `p_report.md`" in summary


def test_a_folder_that_holds_something_and_a_budget_of_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "there", "x")
    for wrong in (["--out", str(tmp_path)], ["--budget-s", "0"], ["--device", "tpu"]):
        with pytest.raises(SystemExit) as stopped:
            gpu.main(wrong, lambda *_: [])
        assert stopped.value.code == 2
    assert "is no empty folder; name a new one" in capsys.readouterr().err


def test_the_state_of_a_step_that_was_skipped_fails_the_whole(tmp_path: Path) -> None:
    steps = [step("environment", "ok"), step("engines", "ok")]
    assert gpu.main(["--device", "cpu", "--budget-s", "3", "--out", str(tmp_path / "out")], lambda *_: steps) == 4
    states = [one["state"] for one in json.loads((tmp_path / "out" / "steps.json").read_text())["steps"]]
    assert states == [SKIPPED, OK]
