"""What sentences and tables of a report state, from campaigns in which something went wrong."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import Rectangle

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.evidence import GOODPUT, Evidence, build_evidence
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import Kind, clopper_pearson
from ecrl.config.hashing import content_hash
from ecrl.config.load import load
from ecrl.config.matrix import Claim
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import Event, RunRecord
from ecrl.report.formats.markdown import markdown
from ecrl.report.plots.bars import draw_ledger
from ecrl.report.sections import claims, integrity, interpretation, ledger, results
from ecrl.report.text.document import Table
from ecrl.report.text.numbers import disagreement, p_equals, share
from tests.unit.analysis.campaign_builder import CLAIM, Change, campaign, warmed


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def altered(paths: CampaignPaths, pattern: str, **changes: Any) -> CampaignPaths:
    """The campaign with changed results of the runs whose folder matches."""
    results = list(paths.root.glob(f"suites/{pattern}/result.json"))
    assert results
    for result in results:
        result.write_text(json.dumps(json.loads(result.read_text()) | changes))
    return paths


def failed(paths: CampaignPaths, pattern: str) -> CampaignPaths:
    return altered(paths, pattern, outcome="failed", reason="the recovery never ended", exit_code=1)


@pytest.mark.parametrize(("p", "text"), [(0.03125, "p = 0.0312"), (1e-9, "p < 0.0001"), (None, "p = –")])
def test_a_p_is_written_with_the_sign_that_it_needs(p: float | None, text: str) -> None:
    assert p_equals(p) == text


def test_the_rate_of_recovery_counts_runs_that_failed_after_a_failure(tmp_path: Path) -> None:
    found = evidence(failed(campaign(tmp_path), "*/overlapped/seed1"))
    text = markdown(integrity.PLUGIN.blocks(found, {}))
    low, high = clopper_pearson(4, 6)
    assert "**overlapped** recovered correctly in 4 of 6 runs with failures, failed runs counted (95 % interval of" in (
        text
    )
    assert f"{share(low)} to {share(high)}" in text
    assert "Recovery of blocking (6 of 6) against overlapped (4 of 6), failed runs counted: exact McNemar p = 0.5" in (
        text
    )


def forgetful(run: RunSpec, found: RunRecord) -> RunRecord:
    """An `overlapped` that returns from every save at once, keeps nothing, and restarts from the beginning."""
    if run.variant == "overlapped":
        for (attempt, _), events in found.events.items():
            events[:] = [e for e in events if e["e"] not in ("committed", "persisted")]
            if attempt == 0:
                continue
            [loaded] = [e for e in events if e["e"] == "restored"]
            loaded["step"] = 0
            first = next(e for e in events if e["e"] == "step")
            again = [first | {"s": s, "t0": loaded["t"], "t": loaded["t"] + 1, "loss": 1 / s} for s in range(1, 5)]
            events += [step | {"ids": f"ids-{step['s']}"} for step in again]
    return found


def test_an_engine_that_keeps_no_checkpoint_has_recovered_nothing_and_confirms_nothing(tmp_path: Path) -> None:
    less = '[[claims]]\nname = "less stall"\ncompare = ["overlapped", "blocking"]\nmetric = "stall_s"\n'
    paths = campaign(tmp_path, claims=f'{less}expect = "ratio < 0.2"\n', change=forgetful)
    found = evidence(paths)
    ours = [row for row in found.rows if row["variant"] == "overlapped"]
    assert {(r["checkpoints_requested"], r["checkpoints_committed"], r["restores"]) for r in ours} == {(3, 0, 0)}
    assert {r["checkpoints_vanished"] for r in ours} == {2}  # of the attempt that drained; the kill explains the other
    assert {row["correct"] for row in ours} == {True}
    [vanished] = [threat for threat in found.threats.found if threat.code == "checkpoints_vanished"]
    assert vanished.blocking
    assert "in 6 runs: " in vanished.evidence
    assert "/overlapped/seed1 (2 of 3), " in vanished.evidence
    [claim] = found.claims
    assert claim.verdict == "INCONCLUSIVE"
    assert "blocking threats: checkpoints_vanished" in claim.reasons
    text = markdown(integrity.PLUGIN.blocks(found, {}))
    assert "**overlapped** began again at step 0 in 6 runs with failures" in text
    assert "**overlapped** recovered" not in text
    assert "**blocking** recovered correctly in 6 of 6 runs" in text
    assert "36 checkpoints asked for = 18 committed + 0 that could not be kept + 6 that a failure" in text
    assert "+ **12 that vanished** (overlapped): " in text


def test_the_warm_up_of_a_replayed_first_step_is_not_called_longer_replay(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        return warmed(found, 300) if run.variant == "overlapped" else found

    found = evidence(campaign(tmp_path, datasets=["cifar10"], change=change))
    assert found.compare("overlapped", "blocking", "replay_s", "difference").overall.center > 0.29  # type: ignore[union-attr]
    text = " ".join(interpretation.stalls(found, "overlapped", "blocking"))
    assert "warm-up took 0.602 s more [" in text  # at the start, and after the failure
    assert "replay took 0.001 s more [" in text
    assert " 0.3" not in text


def test_ettr_is_no_headline_and_a_claim_on_it_is_not_judged(tmp_path: Path) -> None:
    """Steps of overlapped twice as slow: its ettr rises, and neither a table nor a verdict says that it won."""
    stretched = slow_steps(2)
    paths = campaign(tmp_path, claims=CLAIM.replace("expect", 'metric = "ettr_ref"\nexpect'), change=stretched)
    paths.matrix.write_text(paths.matrix.read_text().replace('metric = "ettr_ref"', 'metric = "ettr"'))
    older = load(paths.matrix, frozen=True)  # as an ecrl froze it that allowed such a claim
    paths.matrix.write_text(older.to_toml(f"experiment: {content_hash(older.content)}"))
    found = evidence(paths)
    [claim] = found.claims
    assert claim.verdict == "not judged: ettr rises when steps get slower; use ettr_ref"
    assert not any(claim.claim.name in str(one.buys) for one in found.next_runs)
    assert found.compare("overlapped", "blocking", "ettr").overall.center > 1.1  # type: ignore[union-attr]
    assert found.compare("overlapped", "blocking", "ettr_ref").overall.center < 0.9  # type: ignore[union-attr]
    levels = next(b for b in results.PLUGIN.blocks(found, {}) if isinstance(b, Table))
    shown = {row[0]: float(row[levels.headers.index("ETTR (reference steps)")]) for row in levels.rows}
    assert shown["overlapped"] < shown["blocking"] < shown["reference"]
    assert "| not judged: ettr rises when steps get slower; use ettr_ref |" in markdown(
        claims.PLUGIN.blocks(found, {})
    ).replace("**", "")


def slow_steps(factor: int) -> Change:
    """Stretches every interval of overlapped's run but startup, so that its steps take `factor` times as long."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.variant != "overlapped":
            return found
        begin = min(e["t0"] for events in found.events.values() for e in events if e["e"] == "step")

        def stretch(event: Event) -> Event:
            stamps = {key for key in ("t", "t0", "t_slot", "t_staged") if event.get(key, 0) > begin}
            return event | {key: begin + factor * (event[key] - begin) for key in stamps}

        found.events = {key: list(map(stretch, events)) for key, events in found.events.items()}
        found.launcher = list(map(stretch, found.launcher))
        return found

    return change


