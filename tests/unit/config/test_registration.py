"""The registration file: what it holds, that it does not change unseen, and when it was written."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.registration import (
    RegistrationFile,
    build_registration,
    get_registration_path,
    read_registration,
    write_registration,
)
from ecrl.config.stamp import add_stamp, describe_query, read_time
from tests.errors import raises
from tests.unit.analysis.campaign_builder import CLAIM
from tests.unit.cli.inline import run_inline

HEADER = """[matrix]
datasets = ["fashion-mini", "cifar10"]
models = ["cnn"]
checkpoint_every = [4]
seeds = [1, 2]
variants = ["reference", "blocking", "overlapped"]
[failures]
inside = [6]
[train]
steps = 12
nproc = 2
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(HEADER + CLAIM)
    return path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_registration_holds_claims_blocks_rules_and_its_hash(matrix: Path) -> None:
    path = get_registration_path(matrix)
    written = write_registration(matrix, path)
    found = read_registration(path)
    assert found == written
    assert [claim["name"] for claim in found.content["claims"]] == ["overlapping pays"]
    assert len(found.content["blocks"]) == 4
    assert found.content["blocks"][0]["variants"] == ["reference", "blocking", "overlapped"]
    assert json.loads(path.read_text())["sha256"] == found.sha256
    assert found.content["commit"] is None
    assert found.fits(load(matrix))


def test_registering_again_keeps_the_file_and_another_version_is_refused(matrix: Path) -> None:
    path = get_registration_path(matrix)
    write_registration(matrix, path)
    before = path.read_bytes()
    write_registration(matrix, path)
    assert path.read_bytes() == before
    matrix.write_text(matrix.read_text().replace("ratio > 1.00", "ratio > 0.90"))
    with raises("ECRL-722", str(path), "matrix, claims", "--out"):
        write_registration(matrix, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "code", "fact"),
    [
        ("ratio > 1.00", "ratio > 0.90", "ECRL-721", "was changed after it was written"),
        ('"seed": 1,', '"seed": 9,', "ECRL-721", "expected"),
        ('"sha256": "', '"sha256": "00', "ECRL-721", "expected 00"),
        ('"schema": 1', '"schema": 2', "ECRL-720", "schema is 2"),
        ('"registration"', '"registered"', "ECRL-720", "'registration'"),
        ("{", "", "ECRL-720", "not a readable registration file"),
    ],
)
def test_a_changed_or_damaged_file_is_refused(matrix: Path, old: str, new: str, code: str, fact: str) -> None:
    path = get_registration_path(matrix)
    write_registration(matrix, path)
    path.write_text(path.read_text().replace(old, new, 1))
    with raises(code, str(path), fact):
        read_registration(path)


