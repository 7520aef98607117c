"""The split of a wall-clock ratio by cause adds up, whatever the ledgers are."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import build_evidence
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.gain_by_cause import DETECT_AND_RESTART, WALL, log_mean, split_wall_clock
from ecrl.records.columns import LEDGER_BUCKETS
from tests.unit.analysis.campaign_builder import campaign, warmed

SECONDS = st.floats(0, 1e5)
SIGNED = st.floats(-100, 100)


def row(suite: str, seed: int, variant: str, buckets: dict[str, float], residual_s: float = 0.0, **more: Any) -> Row:
    wall_s = math.fsum([*buckets.values(), residual_s])
    ledger = {f"{bucket}_s": seconds for bucket, seconds in buckets.items()}
    return empty_row(suite_id=suite, seed=seed, variant=variant, wall_s=wall_s, residual_s=residual_s, **ledger) | more


@st.composite
def ledgers(draw: st.DrawFn) -> list[Row]:
    """One to three suites of one to three seeds, both variants with random ledgers; startup is above 0."""
    slower = draw(st.booleans())
    found = []
    for suite in range(draw(st.integers(1, 3))):
        for seed in range(draw(st.integers(1, 3))):
            for variant in ("a", "b"):
                buckets = {bucket: draw(SECONDS) for bucket in LEDGER_BUCKETS} | {"startup": draw(st.floats(1, 1e3))}
                more = {"rewarm_s": draw(SIGNED), "interference_s": draw(SIGNED) if slower else None}
                found.append(row(f"s{suite}", seed, variant, buckets, draw(st.floats(-0.05, 0.05)), **more))
    return found


@settings(max_examples=200, deadline=None)
@given(ledgers(), st.floats(0, 50))
def test_the_parts_add_up_to_the_logarithm_of_the_ratio(rows: list[Row], replayed_s: float) -> None:
    warm = {(r["suite_id"], r["variant"], r["seed"]): replayed_s for r in rows if r["variant"] == "a"}
    split = split_wall_clock(rows, "a", "b", {}, warm)
    walls = {(r["suite_id"], r["seed"], r["variant"]): r["wall_s"] for r in rows}
    whole = split[WALL]
    assert len(whole.pairs) == len(rows) / 2
    for place, pair in enumerate(whole.pairs):
        key = (pair.suite_id, pair.seed)
        ratio = math.log(walls[(*key, "a")] / walls[(*key, "b")])
        parts = math.fsum(c.pairs[place].d for part, c in split.items() if part != WALL)
        assert parts == pytest.approx(ratio, abs=1e-12)
        assert pair.d == pytest.approx(ratio, abs=1e-12)


def test_a_part_has_its_seconds_over_the_logarithmic_mean_of_the_wall_clocks() -> None:
    slow = row("s", 1, "a", dict.fromkeys(LEDGER_BUCKETS, 0.0) | {"compute": 20.0, "persist_stall": 5.0})
    fast = row("s", 1, "b", dict.fromkeys(LEDGER_BUCKETS, 0.0) | {"compute": 20.0})
    split = split_wall_clock([slow, fast], "a", "b", {}, {})
    assert set(split) == {WALL, "steps", "persist_stall"}  # a part that no run has is no part
    assert split["persist_stall"].pairs[0].d == pytest.approx(math.log(25 / 20))
    assert split["steps"].pairs[0].d == 0
    assert log_mean(25, 20) == pytest.approx(5 / math.log(25 / 20))
    assert log_mean(3.0, 3.0) == 3.0


def test_warm_up_and_interference_are_parts_of_their_own() -> None:
    zero = dict.fromkeys(LEDGER_BUCKETS, 0.0)
    cold = {"compute": 20.0, "replay": 4.0}
    a = row("s", 1, "a", zero | cold, rewarm_s=3.0, interference_s=-1.5)
    b = row("s", 1, "b", zero | {"compute": 24.0}, rewarm_s=0.0, interference_s=0.0)
    split = split_wall_clock([a, b], "a", "b", {}, {("s", "a", 1): 1.0})
    seconds = {part: c.pairs[0].d * 24 for part, c in split.items()}
    assert seconds == pytest.approx(
        {WALL: 0, "steps": 20 - 2 + 1.5 - 24, "slower steps": -1.5, "warm-up": 3, "replay": 3}
    )


def test_detection_that_no_launcher_reported_is_one_part_with_the_restart() -> None:
    zero = dict.fromkeys(LEDGER_BUCKETS, 0.0) | {"compute": 20.0}
    a = row("s", 1, "a", zero | {"detect": 2.0, "restart": 3.0})
    b = row("s", 1, "b", zero | {"restart": 4.0}) | {"detect_s": None}
    split = split_wall_clock([a, b], "a", "b", {}, {})
    assert set(split) == {WALL, "steps", DETECT_AND_RESTART}
    assert split[DETECT_AND_RESTART].pairs[0].d == pytest.approx(math.log(25 / 24))


def test_blocks_without_a_reference_are_left_out_where_others_tell_slower_steps() -> None:
    zero = dict.fromkeys(LEDGER_BUCKETS, 0.0) | {"compute": 20.0, "persist_stall": 1.0}
    rows = [
        row("s", seed, variant, zero, interference_s=slower)
        for seed, slower in ((1, 0.5), (2, None))
        for variant in "ab"
    ]
    split = split_wall_clock(rows, "a", "b", {}, {})
    assert [pair.seed for pair in split["slower steps"].pairs] == [pair.seed for pair in split[WALL].pairs] == [1]
    alone = split_wall_clock(rows[2:], "a", "b", {}, {})
    assert "slower steps" not in alone
    assert [pair.seed for pair in alone[WALL].pairs] == [2]


def test_without_ledgers_faultless_runs_or_a_partner_there_is_no_split() -> None:
    zero = dict.fromkeys(LEDGER_BUCKETS, 0.0) | {"compute": 20.0}
    a, b = row("s", 1, "a", zero), row("s", 1, "b", zero)
    assert split_wall_clock([], "a", "b", {}, {}) == {}
    assert split_wall_clock([a], "a", "b", {}, {}) == {}
    assert split_wall_clock([a, b | {"compute_s": None}], "a", "b", {}, {}) == {}
    assert split_wall_clock([a, b], "a", "b", {("s", "b", 1): "failed"}, {}) == {}


def test_the_parts_of_simulated_runs_are_what_was_simulated(tmp_path: Path) -> None:
    """Two saves of 2 ms instead of 40 ms, and 0.3 s more for the first step of both attempts; nothing else differs."""
    paths = campaign(tmp_path, change=lambda run, found: warmed(found, 300) if run.variant == "overlapped" else found)
    found = build_evidence(load_campaign(paths))
    walls = {run.key: run.row["wall_s"] for run in found.runs}
    seconds = {}
    for part, c in found.gain_by_cause.items():
        pair = c.pairs[0]
        middle_s = log_mean(*(walls[pair.suite_id, v, pair.seed or 0] for v in ("overlapped", "blocking")))
        seconds[part] = pair.d * middle_s
    assert seconds["warm-up"] == pytest.approx(0.602, abs=1e-3)
    assert seconds["snapshot_stall"] + seconds["persist_stall"] == pytest.approx(-3 * 0.038)
    assert abs(seconds["replay"]) < 0.002
    assert abs(seconds["steps"]) < 1e-9
