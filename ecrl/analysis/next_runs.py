"""Suggestions for the next runs: the smallest that add missing evidence, with commands and estimated hours."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ecrl.analysis.campaign.axes import format_where
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.campaign.variants import find_main_pair
from ecrl.analysis.claims.claims import find_no_vetoes
from ecrl.analysis.claims.noise import measure_noise
from ecrl.analysis.claims.power import (
    MAX_SEEDS,
    MAX_SUITES,
    SD_CONFIDENCE,
    Aim,
    Design,
    build_aim,
    estimate_spread,
    plan_seeds,
    plan_suites,
)
from ecrl.analysis.claims.result import DECIDED, ClaimResult
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import POWER
from ecrl.analysis.threats.base import format_count
from ecrl.config.matrix import Claim
from ecrl.records.manifest.store import DONE

SECONDS_PER_HOUR = 3600
_MOST_SUITES = 20  # in one command
_POWER_OF = f"{POWER:.0%} power to decide".replace("%", " %")
# Threats that a variant brings into every run: no number of runs lifts them.
FAULTS_OF_VARIANTS = frozenset({"checkpoints_vanished", "checkpoints_not_kept"})


@dataclass(frozen=True)
class NextRun:
    """A suggestion.

    buys: a sentence on what the runs would show. command: None if a file must be edited first. hours: the estimated
    time; None if no run completed.
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

    def repeat(self, prefix: str, variant: str) -> str:
        """The command that adds second runs of a variant (A/A) to a campaign."""
        return self._line("run", "--prefix", prefix, "--aa", variant)

    def _line(self, *words: str) -> str:
        elsewhere = [] if self.results == "results" else ["--results", self.results]
        return shlex.join([self.program, "matrix", *words, *elsewhere])


