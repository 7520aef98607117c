"""`ecrl bench engines`: measures the costs of all checkpoint engines on this machine in one run."""

import json
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ecrl import plugins
from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import EcrlTyper, LinuxCommand
from ecrl.cli.ui.messages import plain_table, print_json, print_message
from ecrl.errors import EcrlError, unknown_name
from ecrl.storage.formats import has_own_format

if TYPE_CHECKING:
    from ecrl.enginebench.launch import Bench


_WIDTH = 80
# Those that need no settings of their own.
_PARALLEL = [p for p in plugins.names("parallelism") if not plugins.declared("parallelism", p).get("takes_shard_ranks")]


def register(app: typer.Typer) -> None:
    """Add the `bench` commands."""
    bench = EcrlTyper(
        help="Measure all checkpoint engines side by side.",
        epilog="Example: ecrl bench engines --model cnn",
        no_args_is_help=True,
    )
    bench.callback()(lambda: None)  # keeps `engines` a command of its own while it is the only one
    example = "Example: ecrl bench engines --model cnn --engines blocking,overlapped"
    bench.command("engines", cls=LinuxCommand, epilog=example)(engines)
    app.add_typer(bench, name="bench")


def engines(
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Model to train.", autocompletion=complete.member("model"))
    ] = "resnet18",
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="Data set to train on.", autocompletion=complete.member("dataset"))
    ] = "fashion-mini",
    optimizer: Annotated[
        str,
        typer.Option(metavar="sgd|adamw", help="Optimizer.", autocompletion=complete.choice("sgd", "adamw")),
    ] = "sgd",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Samples per rank and step.")] = 4,
    sequence_length: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of a sample of text.")] = 64,
    parallel: Annotated[
        str,
        typer.Option(
            metavar="|".join(_PARALLEL),
            help="How the model is spread over the ranks.",
            autocompletion=complete.choice(*_PARALLEL),
        ),
    ] = "ddp",
    nproc: Annotated[
        int, typer.Option(min=1, metavar="N", help="Ranks. Overlapping needs one spare core per rank.")
    ] = 1,
    checkpoint_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.")] = 5,
    checkpoints: Annotated[int, typer.Option(min=1, metavar="N", help="Checkpoints of an engine in a round.")] = 3,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Rounds. Omitted: five, or more to balance the order."),
    ] = None,
    max_inflight: Annotated[int, typer.Option(min=1, metavar="N", help="Checkpoints that may be in flight.")] = 2,
    names: Annotated[
        str | None,
        typer.Option(
            "--engines",
            metavar="A,B",
            help="Engines to compare. Omitted: all installed.",
            autocompletion=complete.list_of("engine"),
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda", help="Where to train.", autocompletion=complete.choice("auto", "cpu", "cuda")
        ),
    ] = "auto",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="New folder; results/bench-TIME if omitted.")] = None,
    targets: Annotated[bool, typer.Option("--targets", help="Judge ecrl's own targets, too.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Measure what a checkpoint of every engine costs here.

    Shows stall, true cost, drain, restore time, bytes, memory and fsyncs, interleaved in one job. Each round gives
    every engine and the run without checkpoints one turn, in balanced order. Restores read from the page cache.
    Checkpoints are written below --out: name a folder on the disk that you plan to use.
    """
    split = plugins.declared("parallelism", _parallel(parallel)).get("sharded", False)
    chosen, notes = _find_engines(split=split) if names is None else (_names(names, split=split), [])
    for note in notes:
        print_message(note)
    bench = _bench(
        model=model, dataset=dataset, optimizer=_optimizer(optimizer), batch_size=batch_size,
        sequence_length=sequence_length, parallel=parallel, nproc=nproc, checkpoint_every=checkpoint_every,
        checkpoints=checkpoints, rounds=rounds, max_inflight=max_inflight, engines=chosen, device=_device(device),
        folder=out or _new_folder(),
    )  # fmt: skip
    from ecrl.launch.system.signals import handle_signals

    with handle_signals() as stop:
        bench.run(stop, print_message)
    document = _document(bench, notes)
    _write(document, bench.folder)
    if as_json:
        print_json(document)
    else:
        _show(document, targets=targets)
    print_message(f"written: {bench.folder}/engines.json, {bench.folder}/engines.svg")


def _bench(
    *,
    model: str,
    dataset: str,
    optimizer: Literal["sgd", "adamw"],
    batch_size: int,
    sequence_length: int,
    parallel: str,
    nproc: int,
    checkpoint_every: int,
    checkpoints: int,
    rounds: int | None,
    max_inflight: int,
    engines: tuple[str, ...],
    device: str,
    folder: Path,
) -> "Bench":
    from ecrl.config.run import RunSpec
    from ecrl.config.train import CheckpointSettings, TrainSettings
    from ecrl.enginebench.launch import Bench
    from ecrl.enginebench.plan import REFERENCE, BenchPlan, count_balanced_rounds

    plan = BenchPlan.make_balanced(engines, rounds, checkpoints)
    if not plan.is_balanced:
        fewest = count_balanced_rounds(plan.variants)
        print_message(f"note: the order is not balanced with --rounds {rounds}; {fewest} is the least that is")
    steps = plan.segments(checkpoint_every)[-1].begin + checkpoints * checkpoint_every
    train = TrainSettings(
        steps=steps, batch_size=batch_size, sequence_length=sequence_length, parallel=parallel, nproc=nproc,
        optimizer=optimizer, lr=1e-3, schedule="constant",
    )  # fmt: skip
    spec = RunSpec(
        prefix="bench", suite_id="engines", dataset=dataset, model=model, failure_label="none",
        checkpoint_every=checkpoint_every, max_inflight=max_inflight, variant=REFERENCE, seed=1, device=device,
        train=train, checkpoint=CheckpointSettings(), failures=(),
    )  # fmt: skip
    return Bench(plan, spec, folder)


def _find_engines(*, split: bool = False) -> tuple[tuple[str, ...], list[str]]:
    """The engines compared by default, and a note for each engine that is not installed.

    Engines with ecrl's own format come first. split: only those that save a model that is split over the ranks.
    """
    names = sorted(_list_engines(split=split), key=lambda name: not has_own_format(name))
    left_out = plugins.find_missing("engine", names)
    notes = [f"left out, not installed: {name} (pip install 'ecrl[{extra}]')" for name, extra in left_out.items()]
    return tuple(name for name in names if name not in left_out), notes


def _list_engines(*, split: bool) -> list[str]:
    return [name for name in plugins.names("engine") if not split or plugins.declared("engine", name).get("sharded")]


def _names(text: str, *, split: bool) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    valid = plugins.names("engine")
    if unknown := next((name for name in wanted if name not in valid), None):
        raise EcrlError("ECRL-102", f"--engines: {unknown_name('engine', unknown, valid)}")
    if not wanted:
        raise EcrlError("ECRL-102", f"--engines: found none, expected some of {', '.join(valid)}")
    fitting = _list_engines(split=split)
    if unfit := next((name for name in wanted if name not in fitting), None):
        raise EcrlError(
            "ECRL-220",
            f"--engines: engine {unfit!r} cannot save a model that is split over the ranks, expected engines among"
            f" {', '.join(fitting)}",
        )
    plugins.require("engine", wanted, "--engines: engine")
    return wanted


def _optimizer(name: str) -> Literal["sgd", "adamw"]:
    if name == "sgd":
        return "sgd"
    if name == "adamw":
        return "adamw"
    raise EcrlError("ECRL-102", f"--optimizer: {unknown_name('optimizer', name, ('sgd', 'adamw'))}")


def _parallel(name: str) -> str:
    if name not in _PARALLEL:
        raise EcrlError("ECRL-102", f"--parallel: {unknown_name('parallelism', name, _PARALLEL)}")
    return name


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise EcrlError("ECRL-102", f"--device: {unknown_name('device', name, ('auto', 'cpu', 'cuda'))}")
    return name


def _new_folder() -> Path:
    return Path("results") / f"bench-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _document(bench: "Bench", left_out: list[str]) -> dict[str, Any]:
    from ecrl.enginebench.compare import document
    from ecrl.records import machine
    from ecrl.records.paths import RunPaths
    from ecrl.records.reader import read_events

    paths = RunPaths(bench.folder)
    warnings: list[str] = []
    events = {rank: read_events(path, warnings) for (_, rank), path in paths.all_events().items()}
    found = document(bench.plan, json.loads(paths.spec.read_text()), events)
    facts = machine.read_facts()
    return found | {
        "machine": facts | machine.read_pressure(),
        "notes": [*left_out, *found["notes"], *_notes(bench, found, facts), *warnings],
    }


def _notes(bench: "Bench", found: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    busy = bench.spec.train.nproc * bench.spec.train.threads
    if found["device"] == "cpu" and busy >= int(facts["cores"]):
        return [f"{busy} training threads on {facts['cores']} cores: no core is free for overlapping."]
    return []


def _write(document: dict[str, Any], folder: Path) -> None:
    from ecrl.enginebench.report import plot
    from ecrl.storage.atomic import write_atomic

    write_atomic(folder / "engines.json", json.dumps(document, indent=1).encode())
    write_atomic(folder / "engines.svg", plot(document))


def _show(document: dict[str, Any], *, targets: bool) -> None:
    from ecrl.enginebench.report import LEGEND, build_target_table, summarize, summary_lines, tables

    typer.echo("\n".join(summary_lines(document)))
    for title, header, rows in [*tables(document), *([build_target_table(document)] if targets else [])]:
        if sys.stdout.isatty():
            from ecrl.cli.ui.tables import print_table

            print_table(title, header, rows)
        else:
            typer.echo(f"\n{title}\n{plain_table(header, rows)}")
    typer.echo(f"\n{textwrap.fill(LEGEND, _WIDTH)}\n\n{textwrap.fill(summarize(document), _WIDTH)}")
