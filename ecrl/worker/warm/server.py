"""The warm agent: `python -m ecrl.worker.warm.server`, torchrun's own elastic agent serving run after run.

stdin is a socket. Out, {"ready": true} once everything is imported, here and in the fork server. In, one JSON line a
run: {"folder", "log", "environment": {variables of this run's ranks}, "torchrun": [torchrun's arguments]}. Out, one
JSON line when it has ended: {"code": as torchrun's exit code}. End of input ends the agent. Ranks are forked from a
server that has imported everything they need (`warm_imports`) and that never touches CUDA. Every rank reads this
module again (multiprocessing imports the main module), so it imports nothing heavy at its top.
"""

import contextlib
import gc
import json
import multiprocessing
import os
import socket
import sys
import traceback
import uuid
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any


def main() -> int:
    """Serve runs until the socket is closed at its other end."""
    control = _take_control_socket()
    multiprocessing.set_forkserver_preload(["ecrl.worker.warm.imports"])
    forkserver.ensure_running()  # it imports while this process does
    import torch._dynamo  # torch's log formatter would, in the middle of the first restart: 1.2 s
    import torch.distributed.launcher.api
    import torch.distributed.run  # noqa: F401 (what the first run needs)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

    import ecrl.worker.warm.rank  # noqa: F401
    from ecrl.worker.warm.rendezvous import BACKEND, make

    rendezvous_handler_registry.register(BACKEND, make)
    first = multiprocessing.get_context("forkserver").Process(target=int)
    first.start()  # the server forks once it has imported
    first.join()
    with contextlib.suppress(ConnectionError):
        control.sendall(b'{"ready": true}\n')
    try:
        for order in _read_orders(control):
            with open(order["log"], "ab") as log:  # noqa: PTH123 (a descriptor is all that is wanted)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = _run_order(order)
            with contextlib.suppress(ConnectionError):  # nobody waits any more; the next read ends this
                control.sendall(json.dumps({"code": code}).encode() + b"\n")
    except SignalException as signalled:
        return 128 + signalled.sigval
    return 0


def _take_control_socket() -> socket.socket:
    """The control socket, moved to where no child inherits it."""
    control = socket.socket(fileno=os.dup(0))  # os.dup makes it close on exec
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    return control


def _read_orders(control: socket.socket) -> Iterator[dict[str, Any]]:
    with control.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def _run_order(order: dict[str, Any]) -> int:
    """Run one run to its end; returns what torchrun would exit with.

    Raises:
        SignalException: this process was told to end; the ranks are gone.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    from ecrl.worker.warm.rank import run_rank
    from ecrl.worker.warm.rendezvous import BACKEND

    arguments = parse_args(order["torchrun"])  # type: ignore[no-untyped-call]
    # as torchrun does for --standalone: a store of its own for every run
    arguments.rdzv_backend, arguments.rdzv_endpoint, arguments.rdzv_id = BACKEND, "localhost", str(uuid.uuid4())
    try:
        config, _, _ = config_from_args(arguments)
        elastic_launch(config, run_rank)(order["folder"], order["environment"])
        code = 0
    except SignalException:
        raise
    except Exception:  # ChildFailedError, as a rule: torchrun prints it and exits with 1
        traceback.print_exc()
        code = 1
    gc.collect()  # the run's store, its threads and its sockets go now, not whenever
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
