"""The environment of child processes: what is removed from it, and what of it is an input of the experiment."""

import os
import re
from collections.abc import Mapping

# torchrun reads these as its own arguments and settings; ecrl gives torchrun what it needs.
_TORCHRUN_ONLY = re.compile(
    r"PET_\w+|LOGLEVEL|PYTHON_EXEC|TORCHELASTIC_\w+|TORCH_ELASTIC_\w+|TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
)
# torch, c10d, gloo, NCCL, OpenMP, the math libraries, CUDA and the allocator of the C library read these.
_READ_BY_RANKS = re.compile(
    r"(?:TORCH|PYTORCH|TORCHINDUCTOR|C10D?|GLOO|NCCL|UCX|UCC|OMP|KMP|GOMP|MKL|OPENBLAS|DNNL|ONEDNN|ATEN|CUDA|CUBLAS"
    r"|CUDNN|HIP|ROCR|HSA|MALLOC)_\w+|USE_LIBUV|NVIDIA_TF32_OVERRIDE|GLIBC_TUNABLES|LD_PRELOAD"
)
# Each run sets these itself, from its matrix and its devices.
_SET_BY_ECRL = frozenset(
    {"OMP_NUM_THREADS", "TORCH_DEVICE_BACKEND_AUTOLOAD", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}
)


def build_child_environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that runs Python: `base` without what only torchrun reads, then `extra`."""
    kept = {name: value for name, value in base.items() if not _TORCHRUN_ONLY.fullmatch(name)}
    # A `random.py` in the current folder must not replace Python's own, here or in what the child starts.
    return kept | {"PYTHONSAFEPATH": "1"} | dict(extra)


def list_inputs(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that change what the ranks do, sorted by name, without those that ecrl sets for every run."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if _READ_BY_RANKS.fullmatch(name) and not _TORCHRUN_ONLY.fullmatch(name) and name not in _SET_BY_ECRL
    }


def format_inputs(environment: Mapping[str, str] = os.environ) -> str:
    """The inputs as `NAME=value, NAME=value`; '' without any."""
    return ", ".join(f"{name}={value[:60]}" for name, value in list_inputs(environment).items())
