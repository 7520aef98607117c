"""`python -m bench.gpu [--device cuda|cpu] [--budget-s 480] [--out DIR]`: the first minutes on a GPU machine.

The environment, `ecrl doctor`, `ecrl selftest`, `ecrl bench engines`, and a small campaign with kills and its report:
with one rank over NCCL, then with two ranks that share the GPU over gloo. `--device cpu` does the same on the CPU, to
know beforehand that it works. DIR gets steps.json and summary.md, both written anew after every step, what each step
printed, and copies of the reports; campaigns lie in results/. One GPU is used, the first that is visible. Needs no
network. Exit code: 0 if every step is ok, 4 otherwise.
"""

import argparse
import csv
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.steps import OK, Outcome, Program, Step, build_markdown, build_table, build_text, get_tail, write_json
from ecrl import plugins
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic
from ecrl.units import format_bytes

EXIT_SOME_FAILED = 4
_ROOT = Path(__file__).parent.parent
_RESULTS = Path("results")
_MS = 1e3
# A transformer's size by the last word of its name, small to large; a name without one lies between small and medium.
_SIZES = ("nano", "micro", "mini", "tiny", "small", "", "base", "medium", "large", "xl")
_TRANSFORMERS = ("gpt", "llama", "transformer", "bert", "vit")
_NOT_SHOWN = (
    "One GPU cannot show NCCL between GPUs, GPU leases between campaigns, or several cards that share a PCIe bus. Times"
    " of two ranks on one GPU mean little: that part shows recovery."
)


def get_transformer(models: Sequence[str]) -> str | None:
    """The largest transformer among the names of models; None: there is none."""
    found = [name for name in models if name.startswith(_TRANSFORMERS)]
    return max(found, key=_compute_size, default=None)


def _compute_size(name: str) -> int:
    last = name.rpartition("-")[2]
    return _SIZES.index(last if last in _SIZES else "")


def build_steps(device: str, prefix: str) -> list[Step]:
    """The steps, in their order. prefix: of the campaigns and folders that they make in results/."""
    found = [
        Step("environment", "bench.environment", (), 10, read_environment),
        Step("doctor", "ecrl", ("doctor", _get_matrix(), *_get_profile(device, None)), 7, read_doctor),
        Step("selftest", "ecrl", ("selftest", "--device", device, "--json"), 30, read_selftest, shown=False),
    ]
    if device == "cpu":  # so that it takes a minute on two cores; the order of turns cannot be balanced in that
        few = ("--batch-size", "2", "--checkpoint-every", "2", "--rounds", "2", "--engines", "blocking,overlapped")
        return [*found, _engines(device, prefix, "resnet18", 20, few), *_campaign(device, prefix, "cpu", 20)]
    # 20 steps take longer than writing a checkpoint, so that a stall is a stall and no wait for a free slot
    found.append(_engines(device, prefix, "resnet50", 20, ("--batch-size", "64", "--checkpoint-every", "20")))
    if (largest := get_transformer(plugins.names("model"))) is not None:
        quick = ("--checkpoint-every", "10", "--rounds", "4", "--engines", "blocking,overlapped,dcp-async")
        found.append(_engines(device, prefix, largest, 16, ("--dataset", _get_dataset(largest), *quick)))
    return [*found, *_campaign(device, prefix, None, 14), *_campaign(device, prefix, "shared", 16)]


def _engines(device: str, prefix: str, model: str, weight: float, options: Sequence[str]) -> Step:
    folder = _RESULTS / f"{prefix}-engines-{model}"
    arguments = ("bench", "engines", "--device", device, "--model", model, "--checkpoints", "2", *options)
    document = folder / "engines.json"
    return Step(
        f"engines {model}", "ecrl", (*arguments, "--out", str(folder)), weight,
        lambda _out, _errors: read_engines(document), copies=(document,),
    )  # fmt: skip


def _campaign(device: str, prefix: str, profile: str | None, weight: float) -> list[Step]:
    """Run it, and report on it."""
    name = profile or "nccl"
    paths = CampaignPaths(_RESULTS, f"{prefix}-{name}")
    one_gpu = {"CUDA_VISIBLE_DEVICES": _get_first_gpu()} if device == "cuda" else {}
    run = ("matrix", "run", "--prefix", paths.prefix, _get_matrix(), *_get_profile(device, profile), "--json")
    runs_table = paths.root / f"{paths.prefix}_runs.csv"
    reports = tuple(paths.root / f"{paths.prefix}_{what}.md" for what in ("report", "analysis"))
    return [
        Step(f"campaign {name}", "ecrl", run, weight, read_campaign, environment=one_gpu, shown=False),
        Step(
            f"report {name}", "ecrl", ("report", "--prefix", paths.prefix), 5,
            lambda _out, _errors: read_report(runs_table), copies=(*reports, runs_table),
        ),
    ]  # fmt: skip