def test_recoveries_that_no_reference_can_decide_are_counted_apart(tmp_path: Path) -> None:
    found = evidence(failed(campaign(tmp_path), "*/reference/seed1"))
    text = markdown(integrity.PLUGIN.blocks(found, {}))
    assert "**blocking** recovered correctly in 4 of 4 runs with failures" in text
    assert "; 2 runs with failures undecided." in text


def test_every_variant_is_averaged_over_the_same_blocks(tmp_path: Path) -> None:
    """Seed 3 of overlapped fails, and seed 3 is left out of every variant's means, table, plot and sentence."""
    broken = evidence(failed(campaign(tmp_path / "a"), "*/overlapped/seed3"))
    without = evidence(campaign(tmp_path / "b", seeds=[1, 2]))
    assert len(broken.whole) == len(without.whole) == 12
    said = "over 4 whole blocks"
    for blocks_of in (results.PLUGIN.blocks, ledger.PLUGIN.blocks):
        tables, expected = (
            [block for block in blocks_of(found, {}) if isinstance(block, Table)] for found in (broken, without)
        )
        assert tables[0] == expected[0]
    assert next(b for b in ledger.PLUGIN.blocks(broken, {}) if isinstance(b, Table) and b.headers[1] == "failures") == (
        next(b for b in ledger.PLUGIN.blocks(without, {}) if isinstance(b, Table) and b.headers[1] == "failures")
    )
    texts = {
        "results": markdown(results.PLUGIN.blocks(broken, {})),
        "ledger": markdown(ledger.PLUGIN.blocks(broken, {})),
    }
    assert all(f"{said} (2 blocks left out)" in text for text in texts.values())
    costs = [
        text for text in markdown(interpretation.PLUGIN.blocks(broken, {})).splitlines() if "A failure costs" in text
    ]
    assert costs
    assert all(f"(4 failures {said} (2 blocks left out))" in text for text in costs)
    pictures = [draw_ledger(found) for found in (broken, without)]
    widths = [
        [bar.get_width() for bar in picture.axes[0].patches if isinstance(bar, Rectangle)]
        for picture in pictures
        if picture is not None
    ]
    assert widths[0] == pytest.approx(widths[1])


