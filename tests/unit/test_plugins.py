"""The registry reads files and imports nothing, and refuses in time what is not installed."""

import importlib
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ecrl import plugins
from ecrl.cli.app import app
from ecrl.cli.commands import bench
from ecrl.errors import EcrlError
from ecrl.plugins import MissingExtraError
from tests.extras import need
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

ENGINES = plugins.names("engine")
PEERS = {name: needed[1] for name in ENGINES if (needed := plugins.extra("engine", name))}


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> Any:
        return None if name in PEERS.values() else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)


def test_every_extra_that_an_engine_needs_is_one_that_pip_knows() -> None:
    known = tomllib.loads((Path(plugins.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = {needed[0] for name in ENGINES if (needed := plugins.extra("engine", name))}
    assert extras <= known["optional-dependencies"].keys()
    assert {"torchsnapshot", "torch-checkpointing"} <= PEERS.keys()


@pytest.mark.parametrize("engine", plugins.names("engine"))
def test_what_is_read_from_a_file_is_what_its_module_says(engine: str) -> None:
    need(engine)
    plugin = plugins.load("engine", engine)
    module = importlib.import_module(f"ecrl.checkpoint.engines.{engine.replace('-', '_')}")
    assert plugins.extra("engine", engine) == getattr(module, "EXTRA", None)
    declared = plugins.declared("engine", engine)
    assert {"description", "durable", "verified", "exact"} <= declared.keys()
    assert declared == {key: getattr(plugin, key) for key in declared}


def test_asking_about_engines_imports_none() -> None:
    program = (
        "import sys; from ecrl import plugins\n"
        "names = plugins.names('engine'); plugins.find_missing('engine', names)\n"
        "[plugins.declared('engine', name) for name in names]\n"
        "print(*sys.modules)"
    )
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50).split())
    assert not loaded & {"torch", *PEERS.values()}
    assert not any(name.startswith("ecrl.checkpoint") for name in loaded)


@pytest.mark.usefixtures("without_peers")
def test_an_engine_whose_extra_is_missing_is_refused_with_the_command_that_installs_it() -> None:
    assert plugins.find_missing("engine", plugins.names("engine")) == dict.fromkeys(PEERS, "peers")
    with pytest.raises(MissingExtraError) as raised:
        plugins.require("engine", ["blocking", "torchsnapshot"], "variant")
    assert str(raised.value) == "variant torchsnapshot needs the extra `peers`: pip install 'ecrl[peers]'"
    with pytest.raises(MissingExtraError, match="torch-checkpointing needs the extra `peers`"):
        plugins.load("engine", "torch-checkpointing")


@pytest.mark.usefixtures("without_peers")
@pytest.mark.parametrize("act", ["plan", "preview"])
def test_a_matrix_that_names_it_starts_nothing_and_writes_nothing(tmp_path: Path, act: str) -> None:
    variants = 'checkpoint_every = [2]\nvariants = ["reference", "torchsnapshot"]'
    asked = request(tmp_path / "results", text=MATRIX.replace("checkpoint_every = [2]", variants))
    with pytest.raises(MissingExtraError, match="variant torchsnapshot needs the extra `peers`"):
        getattr(control(StandIn()), act)(asked)
    assert not asked.paths.root.exists()


@pytest.mark.usefixtures("without_peers")
def test_a_bench_refuses_it_by_name_and_leaves_it_out_otherwise(tmp_path: Path) -> None:
    with pytest.raises(EcrlError, match="--engines: engine torchsnapshot needs the extra `peers`"):
        CliRunner().invoke(
            app,
            ["bench", "engines", "--engines", "torchsnapshot", "--out", str(tmp_path / "b")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "b").exists()
    chosen, notes = bench._find_engines()
    assert set(chosen) == set(ENGINES) - PEERS.keys()
    assert notes == [f"left out, not installed: {name} (pip install 'ecrl[peers]')" for name in sorted(PEERS)]


def test_a_bench_of_all_that_is_installed_compares_every_engine_those_of_ecrl_first() -> None:
    chosen, _ = bench._find_engines()
    assert set(chosen) == set(ENGINES) - plugins.find_missing("engine", ENGINES).keys()
    assert chosen[:2] == ("blocking", "overlapped")
