"""The house keeps its arrows: which folder may import which, and what a command may load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ecrl"

# Folder -> the folders that its files may import; anything else is forbidden. `folder/file` is an exception for one
# file, of a feature that spans the programs: its other files are the worker's.
ARROWS = {
    home: set(targets.split())
    for home, targets in {
        "storage": "",
        "records": "storage",
        "records/manifest": "records storage",
        "config": "records storage",
        "failures": "records storage",
        "failures/kinds": "failures",
        # the worker: torch
        "checkpoint": "records storage",
        "checkpoint/sharded": "checkpoint records storage",
        "checkpoint/external": "checkpoint records storage",
        "checkpoint/engines": "checkpoint checkpoint/sharded checkpoint/external records storage",
        "workloads": "",
        "workloads/images": "workloads",
        "workloads/text": "workloads",
        "workloads/datasets": "workloads workloads/images workloads/text",
        "workloads/models": "workloads workloads/images workloads/text",
        "workloads/tasks": "workloads workloads/images workloads/text",
        "worker": "checkpoint checkpoint/sharded workloads failures config records storage",
        "worker/parallel": "worker",
        "worker/attach": "worker checkpoint checkpoint/sharded failures config records",
        "worker/warm": "worker worker/__main__",
        "worker/__main__": "worker worker/attach checkpoint/sharded config records",
        # the orchestrator
        "launch/system": "records records/manifest storage",
        "launch/launchers": "launch/runs launch/system",
        "launch/runs": "launch/doctor launch/system config records records/manifest storage",
        "launch/doctor": "launch/system records storage",
        "launch/campaign": "launch/runs launch/doctor launch/system config records records/manifest storage",
        "launch/views": "launch/campaign launch/runs launch/system records records/manifest",
        # the kinds of experiment: a file for each program. No folder imports them: `plugins.load` does, by name.
        "experiments": "",
        "experiments/training": "",
        "experiments/training/config": "config records",
        "experiments/training/probe": "launch/system config",
        "experiments/training/memory_plan": "experiments/training/probe config records",
        "experiments/training/probe_cache": "experiments/training/probe launch/system config records storage",
        "experiments/training/metrics": "analysis/frames analysis/run records",
        "experiments/training/report": "report/pages report/plots report/text analysis",
        "experiments/training/run": "experiments/training/probe experiments/training/memory_plan"
        " experiments/training/probe_cache launch/runs"
        " launch/doctor launch/system config records records/manifest",
        # the analyst
        "analysis/run": "records",
        "analysis/statistics": "analysis/run records",
        "analysis/recount": "",
        "analysis/frames": "analysis/run records",
        "analysis/campaign": "analysis/frames analysis/run analysis/statistics config records records/manifest",
        "analysis/claims": "analysis/campaign analysis/run analysis/statistics config records",
        "analysis/advice": "analysis/campaign analysis/run analysis/statistics",
        "analysis/threats": "analysis/claims analysis/campaign analysis/run analysis/statistics config"
        " records/manifest",
        "analysis": "analysis/recount analysis/threats analysis/claims analysis/campaign analysis/frames analysis/run"
        " analysis/statistics config records records/manifest",
        "analysis/external_table": "analysis analysis/threats analysis/campaign analysis/run analysis/statistics config"
        " records records/manifest",
        "report/text": "analysis analysis/advice analysis/campaign analysis/claims analysis/run analysis/statistics"
        " analysis/threats",
        "report/plots": "report/text analysis analysis/campaign analysis/run records",
        "report/formats": "report/text report/plots",
        "report/sections": "report/text analysis analysis/threats analysis/claims analysis/campaign analysis/frames"
        " analysis/run analysis/statistics records",
        "report/pages": "report/formats report/plots report/sections report/text analysis analysis/advice"
        " analysis/campaign analysis/claims analysis/frames analysis/run analysis/statistics records storage",
        # the trackers
        "trackers": "records records/manifest",
        "trackers/kinds": "trackers",
        # features that span the programs
        "bundle": "report/pages analysis analysis/campaign config records",
        "enginebench": "enginebench/plan worker checkpoint failures config records",
        "enginebench/plan": "storage",
        "enginebench/launch": "enginebench/plan launch/launchers launch/runs launch/system config records",
        "enginebench/targets": "",
        "enginebench/compare": "enginebench/plan enginebench/targets records",
        "enginebench/report": "report/plots",
        "selftest": "worker checkpoint checkpoint/engines checkpoint/sharded workloads failures config records storage",
        "selftest/runner": "launch/runs launch/system config records",
        # the command line
        "cli/ui": "launch/campaign launch/runs launch/system launch/views config records records/manifest",
        "cli/typer_support": "cli/ui launch/campaign config records",
        "cli/commands": "cli/ui cli/typer_support launch/campaign launch/doctor launch/runs launch/system launch/views"
        " report/pages analysis analysis/advice analysis/campaign analysis/claims analysis/external_table"
        " analysis/recount bundle enginebench/plan enginebench/launch enginebench/compare enginebench/report"
        " selftest/runner config records records/manifest storage",
        "cli": "cli/commands cli/typer_support",
        "__main__": "cli cli/ui cli/typer_support",
        # the public Python API: everything it imports, it imports inside functions
        "__init__": "analysis worker/attach",
    }.items()
}
EVERYONE_MAY = {"errors", "units", "plugins", "version", "__init__"}
# Third-party packages that only these may import, anywhere in a file. `folder/`: it and all below it.
ONLY = {
    "torch": {
        "checkpoint/",
        "workloads/",
        "worker/",
        "enginebench",
        "selftest",
        "failures/",
        "__init__",
    },  # failures: in hooks
    "torchvision": {"workloads/", "worker/"},
    "pandas": {"analysis/", "report/"},
    "scipy": {"analysis/", "report/"},
    "statsmodels": {"analysis/", "report/"},
    "matplotlib": {"report/", "enginebench/report"},
    "jinja2": {"report/"},
    "typer": {"cli/"},
    "pydantic": {"config"},
    "tensorboard": {"trackers/"},
    "mlflow": {"trackers/"},
    "wandb": {"trackers/"},
    "prometheus_client": {"trackers/"},
    "rich": {"cli/ui/campaign_view.py", "cli/ui/live_progress.py", "cli/ui/tables.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def named(path: Path) -> str:
    """A file as the tables name it: `cli/app` for ecrl/cli/app.py."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


