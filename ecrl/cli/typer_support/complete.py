"""What the shell may complete: prefixes and suite ids, read from the results folder by name alone."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ecrl.records.paths import CampaignPaths, all_prefixes

_MAX_SUGGESTIONS = 200  # more than this helps nobody, and a shell asks before it shows them


def prefixes(ctx: Any, incomplete: str) -> list[str]:
    """Prefixes in the results folder that begin like this."""
    return [name for name in all_prefixes(_results(ctx)) if name.startswith(incomplete)]


def suites(ctx: Any, incomplete: str) -> list[str]:
    """Suite ids that begin like this, of the prefix that was typed or of every one."""
    results, prefix = _results(ctx), ctx.params.get("prefix")
    campaigns = (CampaignPaths(results, name) for name in ([prefix] if prefix else all_prefixes(results)))
    found = (name for paths in campaigns for name in _suite_ids(paths) if name.startswith(incomplete))
    return list(islice(dict.fromkeys(found), _MAX_SUGGESTIONS))


def _results(ctx: Any) -> Path:
    return Path(ctx.params.get("results") or "results")


def _suite_ids(paths: CampaignPaths) -> Iterator[str]:
    """The first cell of every line of the manifest: an id has neither commas nor quotes."""
    if not paths.manifest.is_file():
        return
    with paths.manifest.open(encoding="utf-8", errors="replace") as lines:
        next(lines, None)
        for line in lines:
            yield line.partition(",")[0]
