"""Shell completion of prefixes, suite ids and examples. Reads only folder names and manifests in the results folder."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ecrl.config.examples import list_examples
from ecrl.records.paths import CampaignPaths, all_prefixes

_MAX_SUGGESTIONS = 200  # longer lists are of no use, and shells ask before they show them


def prefixes(ctx: Any, incomplete: str) -> list[str]:
    """The prefixes in the results folder that begin with `incomplete`."""
    return [name for name in all_prefixes(_results(ctx)) if name.startswith(incomplete)]


def examples(incomplete: str) -> list[str]:
    """The names of the shipped matrices that begin with `incomplete`."""
    return [name for name in list_examples() if name.startswith(incomplete)]


def suites(ctx: Any, incomplete: str) -> list[str]:
    """The suite ids that begin with `incomplete`: those of the given prefix, or of every prefix."""
    results, prefix = _results(ctx), ctx.params.get("prefix")
    campaigns = (CampaignPaths(results, name) for name in ([prefix] if prefix else all_prefixes(results)))
    found = (name for paths in campaigns for name in _suite_ids(paths) if name.startswith(incomplete))
    return list(islice(dict.fromkeys(found), _MAX_SUGGESTIONS))


def _results(ctx: Any) -> Path:
    return Path(ctx.params.get("results") or "results")


def _suite_ids(paths: CampaignPaths) -> Iterator[str]:
    """The first cell of every line of the manifest."""
    if not paths.manifest.is_file():
        return
    with paths.manifest.open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            yield line.partition(",")[0]  # no CSV parser needed: an id has neither commas nor quotes