def test_a_file_with_its_hash_but_without_its_keys_is_refused(tmp_path: Path) -> None:
    RegistrationFile({"schema": 1}).write(tmp_path / "r.json")
    with raises("ECRL-720", "it lacks", "claims"):
        read_registration(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[]")
    with raises("ECRL-720"):
        read_registration(tmp_path / "r.json")


def test_a_device_that_is_decided_later_fits_and_other_values_do_not(matrix: Path) -> None:
    found = build_registration(matrix)
    assert found.fits(load(matrix, overrides=[Override(("run", "device"), "cpu", "--device")]))
    assert not found.fits(load(matrix, overrides=[Override(("train", "steps"), 16, "--set")]))
    matrix.write_text(matrix.read_text() + '[run]\ndevice = "cpu"\n')
    fixed = build_registration(matrix)
    assert not fixed.fits(load(matrix, overrides=[Override(("run", "device"), "cuda", "--device")]))


def test_its_time_is_the_commit_that_holds_the_matrix(matrix: Path) -> None:
    git(matrix.parent, "init", "-q")
    (matrix.parent / "other").write_text("1")
    assert build_registration(matrix).content["commit"] is None
    git(matrix.parent, "add", ".")
    git(matrix.parent, "commit", "-qm", "matrix")
    head = git(matrix.parent, "rev-parse", "HEAD")
    commit = build_registration(matrix).content["commit"]
    assert (commit["id"], commit["clean"]) == (head, True)
    assert commit["date"].startswith("2")
    (matrix.parent / "other").write_text("2")
    assert build_registration(matrix).content["commit"] == {**commit, "clean": False}
    matrix.write_text(matrix.read_text() + "# edited\n")
    assert build_registration(matrix).content["commit"] is None


def answer(folder: Path, query: list[str]) -> Path:
    """The answer of a time-stamping authority to the query that a command makes."""
    (folder / "tsa.cnf").write_text(
        "[req]\ndistinguished_name = dn\n[dn]\n[ext]\nextendedKeyUsage = critical,timeStamping\n"
        "[tsa]\ndefault_tsa = own\n[own]\nserial = serial\nsigner_digest = sha256\ndefault_policy = 1.2.3\n"
        "digests = sha256\n"
    )
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=t"]
    reply = ["ts", "-reply", "-queryfile", "query.tsq", "-signer", "cert.pem", "-inkey", "key.pem", "-out", "a.tsr"]
    for command in (
        ["openssl", *make, "-config", "tsa.cnf", "-extensions", "ext"],
        query,
        ["openssl", *reply, "-config", "tsa.cnf"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "a.tsr"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a stamp with openssl")
def test_a_stamp_of_this_registration_is_added_and_one_of_another_is_refused(matrix: Path, tmp_path: Path) -> None:
    pytest.importorskip("rfc3161_client")
    registered = write_registration(matrix, get_registration_path(matrix))
    stamp = answer(tmp_path, describe_query(registered).split())
    done = run_inline("register", str(matrix), "--stamp", str(stamp))
    assert done.returncode == 0, done.stderr
    found = read_registration(get_registration_path(matrix))
    assert found.content == registered.content
    assert found.stamp == stamp.read_bytes()
    assert read_time(found.stamp) is not None
    run_inline("register", str(matrix))
    assert read_registration(get_registration_path(matrix)).stamp == found.stamp
    other = RegistrationFile({**registered.content, "claims": []})
    with raises("ECRL-723", str(stamp), registered.sha256[:12], other.sha256[:12], "openssl ts -query"):
        add_stamp(other, stamp)


def test_a_file_that_is_no_stamp_is_refused(matrix: Path, tmp_path: Path) -> None:
    pytest.importorskip("rfc3161_client")
    found = build_registration(matrix)
    with raises("ECRL-723", "cannot be read"):
        add_stamp(found, tmp_path / "nothing.tsr")
    (tmp_path / "text.tsr").write_text("no stamp")
    with raises("ECRL-723", "no RFC 3161 response"):
        add_stamp(found, tmp_path / "text.tsr")
    assert read_time(b"no stamp") is None


def test_the_command_says_where_it_wrote_and_what_shows_no_time(matrix: Path) -> None:
    done = run_inline("register", str(matrix))
    path = get_registration_path(matrix)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\nsha256 {read_registration(path).sha256}\n"
    assert "openssl ts -query" in done.stderr


def test_a_matrix_without_claims_is_registered_with_a_warning(matrix: Path) -> None:
    matrix.write_text(HEADER)
    done = run_inline("register", str(matrix), "--out", str(matrix.parent / "mine.json"))
    assert done.returncode == 0
    assert "no [[claims]]" in done.stderr
    assert read_registration(matrix.parent / "mine.json").content["claims"] == []


def test_a_matrix_that_is_not_there_is_not_registered(tmp_path: Path) -> None:
    done = run_inline("register", str(tmp_path / "none.toml"))
    assert (done.returncode, "[ECRL-201]" in done.stderr) == (2, True)
    assert not list(tmp_path.iterdir())
