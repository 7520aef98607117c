import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ecrl
from ecrl.analysis.campaign.tables import SUMMARY_COLUMNS
from ecrl.analysis.campaign_frames import Campaign
from ecrl.config.block_order import build_block_orders
from ecrl.config.load import load as load_matrix
from ecrl.config.run import RunSpec
from ecrl.config.suite import build_run_specs, expand_matrix
from ecrl.errors import EcrlError
from ecrl.records.columns import RUN_COLUMNS
from ecrl.records.manifest.store import COLUMNS, Manifest, Row
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign.test_load import facts
from tests.unit.analysis.campaign_builder import campaign, simulated, write


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """A campaign of 2 suites, 3 variants and 3 seeds, without a manifest."""
    return campaign(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def whole(paths: CampaignPaths) -> Campaign:
    return ecrl.load(paths.root)


def test_a_campaign_is_frames_with_the_columns_of_its_tables(whole: Campaign) -> None:
    assert tuple(whole.runs.columns) == RUN_COLUMNS
    assert tuple(whole.summary.columns) == SUMMARY_COLUMNS
    assert tuple(whole.suites.columns) == COLUMNS
    assert [len(frame) for frame in (whole.runs, whole.summary, whole.suites, whole.claims)] == [18, 6, 2, 1]
    assert list(whole.claims["verdict"]) == ["CONFIRMED"]
    assert "found" in set(whole.threats["state"])
    assert repr(whole) == "<Campaign exp: 2 suites, runs: 18 completed>"
    assert whole.prefix == "exp"


def test_axes_are_categories_in_the_order_of_the_matrix(whole: Campaign) -> None:
    assert list(whole.runs["dataset"].cat.categories) == ["fashion-mini", "cifar10"]
    assert list(whole.runs["variant"].cat.categories) == ["reference", "blocking", "overlapped"]
    assert whole.runs["checkpoint_every"].cat.ordered
    assert (whole.runs.groupby("variant", observed=True)["wall_s"].count() == 6).all()
    merged = whole.runs.merge(whole.suites[["suite_id", "dataset"]], on=["suite_id", "dataset"])
    assert len(merged) == 18
    assert merged["dataset"].dtype == "category"


def test_a_frame_that_is_changed_changes_no_other(paths: CampaignPaths) -> None:
    found = ecrl.load(paths.root)
    found.runs["goodput_steps_per_s"] = 0.0
    assert (found.runs["goodput_steps_per_s"] == 0).all()
    assert (found.summary["goodput_steps_per_s"] > 1).all()


def test_a_run_is_named_by_a_row_a_tuple_or_a_path(whole: Campaign) -> None:
    row = whole.runs.iloc[4]
    key = (row["suite_id"], row["variant"], int(row["seed"]))
    named: list[Any] = [
        row,
        key,
        "{}/{}/seed{}".format(*key),
        next(whole.runs.iloc[4:5].itertuples()),
        (*key[:2], row["seed"]),
    ]
    events, steps = whole.events(key), whole.steps(key)
    for run in named:
        pd.testing.assert_frame_equal(whole.events(run), events)
        pd.testing.assert_frame_equal(whole.steps(run), steps)
    assert len(steps[(steps["rank"] == 0) & ~steps["is_replay"]]) == 12
    assert row["replayed_steps"] == len(steps[(steps["rank"] == 0) & steps["is_replay"]])
    assert events["t_s"].max() == pytest.approx(row["wall_s"])


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("SUITE", "run: found 'fashion-mini.*expected a row of `campaign.runs`"),
        ("SUITE/blocking/seedling", "expected a row"),
        (("SUITE", "blocking"), "expected a row"),
        (("SUITE", "blocking", None), "expected a row"),
        (("SUITE", "blockin", 1), r"unknown variant 'blockin'. Did you mean 'blocking'\? Valid: blocking, overlapped"),
        ("SUITE/blocking/seed13", "found seed 13, expected one of 1, 2, 3"),
        ("SUITEx/blocking/seed1", r"exp has no suite .*Did you mean 'fashion-mini-.*`campaign.suites` lists them"),
    ],
)
def test_an_unknown_run_is_an_error_that_names_the_nearest(
    whole: Campaign, run: str | tuple[object, ...], said: str
) -> None:
    suite_id = whole.suites["suite_id"][0]
    if isinstance(run, str):
        meant: str | tuple[object, ...] = run.replace("SUITE", suite_id)
    else:
        meant = tuple(suite_id if part == "SUITE" else part for part in run)
    for get in (whole.events, whole.steps):
        with pytest.raises(EcrlError, match=said):
            get(meant)