def _get_matrix() -> str:
    return os.path.relpath(_ROOT / "matrices" / "gpu.toml")


def _get_profile(device: str, profile: str | None) -> tuple[str, ...]:
    chosen = "cpu" if device == "cpu" else profile
    return () if chosen is None else ("--profile", chosen)


def _get_first_gpu() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"


def _get_dataset(model: str) -> str:
    """The first data set of the same task as the model, as their files declare it."""
    task = plugins.declared("model", model).get("task")
    alike = (name for name in plugins.names("dataset") if plugins.declared("dataset", name).get("task") == task)
    return next(alike, "fashion-mini") if task else "fashion-mini"


# -- the figure that matters, from what a step wrote ------------------------------------------------------------------


def read_doctor(out: Path, errors: Path) -> str:
    """Its conclusion, and what it is not content with."""
    findings = [re.split(r"  +", line) for line in out.read_text().splitlines() if line.startswith(("warn ", "unfit "))]
    return "; ".join([get_tail(errors)[-1], *(": ".join(finding[1:]) for finding in findings)])


def read_environment(out: Path, _errors: Path) -> str:
    """Versions and card."""
    told = json.loads(out.read_text())
    cards = [f"{card['name']} (driver {card['driver_version']})" for card in told["cards"]] or ["no GPU"]
    built = f"CUDA {told['cuda']}" if told["cuda"] else "no CUDA"
    python = f"Python {told['python']}, torch {told['torch']} ({built})"
    return f"{'; '.join(cards)}; {python}; {told['cores']} cores, {format_bytes(told['memory_bytes'])}"


def read_selftest(out: Path, _errors: Path) -> str:
    """Verdict, and the checks that are not well."""
    told = json.loads(out.read_text())
    odd = [f"{check['verdict']}: {check['name']}" for check in told["checks"] if check["verdict"] != "pass"]
    return "; ".join([f"{told['verdict']}, {len(told['checks'])} checks", *odd])


def read_engines(document: Path) -> str:
    """Stall of a checkpoint: overlapped against blocking."""
    told = json.loads(document.read_text())
    stalls = {engine["engine"]: _format_ms(engine["stall_s"]["median"]) for engine in told["engines"]}
    copy = _format_ms(told["copy_floor_s"]["median"])
    return f"stall {stalls['overlapped']} overlapped, {stalls['blocking']} blocking (a plain copy: {copy})"


def read_campaign(out: Path, _errors: Path) -> str:
    """How many runs are done, and what kept the others."""
    suites = json.loads(out.read_text())["suites"]
    done, total = (sum(suite[key] for suite in suites) for key in ("runs_done", "runs_total"))
    messages = [suite["message"] for suite in suites if suite["message"]]
    return "; ".join([f"{done} of {total} runs done", *messages])


def read_report(runs_table: Path) -> str:
    """Stall of a checkpoint, time of a restart, and whether recovery was correct, from the table of runs."""
    with runs_table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["outcome"] == "completed"]
    stalls = {
        name: _format_ms(_sum(rows, "stall_s", name) / _sum(rows, "checkpoints_requested", name))
        for name in ("overlapped", "blocking")
        if _sum(rows, "checkpoints_requested", name)
    }
    restarts, correct = _sum(rows, "restarts"), [row for row in rows if row["correct"] == "true"]
    parts = ["stall " + ", ".join(f"{stall} {name}" for name, stall in stalls.items())] if stalls else []
    if restarts:
        parts.append(f"restart {_sum(rows, 'restart_s') / restarts:.3g} s")
    return "; ".join([*parts, f"{len(correct)} of {len(rows)} runs correct"]) if rows else "no run is complete"


def _format_ms(seconds: float) -> str:
    milliseconds = seconds * _MS
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds:,.0f} ms"


def _sum(rows: Sequence[dict[str, str]], column: str, variant: str | None = None) -> float:
    return sum(float(row[column]) for row in rows if row[column] and variant in (None, row["variant"]))


# -- what the reader gets ---------------------------------------------------------------------------------------------


