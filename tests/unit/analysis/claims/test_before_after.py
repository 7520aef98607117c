"""Before and after: what changed beyond what the reference of each session changed by."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.before_after import Change, compare_before_after
from ecrl.config.run import RunSpec
from ecrl.records.reader import Event, RunRecord
from ecrl.report.pages.before_after import CHANGED, FEW, NO_VERDICT, NOT_SHOWN, document, judge, sentences, tables
from tests.errors import raises
from tests.unit.analysis.campaign_builder import campaign

STAMPS = ("t", "t0", "t_slot", "t_staged")


def stretch(factor: float, variants: tuple[str, ...] = ()) -> Callable[[RunSpec, RunRecord], RunRecord]:
    """Every run slower by the factor, give or take a jitter of its seed and variant; only these variants, if given."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        own = factor if not variants or run.variant in variants else 1.0
        own *= 1 + 0.0005 * math.sin(run.seed * 5 + len(run.variant) * 3 + len(run.dataset))

        def move(event: Event) -> Event:
            return event | {key: round(event[key] * own) for key in STAMPS if key in event}

        found.events = {key: list(map(move, events)) for key, events in found.events.items()}
        found.launcher = list(map(move, found.launcher))
        return found

    return change


def changes(tmp_path: Path, metric: str = "wall_s", factor: float = 1.01, **options: object) -> dict[str, Change]:
    variants = options.pop("changed", ())
    a = load_campaign(campaign(tmp_path, "a", **options))  # type: ignore[arg-type]
    b = load_campaign(campaign(tmp_path, "b", change=stretch(factor, variants), **options))  # type: ignore[arg-type]
    return compare_before_after(a, b, metric)


@pytest.mark.parametrize("metric", ["wall_s", "goodput_steps_per_s", "stall_s"])
def test_what_the_reference_shares_is_no_change(tmp_path: Path, metric: str) -> None:
    found = changes(tmp_path, metric)
    assert found["reference"].net is None
    assert judge(found["reference"]) == NO_VERDICT
    for variant in ("blocking", "overlapped"):
        own, net = found[variant].own.overall, found[variant].net
        assert own is not None
        assert net is not None
        assert net.overall is not None
        if metric != "stall_s":  # the reference writes no checkpoint: nothing of a stall is taken off
            assert abs(math.log(own.center)) > 0.009
            assert abs(math.log(net.overall.center)) < 0.0005
            assert judge(found[variant]) == NOT_SHOWN
    text = "\n".join(sentences(found, []))
    assert "reference: b" in text
    assert "what the two sessions differ by" in text


def test_a_change_of_one_engine_is_told_from_the_session(tmp_path: Path) -> None:
    found = changes(tmp_path, factor=1.05, changed=("overlapped",))
    assert {variant: judge(one) for variant, one in found.items()} == {
        "reference": NO_VERDICT,
        "blocking": NOT_SHOWN,
        "overlapped": CHANGED,
    }
    net = found["overlapped"].net
    assert net is not None
    assert net.overall is not None
    assert net.overall.center == pytest.approx(1.05, abs=0.002)
    assert net.p_value is not None
    assert found["overlapped"].p == pytest.approx(2 * net.p_value)  # Holm over two engines
    assert "a change beyond the reference's" in "\n".join(sentences(found, []))


def test_the_ratio_of_ratios_is_taken_block_by_block(tmp_path: Path) -> None:
    found = changes(tmp_path)
    own, net, reference = found["blocking"].own, found["blocking"].net, found["reference"].own
    assert net is not None
    assert [pair.d for pair in net.pairs] == pytest.approx(
        [pair.d - other.d for pair, other in zip(own.pairs, reference.pairs, strict=True)]
    )


@pytest.mark.parametrize("metric", ["interference_s", "d_max", "ettr_ref"])
def test_a_metric_that_is_relative_to_the_reference_has_a_verdict_too(tmp_path: Path, metric: str) -> None:
    assert judge(changes(tmp_path, metric)["blocking"]) in (NOT_SHOWN, CHANGED)


