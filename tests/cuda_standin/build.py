"""Builds the stand-in and runs programs on it. Where it cannot be built, tests skip; under CI they fail."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

_HERE = Path(__file__).parent
_SOURCES = _HERE / "src"
_LIBRARY = "libcuda.so.1"  # torch opens the driver by this name; the runtime's functions win by being preloaded
_FLAGS = ["-O1", "-std=c++17", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"]


class CannotBuildError(Exception):
    """This machine lacks something that the stand-in is made of."""


def cache_of(config: pytest.Config) -> Path:
    """Where builds are kept between runs of pytest."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    assert cache is not None, "pytest runs without its cache (-p no:cacheprovider); the stand-in is kept there"
    return Path(cache.mkdir("cuda-standin"))


def build_or_skip(cache: Path) -> Path:
    """The folder with the library, built at need.

    Raises:
        pytest.skip.Exception: it cannot be built here.
        pytest.fail.Exception: likewise, with `CI` set: there, a proof that silently did not run is none.
    """
    try:
        return build(cache)
    except CannotBuildError as error:
        reason = f"no CUDA stand-in: {error}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def build(cache: Path) -> Path:
    """One g++ call into a folder of `cache` that is named after everything the result depends on.

    Raises:
        CannotBuildError: no CUDA 13 build of torch, no headers, no compiler, or the compiler's own words.
    """
    headers, cudart = _cuda_headers()
    compiler = shutil.which("g++")
    if compiler is None:
        raise CannotBuildError("g++ is not installed")
    sources = sorted(path for path in _SOURCES.rglob("*") if path.is_file())
    identity = hashlib.sha256(" ".join([cudart, *_FLAGS]).encode())
    for path in sources:
        identity.update(path.read_bytes())
    folder = cache / identity.hexdigest()[:16]
    if (folder / _LIBRARY).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished-{os.getpid()}.so"
    command = [compiler, *_FLAGS, f"-I{_SOURCES / 'stub'}", f"-I{headers}"]
    command += [str(path) for path in sources if path.suffix == ".cpp"]
    command += [f"-Wl,-soname,{_LIBRARY}", "-o", str(unfinished)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if result.returncode != 0:
        raise CannotBuildError(f"g++ failed:\n{result.stderr[-2000:]}")
    unfinished.replace(folder / _LIBRARY)
    return folder


def _cuda_headers() -> tuple[Path, str]:
    """Where the headers of the CUDA runtime lie that torch brings, and its version."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise CannotBuildError(f"needs Linux on x86_64, this is {sys.platform} on {platform.machine()}")
    version = torch.version.cuda
    if version is None or version.split(".")[0] != "13":
        raise CannotBuildError(f"needs torch built for CUDA 13, torch.version.cuda is {version}")
    spec = importlib.util.find_spec("nvidia")
    for root in [] if spec is None else spec.submodule_search_locations or []:
        headers = Path(root) / "cu13" / "include"
        if (headers / "cuda_runtime_api.h").exists():
            return headers, importlib.metadata.version("nvidia-cuda-runtime")
    raise CannotBuildError("the package nvidia-cuda-runtime has no cu13/include/cuda_runtime_api.h")


# One interpreter for all of them: its import of torch takes longer than any program.
_RUN = (
    "import importlib, sys; [importlib.import_module(f'tests.cuda_standin.program_{n}').main() for n in sys.argv[1:]]"
)


def run_programs(library: Path, *names: str, sanitizer: bool = False, timeout_s: float = 200) -> list[Any]:
    """Run each `program_<name>.py`, one after another, with the stand-in preloaded; what each printed, as JSON."""
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library),
        "LD_PRELOAD": _LIBRARY,
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        "OMP_NUM_THREADS": "1",
    }
    for unwanted in ("CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TORCH_CUDA_SANITIZER"):
        environment.pop(unwanted, None)
    if sanitizer:
        environment["TORCH_CUDA_SANITIZER"] = "1"
    command = [sys.executable, "-c", _RUN, *names]
    result = subprocess.run(
        command,
        cwd=_HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr[-4000:]}"
    return [json.loads(line) for line in result.stdout.splitlines()[-len(names) :]]
