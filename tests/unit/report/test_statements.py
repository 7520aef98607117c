"""What sentences and tables of a report state, from campaigns in which something went wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.compare import Comparison, Kind, clopper_pearson, compare
from ecrl.analysis.evidence import Evidence, of_campaign
from ecrl.analysis.load import campaign as load_campaign
from ecrl.analysis.metrics import empty_row
from ecrl.records.paths import CampaignPaths
from ecrl.report.markdown import markdown
from ecrl.report.sections import integrity, interpretation
from ecrl.report.wording import p_equals, share
from tests.unit.analysis.campaign_builder import campaign


def evidence(paths: CampaignPaths) -> Evidence:
    return of_campaign(load_campaign(paths))


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


def test_recoveries_that_no_reference_can_decide_are_counted_apart(tmp_path: Path) -> None:
    found = evidence(failed(campaign(tmp_path), "*/reference/seed1"))
    text = markdown(integrity.PLUGIN.blocks(found, {}))
    assert "**blocking** recovered correctly in 4 of 4 runs with failures" in text
    assert "; 2 runs with failures undecided." in text


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
        ([99.0, 98, 97, 96, 95, 94, 93, 92], "Blocks that save more stall save more wall-clock (Spearman's rho = 1"),
        ([92.0, 93, 94, 95, 96, 97, 98, 99], "Blocks that save more stall save less wall-clock (Spearman's rho = -1"),
        ([95.0, 92, 97, 94, 93, 98, 91, 96], "No association is shown between the stall and the wall-clock that a"),
    ],
)
def test_saved_stall_goes_with_more_or_less_wall_clock_or_with_neither(walls: list[float], words: str) -> None:
    stall = measured("stall_s", {"overlapped": [9.0, 8, 7, 6, 5, 4, 3, 2], "blocking": [10.0] * 8})
    wall = measured("wall_s", {"overlapped": walls, "blocking": [100.0] * 8})
    [text] = interpretation.explained(stall, wall)
    assert text.startswith(words)
    assert "= <" not in text
