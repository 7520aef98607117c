"""A bundle holds what its report rests on, and gives back every byte of it, anywhere; a changed one is refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.calibration import Calibration, describe_shape
from ecrl.analysis.evidence import build_evidence
from ecrl.bundle.bag import open_bag
from ecrl.config.registration import build_registration, get_kept_path
from ecrl.records.paths import CampaignPaths
from ecrl.report.pages.calibration import write_calibrations
from tests.unit.analysis.campaign.test_registration import finish
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.cli.inline import run_inline

pytest.importorskip("rocrate")
pytest.importorskip("bagit")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """A campaign with a manifest, a registration, a run made again, and a second campaign of the same claim."""
    results = tmp_path_factory.mktemp("campaign") / "my results"
    found = campaign(results)
    campaign(results, "later", seeds=[4])
    campaign(results, "other", claims="")
    finish(found)
    build_registration(found.matrix).write(get_kept_path(found))
    [claim] = build_evidence(load_campaign(found)).claims
    shown = Calibration(claim.claim.name, "ratio", describe_shape(claim), 400, 0.0, 0.1, False, 8, 0, 380, 300, 0, 0)
    write_calibrations(found, [shown])
    run = next(found.suites.glob("*/overlapped/seed1"))
    shutil.copytree(run, run.with_name("seed1.aside-1"))
    (run / "logs").mkdir()
    (run / "logs" / "torchrun.log").write_text("long")
    checkpoint = run / "checkpoints" / "step-00000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "shard-0.safetensors").write_bytes(b"0" * 100)
    (checkpoint / "COMMIT.json").write_text("{}")
    return found


@pytest.fixture(scope="module")
def bundle(paths: CampaignPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundle") / "exp.zip"
    done = run_inline("bundle", "exp", "--results", str(paths.results), "--out", str(target))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{target}\n"
    assert "2 files left out" in done.stderr
    return target


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> Path:
    """The bundle, unpacked."""
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "exp"


def test_a_bundle_holds_the_records_and_names_what_it_leaves_out(paths: CampaignPaths, folder: Path) -> None:
    home = folder / "data" / "results" / "exp"
    records = {
        path.relative_to(paths.root).as_posix(): path.read_bytes()
        for path in paths.root.rglob("*")
        if path.is_file() and not {"logs", "checkpoints"} & set(path.parts)
    }
    assert any(".aside-1/" in name for name in records)
    for name, content in records.items():
        assert (home / name).read_bytes() == content
    left_out = json.loads((folder / "data" / "left_out.json").read_text())
    names = {name.rpartition("/")[2]: size for name, size in left_out.items()}
    assert names == {"shard-0.safetensors": 100, "torchrun.log": 4}
    assert list(home.glob("suites/*/overlapped/seed1/checkpoints/*/COMMIT.json"))
    assert [path.name for path in (home.parent).iterdir() if path.is_dir() and path != home] == ["later"]
    environment = json.loads((folder / "data" / "environment.json").read_text())
    assert environment["packages"]["duckdb" if "duckdb" in environment["packages"] else "pandas"]


def test_the_metadata_describe_every_file_and_what_made_the_report(folder: Path) -> None:
    from rocrate.rocrate import ROCrate

    graph = json.loads((folder / "data" / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert entities["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    files = {path.relative_to(folder / "data").as_posix() for path in (folder / "data").rglob("*") if path.is_file()}
    assert {part["@id"] for part in entities["./"]["hasPart"]} == files - {"ro-crate-metadata.json"}
    action = entities["#report"]
    assert action["instrument"] == {"@id": "#ecrl"}
    assert {"@id": "results/exp/exp_report.html"} in action["result"]
    assert {"@id": "results/exp/exp_matrix.toml"} in action["object"]
    assert ROCrate(folder / "data").name == "ecrl campaign exp"


def test_a_report_from_a_bundle_is_the_bundled_one_byte_for_byte(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "data" / "results" / "exp"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("MATRIX_PREFIX", "ignored")
    for source in (bundle, folder):
        out = tmp_path / f"made from {source.name}"
        done = run_inline("report", str(source), "--out", str(out))
        assert done.returncode == 0, done.stderr
        made = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert len(made) == len(done.stdout.splitlines())
        assert {"exp_report.html", "exp_report.md", "exp_report.json", "exp_runs.csv"} <= made.keys()
        for name, content in made.items():
            assert (home / name).read_bytes() == content, name
    text = (home / "exp_report.md").read_text()
    assert "campaigns here that test it on these suites (exp, later)" in text
    assert "What ran is what was registered" in text
    assert "Simulated: 400 campaigns" in text


def test_a_file_that_no_report_wrote_is_found_among_those_of_the_report(folder: Path) -> None:
    bagit = pytest.importorskip("bagit")
    (folder / "data" / "results" / "exp" / "plots" / "gain.svg").write_text("<svg/>")
    bagit.Bag(str(folder)).save(manifests=True)
    done = run_inline("report", str(folder))
    assert done.returncode == 4
    assert "differ from the bundle's: plots/gain.svg" in done.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda path: path.write_text(path.read_text() + " "), True),
        (lambda path: path.unlink(), True),
        (lambda path: path.with_name("more.jsonl").write_text(""), False),
    ],
)
def test_a_changed_a_missing_and_an_added_file_are_refused_by_name(folder: Path, change: object, named: bool) -> None:
    assert callable(change)
    path = next((folder / "data" / "results" / "exp" / "suites").glob("*/blocking/seed2/events-0-1.jsonl"))
    change(path)
    done = run_inline("report", str(folder))
    assert done.returncode == 2
    assert "[ECRL-726]" in done.stderr
    shown = path if named else path.with_name("more.jsonl")
    assert shown.relative_to(folder).as_posix() in done.stderr
    assert not folder.with_name("exp_report").exists()


def test_a_changed_report_whose_digest_was_changed_too_is_found(folder: Path) -> None:
    bagit = pytest.importorskip("bagit")
    report = folder / "data" / "results" / "exp" / "exp_report.md"
    report.write_text(report.read_text().replace("INCONCLUSIVE", "CONFIRMED"))
    bagit.Bag(str(folder)).save(manifests=True)
    done = run_inline("report", str(folder))
    assert done.returncode == 4
    assert "1 of " in done.stderr
    assert "differ from the bundle's: exp_report.md" in done.stderr


@pytest.mark.parametrize("content", [None, b"no zip file", "empty folder"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "x.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    done = run_inline("report", str(path))
    assert (done.returncode, "[ECRL-725]" in done.stderr, str(path) in done.stderr) == (2, True, True)


def test_a_zip_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    done = run_inline("report", str(tmp_path / "x.zip"))
    assert (done.returncode, "[ECRL-725]" in done.stderr) == (2, True)


def test_a_given_registration_is_bundled_too(paths: CampaignPaths, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    build_registration(paths.matrix).write(given)
    done = run_inline(
        "bundle", "exp", "--results", str(paths.results), "--registration", str(given), "--out", str(tmp_path / "b")
    )
    assert done.returncode == 0, done.stderr
    with open_bag(tmp_path / "b") as (data, info):
        assert info.registration == "registration/given.json"
        assert (data / info.registration).read_bytes() == given.read_bytes()
    assert "`given.json`" in (data / "results" / "exp" / "exp_report.md").read_text()
    assert run_inline("report", str(tmp_path / "b")).returncode == 0


def test_a_target_that_exists_and_a_campaign_that_does_not_are_refused(paths: CampaignPaths, tmp_path: Path) -> None:
    taken = run_inline("bundle", "exp", "--results", str(paths.results), "--out", str(tmp_path))
    assert (taken.returncode, "[ECRL-106]" in taken.stderr) == (2, True)
    none = run_inline("bundle", "nothing", "--results", str(paths.results), "--out", str(tmp_path / "n.zip"))
    assert (none.returncode, "[ECRL-301]" in none.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_with_another_source_is_refused(bundle: Path, tmp_path: Path) -> None:
    done = run_inline("report", str(bundle), "--table", str(tmp_path / "t.csv"))
    assert (done.returncode, "[ECRL-104]" in done.stderr, "--table" in done.stderr) == (2, True, True)


def test_a_bundle_is_read_and_counted_again_although_the_current_folder_is_gone(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        done = run_inline("report", str(bundle), "--check", "--out", str(tmp_path / "out"))
    finally:
        os.chdir(tmp_path)  # monkeypatch would look for the removed folder
    assert done.returncode == 0, done.stderr
    assert "check: ettr_ref: 2 of 2 agree in 18 runs" in done.stderr
    assert "byte for byte" in done.stderr
