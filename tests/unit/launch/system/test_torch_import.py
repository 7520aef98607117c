"""Why PyTorch could not be imported: only what was checked is advised."""

import resource
import sys
from pathlib import Path

import pytest

from ecrl.launch.system.child import ask
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.torch_import import advise_on_import, is_import_failure


def test_a_file_with_the_name_of_a_module_of_python_is_named(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import concurrent.futures.thread"]
    (tmp_path / "queue.py").write_text("import no_such_module_of_mine\n")
    output = ask(program, {"PYTHONPATH": str(tmp_path)}).output
    assert is_import_failure(output)
    assert str(tmp_path / "queue.py") in advise_on_import(output)
    assert not is_import_failure("ValueError: 1")


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    program = [sys.executable, "-c", "import queue"]
    assert ask(program, build_child_environment({}, {})).code == 0
    assert ask(program, {}).code == 1


def test_too_little_memory_is_told_with_the_limit_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    output = "ImportError: libtorch_cpu.so: failed to map segment from shared object"
    assert is_import_failure(output)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2 * 10**9, 2 * 10**9))
    assert "2.0 GB (ulimit -v)" in advise_on_import(output)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "ulimit" not in advise_on_import(output)


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("ModuleNotFoundError: No module named 'no_such.part'", "pip install no_such"),
        ("ModuleNotFoundError: No module named 'torch.distributed'", "-c 'import torch'"),
        ("ImportError: libcudart.so.12: cannot open shared object file", "-c 'import torch'"),
    ],
)
def test_only_a_package_that_is_missing_is_to_be_installed(output: str, advice: str) -> None:
    assert is_import_failure(output)
    assert advice in advise_on_import(output)
