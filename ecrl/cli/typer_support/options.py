"""The options that commands share, their environment variables, and their conversion into overrides."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support.environment import MATRIX_KEYS, find_variable, names
from ecrl.cli.ui.messages import print_message
from ecrl.errors import EcrlError
from ecrl.units import parse_duration_s

if TYPE_CHECKING:
    from ecrl.config.load import Override
    from ecrl.launch.campaign.selection import Selection
    from ecrl.records.paths import CampaignPaths

_MAX_NAMED = 10  # campaigns in a message


def _prefix_option(help_text: str) -> Any:
    return typer.Option(
        "--prefix", envvar=names("prefix"), metavar="PREFIX", help=help_text, autocompletion=complete.prefixes
    )


Prefix = Annotated[str, _prefix_option("Name of the campaign, a folder in DIR.")]
OnlyPrefix = Annotated[str | None, _prefix_option("Name of the campaign. Omitted: the only one in DIR.")]
PooledPrefixes = Annotated[
    list[str] | None, _prefix_option("Name of the campaign. Repeated: these are pooled. Omitted: the only one in DIR.")
]
SuitePrefix = Annotated[str | None, _prefix_option("Name of the campaign. Omitted: the one that has the suite.")]
SuiteId = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="A suite id, or a part that only one id contains.",
        show_default=False,
        autocompletion=complete.suites,
    ),
]
Results = Annotated[
    Path,
    typer.Option(
        "--results",
        envvar=names("results"),
        metavar="DIR",
        help="The folder that holds the campaigns.",
    ),
]
MatrixFile = Annotated[
    Path | None,
    typer.Argument(metavar="MATRIX.toml", help="The matrix file. Omitted: the frozen one of the prefix."),
]
Registration = Annotated[
    Path | None,
    typer.Option(
        "--registration", metavar="FILE", help="What `ecrl register` wrote, instead of the file kept with the campaign."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

Profile = Annotated[
    str | None,
    typer.Option(
        envvar=names("profile"),
        metavar="NAME",
        help="Merge [profiles.NAME] over the file.",
        autocompletion=complete.profiles,
    ),
]
Datasets = Annotated[
    str | None,
    typer.Option(
        envvar=names("datasets"), metavar="A,B", help="Data sets to use.", autocompletion=complete.list_of("dataset")
    ),
]
Models = Annotated[
    str | None,
    typer.Option(
        envvar=names("models"), metavar="A,B", help="Models to train.", autocompletion=complete.list_of("model")
    ),
]
Failures = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Failure schedules of the file to use.", autocompletion=complete.schedules),
]
CheckpointEvery = Annotated[
    str | None,
    typer.Option(
        envvar=names("checkpoint_every"),
        metavar="N,M",
        help="Checkpoint intervals, in steps.",
    ),
]
MaxInflight = Annotated[str | None, typer.Option(metavar="N,M", help="Checkpoints that may be in flight.")]
Seeds = Annotated[str | None, typer.Option(envvar=names("seeds"), metavar="N,M", help="Seeds: one block of runs each.")]
Variants = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Variants to compare: reference, engines, recipes.", autocompletion=complete.variants
    ),
]
Nproc = Annotated[int | None, typer.Option(envvar=names("nproc"), metavar="N", help="Ranks of every run.")]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda",
        help="Where to train; auto: GPUs if any.",
        autocompletion=complete.choice("auto", "cpu", "cuda"),
    ),
]
Gpus = Annotated[str | None, typer.Option(metavar="0,1,..", help="GPUs to use, as nvidia-smi numbers them.")]
DataRoot = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the data sets that are not built in.")]
Retries = Annotated[int | None, typer.Option(metavar="N", help="How often a failed run is repeated.")]
Timeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Stop a run after this time and mark it failed: 90, 10m, 2h.")
]
Jobs = Annotated[int | None, typer.Option(min=1, metavar="N", help="Suites that run at once, each on its own devices.")]


def _check_repeats(values: list[str] | None) -> list[str] | None:
    # Before version 0.2 the option had no value, so that it now takes what stands behind it.
    for value in values or ():
        if not value.strip(", ") or value.startswith("-") or value.endswith(".toml"):
            raise typer.BadParameter(f"found {value!r}, expected a variant to repeat, e.g. --aa reference")
    return values


AA = Annotated[
    list[str] | None,
    typer.Option(
        "--aa",
        metavar="A,B",
        callback=_check_repeats,
        help="Run these variants of each suite's first block twice, to measure how equal runs differ. Repeatable.",
        autocompletion=complete.variants,
    ),
]
Trackers = Annotated[
    str | None,
    typer.Option(
        envvar=names("trackers"),
        metavar="A,B",
        help="Tools to feed with the runs while they go on.",
        autocompletion=complete.list_of("tracker"),
    ),
]
Extend = Annotated[
    bool,
    typer.Option("--extend", help="Add what is new in the matrix to the frozen one; finished runs are not repeated."),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Run without this terminal; see `ecrl matrix attach` and `stop`.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show every run in its order, and how long all take. Tries a few steps."),
]
Only = Annotated[
    str | None,
    typer.Option(metavar="TERMS", help="Suites to run, e.g. 'model~resnet,checkpoint_every<=50'."),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Run at most N suites, then stop.")]
Rerun = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SUITE",
        help="Set this suite's results aside and run only this suite again. Repeatable.",
        autocompletion=complete.suites,
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed/--keep-failed", help="Run failed suites again, or leave them as they are.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the file, e.g. train.steps=40. Repeatable."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before a large campaign.")]


def choose_prefix(prefix: str | None, results: Path) -> str:
    """The prefix that was given, else the only one in the results folder, which is then told.

    Raises:
        EcrlError: none was given, and the folder holds no campaign or several.
    """
    from ecrl.records.paths import all_prefixes

    if prefix is not None:
        return prefix
    found = all_prefixes(results)
    if not found:
        raise EcrlError(
            "ECRL-301",
            f"--prefix: found none, and no campaign is in {results}/.\n"
            "Start one with `ecrl matrix run`, or name another folder with --results.",
        )
    if len(found) > 1:
        raise EcrlError(
            "ECRL-323",
            f"--prefix: found none, and {len(found)} campaigns are in {results}/, expected one of:"
            f" {', '.join(found[:_MAX_NAMED])}{', ...' if len(found) > _MAX_NAMED else ''}\n"
            "List the campaigns: ecrl matrix list",
        )
    print_message(f"campaign: {found[0]}, the only one in {results}/")
    return found[0]


def build_selection(
    paths: "CampaignPaths", only: str | None, limit: int | None, rerun: list[str] | None
) -> "Selection":
    """The selection that the options --only, --limit and --rerun describe."""
    from ecrl.launch.campaign.selection import Selection, parse_terms

    return Selection(() if only is None else parse_terms(only), limit, tuple(rerun or ()), paths.options)


def _texts(flag: str, text: str) -> list[str]:  # noqa: ARG001 (all converters have the same signature)
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(flag: str, text: str) -> list[int | str]:
    """The comma-separated whole numbers in `text`. Other parts stay text."""
    # The validation of the matrix then reports them together with all other problems.
    return [int(part) if re.fullmatch(r"-?[0-9]{1,18}", part) else part for part in _texts(flag, text)]


def _seconds(flag: str, text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise EcrlError("ECRL-102", f"{flag}: {error}.\nType e.g.: {flag} 10m") from None


def _repeats(flag: str, values: list[str]) -> list[str]:
    """The variants in the values of `--aa`, each a list with commas."""
    return _texts(flag, ",".join(values))


_Convert = Callable[[str, Any], Any]
_CONVERTERS: dict[str, _Convert] = {
    "datasets": _texts,
    "models": _texts,
    "failures": _texts,
    "checkpoint_every": _numbers,
    "max_inflight": _numbers,
    "seeds": _numbers,
    "variants": _texts,
    "gpus": _numbers,
    "timeout": _seconds,
    "aa": _repeats,
    "trackers": _texts,
}


def collect_overrides(ctx: typer.Context, **given: Any) -> "tuple[Override, ...]":
    """The overrides from the command line and the environment, each with the name of its source.

    Values of `--set` come last, so they replace the values of other options.
    """
    from ecrl.config.load import Override

    settings = given.pop("set", None) or []
    parameters = {parameter.name: parameter for parameter in ctx.command.params}
    result = []
    for name, value in given.items():
        if value is None:
            continue
        variable = find_variable(parameters[name], ctx)
        source = variable or f"--{name.replace('_', '-')}"
        converted = _CONVERTERS[name](source, value) if name in _CONVERTERS else value
        result.append(Override(MATRIX_KEYS[name], converted, source, in_environment=variable is not None))
    return (*result, *map(_parse_setting, settings))


def _parse_setting(text: str) -> "Override":
    """The override of `--set KEY=VALUE`. A VALUE that is not valid TOML is a text."""
    from ecrl.config.axes import split_key
    from ecrl.config.load import Override

    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or "." not in key:
        raise EcrlError(
            "ECRL-103", f"--set: found {text!r}, expected TABLE.KEY=VALUE.\nType e.g.: --set train.steps=40"
        )
    table, _, axis = key.partition(".")
    loc = (table, axis) if table == "axes" else split_key(key) if table == "variants" else tuple(key.split("."))
    return Override(tuple(filter(None, loc)), _parse_value(value.strip()), f"--set {key}")


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text  # --set train.optimizer=adamw: a shell eats quotes
