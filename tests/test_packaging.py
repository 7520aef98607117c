"""What is installed is whole: a wheel made of the files that the Dockerfile copies has all that `ecrl` needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Python of the Debian releases that an image may begin with.
DEBIAN_PYTHON = {"bookworm": (3, 11), "trixie": (3, 13)}
HOME = "/opt/ecrl/"  # where the image has the sources
PATIENCE_S = 240


def list_copied() -> list[tuple[list[str], str]]:
    """(sources, target) of every COPY of the Dockerfile."""
    words = [line.split() for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)]
    return [(sources, target) for *sources, target in words]


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _copy(source: Path, target: Path, *, into: bool) -> None:
    """Copy as COPY does: of a folder its content, with links as links."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        return
    target.mkdir(parents=True, exist_ok=True) if into else target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of what the Dockerfile copies, and of nothing else."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("image")
    for sources, target in list_copied():
        for source in sources:
            _copy(ROOT / source, folder / target.removeprefix(HOME), into=target.endswith("/"))
    build = "import setuptools.build_meta as build; print(build.build_wheel('dist'))"
    (folder / "dist").mkdir()
    name = run(sys.executable, "-c", build, cwd=folder).splitlines()[-1]
    return folder / "dist" / name


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    install = ("pip", "install", "--quiet", "--no-deps", "--no-index")
    run(sys.executable, "-m", *install, "--target", str(target), str(wheel), cwd=target)
    return target


def test_a_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "ecrl", "matrices", cwd=ROOT).splitlines()
    wanted = {f"ecrl/{name}" if name.startswith("matrices/") else name for name in tracked} - {"ecrl/matrices"}
    assert "ecrl/matrices/start.toml" in wanted
    assert sorted(wanted - packed) == []


def test_a_matrix_is_written_and_planned_where_only_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    def ecrl(*arguments: str) -> str:
        return run(sys.executable, "-m", "ecrl", *arguments, cwd=tmp_path, PYTHONPATH=str(installed))

    where = run(sys.executable, "-c", "import ecrl; print(ecrl.__file__)", cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed)
    assert ecrl("init") == "mine.toml\n"
    ecrl("matrix", "plan", "--prefix", "mine", "mine.toml")
    assert "1 suite (1 pending)" in ecrl("matrix", "status", "--prefix", "mine")


# -- Dockerfile and Makefile -----------------------------------------------------------------------------------------


def test_the_image_begins_with_a_debian_whose_python_is_new_enough() -> None:
    [release] = re.findall(r"^FROM debian:(\w+)-slim$", DOCKERFILE, re.MULTILINE)
    major, minor = DEBIAN_PYTHON[release]
    assert f"Programming Language :: Python :: {major}.{minor}" in PROJECT["classifiers"]


def test_the_image_installs_what_is_copied_with_the_cpu_wheels_that_readme_names() -> None:
    [index] = set(re.findall(r"https://download\.pytorch\.org/\S+?/cpu\b", DOCKERFILE))
    assert index in (ROOT / "README.md").read_text()
    assert all(target.startswith(HOME) for _, target in list_copied())
    assert re.search(rf"pip install .* {HOME.rstrip('/')}$", DOCKERFILE, re.MULTILINE)


def test_the_demo_installs_ecrl_alone_and_the_tests_install_the_rest(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    demo = run("make", "--dry-run", "demo", cwd=tmp_path)
    assert "--editable .\n" in demo
    assert "dev" not in re.findall(r"pip install .*", demo)[0]
    assert "matrix run --prefix demo" in demo
    assert "dev" in re.findall(r"pip install .*", run("make", "--dry-run", "test-fast", cwd=tmp_path))[-1]


def test_the_classifiers_name_every_python_from_the_least_on() -> None:
    [least] = re.findall(r">=3\.(\d+)$", PROJECT["requires-python"])
    named = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["classifiers"]))]
    assert named == list(range(int(least), int(least) + len(named)))


def test_the_citation_and_the_changelog_name_this_version() -> None:
    [cited] = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == PROJECT["version"]
    [newest, *_] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"].startswith(newest)
