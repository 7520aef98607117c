"""Shell completion. Reads only names of files and folders, manifests in the results folder, and the matrix file."""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ecrl import plugins
from ecrl.config.examples import list_examples
from ecrl.records.paths import CampaignPaths, all_prefixes

_MAX_SUGGESTIONS = 200  # longer lists are of no use, and shells ask before they show them
_REFERENCE = "reference"
_Completer = Callable[[str], list[str]]


def prefixes(ctx: Any, incomplete: str) -> list[str]:
    """The prefixes in the results folder that begin with `incomplete`."""
    return _filter(all_prefixes(_results(ctx)), incomplete)


def examples(incomplete: str) -> list[str]:
    """The names of the shipped matrices that begin with `incomplete`."""
    return _filter(list_examples(), incomplete)


def suites(ctx: Any, incomplete: str) -> list[str]:
    """The suite ids that begin with `incomplete`: those of the given prefix, or of every prefix."""
    results, prefix = _results(ctx), ctx.params.get("prefix")
    campaigns = (CampaignPaths(results, name) for name in ([prefix] if prefix else all_prefixes(results)))
    found = (name for paths in campaigns for name in _suite_ids(paths) if name.startswith(incomplete))
    return list(islice(dict.fromkeys(found), _MAX_SUGGESTIONS))


def choice(*names: str) -> _Completer:
    """A completion with one of these names."""
    return lambda incomplete: _filter(names, incomplete)


def member(family: str) -> _Completer:
    """A completion with one member of a family of plugins."""
    return lambda incomplete: _filter(plugins.names(family), incomplete)


def list_of(family: str) -> _Completer:
    """A completion with members of a family of plugins, separated by commas."""
    return lambda incomplete: complete_last(plugins.names(family), incomplete)


def complete_last(names: Iterable[str], incomplete: str) -> list[str]:
    """Complete the last name of a list with commas. Names that stand in the list are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _filter(names, last) if name not in before.split(",")]


def variants(ctx: Any, incomplete: str) -> list[str]:
    """Variants separated by commas: the reference, the engines, and the recipes of the matrix file."""
    recipes = _read_table(ctx, "variants")
    return complete_last([_REFERENCE, *plugins.names("engine"), *recipes], incomplete)


def schedules(ctx: Any, incomplete: str) -> list[str]:
    """Failure schedules of the matrix file, separated by commas."""
    return complete_last(_read_table(ctx, "failures"), incomplete)


def profiles(ctx: Any, incomplete: str) -> list[str]:
    """The profiles of the matrix file."""
    return _filter(_read_table(ctx, "profiles"), incomplete)


def leftovers(incomplete: str) -> list[str]:
    """Kinds of files that `clean` removes, separated by commas."""
    from ecrl.launch.campaign.clean import KINDS

    return complete_last(KINDS, incomplete)


def metrics(incomplete: str) -> list[str]:
    """The metrics that claims are about."""
    from ecrl.records.columns import CLAIM_METRICS

    return _filter(CLAIM_METRICS, incomplete)


def _filter(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _results(ctx: Any) -> Path:
    return Path(ctx.params.get("results") or "results")


def _read_table(ctx: Any, name: str) -> Mapping[str, Any]:
    """A table of the matrix file on the command line; {} without a file that can be read."""
    # Behind an option without its value, which is being completed, Typer leaves the arguments unread.
    path = ctx.params.get("matrix") or next((word for word in ctx.args if word.endswith(".toml")), None)
    try:
        found = {} if path is None else tomllib.loads(Path(path).read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _suite_ids(paths: CampaignPaths) -> Iterator[str]:
    """The first cell of every line of the manifest."""
    if not paths.manifest.is_file():
        return
    with paths.manifest.open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            yield line.partition(",")[0]  # no CSV parser needed: an id has neither commas nor quotes
