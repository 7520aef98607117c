"""Says why a child could not import PyTorch, and what to do. Every cause is checked before it is named."""

import importlib.util
import re
import resource
import sys
import sysconfig
from pathlib import Path

from ecrl.units import format_bytes

_IMPORT_ERRORS = re.compile(r"\b(?:ImportError|ModuleNotFoundError)\b")
_NO_MEMORY = re.compile(r"failed to map segment|MemoryError|[Cc]annot allocate memory|std::bad_alloc")
_MISSING = re.compile(r"No module named '([\w.]+)'")
_FRAMES = re.compile(r'^\s*File "([^"]+)", line \d+', re.MULTILINE)


def is_import_failure(output: str) -> bool:
    """Whether a child that has failed could not import something, as far as its output shows."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    return bool(_IMPORT_ERRORS.search(last) or _NO_MEMORY.search(output) or _find_namesake(output))


def advise_on_import(output: str) -> str:
    """The cause of a failed import and the next command, in one line."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _NO_MEMORY.search(output):
        if limit != resource.RLIM_INFINITY:
            said = f"The limit of address space is {format_bytes(limit)} (ulimit -v), too little for PyTorch."
            return f"{said} Type: ulimit -v unlimited"
        return "There is too little memory to load PyTorch. Free memory, or raise the limit of this container."
    if (file := _find_namesake(output)) is not None:
        return f"{file} is loaded in place of the real module of that name: rename it, or mend PYTHONPATH."
    missing = _MISSING.search(output)
    name = None if missing is None else missing[1].partition(".")[0]
    if name is not None and importlib.util.find_spec(name) is None:
        packages = "torch torchvision" if name in ("torch", "torchvision") else name
        return f"Expected {packages.replace(' ', ' and ')} beside ecrl. Type: pip install {packages}"
    return f"torch is installed, but does not load. Its own words: {sys.executable} -P -c 'import torch'"


def _find_namesake(output: str) -> str | None:
    """A file in a traceback that has the name of a module of Python, or of PyTorch, but is not that module."""
    own = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    sites = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    for name in _FRAMES.findall(output):
        top = Path(name).parent.name if Path(name).name == "__init__.py" else Path(name).stem
        is_taken = top in sys.stdlib_module_names or Path(name).name == "torch.py"  # PyTorch itself is a folder
        if is_taken and not name.startswith((*own, *sites, "<")):
            return str(name)
    return None