MODULES = {"ecrl." + named(path).replace("/", ".").removesuffix(".__init__"): named(path) for path in FILES}
MODULES["ecrl"] = MODULES.pop("ecrl.__init__")


def imports(path: Path) -> Iterator[str]:
    """Every name that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported_files(path: Path) -> set[str]:
    """The files of ecrl that a file imports, itself left out."""
    found = set()
    for name in imports(path):
        if name.partition(".")[0] == "ecrl":
            found.add(MODULES[name] if name in MODULES else MODULES[name.rpartition(".")[0]])
    return found - {named(path)}


def home(file: str) -> str:
    """The entry of `ARROWS` for a file: its own, or that of its folder."""
    return file if file in ARROWS else file.rpartition("/")[0]


def order(graph: dict[str, Iterable[str]]) -> list[str]:
    """The graph's nodes, each after those it needs; a circle raises `CycleError`, which names it."""
    return list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_follow_the_arrows(path: Path) -> None:
    own = home(named(path))
    for file in sorted(imported_files(path) - EVERYONE_MAY):
        told = f"{named(path)} imports {file}: no arrow {own} -> {home(file)}"
        assert home(file) in ARROWS.get(own, set()) | {own}, told
    for name in imports(path):
        where, only = str(path.relative_to(PACKAGE)), ONLY.get(name.partition(".")[0])
        if only is not None:
            below = any(where.startswith(entry) for entry in only if entry.endswith("/"))
            assert below or own in only or where in only, f"{where} imports {name}: only {sorted(only)} may"


def test_folders_have_no_circles() -> None:
    assert set(order(dict(ARROWS))) == set(ARROWS), "the table names a folder that has no entry"


def test_modules_have_no_circles() -> None:
    assert len(order({named(path): imported_files(path) for path in FILES})) == len(FILES)


def loaded(*arguments: str) -> set[str]:
    """The modules that a child interpreter has loaded when `ecrl ARGUMENTS` is done."""
    program = (
        "import sys, json\n"
        f"sys.argv = ['ecrl', *{arguments!r}]\n"
        "from ecrl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('\\n' + json.dumps(list(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50)
    return set(json.loads(out.splitlines()[-1]))


HEAVY = {"torch", "torchvision", "pandas", "numpy", "scipy", "statsmodels", "matplotlib", "jinja2", "safetensors"}
HEAVY |= {"torchsnapshot", "torch_checkpointing"}
LAUNCHING = {
    "psutil",
    "rich",
    "ecrl.config.matrix",
    "ecrl.launch.campaign.control",
    "ecrl.records.correctness",
}


def test_help_loads_typer_and_nothing_heavy() -> None:
    modules = loaded("--help")
    assert "typer" in modules
    assert not modules & (HEAVY | LAUNCHING | {"pydantic"})


def test_status_and_list_load_nothing_heavy(tmp_path: Path) -> None:
    from tests.unit.launch.stand_in import StandIn, control, request

    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    for command in (["status", "--prefix", "exp"], ["list"]):
        modules = loaded("matrix", *command, "--results", str(asked.paths.results))
        assert "ecrl.records.manifest.store" in modules
        assert not modules & (HEAVY | LAUNCHING)


def test_planning_loads_no_torch_and_no_pandas(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.unit.launch.stand_in import *\n"
        f"control(StandIn()).preview(request(Path({str(tmp_path / 'results')!r})))\n"
        "print(*sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50, cwd=PACKAGE.parent)
    assert not set(out.split()) & HEAVY
