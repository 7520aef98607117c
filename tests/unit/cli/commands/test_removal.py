"""`ecrl matrix archive | delete`: what they keep, what they remove, and when they do neither."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecrl.launch.campaign.archive import verify
from ecrl.launch.campaign.contents import measure_folder
from ecrl.launch.campaign.lock import prefix_lease
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error, raises
from tests.unit.analysis.campaign.test_registration import finish
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.cli.inline import run_inline

PAYLOAD = "shard-0.safetensors"
COMMIT = "COMMIT.json"


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    """A finished campaign with logs, a checkpoint, a variant named like a folder, and a link to another place."""
    monkeypatch.chdir(tmp_path)
    recipe = '[variants.checkpoints]\nengine = "blocking"'
    made = campaign(Path("results"), datasets=["fashion-mini"], seeds=[1], variants=["blocking", "checkpoints"],
                    claims="", more=recipe)  # fmt: skip
    finish(made)
    [run] = made.suites.glob("*/blocking/seed1")
    for folder in ("logs", "checkpoints/step-00000004"):
        (run / folder).mkdir(parents=True)
    (run / "logs" / "torchrun.log").write_text("long")
    (run / "checkpoints" / "step-00000004" / PAYLOAD).write_bytes(b"0" * 1000)
    (run / "checkpoints" / "step-00000004" / COMMIT).write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("mine")
    (made.root / "link").symlink_to(tmp_path / "elsewhere")
    return made


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def list_campaigns() -> str:
    return run_inline("matrix", "list").stdout


def expect_failure(*arguments: str, code: str, fact: str) -> None:
    done = run_inline("matrix", *arguments)
    assert done.returncode in (2, 5), done
    assert has_error(done.stderr.removeprefix("ecrl: "), code, fact), done.stderr


# -- archive -------------------------------------------------------------------------------------------------------


def test_an_archive_holds_all_but_payloads_and_gives_the_campaign_back(paths: CampaignPaths, tmp_path: Path) -> None:
    before = run_inline("matrix", "show", "fashion", "--prefix", "exp").stdout
    done = run_inline("matrix", "archive", "exp")
    assert (done.returncode, done.stdout) == (0, "exp.tar.gz\n")
    there = {f"exp/{name}" for name in list_files(paths.root)} - {f"exp/{paths.lock.name}"}
    with tarfile.open("exp.tar.gz") as tar:
        assert {name for name in there if not name.endswith(PAYLOAD)} == set(tar.getnames())
        assert tar.getmember("exp/link").issym(), "a link is packed as one"
    assert any("/checkpoints/seed1/result.json" in name for name in there)
    paths.results.rename("old")
    Path("results").mkdir()
    unpack = done.stderr.strip().rpartition("again: ")[2]
    subprocess.run(unpack, shell=True, check=True)
    assert run_inline("matrix", "show", "fashion", "--prefix", "exp").stdout == before
    assert list((tmp_path).glob(".*")) == [], "nothing half-written is left"


def test_an_archive_that_differs_from_the_campaign_is_not_kept(paths: CampaignPaths) -> None:
    assert run_inline("matrix", "archive", "exp").returncode == 0
    archived = Path("exp.tar.gz")
    with tarfile.open(archived) as tar:
        packed = [paths.results / name for name in tar.getnames()]
    verify(archived, packed, paths.results)
    with raises("ECRL-340", packed[-1].name):
        verify(archived, packed[:-1], paths.results)
    link = paths.root / "link"
    link.unlink()
    link.symlink_to("nowhere")
    with raises("ECRL-340", "exp/link"):
        verify(archived, packed, paths.results)
    paths.manifest.write_bytes(paths.manifest.read_bytes() + b"\n")
    with raises("ECRL-340", "1 more"):
        verify(archived, packed, paths.results)
    content = bytearray(archived.read_bytes())
    content[len(content) // 2] ^= 255
    whole = archived.read_bytes()
    # Cut short, damaged inside, and with a wrong checksum: three errors of the library.
    for damaged in (content[:-20], content, whole[:-8] + bytes(8)):
        archived.write_bytes(damaged)
        with raises("ECRL-340"):
            verify(archived, packed, paths.results)


@pytest.mark.parametrize("out", ["taken", "absent/x.tar.gz"])
def test_an_archive_replaces_no_file_and_says_where_it_cannot_be_written(paths: CampaignPaths, out: str) -> None:
    Path("taken").write_text("mine")
    expect_failure("archive", "exp", "--out", out, code="ECRL-106", fact=out)
    assert Path("taken").read_text() == "mine"
    assert paths.matrix.is_file()


@pytest.mark.usefixtures("paths")
def test_an_archive_that_somebody_else_made_meanwhile_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    add = tarfile.TarFile.add

    def is_overtaken(self: tarfile.TarFile, *arguments: object, **more: object) -> None:
        add(self, *arguments, **more)  # type: ignore[arg-type]
        Path("exp.tar.gz").write_text("theirs")

    monkeypatch.setattr(tarfile.TarFile, "add", is_overtaken)
    expect_failure("archive", "exp", code="ECRL-106", fact="exp.tar.gz: File exists")
    assert [path.read_text() for path in Path().iterdir() if "tar.gz" in path.name] == ["theirs"]


@pytest.mark.usefixtures("paths")
def test_an_archive_that_cannot_get_its_name_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_refused(self: Path, _target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    monkeypatch.setattr(Path, "rename", is_refused)
    expect_failure("archive", "exp", code="ECRL-106", fact="Input/output error")
    assert not [path for path in Path().iterdir() if "tar.gz" in path.name]


# -- delete --------------------------------------------------------------------------------------------------------


def test_delete_removes_the_folder_and_no_more(paths: CampaignPaths) -> None:
    finish(campaign(paths.results, "other", datasets=["fashion-mini"], seeds=[1], variants=["blocking"], claims=""))
    size = sum(path.lstat().st_size for path in paths.root.rglob("*") if path.is_symlink() or path.is_file())
    done = run_inline("matrix", "delete", "exp", "--yes")
    assert done.returncode == 0
    assert f"{size / 1000:.1f} kB" in done.stderr
    assert "1 link " in done.stderr
    assert not paths.root.exists()
    assert Path("elsewhere/kept").read_text() == "mine"
    assert "other" in list_campaigns()
    assert "exp" not in list_campaigns()


@pytest.mark.parametrize(("arguments", "exit_code"), [(["--dry-run"], 0), (["--dry-run", "--yes"], 0), ([], 2)])
def test_delete_removes_nothing_unless_it_is_told_to(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch, arguments: list[str], exit_code: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal: the answer counts for nothing
    before = list_files(paths.root)
    done = run_inline("matrix", "delete", "exp", *arguments)
    assert done.returncode == exit_code
    assert "kB" in done.stdout + done.stderr
    assert list_files(paths.root) == before


@pytest.mark.parametrize(("answer", "there"), [("n", True), ("", True), ("y", False)])
def test_delete_asks_on_a_terminal(paths: CampaignPaths, answer: str, there: bool) -> None:
    own, terminal = os.openpty()
    asked = subprocess.Popen(
        [sys.executable, "-m", "ecrl", "matrix", "delete", "exp"], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    told = b""
    while b"[y/N]" not in told:
        told += os.read(own, 4096)
    os.write(own, f"{answer}\n".encode())
    assert asked.wait(50) == 0
    os.close(own)
    assert paths.root.exists() is there


def test_a_campaign_of_a_dead_ecrl_goes_with_its_workers(paths: CampaignPaths) -> None:
    worker = subprocess.Popen(["sleep", "100"], env={**os.environ, CAMPAIGN_MARKER: str(paths.root.resolve())})
    assert run_inline("matrix", "delete", "exp", "--yes").returncode == 0
    assert worker.wait(50) < 0
    assert not paths.root.exists()


def test_what_a_killed_delete_has_left_can_be_deleted(paths: CampaignPaths) -> None:
    paths.manifest.unlink()
    paths.journal.unlink(missing_ok=True)
    assert run_inline("matrix", "delete", "exp", "--yes").returncode == 0
    assert not paths.root.exists()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Have this process act as a user whom permissions hold."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_cannot_be_removed_is_named_and_the_campaign_can_be_deleted_later(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folder lets no other user in
        shutil.copytree(paths.results, Path(open_to_all) / paths.results, symlinks=True)
        monkeypatch.chdir(open_to_all)
        for path in (Path.cwd(), *Path.cwd().rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777)
        shutil.copytree(paths.root, paths.results / "first", symlinks=True)
        (paths.results / "first" / paths.matrix.name).rename(paths.results / "first" / "first_matrix.toml")
        # What is imported on the way may lie where no other user looks.
        assert run_inline("matrix", "delete", "first", "--yes").returncode == 0
        [kept] = paths.suites.glob("*/blocking")
        kept.chmod(0o555)
        with as_nobody():
            expect_failure("delete", "exp", "--yes", code="ECRL-342", fact="seed1")
        assert paths.matrix.is_file()
        kept.chmod(0o777)
        assert run_inline("matrix", "delete", "exp", "--yes").returncode == 0
        assert not paths.root.exists()
        monkeypatch.chdir("/")


def test_what_cannot_be_counted_is_said() -> None:
    with raises("ECRL-342", "absent"):
        measure_folder(Path("absent"))


# -- both ----------------------------------------------------------------------------------------------------------

BOTH = [["archive", "exp"], ["delete", "exp", "--yes"]]


@pytest.mark.parametrize("arguments", BOTH, ids=lambda arguments: arguments[0])
def test_a_campaign_that_is_held_is_left_alone(paths: CampaignPaths, arguments: list[str]) -> None:
    before = list_files(paths.root)
    with prefix_lease(paths):
        expect_failure(*arguments, code="ECRL-309", fact="ecrl matrix status --prefix exp")
    assert before <= list_files(paths.root)
    assert not Path("exp.tar.gz").exists()


@pytest.mark.parametrize("arguments", BOTH, ids=lambda arguments: arguments[0])
def test_a_folder_that_is_a_link_is_not_followed(paths: CampaignPaths, arguments: list[str]) -> None:
    paths.root.rename("moved")
    paths.root.symlink_to(Path("moved").resolve())
    before = list_files(Path("moved"))
    expect_failure(*arguments, code="ECRL-341", fact="results/exp")
    assert list_files(Path("moved")) == before
    assert paths.root.is_symlink()


@pytest.mark.parametrize("arguments", [["archive", "exq"], ["delete", "exq", "--yes"]], ids=lambda given: given[0])
def test_no_campaign_is_said_with_those_that_are_there(paths: CampaignPaths, arguments: list[str]) -> None:
    expect_failure(*arguments, code="ECRL-301", fact="exp")
    assert sorted(path.name for path in paths.results.iterdir()) == ["exp"]


@pytest.mark.parametrize("arguments", [["archive", "my"], ["delete", "my", "--yes"]], ids=lambda given: given[0])
def test_a_folder_that_is_no_campaign_is_left_alone(paths: CampaignPaths, arguments: list[str]) -> None:
    (paths.results / "my").mkdir()
    (paths.results / "my" / "notes").write_text("mine")
    expect_failure(*arguments, code="ECRL-301", fact="my")
    assert list_files(paths.results / "my") == {"notes"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_an_archive_leaves_no_part_of_one(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    before, add = list_files(Path()), tarfile.TarFile.add

    def is_stopped(self: tarfile.TarFile, *arguments: object, **more: object) -> None:
        add(self, *arguments, **more)  # type: ignore[arg-type]
        os.kill(os.getpid(), signum)

    monkeypatch.setattr(tarfile.TarFile, "add", is_stopped)
    done = run_inline("matrix", "archive", "exp")
    assert done.returncode == 128 + signum
    assert has_error(done.stderr, "ECRL-312", "No archive was written")
    assert list_files(Path()) - {str(paths.lock), str(paths.lock.with_suffix(".holder"))} == before


def test_a_disk_that_is_full_in_the_middle_of_an_archive_leaves_no_part_of_one(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "add", is_full)
    expect_failure("archive", "exp", code="ECRL-106", fact="No space left")
    assert not [path for path in Path().iterdir() if "tar.gz" in path.name]
    assert paths.matrix.exists()


def test_a_signal_in_the_middle_of_a_delete_says_how_to_remove_the_rest(
    paths: CampaignPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = run_inline("matrix", "delete", "exp", "--yes")
    assert done.returncode == 130
    assert has_error(done.stderr, "ECRL-312", "ecrl matrix delete exp --results results")
    assert paths.matrix.exists(), "what is left is a campaign, which can be deleted"


def test_a_results_folder_that_is_a_link_holds_campaigns_as_any_other(paths: CampaignPaths) -> None:
    Path("real").mkdir()
    paths.results.rename("real/results")
    paths.results.symlink_to("real/results")
    assert run_inline("matrix", "archive", "exp").returncode == 0
    with tarfile.open("exp.tar.gz") as tar:
        assert "exp/exp_matrix.toml" in tar.getnames()
    assert run_inline("matrix", "delete", "exp", "--yes").returncode == 0
    assert list(Path("real/results").iterdir()) == []
    assert paths.results.is_symlink()