class Report:
    """steps.json, summary.md and the copies in a folder, as far as there is anything to say."""

    def __init__(self, folder: Path, steps: Sequence[Step], facts: dict[str, Any]) -> None:
        self.folder, self._steps, self._facts = folder, steps, facts
        self.logs = folder / "logs"

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write everything anew."""
        for step in self._steps:
            for source in filter(Path.is_file, step.copies):
                write_atomic(self.folder / _get_copy_name(source), source.read_bytes())
        write_json(self.folder / "steps.json", self._facts, outcomes)
        write_atomic(self.folder / "summary.md", self._build_summary(outcomes).encode())

    def _build_summary(self, outcomes: Sequence[Outcome]) -> str:
        facts = self._facts
        parts = [
            f"# ecrl's first minutes on this machine: {facts['device']}",
            f"Begun {facts['begun']}, budget {facts['budget_s']:g} s: `{facts['command']}`",
            build_markdown(build_table(outcomes)),
            *([_NOT_SHOWN] if facts["device"] == "cuda" else []),
        ]
        for step, outcome in zip(self._steps, outcomes, strict=True):
            if outcome.exit_code is not None or outcome.tail:
                parts += [f"## {outcome.name}: {outcome.state}", f"`{outcome.command}`", *self._build_details(step)]
        return "\n\n".join(parts) + "\n"

    def _build_details(self, step: Step) -> list[str]:
        out, errors = step.get_stdout(self.logs), step.get_stderr(self.logs)
        found = []
        if step.shown and (text := out.read_text(errors="replace").strip()):
            found.append(f"```\n{text}\n```")
        if lines := get_tail(errors):
            found.append("Its last lines on stderr:\n\n```\n" + "\n".join(lines) + "\n```")
        there = [f"`{_get_copy_name(source)}`" for source in step.copies if source.is_file()]
        return [*found, *([f"Copied here: {', '.join(there)}"] if there else [])]


def _get_copy_name(source: Path) -> str:
    return source.name if source.name != "engines.json" else f"{source.parent.name}.json"


def get_reason_to_skip(device: str, environment: Path, step: Step) -> str:
    """Why a step need not be tried: a machine without a usable GPU was asked for one. The doctor says what is wrong."""
    if device == "cpu" or step.name in ("environment", "doctor") or not environment.is_file():
        return ""
    try:
        usable = bool(json.loads(environment.read_text())["cuda_available"])
    except (ValueError, KeyError):
        return ""  # it did not come to an end, so nothing is known against trying
    return "" if usable else "PyTorch sees no GPU here; on the CPU: --device cpu"


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what to measure (cuda)")
    parser.add_argument("--budget-s", type=_read_budget, default=480.0, metavar="S", help="seconds for all of it (480)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new or empty folder (results/gpu-TIME)")
    asked = parser.parse_args(arguments)
    if asked.out is not None and asked.out.exists() and (not asked.out.is_dir() or any(asked.out.iterdir())):
        parser.error(f"--out: {asked.out} is no empty folder; name a new one")
    return asked


def _read_budget(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text}, expected seconds, e.g. 480")
    return seconds


def main(arguments: Sequence[str] | None = None, steps_for: Callable[[str, str], list[Step]] = build_steps) -> int:
    """Carry out every step, print the table, and say by the exit code whether all are ok."""
    asked = _read_arguments(arguments)
    now = datetime.now(UTC)
    prefix = f"gpu-{now:%Y%m%dT%H%M%SZ}"
    out: Path = asked.out or _RESULTS / prefix
    out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))  # whatever runs is ended on the way
    steps = steps_for(asked.device, prefix)
    command = f"python -m bench.gpu --device {asked.device} --budget-s {asked.budget_s:g}"
    facts = {"device": asked.device, "budget_s": asked.budget_s, "begun": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    report = Report(out, steps, facts | {"command": command})
    program = Program(steps, asked.budget_s, report.logs, report.write)
    try:
        outcomes = program.run(
            lambda step: get_reason_to_skip(asked.device, steps[0].get_stdout(report.logs), step),
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        print(f"interrupted; what there is: {out}/summary.md", file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"written: {out}/summary.md, steps.json, logs/", file=sys.stderr, flush=True)
    print(build_text(build_table(outcomes)))
    return 0 if all(outcome.state == OK for outcome in outcomes) else EXIT_SOME_FAILED


if __name__ == "__main__":
    sys.exit(main())