def test_without_a_reference_in_both_there_is_no_verdict(tmp_path: Path) -> None:
    a = load_campaign(campaign(tmp_path, "a"))
    b = load_campaign(campaign(tmp_path, "b", variants=("blocking", "overlapped"), change=stretch(1.2)))
    found = compare_before_after(a, b, "wall_s")
    assert {judge(one) for one in found.values()} == {NO_VERDICT}
    text = "\n".join(sentences(found, []))
    assert "no verdict, one session each" in text
    assert "changed" not in text
    assert "less the reference's" not in tables(found, {})[0][1]


def test_a_block_whose_reference_failed_in_one_session_is_left_out_of_the_verdict(tmp_path: Path) -> None:
    def failed(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.variant == "reference" and run.seed == 2:
            assert found.result is not None
            found.result["outcome"] = "failed"
        return stretch(1.2)(run, found)

    a, b = (load_campaign(campaign(tmp_path, name, change=c)) for name, c in (("a", stretch(1.0)), ("b", failed)))
    net = compare_before_after(a, b, "wall_s")["blocking"].net
    assert net is not None
    assert {pair.seed for pair in net.pairs} == {1, 3}
    assert all(reason.startswith("in b, ") for _, _, reason in net.missing)
    assert judge(compare_before_after(a, b, "wall_s")["blocking"]) == FEW


def test_the_document_has_both_changes_and_the_verdict(tmp_path: Path) -> None:
    found = changes(tmp_path, factor=1.05, changed=("overlapped",))
    written = document("a", "b", "wall_s", found, [])["variants"]
    assert written["reference"]["net_of_reference"] is None
    assert written["overlapped"]["verdict"] == CHANGED
    assert written["overlapped"]["overall"]["center"] == pytest.approx(1.05, abs=0.002)
    net = found["overlapped"].net
    assert net is not None
    assert net.overall is not None
    assert written["overlapped"]["net_of_reference"]["overall"]["center"] == net.overall.center
    assert written["overlapped"]["p_holm"] == found["overlapped"].p


def test_a_table_shows_both_changes_for_every_suite(tmp_path: Path) -> None:
    [reference, blocking, _] = tables(changes(tmp_path), {})
    assert "less the reference's" not in reference[1]
    place = blocking[1].index("less the reference's")
    assert [row[place][0] for row in blocking[2]] == ["+" if "-" not in row[place] else "-" for row in blocking[2]]
    assert [row[3] for row in blocking[2]] != [row[place] for row in blocking[2]]
    assert [len(row) for row in blocking[2]] == [len(blocking[1])] * 3


@pytest.mark.parametrize(("before", "after", "facts"), [
    ({"variants": ("blocking",), "claims": ""}, {"variants": ("overlapped",), "claims": ""},
     ("no variant", "a has blocking", "b has overlapped")),
    ({"datasets": ("cifar10",)}, {"datasets": ("cifar100",)}, ("no suite", "a has cifar10", "b has cifar100")),
    ({"seeds": (1,)}, {"seeds": (2,)}, ("no block", "b has no seed 1", "a has no seed 2")),
])  # fmt: skip
def test_with_nothing_in_common_the_message_names_what_lacks(
    tmp_path: Path, before: dict[str, object], after: dict[str, object], facts: tuple[str, ...]
) -> None:
    a, b = (load_campaign(campaign(tmp_path, n, **o)) for n, o in (("a", before), ("b", after)))  # type: ignore[arg-type]
    with raises("ECRL-704", *facts):
        compare_before_after(a, b, "wall_s")


def test_seeds_that_one_of_them_lacks_are_named(tmp_path: Path) -> None:
    a, b = (load_campaign(campaign(tmp_path, name, seeds=seeds)) for name, seeds in (("a", (1, 2)), ("b", (2, 3))))
    found = compare_before_after(a, b, "wall_s")
    assert {reason for _, _, reason in found["blocking"].own.missing} == {"b has no seed 1", "a has no seed 3"}
