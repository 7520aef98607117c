"""What the shell may complete: prefixes and suite ids, read from the results folder by name alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecrl.records.paths import CampaignPaths, all_prefixes

_MAX_SUGGESTIONS = 200  # more than this helps nobody, and a shell asks before it shows them


def prefixes(ctx: Any, incomplete: str) -> list[str]:
    """Prefixes in the results folder that begin like this."""
    return [name for name in all_prefixes(_results(ctx)) if name.startswith(incomplete)]


def suites(ctx: Any, incomplete: str) -> list[str]:
    """Suite ids that begin like this, of the prefix that was typed or of every one."""
    results = _results(ctx)
    prefix = ctx.params.get("prefix")
    found: dict[str, None] = {}
    for name in [prefix] if prefix else all_prefixes(results):
        for suite_id in _suite_ids(CampaignPaths(results, name)):
            if suite_id.startswith(incomplete):
                found[suite_id] = None
            if len(found) == _MAX_SUGGESTIONS:
                return list(found)
    return list(found)


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