def test_a_campaign_without_a_whole_block_has_no_means(tmp_path: Path) -> None:
    found = evidence(failed(campaign(tmp_path, seeds=[1]), "*/overlapped/seed1"))
    assert "over 0 whole blocks (2 blocks left out)" in markdown(results.PLUGIN.blocks(found, {}))
    assert "No block is whole" in markdown(ledger.PLUGIN.blocks(found, {}))
    assert draw_ledger(found) is None


# -- interpretation -------------------------------------------------------------------------------------------


def measured(metric: str, values: dict[str, list[float]], kind: Kind = "difference") -> Comparison:
    """One variant's values, a seed each in suites of their own, against 100 of the other."""
    rows = [
        empty_row(suite_id=f"s{i}", seed=1, variant=variant, **{metric: value})
        for variant, own in values.items()
        for i, value in enumerate(own)
    ]
    return compare(rows, "overlapped", "blocking", metric, kind, {})


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        ([99.0, 98, 97, 96, 95, 94, 93, 92], "Suites that save more stall save more wall-clock (Spearman's rho = 1"),
        ([92.0, 93, 94, 95, 96, 97, 98, 99], "Suites that save more stall save less wall-clock (Spearman's rho = -1"),
        ([95.0, 92, 97, 94, 93, 98, 91, 96], "No association is shown between the stall and the wall-clock that a"),
    ],
)
def test_saved_stall_goes_with_more_or_less_wall_clock_or_with_neither(walls: list[float], words: str) -> None:
    stall = measured("stall_s", {"overlapped": [9.0, 8, 7, 6, 5, 4, 3, 2], "blocking": [10.0] * 8})
    wall = measured("wall_s", {"overlapped": walls, "blocking": [100.0] * 8})
    [text] = interpretation.explain_stall(stall, wall)
    assert text.startswith(words)
    assert "= <" not in text