def test_a_row_that_does_not_say_which_run_it_is_is_an_error(whole: Campaign) -> None:
    with pytest.raises(EcrlError, match=r"expected a row of `campaign\.runs`"):
        whole.events(whole.runs[["suite_id", "variant"]].iloc[0])


def test_an_unknown_campaign_is_an_error_that_names_those_nearby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign(tmp_path / "results", "demo", seeds=[1])
    monkeypatch.chdir(tmp_path)
    said = (
        r"found 'results/dem', expected .* holds dem_matrix\.toml\. Did you mean 'results/demo'\?\nThere are: results/"
    )
    with pytest.raises(EcrlError, match=said):
        ecrl.load("results/dem")
    with pytest.raises(EcrlError, match=r"\nThere are: results/demo\. Type `ecrl matrix list --results \.`"):
        ecrl.load("results")
    with pytest.raises(EcrlError, match=r"\nNo campaign is in nowhere/x or nowhere"):
        ecrl.load("nowhere/x")
    monkeypatch.chdir(tmp_path / "results" / "demo")
    assert ecrl.load(".").prefix == ecrl.load("../demo/").prefix == "demo"


def test_a_running_campaign_has_frames_with_what_is_there_so_far(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
        if run.dataset == "cifar10":
            return None  # not begun
        if run.seed == 3 and run.variant == "overlapped":  # going on
            found.result = None
            found.launcher.pop()
            del found.events[1, 0], found.events[1, 1]
        return found

    paths = campaign(tmp_path, change=change)
    suites = expand_matrix(load_matrix(paths.matrix))
    with_states = [
        Row(**facts(suites[0]), status="running", attempts=1, started_at="2026-11-21T23:28:00Z"),
        Row(**facts(suites[1])),
    ]
    Manifest.create(paths, with_states).close()
    found = ecrl.load(paths.root)
    assert found.runs["outcome"].value_counts().to_dict() == {"missing": 9, "completed": 8, "unfinished": 1}
    [going] = found.runs[found.runs["outcome"] == "unfinished"].itertuples()
    assert found.steps(going)["step"].max() == 6
    assert list(found.suites["status"]) == ["running", "pending"]
    assert found.suites["status"].cat.categories[0] == "pending"
    assert found.suites["started_at"][0] == pd.Timestamp("2026-11-21 23:28", tz="UTC")
    assert pd.isna(found.suites["started_at"][1])
    assert list(found.suites["seeds"]) == ["1;2;3", "1;2;3"]
    missing = found.runs.iloc[-1]
    with pytest.raises(EcrlError, match=r"has left no records.*\n.*`ecrl matrix resume --prefix exp --results"):
        found.events(missing)
    # a run that began after the campaign was loaded
    suite = suites[1]
    order = build_block_orders(suites, "exp")[suite.suite_id, 3]
    specs = build_run_specs(
        suite, 3, order, prefix="exp", device="cpu", data_root=None, claims_hash=load_matrix(paths.matrix).claims_hash
    )
    [spec] = [one for one in specs if one.variant == missing["variant"]]
    write(paths.run(suite.suite_id, spec.variant, 3), simulated(spec, 0), spec)
    assert len(found.events(missing)) > 10


def test_without_a_manifest_suites_hold_what_the_matrix_says(whole: Campaign) -> None:
    assert list(whole.suites["runs_total"]) == [9, 9]
    assert list(whole.suites["failure_steps"]) == ["6", "6"]
    assert whole.suites[["status", "attempts", "runs_done", "started_at", "wall_s"]].isna().all().all()
    assert any("exp_manifest.csv: not found" in warning for warning in whole.warnings)


def test_the_folder_of_another_run_is_not_taken_for_the_run(tmp_path: Path) -> None:
    paths = campaign(tmp_path, datasets=["cifar10"], seeds=[1, 2], claims="")
    [wrong] = paths.suites.glob("*/blocking/seed2")
    shutil.rmtree(wrong)
    shutil.copytree(wrong.with_name("seed1"), wrong)
    found = ecrl.load(paths.root)
    [row] = found.runs[found.runs["outcome"] == "unreadable"].itertuples()
    with pytest.raises(EcrlError, match="a copied folder"):
        found.steps(row)
