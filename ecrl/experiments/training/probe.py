"""Runs `python -m ecrl.worker.probe` to learn what this machine can run, and checks a matrix against it."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecrl.config.matrix import Matrix
from ecrl.config.suite import list_train_settings
from ecrl.errors import DataMissingError, EcrlError
from ecrl.launch.system.child import ask, build_module_command
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.torch_import import advise_on_import, is_import_failure
from ecrl.units import format_count

PROBE_COMMAND = build_module_command("ecrl.worker.probe")


@dataclass(frozen=True)
class Probe:
    """The probe's answer.

    facts: versions and GPUs, recorded with every result. datasets: see `ecrl.worker.probe`. state_bytes: size of one
    checkpoint of "<dataset>/<model>", all ranks together. footprints: see `ecrl.worker.footprint`, by the same names;
    empty: unknown. gpu_bytes: the memory of each GPU. precisions: of the short ones that were asked for, why this CPU
    cannot compute in it; empty: it can.
    """

    facts: dict[str, Any]
    gpus: tuple[str, ...]
    datasets: dict[str, dict[str, Any]]
    state_bytes: dict[str, int]
    footprints: dict[str, dict[str, int | None]] = field(default_factory=dict)
    gpu_bytes: tuple[int, ...] = ()
    precisions: dict[str, str] = field(default_factory=dict)

    def device(self, wanted: str) -> str:
        """The device to use: `auto` means cuda if there is a GPU, else cpu."""
        return ("cuda" if self.gpus else "cpu") if wanted == "auto" else wanted

    def check(self, matrix: Matrix) -> None:
        """Raise if this machine cannot run the matrix. Call it before anything is started.

        Raises:
            DataMissingError: a data set is missing or damaged.
            EcrlError: no GPU, too few GPUs for ranks that cannot share one, NCCL without a GPU, or a precision
                that the CPU lacks.
        """
        missing = [told["error"] for told in self.datasets.values() if not told["ok"]]
        if missing:
            raise DataMissingError("ECRL-508", "\n".join(missing))
        chosen, usable, device = matrix.run.gpus, len(self.gpus), self.device(matrix.run.device)
        over_nccl = [train.nproc for train in list_train_settings(matrix) if train.get_backend(device) == "nccl"]
        if device != "cuda" and over_nccl:
            raise EcrlError(
                "ECRL-507",
                "train.backend: found nccl, expected auto or gloo: NCCL needs GPUs, and PyTorch sees none here.\n"
                "Change it in the matrix, or check nvidia-smi.",
            )
        if device != "cuda":
            self._check_precisions()
            return
        if not self.gpus:
            raise EcrlError(
                "ECRL-507", "--device: found cuda, but PyTorch sees no GPU. Type --device cpu, or check nvidia-smi."
            )
        if usable < len(chosen):
            listed = ",".join(map(str, chosen))
            raise EcrlError(
                "ECRL-507",
                f"--gpus: found {listed}, but PyTorch sees {usable} of them. nvidia-smi -L lists what is here.",
            )
        if (nproc := max(over_nccl, default=0)) > usable:
            raise EcrlError(
                "ECRL-507",
                f"--nproc: found {nproc} ranks for {format_count(usable, 'GPU')}, expected a GPU for each"
                f" rank. Type --nproc {usable}, or --device cpu.\n"
                'To let ranks share a GPU, write backend = "gloo" under [train]: for trying out, not for timing.',
            )

    def _check_precisions(self) -> None:
        for precision, reason in self.precisions.items():
            if reason:
                raise EcrlError(
                    "ECRL-630",
                    f"train.precision: found {precision}, which this CPU or this PyTorch cannot compute in ({reason}),"
                    ' expected "fp32".\nChange it in the matrix, or train on a GPU.',
                )


def run_probe(
    matrix: Matrix, stop: StopRequest, look: Callable[[], None], command: Sequence[str] = PROBE_COMMAND
) -> Probe:
    """Run the probe (about three seconds, most of them PyTorch's import). look: called repeatedly meanwhile.

    Raises:
        EcrlError: PyTorch cannot be imported, or the probe failed.
        StoppedError: a signal came.
    """
    extra = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "OMP_NUM_THREADS": "1"}
    if matrix.run.gpus:
        extra["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, matrix.run.gpus))  # as in the runs

    def check() -> None:
        stop.raise_if_requested("Nothing was started; type the same command again.")
        look()

    reply = ask(
        command,
        build_child_environment(os.environ, extra),
        json.dumps(build_probe_request(matrix)),
        check,
    )
    if reply.code != 0:
        raise EcrlError("ECRL-506", _explain(reply.output, reply.code))
    try:
        told = json.loads(reply.text)
        own = {k: told.pop(k) for k in ("datasets", "state_bytes", "footprints", "precisions")}
        gpu_bytes = tuple(told.pop("gpu_bytes"))
        return Probe(told, tuple(told["gpus"]), **own, gpu_bytes=gpu_bytes)
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"the probe answered {reply.text[:500]!r}") from error


def build_probe_request(matrix: Matrix) -> dict[str, Any]:
    """The probe's request for a matrix."""
    every = list_train_settings(matrix)
    optimizers = {train.optimizer for train in every}
    return {
        "datasets": [] if matrix.job else matrix.matrix.datasets,
        "models": [] if matrix.job else matrix.matrix.models,
        "optimizer": "adamw" if "adamw" in optimizers else "sgd",  # the one with the larger state
        "data_root": matrix.run.data_root,
        "sequence_length": max(train.sequence_length for train in every),
        "global_batch": max(train.batch_size * train.nproc for train in every),
        "precisions": sorted({train.precision for train in every} - {"fp32"}),
        "device": matrix.run.device,
    }


def _explain(errors: str, code: int) -> str:
    lines = [line for line in errors.splitlines() if line.strip()] or ["(it said nothing)"]
    if is_import_failure(errors):
        return (
            f"torchrun cannot start: {sys.executable} cannot import PyTorch ({lines[-1].strip()}).\n"
            f"{advise_on_import(errors)}"
        )
    command = "python -m ecrl.worker.probe"
    return f"`{command}` ended with exit code {code}: {lines[-1].strip()}\nExpected it to describe this machine."
