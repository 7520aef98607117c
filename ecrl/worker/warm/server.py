"""The warm agent: `python -m ecrl.worker.warm.server`. torchrun's own elastic agent serves one run after another.

stdin is a socket. The agent sends {"ready": true} when everything is imported, in the agent and in the fork server. It
receives one JSON line per run: {"folder", "log", "environment": {variables of this run's ranks}, "torchrun":
[torchrun's arguments]}. It sends one JSON line when the run has ended: {"code": torchrun's exit code}. End of input
ends the agent. The ranks are forked from a server that has imported everything they need (`ecrl.worker.warm.imports`)
and never uses CUDA. Every rank imports this module again (multiprocessing imports the main module), so it must not
import anything heavy at its top.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_LONGEST_FOLDER = 60  # bytes


def main() -> int:
    """Serve runs until the other end closes the socket. Returns the exit code."""
    control = _take_control_socket()
    tempfile.tempdir = find_short_folder()
    multiprocessing.set_forkserver_preload(["ecrl.worker.warm.imports"])
    forkserver.ensure_running()  # it imports while this process imports
    import torch._dynamo  # torch's log formatter would import it during the first restart, which takes 1.2 s
    import torch.distributed.launcher.api
    import torch.distributed.run  # noqa: F401 (the first run needs it)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

    import ecrl.worker.warm.rank  # noqa: F401
    from ecrl.worker.warm.rendezvous import BACKEND, make

    rendezvous_handler_registry.register(BACKEND, make)
    first = multiprocessing.get_context("forkserver").Process(target=int)
    first.start()  # the server forks only after its imports
    first.join()
    with contextlib.suppress(ConnectionError):
        control.sendall(b'{"ready": true}\n')
    try:
        for order in _read_orders(control):
            with open(order["log"], "ab") as log:  # noqa: PTH123 (only its descriptor is needed)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = _run_order(order)
            with contextlib.suppress(ConnectionError):  # the other end is closed; the next read ends the loop
                control.sendall(json.dumps({"code": code}).encode() + b"\n")
    except SignalException as signalled:
        return 128 + signalled.sigval
    return 0


def find_short_folder(usual: str | None = None) -> str:
    """A folder for the sockets of multiprocessing: the usual one of temporary files if its name is short enough."""
    usual = usual or tempfile.gettempdir()
    # The kernel takes 108 bytes; multiprocessing adds a folder and a name, and abstract sockets are open to all users.
    for folder in (usual, f"/run/user/{os.getuid()}", "/tmp", "/var/tmp", "/dev/shm"):
        if (
            len(os.fsencode(folder)) <= _LONGEST_FOLDER
            and os.access(folder, os.W_OK | os.X_OK)
            and Path(folder).is_dir()
        ):
            return folder
    return usual  # the first run reports what the kernel says


def _take_control_socket() -> socket.socket:
    """The control socket on a descriptor that no child inherits. stdin is /dev/null afterwards."""
    control = socket.socket(fileno=os.dup(0))  # os.dup makes it close on exec
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    return control


def _read_orders(control: socket.socket) -> Iterator[dict[str, Any]]:
    with control.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def _run_order(order: dict[str, Any]) -> int:
    """Run one run to its end. Returns torchrun's exit code.

    Raises:
        SignalException: a signal asked this process to end. The ranks have ended.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    from ecrl.worker.warm.rank import run_rank
    from ecrl.worker.warm.rendezvous import BACKEND

    arguments = parse_args(order["torchrun"])  # type: ignore[no-untyped-call]
    # Every run has its own store, as with torchrun's --standalone.
    arguments.rdzv_backend, arguments.rdzv_endpoint, arguments.rdzv_id = BACKEND, "localhost", str(uuid.uuid4())
    try:
        config, _, _ = config_from_args(arguments)
        elastic_launch(config, run_rank)(order["folder"], order["environment"])
        code = 0
    except SignalException:
        raise
    except Exception:  # usually ChildFailedError, which torchrun prints before it exits with 1
        traceback.print_exc()
        code = 1
    gc.collect()  # frees the run's store, with its threads and sockets, now
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