def next_runs(
    campaign: LoadedCampaign,
    claims: Sequence[ClaimResult],
    caller: CommandLines,
    find_vetoes: Callable[[Claim], Sequence[str]] = find_no_vetoes,
) -> tuple[NextRun, ...]:
    """The suggestions: missing runs, A/A repeats, more seeds, failures inside intervals, more intervals, in this order.

    find_vetoes: the codes of the threats that keep a claim from being CONFIRMED or REFUTED. For pooled campaigns, new
    campaigns are suggested from the first one's matrix.
    """
    prefix = campaign.parts[0].prefix if campaign.parts else campaign.prefix
    parts = campaign.parts or (campaign,)
    unfinished = [one for part in parts for one in _suggest_unfinished(part, caller)]
    noise = [one for part in parts for one in _suggest_noise(part, caller)] if not campaign.again else []
    found = [
        *unfinished,
        *noise,
        *_suggest_seeds(campaign, claims, find_vetoes, prefix, caller),
        *_suggest_replay(campaign),
    ]
    if len(campaign.matrix.matrix.checkpoint_every) == 1:
        every = campaign.matrix.matrix.checkpoint_every[0]
        steps = min(suite.train.steps for suite in campaign.suites)
        values = sorted({max(1, every // 2), every, min(steps, every * 2)})
        hours = _hours(campaign, len(values))  # a new prefix runs the present interval again, too
        command = caller.run(prefix, "intervals", "--checkpoint-every", ",".join(map(str, values)))
        found.append(NextRun(f"The effect of the checkpoint interval (now {every} alone)", command, hours))
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
    campaign: LoadedCampaign,
    claims: Sequence[ClaimResult],
    find_vetoes: Callable[[Claim], Sequence[str]],
    prefix: str,
    caller: CommandLines,
) -> list[NextRun]:
    """Suggest the seeds that decide each undecided claim, or what else would. Without claims, suggest a second seed."""
    have = campaign.matrix.matrix.seeds
    found: dict[Design, list[str]] = {}
    suggestions = []
    for judged in claims:
        c = judged.comparison
        if judged.would_be in DECIDED or c is None:
            continue
        if faults := sorted(FAULTS_OF_VARIANTS.intersection(find_vetoes(judged.claim))):
            told = f'No number of runs decides "{judged.claim.name}": {", ".join(faults)} is a fault of a variant'
            suggestions.append(NextRun(f"{told}, and every run would show it again", None, None))
            continue
        noise = measure_noise(campaign, c.metric, c.kind, judged.claim.where, judged.claim.variants)
        aim = build_aim(judged, len(claims), noise)
        if aim is None:
            continue
        design = plan_seeds(c, aim, len(c.works))
        if design is None or max(design.seeds, len(have) + 1) > MAX_SEEDS:
            suggestions.append(_suggest_beyond_seeds(campaign, judged, c, aim, prefix, caller))
        else:
            seeds = max(design.seeds, len(have) + 1)
            found.setdefault(replace(design, seeds=seeds), []).append(_describe_aim(judged, c, aim))
    for design, aims in sorted(found.items(), key=lambda one: (one[0].seeds, one[0].suites)):
        size = f"{format_count(design.seeds, 'seed')} x {format_count(design.suites, 'suite')}"
        text = f"{_POWER_OF} {'; '.join(aims)} ({size}, {_describe_plan(claims)})"
        suggestions.append(_suggest_fresh_seeds(campaign, text, design.seeds, prefix, caller))
    if not claims and len(have) == 1:
        text = "A second seed, for any statement beyond one"
        suggestions.append(_suggest_fresh_seeds(campaign, text, 2, prefix, caller))
    return suggestions


def _describe_aim(judged: ClaimResult, c: Comparison, aim: Aim) -> str:
    """'"overlapped pays" if the true effect is the smallest of interest, 1 % from its bound'."""
    if aim.inside is not None:
        return f'"{judged.claim.name}" if the observed effect is the true one'
    assumed = f"observed one, {judged.estimate:.4g}"
    if aim.is_registered:
        size = f"{aim.distance:.3g}" if c.kind == "difference" else f"{math.expm1(aim.distance) * 100:.3g} %"
        assumed = f"smallest of interest, {size} from its bound"
    return f'"{judged.claim.name}" if the true effect is the {assumed}'


def _describe_plan(claims: Sequence[ClaimResult]) -> str:
    held = f", Holm over {len(claims)} claims" if len(claims) > 1 else ""
    return f"planned with the SD's upper {SD_CONFIDENCE:.0%} bound{held}".replace("%", " %")


def _suggest_fresh_seeds(campaign: LoadedCampaign, text: str, seeds: int, prefix: str, caller: CommandLines) -> NextRun:
    """A new campaign with so many seeds, the present ones among them."""
    have = campaign.matrix.matrix.seeds
    listed = [*have, *(max(have) + i for i in range(1, seeds - len(have) + 1))]
    command = caller.run(prefix, f"{seeds}seeds", "--seeds", ",".join(map(str, listed)))
    return NextRun(text, command, _hours(campaign, seeds / len(have)))


def _suggest_beyond_seeds(
    campaign: LoadedCampaign, judged: ClaimResult, c: Comparison, aim: Aim, prefix: str, caller: CommandLines
) -> NextRun:
    """The suggestion for a claim that no number of seeds decides."""
    seeds = len(campaign.matrix.matrix.seeds)
    design, spread = plan_suites(c, aim, seeds), estimate_spread(c)
    what = _describe_aim(judged, c, aim)
    if spread is None:
        text = f"Two more seeds: without them nothing shows the spread, which a plan needs ({_POWER_OF} {what})"
        return _suggest_fresh_seeds(campaign, text, seeds + 2, prefix, caller)
    if design is None:
        suites = "" if c.estimand != "workloads" else f" and no {MAX_SUITES} suites"
        text = f"No {MAX_SEEDS} seeds a suite{suites} decide {what}: the spread is too large for it"
        return NextRun(text, None, None)
    split = f"SD {'between' if spread.is_split else 'of'} suites {spread.between:.3g}"
    split += " of the log ratio" if c.kind == "ratio" else ""
    kinds = f"where {format_where(judged.claim.where)}" if judged.claim.where else "data sets, models or schedules"
    extra = design.suites - len(c.works)
    text = f"{_POWER_OF} {what}: over {format_count(len(c.works), 'suite')} no number of seeds gives it ({split})."
    text += f" Add {format_count(extra, 'suite')} ({kinds}), with {format_count(design.seeds, 'seed')} each"
    return NextRun(text, None, _block_hours(campaign, extra * design.seeds))


def _suggest_noise(campaign: LoadedCampaign, caller: CommandLines) -> list[NextRun]:
    """Suggest a second run of the arm whose noise matters, in one block of each suite."""
    variants = campaign.matrix.matrix.variants
    pair = find_main_pair([v for v in variants if v != REFERENCE])
    # a reference never restarts, so its noise lacks that of restarts
    arm = pair[1] if pair is not None and any(s.failures for s in campaign.suites) else REFERENCE
    if arm not in variants:
        return []
    walls = [r.row["wall_s"] for r in campaign.runs if r.row["variant"] == arm and r.row["wall_s"] is not None]
    hours = len(campaign.suites) * sum(walls) / len(walls) / SECONDS_PER_HOUR if walls else None
    text = f"What two equal runs differ by (A/A): a second run of {arm} in each suite"
    return [NextRun(text, caller.repeat(campaign.prefix, arm), hours)]


def _suggest_replay(campaign: LoadedCampaign) -> list[NextRun]:
    done = [run.row for run in campaign.runs if run.row["failures_fired"] and run.row["outcome"] == "completed"]
    if not done or any(row["replayed_steps"] for row in done):
        return []
    suite = next((suite for suite in campaign.suites if suite.failures), campaign.suites[0])
    half = max(1, suite.checkpoint_every // 2)
    inside = [at + half for at in suite.failure_steps if isinstance(at, int)]
    inside = [at for at in inside if at <= suite.train.steps] or [half]
    text = f"Replayed work: add `inside = [{', '.join(map(str, inside))}]` under [failures] (no run replayed a step)"
    return [NextRun(text, None, _hours(campaign, 1 / max(1, len(campaign.matrix.failures))))]