def test_blocks_of_two_suites_that_differ_are_no_independent_points() -> None:
    """A large model saves more stall and more wall-clock than a small one: two points, whatever their seeds."""
    d = {"s0": (1.0, 5.0), "s1": (9.0, 50.0)}
    rows = [
        empty_row(suite_id=name, seed=seed, variant=variant, stall_s=10 - stall, wall_s=100 - wall)
        for name, (saved, shorter) in d.items()
        for seed in range(6)
        for variant, stall, wall in (("blocking", 0.0, 0.0), ("overlapped", saved + seed / 10, shorter - seed / 10))
    ]
    stall, wall = (compare(rows, "overlapped", "blocking", name, "difference", {}) for name in ("stall_s", "wall_s"))
    assert interpretation.explain_stall(stall, wall) == []


def with_values(found: Evidence, **columns: list[float]) -> Evidence:
    """The evidence with other values of overlapped, one a seed, the other variants' being 10."""
    rows = [
        row | {c: own[row["seed"] - 1] if row["variant"] == "overlapped" else 10.0 for c, own in columns.items()}
        for row in found.rows
    ]
    return replace(found, rows=tuple(rows), _made={})


def test_slower_steps_stand_beside_the_saved_stall_and_are_no_part_of_it(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, datasets=["cifar10"], seeds=[1, 2, 3, 4]))
    saved, longer = [6.0, 6.1, 6.2, 6.3], [20.0, 21.0, 22.0, 23.0]
    near = [9.0, 11.0, 9.5, 10.6]
    clear = with_values(
        found, stall_s=saved, wall_s=[13.0] * 4, interference_s=longer, replay_s=near, rewarm_s=[9.5, 10.5, 9.9, 10.3]
    )
    text = " ".join(interpretation.stalls(clear, "overlapped", "blocking"))
    assert text.startswith("overlapped stalls 3.85 s less [-4.06, -3.64] per run than blocking")
    assert "its wall-clock is 3 s longer [3, 3]." in text
    assert "Beside that, steps took 11.5 s more [9.4, 13.6] per run in overlapped than in blocking." in text
    assert "No difference is shown in what warm-up and replay took (overlapped - blocking: warm-up [" in text
    noise = {"interference_s": [-30.0, 40.0, 25.0, 50.0], "replay_s": near, "rewarm_s": near}
    noisy = with_values(found, stall_s=saved, wall_s=[7.0, 8.0, 9.0, 8.0], **noise)
    text = " ".join(interpretation.stalls(noisy, "overlapped", "blocking"))
    assert "its wall-clock is 2.0 s shorter" in text
    assert "Beside that" not in text
    assert "No difference is shown in what steps, warm-up and replay took" in text
    wild = with_values(found, compute_s=[-30.0, 40.0, 25.0, 50.0])
    said = markdown(interpretation.PLUGIN.blocks(wild, {}))
    assert (
        "differ most in compute: 11 s more [-46, 68] per run in overlapped, which these runs do not tell from 0" in said
    )
    worse = with_values(found, stall_s=[11.0, 12.0, 13.0, 12.0], wall_s=[7.0, 8.0, 9.0, 8.0])
    assert "stalls 2.0 s more" in interpretation.stalls(worse, "overlapped", "blocking")[0]
    for one in (clear, noisy, worse):
        said = " ".join(interpretation.stalls(one, "overlapped", "blocking"))
        assert "paid elsewhere" not in said
        assert not re.search(r"(?<![\[,] )(?<!\[)-\d[\d.]* s", said)


def test_a_margin_that_these_runs_give_is_one_for_the_next_campaign(tmp_path: Path) -> None:
    found = replace(evidence(campaign(tmp_path, datasets=["cifar10"], seeds=[1, 2])), train={})
    text = markdown(results.PLUGIN.blocks(found, {}))
    assert "For the next campaign, as a margin is to be fixed before its runs: half the SD" in text


# -- an interval and a test that disagree ---------------------------------------------------------------------


def goodputs(*blocks: list[float]) -> Comparison:
    """Goodput ratios, a list for each suite."""
    return compare(goodput_rows(*blocks), "overlapped", "blocking", GOODPUT, "ratio", {})


