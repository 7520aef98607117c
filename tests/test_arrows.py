"""The house keeps its arrows: who may import whom, and what a command may load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ecrl"

# Design section 2. Whoever is reached through an arrow may also be imported directly: cli -> launch -> records.
ARROWS = {
    "cli": {"enginebench", "selftest", "launch", "report", "analysis", "failures", "config", "records", "storage"},
    "launch": {"failures", "config", "records", "storage"},
    "report": {"analysis", "records", "config", "storage"},
    "analysis": {"records", "config", "storage"},
    "worker": {"checkpoint", "workloads", "failures", "config", "records", "storage"},
    "enginebench": {
        "analysis",
        "checkpoint",
        "config",
        "launch",
        "records",
        "report",
        "storage",
        "worker",
        "workloads",
    },
    "selftest": {"checkpoint", "config", "launch", "records", "storage", "worker", "workloads"},
    "checkpoint": {"storage", "records"},
    "workloads": set(),
    "failures": {"records", "storage"},
    "config": {"records", "storage"},
    "records": {"storage"},
    "storage": set(),
}
EVERYONE_MAY = {"errors", "units", "plugins", "__version__"}
# Third-party packages that only these may import, anywhere in a file.
ONLY = {
    "torch": {"checkpoint", "enginebench", "selftest", "workloads", "worker"},
    "torchvision": {"workloads", "worker"},
    "pandas": {"analysis", "report"},
    "scipy": {"analysis", "enginebench", "report"},
    "statsmodels": {"analysis", "report"},
    "matplotlib": {"enginebench", "report"},
    "jinja2": {"report"},
    "typer": {"cli"},
    "pydantic": {"config"},
    "rich": {"cli/ui/live_progress.py", "cli/ui/screen.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever it stands, except for type checkers alone."""
    tree = ast.parse(path.read_text(), str(path))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part(path: Path) -> str:
    """The package of a file: `cli` for ecrl/cli/commands/matrix.py, `errors` for ecrl/errors.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_imports_follow_the_arrows(path: Path) -> None:
    home = part(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "ecrl":
            target = rest.partition(".")[0]
            allowed = {"cli", "errors"} if home == "__main__" else ARROWS.get(home, set()) | EVERYONE_MAY | {home}
            assert target in allowed, f"{path.relative_to(PACKAGE)} imports {name}: no arrow {home} -> {target}"
        elif top in ONLY:
            where = str(path.relative_to(PACKAGE))
            assert home in ONLY[top] or where in ONLY[top], f"{where} imports {name}: only {sorted(ONLY[top])} may"


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
    "filelock",
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
