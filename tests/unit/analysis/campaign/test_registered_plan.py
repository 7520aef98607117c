"""The registration file against what ran: every way to depart from it is named."""

from pathlib import Path
from typing import Any

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.registered_plan import PlanComparison
from ecrl.analysis.evidence import build_evidence
from ecrl.config.registration import RegistrationFile, build_registration, get_kept_path
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from ecrl.report.formats.markdown import markdown
from ecrl.report.sections.registration import PLUGIN
from tests.errors import raises
from tests.unit.analysis.campaign_builder import CLAIM, campaign
from tests.unit.cli.inline import run_inline


def register(paths: CampaignPaths, **changes: Any) -> RegistrationFile:
    """Keep a registration with a campaign; `changes` are made to what it registers."""
    found = RegistrationFile(build_registration(paths.matrix).content | changes)
    found.write(get_kept_path(paths))
    return found


def compare(paths: CampaignPaths) -> PlanComparison:
    (found,) = load_campaign(paths).plans
    return found


def text_of(paths: CampaignPaths) -> str:
    return markdown(PLUGIN.blocks(build_evidence(load_campaign(paths)), {}))


def test_a_campaign_that_ran_as_registered_differs_in_nothing(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    found = register(paths)
    compared = compare(paths)
    assert (compared.claims, compared.missing, compared.added, compared.settings) == ((), (), (), ())
    assert compared.analysis == ""
    text = text_of(paths)
    assert found.sha256[:12] in text
    assert "registers 6 blocks of exp" in text
    assert "What ran is what was registered" in text


def test_changed_added_and_dropped_claims_are_named(tmp_path: Path) -> None:
    second = CLAIM.replace("overlapping pays", "twice").replace("1.00", "2.00")
    paths = campaign(tmp_path, claims=CLAIM + second)
    (own, more) = build_registration(paths.matrix).content["claims"]
    register(paths, claims=[own | {"expect": "ratio > 1.05", "smallest": 0.01}, more | {"name": "gone"}], matrix="old")
    changed, dropped, added = compare(paths).claims
    assert changed == (
        "claim 'overlapping pays': expect was ratio > 1.05, is ratio > 1.00; smallest was 0.01, is absent"
    )
    assert dropped == "claim 'gone': registered, and dropped from the matrix"
    assert added == "claim 'twice': added after the registration"
    assert added in text_of(paths)


def test_runs_that_were_registered_and_did_not_end_and_runs_that_nobody_registered_are_named(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return None if run.variant == "blocking" and run.seed == 2 else found

    paths = campaign(tmp_path, datasets=["fashion-mini"], seeds=[1, 2, 3], change=change)
    blocks = build_registration(paths.matrix).content["blocks"]
    register(paths, blocks=[block for block in blocks if block["seed"] != 3])
    compared = compare(paths)
    assert [name.split("/", 1)[1] for name in compared.missing] == ["blocking/seed2"]
    assert [name.split("/", 1)[1] for name in compared.added] == [
        "blocking/seed3", "overlapped/seed3", "reference/seed3",
    ]  # fmt: skip
    assert "registered, and not ended (1 run)" in text_of(paths)
    assert "not registered, and there (3 runs)" in text_of(paths)


def test_another_version_of_the_analysis_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    register(paths, analysis="0.1.0 (000000000000)")
    assert compare(paths).analysis.startswith("0.1.0 (000000000000) was registered, ")


def test_a_matrix_that_differs_elsewhere_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    register(paths, matrix="another")
    assert len(compare(paths).settings) == 1


def test_the_time_of_a_registration_stands_beside_that_of_the_campaign(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    commit = {"id": "f" * 40, "date": "2026-01-02T03:04:05+00:00", "clean": False}
    register(paths, commit=commit)
    assert "in commit ffffffffffff of 2026-01-02T03:04:05+00:00, other files" in compare(paths).time
    register(paths, commit=None)
    assert "nothing shows when it was written" in compare(paths).time


def test_a_given_file_is_compared_and_was_not_there_at_the_start(tmp_path: Path) -> None:
    paths = campaign(tmp_path / "results")
    given = tmp_path / "mine.json"
    build_registration(paths.matrix).write(given)
    assert load_campaign(paths).plans == ()
    (found,) = load_campaign(paths, given).plans
    assert (found.name, found.is_kept) == ("mine.json", False)
    done = run_inline(
        "report", "--prefix", "exp", "--results", str(paths.results), "--registration", str(given), "--format", "md"
    )
    assert done.returncode == 0, done.stderr
    assert "It was not there when the campaign was frozen." in paths.table("report.md").read_text()


def test_a_registration_of_another_experiment_is_refused(tmp_path: Path) -> None:
    paths = campaign(tmp_path / "results")
    other = tmp_path / "other.json"
    content = build_registration(paths.matrix).content
    RegistrationFile(content | {"blocks": [block | {"suite": "elsewhere"} for block in content["blocks"]]}).write(other)
    with raises("ECRL-724", str(other), "exp"):
        load_campaign(paths, other)


def test_a_kept_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    register(paths)
    kept = get_kept_path(paths)
    kept.write_text(kept.read_text().replace("ratio > 1.00", "ratio > 0.50"))
    with raises("ECRL-721", kept.name):
        load_campaign(paths)
    kept.unlink()
    assert "There is no registration file" in text_of(paths)


def test_pooled_campaigns_have_each_their_registration(tmp_path: Path) -> None:
    first, second = campaign(tmp_path, "a", seeds=[1]), campaign(tmp_path, "b", seeds=[2])
    register(first)
    register(second)
    done = run_inline("report", "--prefix", "a", "--prefix", "b", "--results", str(tmp_path), "--mix", "--format", "md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "a+b" / "a+b_report.md").read_text()
    assert "blocks of a:" in text
    assert "blocks of b:" in text
    one = ["--registration", str(get_kept_path(first))]
    refused = run_inline("report", "--prefix", "a", "--prefix", "b", "--results", str(tmp_path), *one)
    assert (refused.returncode, "[ECRL-104]" in refused.stderr) == (2, True)
