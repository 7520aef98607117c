"""Suggestions for the next runs: the smallest that add missing evidence, with commands and estimated hours."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ecrl.analysis.campaign.axes import format_where
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.claims.claims import CONFIRMED, REFUTED, ClaimResult
from ecrl.analysis.claims.power import MAX_SEEDS, compute_between_sd, seeds_needed, suites_needed
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.threats.base import format_count
from ecrl.records.manifest.store import DONE

SECONDS_PER_HOUR = 3600
_MOST_SUITES = 20  # in one command


@dataclass(frozen=True)
class NextRun:
    """A suggestion.

    buys: what the runs would show. command: None if a file must be edited first. hours: the estimated time; None if no
    run completed.
    """

    buys: str
    command: str | None
    hours: float | None


@dataclass(frozen=True)
class CommandLines:
    """Builds command lines: the program and the results folder, as the user types them."""

    program: str = "ecrl"
    results: str = "results"

    def run(self, prefix: str, name: str, *flags: str) -> str:
        """The command for a new campaign, `<prefix>-<name>`, from the frozen matrix of `prefix`."""
        # a changed matrix needs a new prefix
        matrix = f"{self.results}/{prefix}/{prefix}_matrix.toml"
        return self._line("run", "--prefix", f"{prefix}-{name}", matrix, *flags)

    def resume(self, prefix: str) -> str:
        """The command that finishes a campaign."""
        return self._line("resume", "--prefix", prefix, "--retry-failed")

    def rerun(self, prefix: str, suite_ids: Sequence[str]) -> str:
        """The command that runs suites again that are done."""
        return self._line("run", "--prefix", prefix, *(word for one in suite_ids for word in ("--rerun", one)))

    def repeat(self, prefix: str) -> str:
        """The command that adds the second reference runs (A/A) to a campaign."""
        return self._line("run", "--prefix", prefix, "--aa")

    def _line(self, *words: str) -> str:
        elsewhere = [] if self.results == "results" else ["--results", self.results]
        return shlex.join([self.program, "matrix", *words, *elsewhere])


def next_runs(campaign: LoadedCampaign, claims: Sequence[ClaimResult], caller: CommandLines) -> tuple[NextRun, ...]:
    """The suggestions: missing runs, A/A repeats, more seeds, failures inside intervals, more intervals, in this order.

    For pooled campaigns, new campaigns are suggested from the first one's matrix.
    """
    prefix = campaign.parts[0].prefix if campaign.parts else campaign.prefix
    parts = campaign.parts or (campaign,)
    unfinished = [one for part in parts for one in _suggest_unfinished(part, caller)]
    noise = [one for part in parts for one in _suggest_noise(part, caller)] if not campaign.again else []
    found = [*unfinished, *noise, *_suggest_seeds(campaign, claims, prefix, caller), *_suggest_replay(campaign)]
    if len(campaign.matrix.matrix.checkpoint_every) == 1:
        every = campaign.matrix.matrix.checkpoint_every[0]
        steps = min(suite.train.steps for suite in campaign.suites)
        values = sorted({max(1, every // 2), every, min(steps, every * 2)})
        hours = _hours(campaign, len(values))  # a new prefix runs the present interval again, too
        command = caller.run(prefix, "intervals", "--checkpoint-every", ",".join(map(str, values)))
        found.append(NextRun(f"the effect of the checkpoint interval (now {every} alone)", command, hours))
    return tuple(found)


def mean_block_s(campaign: LoadedCampaign) -> float | None:
    """Mean measured seconds of one block (every variant once); None if no run completed."""
    walls: dict[str, list[float]] = {}
    for run in campaign.runs:
        if run.row["wall_s"] is not None and run.row["outcome"] == "completed":
            walls.setdefault(run.row["variant"], []).append(run.row["wall_s"])
    return sum(sum(values) / len(values) for values in walls.values()) if walls else None


def _hours(campaign: LoadedCampaign, times: float) -> float | None:
    """Estimated hours for `times` times the whole campaign, from measured run times."""
    return _block_hours(campaign, len(campaign.suites) * len(campaign.matrix.matrix.seeds) * times)


def _block_hours(campaign: LoadedCampaign, blocks: float) -> float | None:
    block_s = mean_block_s(campaign)
    return None if block_s is None else block_s * blocks / SECONDS_PER_HOUR


def _suggest_unfinished(campaign: LoadedCampaign, caller: CommandLines) -> list[NextRun]:
    """Suggest `resume` for missing and failed runs, and `--rerun` for suites that are done but have a damaged run."""
    # `resume` skips a suite that is done, even if a run in it is damaged
    missing = [run for run in campaign.runs if run.row["outcome"] != "completed"]
    damaged = [run for run in missing if run.facts.get("damaged") and _is_done(campaign, run.row["suite_id"])]
    suite_ids = list(dict.fromkeys(run.row["suite_id"] for run in damaged))
    variants, seeds = len(campaign.matrix.matrix.variants), len(campaign.matrix.matrix.seeds)
    found = []
    if resumed := len(missing) - len(damaged):
        what = f"{format_count(resumed, 'missing or failed run')}, and the blocks dropped for want of them"
        hours = _block_hours(campaign, resumed / variants)
        found.append(NextRun(what, caller.resume(campaign.prefix), hours))
    if suite_ids:
        named = suite_ids[:_MOST_SUITES]
        what = f"{format_count(len(damaged), 'damaged run')} in {format_count(len(suite_ids), 'finished suite')}"
        what += f" (the first {len(named)} suites; then make the report again)" if len(named) < len(suite_ids) else ""
        hours = _block_hours(campaign, seeds * len(named))
        found.append(NextRun(what, caller.rerun(campaign.prefix, named), hours))
    return found


def _is_done(campaign: LoadedCampaign, suite_id: str) -> bool:
    row = campaign.statuses.get(suite_id)
    return row is not None and row.status in DONE


def _suggest_seeds(
    campaign: LoadedCampaign, claims: Sequence[ClaimResult], prefix: str, caller: CommandLines
) -> list[NextRun]:
    """Suggest the seeds that each undecided claim needs at the observed spread (80 % power at alpha .05).

    For a claim that no number of seeds decides, suggest more suites. Without claims, suggest a second seed.
    """
    have = campaign.matrix.matrix.seeds
    found: dict[tuple[int, int], list[str]] = {}
    suggestions = []
    for judged in claims:
        if judged.would_be in (CONFIRMED, REFUTED) or judged.comparison is None or judged.comparison.overall is None:
            continue
        suites = judged.population[0]
        seeds = seeds_needed(judged, suites)
        if seeds is None or max(seeds, len(have) + 1) > MAX_SEEDS:
            suggestions.append(_suggest_beyond_seeds(campaign, judged))
        else:
            found.setdefault((max(seeds, 2, len(have) + 1), suites), []).append(judged.claim.name)
    for (seeds, suites), names in sorted(found.items()):
        quoted = ", ".join(f'"{name}"' for name in names)
        fresh = [max(have) + i for i in range(1, seeds - len(have) + 1)]
        text = ",".join(map(str, [*have, *fresh]))
        buys = f"a decision on {quoted} at the observed spread ({seeds} seeds x {format_count(suites, 'suite')})"
        suggestions.append(
            NextRun(buys, caller.run(prefix, f"{seeds}seeds", "--seeds", text), _hours(campaign, seeds / len(have)))
        )
    if not claims and len(have) == 1:
        text = f"{have[0]},{have[0] + 1}"
        suggestions.append(
            NextRun(
                "a second seed: any statement beyond one",
                caller.run(prefix, "2seeds", "--seeds", text),
                _hours(campaign, 2),
            )
        )
    return suggestions


def _suggest_beyond_seeds(campaign: LoadedCampaign, judged: ClaimResult) -> NextRun:
    """The suggestion for a claim that no number of seeds decides."""
    quoted, more, c = f'"{judged.claim.name}"', suites_needed(judged), judged.comparison
    assert c is not None
    if more is None:
        text = f"{quoted}: what is claimed lies too close to what was found for its spread"
        return NextRun(f"{text}; more than {MAX_SEEDS} seeds a suite would be needed, and more suites", None, None)
    seeds, extra = len(campaign.matrix.matrix.seeds), more - c.n_suites
    hours = _block_hours(campaign, extra * seeds)
    apart = compute_between_sd(c)
    differ = (
        "" if apart is None else f" (SD between suites {apart:.3g}{' of the log ratio' if c.kind == 'ratio' else ''})"
    )
    text = f"a decision on {quoted}: over {format_count(c.n_suites, 'suite')} no number of seeds gives one{differ}. Add"
    kinds = "data sets, models or schedules"
    kinds = f"where {format_where(judged.claim.where)}" if judged.claim.where else kinds
    text += f" {format_count(extra, 'suite')} ({kinds}) with {format_count(seeds, 'seed')} each"
    return NextRun(text, None, hours)


def _suggest_noise(campaign: LoadedCampaign, caller: CommandLines) -> list[NextRun]:
    """Suggest a second reference run in one block of each suite, if the campaign has a reference."""
    if REFERENCE not in campaign.matrix.matrix.variants:
        return []
    walls = [r.row["wall_s"] for r in campaign.runs if r.row["variant"] == REFERENCE and r.row["wall_s"] is not None]
    hours = len(campaign.suites) * sum(walls) / len(walls) / SECONDS_PER_HOUR if walls else None
    text = "what two equal runs differ by (A/A), a second reference in each suite; effects below that are noise"
    return [NextRun(text, caller.repeat(campaign.prefix), hours)]


def _suggest_replay(campaign: LoadedCampaign) -> list[NextRun]:
    done = [run.row for run in campaign.runs if run.row["failures_fired"] and run.row["outcome"] == "completed"]
    if not done or any(row["replayed_steps"] for row in done):
        return []
    suite = next((suite for suite in campaign.suites if suite.failures), campaign.suites[0])
    half = max(1, suite.checkpoint_every // 2)
    inside = [at + half for at in suite.failure_steps if isinstance(at, int)]
    inside = [at for at in inside if at <= suite.train.steps] or [half]
    text = f"replayed work: add `inside = [{', '.join(map(str, inside))}]` under [failures] (no run replayed a step)"
    return [NextRun(text, None, _hours(campaign, 1 / max(1, len(campaign.matrix.failures))))]
