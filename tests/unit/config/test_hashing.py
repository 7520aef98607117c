"""What identifies a run, a suite and an experiment: the hashes of version 0.1.0 stay valid for ever.

The literals in golden/ were made by version 0.1.0. A change of one of them makes every older campaign unusable: the
change is wrong, never the literal.
"""

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from ecrl.config import failure_entry, matrix
from ecrl.config.block_order import SHUFFLED
from ecrl.config.hashing import NEVER, Later, canonical_json, content_hash, fill_from, fill_legacy, identity
from ecrl.config.load import load
from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.paths import CampaignPaths

GOLDEN = Path(__file__).parent / "golden"
HASHES: dict[str, dict[str, Any]] = json.loads((GOLDEN / "hashes.json").read_text())


def campaign(name: str) -> Campaign:
    loaded = load(GOLDEN / f"{name}.toml")
    return Campaign(CampaignPaths(Path("results"), "golden"), loaded, "", order_rule=SHUFFLED)


@pytest.mark.parametrize("name", ["plain", "rich"])
def test_experiment_claims_and_suites_hash_as_version_0_1_0_hashed_them(name: str) -> None:
    golden, today = HASHES[name], campaign(name)
    assert today.experiment_hash == golden["experiment"]
    assert today.matrix.claims_hash == golden["claims"]
    for index, suite_id in golden["suites"].items():
        assert today.suites[int(index)].suite_id == suite_id


def test_an_experiment_without_claims_hashes_as_version_0_1_0_hashed_it() -> None:
    bare = campaign("rich").matrix.model_copy(update={"claims": []})
    assert content_hash(bare.content) == HASHES["rich without claims"]["experiment"]
    assert bare.claims_hash == HASHES["rich without claims"]["claims"]


@pytest.mark.parametrize("name", ["plain", "rich"])
def test_runs_and_block_orders_are_those_of_version_0_1_0(name: str) -> None:
    golden, today = HASHES[name], campaign(name)
    runs, orders = dict[str, str](), dict[str, list[str]]()
    for suite in today.suites:
        for spec in (run.spec for run in today.runs(suite)):
            runs[f"{suite.suite_id}/{spec.folder_name}/{spec.seed}"] = spec.hash
            orders[f"{suite.suite_id}/{spec.seed}"] = list(spec.block_order)
    assert {key: runs[key] for key in golden["runs"]} == golden["runs"]
    assert {key: orders[key] for key in golden["orders"]} == golden["orders"]


def test_the_golden_orders_hold_the_repeat_of_a_reference() -> None:
    assert any("reference-aa" in order for order in HASHES["rich"]["orders"].values())


# A field of each class, added to what version 0.1.0 had; `extra` was there from the beginning.


@dataclass(frozen=True, kw_only=True)
class OldSettings:
    steps: int
    extra: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewSettings(OldSettings):
    precision: Annotated[str, Later(legacy="fp32")] = "bf16"  # the default may differ from the legacy value
    nodes: Annotated[int | None, Later(legacy=None)] = None
    folder: Annotated[str, NEVER] = "here"


class OldEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    at: int
    rank: int | None = None


class NewEntry(OldEntry):
    ratio: Annotated[float, Later(legacy=0.5)] = 0.25

    @model_validator(mode="before")
    @classmethod
    def _read_older_files(cls, raw: Any, info: ValidationInfo) -> Any:
        return failure_entry.read_older_files(cls, raw, info)


class OldTable(BaseModel):
    settings: OldSettings
    schedules: dict[str, list[OldEntry]]


class NewTable(BaseModel):
    settings: NewSettings
    schedules: dict[str, list[NewEntry]]
    variants: Annotated[dict[str, str], Later(legacy={})] = {}
    run: Annotated[dict[str, int], NEVER] = {}


OLD = OldTable(settings=OldSettings(steps=3), schedules={"base": [OldEntry(at=1)]})


