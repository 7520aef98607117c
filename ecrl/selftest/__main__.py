"""The child that `ecrl selftest` starts: `python -m ecrl.selftest check DEVICE MODEL STEPS FOLDER`.

One JSON object a line on the descriptor that ECRL_REPLY_FD names (stdout without it): {"e": "machine", ...}, then
{"e": "check", "name", "verdict", "evidence", "wall_s", "details"} for each check as it ends, or
{"e": "refused", "reason"} where there is nothing to check.
`... sanitizer MODEL` is the grandchild of one of the checks.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ecrl.records import machine
from ecrl.selftest import cpu, cuda, sanitizer
from ecrl.selftest.verdict import WRONG, CheckResult, Plan

STAND_IN = "FakeCUDA"
_DRIVER = Path("/proc/driver/nvidia/version")


def main() -> None:
    """Run the command in the arguments."""
    with _results() as out:
        match sys.argv[1:]:
            case ["check", device, model, steps, folder]:
                _check(device, model, int(steps), Path(folder), out)
            case ["sanitizer", model]:
                _print_complaints(model, out)
            case other:
                raise SystemExit(f"found {other}, expected the arguments of `ecrl selftest`, which starts this program")


@contextlib.contextmanager
def _results() -> Iterator[IO[str]]:
    """The descriptor of the results. All other output, also that of C code, goes to stderr."""
    own = os.environ.pop("ECRL_REPLY_FD", None)  # not for the grandchild, which gets another one
    with os.fdopen(os.dup(1) if own is None else int(own), "w", buffering=1) as out:
        os.dup2(2, 1)
        yield out


def _check(device: str, model: str, steps: int, folder: Path, out: IO[str]) -> None:
    if device == "cuda" and (reason := no_gpu()):
        _send(out, "refused", reason=reason)
        return
    _send(out, "machine", **describe(device))
    if device == "cuda":
        cuda_lab = cuda.make_setup(model, steps, folder)
        run_plan(cuda.build_plan(cuda_lab, model), out)
    else:
        run_plan(cpu.build_plan(cpu.make_setup(model, steps, folder)), out)


def run_plan(plan: Plan, out: IO[str]) -> None:
    """Run every check, whatever the results of the others."""
    for name, check in plan:
        begun = time.monotonic()
        try:
            finding = check()
        except Exception as error:
            trace = traceback.format_exc()
            print(trace, file=sys.stderr)
            finding = CheckResult(WRONG, f"the check failed: {type(error).__name__}: {error}", {"trace": trace[-8000:]})
        _send(
            out,
            "check",
            name=name,
            verdict=finding.verdict,
            evidence=finding.evidence,
            wall_s=round(time.monotonic() - begun, 3),
            details=finding.details,
        )


def no_gpu() -> str | None:
    """The reason why there is no GPU to check, or None."""
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return (
            f"--device: found cuda, but PyTorch {torch.__version__} ({built}) sees no GPU.\n"
            "Type `ecrl selftest --device cpu`, or check nvidia-smi."
        )
    if STAND_IN in (name := torch.cuda.get_device_name(0)):
        return f"--device: found {name!r}, a stand-in that runs no kernels. Expected a GPU."
    return None


def describe(device: str) -> dict[str, Any]:
    """Device, driver and versions."""
    facts: dict[str, Any] = machine.read_facts() | {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device != "cuda":
        return facts | {"device_name": facts["cpu"], "driver": None}
    properties = torch.cuda.get_device_properties(0)
    return facts | {
        "device_name": properties.name,
        "device_memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": _DRIVER.read_text().splitlines()[0] if _DRIVER.is_file() else None,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _print_complaints(model: str, out: IO[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ecrl-sanitizer-") as folder:
        print(
            json.dumps(
                sanitizer.collect_complaints(cuda.make_setup(model, sanitizer.STEPS, Path(folder), delayed=False))
            ),
            file=out,
        )


def _send(out: IO[str], kind: str, **fields: Any) -> None:
    print(json.dumps({"e": kind, **fields}), file=out)


if __name__ == "__main__":
    main()