def goodput_rows(*blocks: list[float]) -> list[Row]:
    return [
        empty_row(
            suite_id=f"s{i}", seed=seed, variant=variant, outcome="completed", goodput_steps_per_s=ratio**power
        )
        for i, own in enumerate(blocks)
        for seed, ratio in enumerate(own)
        for variant, power in (("overlapped", 1), ("blocking", 0))
    ]  # fmt: skip


# six suites, all above 1, that differ much
ONLY_TEST = [[1.001], [1.2], [1.002], [1.003], [1.001], [1.002]]


def test_prose_says_where_interval_and_test_disagree() -> None:
    [text] = interpretation.effects(goodputs(*ONLY_TEST))
    assert "includes 1, the sign-flip test excludes it (p = 0.0312, unadjusted); a difference that only one" in text
    assert "for chance" not in text
    [text] = interpretation.effects(goodputs([*[1.05] * 5, 0.998]))
    assert "excludes 1, the sign-flip test does not (p = 0.0625, unadjusted); a difference that only one" in text
    assert disagreement(goodputs([1.05] * 8), 1.0) is None


def test_prose_says_what_was_tested_and_what_the_suites_have() -> None:
    rising = [1.01, 1.02, 1.03, 1.01, 1.02, 1.05, 1.02, 1.03]
    found, suites, left_out = interpretation.effects(goodputs(*[[value] for value in rising]))
    assert "(p = 0.00781, sign flips of whole suites, exact) both exclude 1: a gain larger than its standard" in found
    assert "for workloads of which these suites are a sample" in found
    assert suites.startswith("overlapped is above blocking in 8 of 8 suites (each suite has one observation; exact")
    assert "The median suite has 1.020. With one suite left out the mean lies between 1.020 and 1.026; s5" in left_out
    [found, _] = interpretation.effects(goodputs([1.01, 0.99, 1.02, 0.98, 1.01, 0.99, 1.01]))
    assert "includes no change (p = 1, sign flips of blocks, exact), so no difference is shown; with these" in found
    assert re.search(r"one of \d\.\d+ % or more would have shown \(80 % power\)", found)
    many = goodputs([1 + (-1) ** i * 0.01 for i in range(20)])
    assert "sign flips of blocks, sampled, 9,999 patterns" in interpretation.effects(many)[0]
    two = goodputs([1.02, 1.021, 1.019], [1.03, 1.031, 1.029])
    assert "the t test of the interval) both exclude 1" in interpretation.effects(two)[0]
    assert "for these suites" in interpretation.effects(two)[0]


def test_the_bootstrap_and_the_interval_are_counted_where_they_disagree(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, datasets=["cifar10"], seeds=list(range(1, 9))))
    wild = with_values(found, stall_s=[10.1, 10.2, 10.1, 10.3, 10.1, 10.2, 10.1, 19.0])
    text = markdown(results.PLUGIN.blocks(wild, {}))
    assert "the t interval and BCa disagree in 1 of " in text
    assert "stall (s): t [-1.4, 3.9] against BCa [0.1, 4.6]" in text


def test_a_verdict_stands_beside_the_p_that_it_does_not_agree_with() -> None:
    claim = Claim(name="pays", compare=["overlapped", "blocking"], metric=GOODPUT, expect="ratio > 1.00")
    [judged] = judge_claims([claim], goodput_rows(*ONLY_TEST), {}, registered=True)
    assert judged.verdict == "INCONCLUSIVE"
    text = claims.verdict_text(judged)
    assert text is not None
    assert text.endswith("includes 1, the sign-flip test excludes it (p = 0.0312, unadjusted).")
    [agreed] = judge_claims([claim], goodput_rows([1.05, 1.06, 1.04, 1.05, 1.05, 1.06]), {}, registered=True)
    assert (agreed.verdict, claims.verdict_text(agreed)) == ("CONFIRMED", None)