def test_a_later_field_at_its_legacy_value_and_a_field_of_no_identity_change_no_text() -> None:
    settings = NewSettings(steps=3, precision="fp32", folder="elsewhere")
    new = NewTable(settings=settings, schedules={"base": [NewEntry(at=1, ratio=0.5)]}, run={"jobs": 4})
    assert canonical_json(identity(new)) == canonical_json(identity(OLD))
    assert '"extra":null' in canonical_json(identity(new)), "nulls of fixed fields stay"


@pytest.mark.parametrize(
    "new",
    [
        NewTable(settings=NewSettings(steps=3), schedules={"base": [NewEntry(at=1, ratio=0.5)]}),
        NewTable(settings=NewSettings(steps=3, precision="fp32"), schedules={"base": [NewEntry(at=1)]}),
        NewTable(
            settings=NewSettings(steps=3, precision="fp32", nodes=2), schedules={"base": [NewEntry(at=1, ratio=0.5)]}
        ),
    ],
)
def test_a_later_field_with_another_value_is_another_identity(new: NewTable) -> None:
    assert canonical_json(identity(new)) != canonical_json(identity(OLD))


def test_a_file_that_ecrl_wrote_is_read_with_the_legacy_values_of_what_it_lacks() -> None:
    assert fill_legacy(NewSettings, {"steps": 3}) == {"steps": 3, "precision": "fp32", "nodes": None}
    frozen = NewEntry.model_validate({"at": 1}, context={failure_entry.FROZEN: True})
    assert (frozen.ratio, NewEntry.model_validate({"at": 1}).ratio) == (0.5, 0.25)


def test_a_users_file_is_read_with_the_frozen_campaigns_values_of_what_it_lacks() -> None:
    settings = NewSettings(steps=3, precision="fp32")
    frozen = NewTable(settings=settings, schedules={"base": [NewEntry(at=1, ratio=0.75)]}, variants={"a": "b"})
    asked = {"settings": {"steps": 4}, "schedules": {"base": [{"at": 2}], "new": [{"at": 3}]}}
    assert fill_from(frozen, asked) == {
        "settings": {"steps": 4, "precision": "fp32"},
        "schedules": {"base": [{"at": 2, "ratio": 0.75}], "new": [{"at": 3}]},
        "variants": {"a": "b"},
    }
    given = {"settings": {"steps": 4, "precision": "bf16"}, "schedules": {}, "variants": {}}
    assert fill_from(frozen, given) == given, "what the user's file says stands"


def test_fill_from_leaves_values_of_a_wrong_type_to_the_validation() -> None:
    frozen = NewTable(settings=NewSettings(steps=3), schedules={"base": [NewEntry(at=1)]})
    wrong = {"settings": 3, "schedules": {"base": 7}, "variants": "x", "unknown": 1}
    assert fill_from(frozen, wrong) == wrong


@pytest.mark.parametrize(
    "kind",
    [
        Matrix, matrix.Axes, matrix.TrainTable, matrix.CheckpointTable, matrix.RunOptions, matrix.Claim,
        failure_entry.FailureEntry, RunSpec, Suite, TrainSettings, CheckpointSettings,
    ],
)  # fmt: skip
def test_every_later_field_can_be_read_from_a_file_that_lacks_it(kind: type) -> None:
    """A file has no null: a later field that may be None is None where it is absent, so None must be its legacy."""
    later = identity_marks(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else kind.model_fields  # type: ignore[attr-defined]
    for name, legacy in later.items():
        assert fields[name].default is not None or legacy is None, f"{kind.__name__}.{name}"


def identity_marks(kind: type) -> dict[str, Any]:
    return fill_legacy(kind, {})


def test_a_frozen_file_holds_every_value_and_reads_back_as_the_same_experiment(tmp_path: Path) -> None:
    rich = campaign("rich").matrix
    path = tmp_path / "frozen.toml"
    path.write_text(rich.to_toml("x"))
    assert load(path, frozen=True) == rich
    assert set(tomllib.loads(path.read_text())["train"]) == set(matrix.TrainTable.model_fields)
