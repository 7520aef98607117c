import ast
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis import threats
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.threats.base import Threat
from ecrl.analysis.threats.detect import BLOCKING, CHECKS, ThreatReport
from ecrl.analysis.verdict_frames import build_claims_frame, build_threats_frame
from ecrl.config.matrix import Claim
from tests.unit.analysis.campaign_builder import campaign

NOTHING = ThreatReport((), (), {})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A campaign with one seed, which blocks its claim."""
    return build_evidence(load_campaign(campaign(tmp_path_factory.mktemp("results"), seeds=[1337])))


def test_claims_say_what_the_report_says(found: Evidence) -> None:
    frame = build_claims_frame(found.claims, found.threats)
    [judged], [row] = found.claims, frame.to_dict("records")
    assert (
        ",".join(frame.columns)
        == "name,metric,compare,where,verdict,scope,noise_measured,estimate,low,high,p,pairs,suites,looks,vetoes"
    )
    assert (row["name"], row["metric"]) == ("overlapping pays", "goodput_steps_per_s")
    assert (row["compare"], row["where"]) == ("overlapped;blocking", "")
    assert row["looks"] == 1
    assert (row["verdict"], row["pairs"], row["suites"]) == ("INCONCLUSIVE", 2, 2)
    assert row["estimate"] == judged.estimate
    assert judged.low is None, "two suites with a seed each show no spread"
    assert math.isnan(row["low"])
    assert math.isnan(row["p"])
    assert (row["scope"], row["noise_measured"]) == ("for these 2 suites", False)
    assert row["vetoes"].split(";") == found.threats.veto_codes
    assert "one_seed" in row["vetoes"]


def test_a_claim_that_chooses_its_suites_says_so(found: Evidence) -> None:
    where: dict[str, Any] = {"model": "resnet18", "checkpoint_every": [50, 100]}
    claim = Claim(name="n", metric="ettr", of="blocking", expect="value > 0.5", where=where)
    [row] = build_claims_frame([replace(found.claims[0], claim=claim)], NOTHING).to_dict("records")
    assert (row["compare"], row["where"]) == ("blocking", "model=resnet18;checkpoint_every=50,100")


def test_without_claims_the_columns_are_there() -> None:
    frame = build_claims_frame([], NOTHING)
    assert len(frame) == 0
    assert frame["estimate"].dtype == "float64"


def test_every_condition_is_one_row_with_state_and_weight(found: Evidence) -> None:
    frame = build_threats_frame(found.threats).set_index("code")
    assert sorted(frame.index) == sorted(CHECKS)
    assert list(frame.columns) == ["state", "weight", "evidence"]
    assert list(frame["state"].cat.categories) == ["found", "not found", "cannot be seen"]
    assert set(frame["state"]) == {"found", "not found", "cannot be seen"}
    assert tuple(frame.loc["one_seed", ["state", "weight"]]) == ("found", "blocks")
    assert frame.loc["one_seed", "evidence"] == "every run has seed 1337: nothing can be said about another"
    assert tuple(frame.loc["single_interval", ["state", "weight"]]) == ("found", "warns")
    assert tuple(frame.loc["ledger_residual", ["state", "weight"]]) == ("not found", "blocks")
    assert tuple(frame.loc["suspended"]) == ("cannot be seen", "blocks", "not recorded by any run")
    unlike = frame.loc["gpu_contention"]
    assert tuple(unlike) == ("not found", "warns", "does not apply: every run used the CPU")
    vetoes = frame[(frame["state"] == "found") & (frame["weight"] == "blocks")]
    assert sorted(vetoes.index) == found.threats.veto_codes


def test_what_is_found_comes_first_and_what_of_it_was_not_recorded_is_said() -> None:
    report = ThreatReport(
        (Threat("mixed_environment", False, "torch"), Threat("one_seed", True, "7"), Threat("one_seed", False, "more")),
        ("suspended",),
        {"mixed_environment (git)": "not recorded", "aa_noise_ge_effect (a (b))": "undefined", "suspended (x)": "why"},
        {"throttled (gpu)": "every run used the CPU"},
    )
    rows = [tuple(row) for row in build_threats_frame(report).to_numpy()]
    assert rows == [
        ("one_seed", "found", "blocks", "7; more"),
        ("mixed_environment", "found", "warns", "torch; git: not recorded"),
        ("suspended", "not found", "blocks", "looked for and not met; x: why"),
        ("throttled", "not found", "warns", "gpu: does not apply: every run used the CPU"),
        ("aa_noise_ge_effect", "cannot be seen", "blocks", "a (b): undefined"),
    ]


def test_the_registered_weight_of_every_check_is_that_of_what_it_finds() -> None:
    """Read from the sources: a check that can find a blocking threat is registered with `blocks=True`, and no other."""
    assert threats.__file__ is not None
    seen = set()
    for path in sorted(Path(threats.__file__).parent.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                seen |= check_weight(function)
    assert seen == set(CHECKS)


def check_weight(function: ast.FunctionDef) -> set[str]:
    """The codes that a function is registered for, once their weights are checked against its `Threat(...)` calls."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    weights = [call.args[1] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Threat"]
    may_block = any(not (isinstance(weight, ast.Constant) and weight.value is False) for weight in weights)
    decorators = [call for call in function.decorator_list if isinstance(call, ast.Call)]
    codes = {ast.literal_eval(call.args[0]) for call in decorators if ast.unparse(call.func).endswith(".register")}
    assert all((code in BLOCKING) == may_block for code in codes), codes
    return codes
