"""A request is resolved once, and compared again only when another ecrl has frozen a matrix meanwhile."""

import dataclasses
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ecrl.config.load import Override
from ecrl.config.matrix import Matrix
from ecrl.experiments.training.probe import Probe
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request, resolve_request
from ecrl.launch.campaign.selection import Selection, parse_terms
from ecrl.launch.campaign.store import load_frozen
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, answer, control, request


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first comment or table of every TOML text that was parsed, in order."""
    texts: list[str] = []
    loads = tomllib.loads

    def count(text: str, /, **options: Callable[[str], float]) -> dict[str, object]:
        texts.append(text.strip().splitlines()[0])
        return loads(text, **options)

    monkeypatch.setattr(tomllib, "loads", count)
    return texts


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every read of a manifest."""
    paths: list[Path] = []
    read = manifest.read

    def count(of: CampaignPaths) -> manifest.View:
        paths.append(of.manifest)
        return read(of)

    monkeypatch.setattr(manifest, "read", count)
    return paths


FROZEN = "# The frozen matrix of campaign exp: `ecrl matrix resume` reads this and nothing else."
AGAIN = Policy(retry_failed=True)


def test_a_new_campaign_parses_its_matrix_once(tmp_path: Path, parsed: list[str], reads: list[Path]) -> None:
    control(StandIn()).run(request(tmp_path / "results"), Policy())
    assert parsed == ["[matrix]"]
    assert reads == []


def test_run_again_parses_the_file_and_the_frozen_one_once_each(
    tmp_path: Path, parsed: list[str], reads: list[Path]
) -> None:
    control(StandIn()).plan(request(tmp_path / "results"))
    parsed.clear()
    text = MATRIX + "[run]\nretries = 3\n"  # has to be frozen anew
    control(StandIn()).run(request(tmp_path / "results", text=text), AGAIN)
    assert sorted(parsed) == sorted([FROZEN, "[matrix]"])
    assert len(reads) == 1


def test_with_suites_chosen_the_manifest_is_read_once_before_the_lease_and_once_under_it(
    tmp_path: Path, parsed: list[str], reads: list[Path]
) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    parsed.clear()
    control(StandIn()).run(asked, Policy(selection=Selection(parse_terms("failure=late"))))
    assert len(parsed) == 2
    assert len(reads) == 2


def test_the_frozen_matrix_alone_is_parsed_once(tmp_path: Path, parsed: list[str]) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    parsed.clear()
    control(StandIn()).run(Request(asked.paths), AGAIN)
    assert parsed == [FROZEN]
    parsed.clear()
    control(StandIn()).resume(asked.paths, Policy())
    assert parsed == [FROZEN]


def test_what_the_command_line_changes_of_the_frozen_matrix_counts(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    changed = Request(asked.paths, overrides=(Override(("run", "retries"), 2, "--retries"),))
    assert resolve_request(changed).campaign.matrix.run.retries == 2


def probed_while(deed: Callable[[], object], gpus: tuple[str, ...] = ()) -> Control:
    """Another ecrl does something while this one probes for the first time."""
    deeds = [deed]

    def ask(matrix: Matrix, _stop: StopRequest, _look: object) -> Probe:
        if deeds:
            deeds.pop()()
        return dataclasses.replace(answer(matrix), gpus=gpus)

    return control(StandIn(), ask=ask)


def test_another_experiment_frozen_while_this_one_probes_is_refused_and_kept(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    other = Request(asked.paths, tmp_path / "other.toml")
    (tmp_path / "other.toml").write_text(MATRIX.replace("steps = 6", "steps = 8"))
    with raises("ECRL-303", "train.steps: "):
        probed_while(lambda: control(StandIn()).plan(other)).run(asked, Policy())
    assert load_frozen(asked.paths).matrix.train_settings.steps == 8
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"pending"}


def test_the_same_experiment_frozen_while_this_one_probes_is_gone_on_with_as_it_is(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    way_in = probed_while(lambda: control(StandIn()).plan(asked), gpus=("GPU", "GPU"))
    assert way_in.run(asked, Policy()) == 0
    assert load_frozen(asked.paths).matrix.run.device == "cpu", "what the first one decided"
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}
