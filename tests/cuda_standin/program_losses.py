"""Losses through the reader's pinned ring, 200 of them queued faster than the device runs.

Prints {policy: {reader: {steps: in the order they were recorded, wrong: steps whose value is not theirs,
waited: steps at which `read` waited for the device}}}.
"""

import json

import torch

from ecrl.worker.losses import LossReader
from tests.cuda_standin.library import HOST_WAITS, StandIn

STEPS = 200


class ReadsAtOnce(LossReader):
    """Reads the ring without asking whether the copy is over."""

    def _collect(self, *, wait: bool) -> None:
        assert self._ring is not None
        while self._pending:
            step, place, _ = self._pending.popleft()
            self._record(step, float(self._ring[place]))


READERS = {"right": LossReader, "reads_at_once": ReadsAtOnce}


def read_losses(standin: StandIn, policy: str, reader: type[LossReader]) -> dict[str, list[int]]:
    standin.reset("eager")
    device = torch.device("cuda")
    values = [torch.tensor(float(step)).pin_memory() for step in range(STEPS + 1)]
    loss = torch.empty((), device=device)
    recorded: list[tuple[int, float]] = []
    losses = reader(device, lambda step, value: recorded.append((step, value)))
    standin.reset(policy)
    waited = []
    for step in range(1, STEPS + 1):
        loss.copy_(values[step], non_blocking=True)
        begun = standin.mark()
        losses.read(step, loss)
        if any(entry.kind in HOST_WAITS for entry in standin.log(begun)):
            waited.append(step)
    losses.flush()
    wrong = [step for step, value in recorded if value != step]
    return {"steps": [step for step, _ in recorded], "wrong": wrong, "waited": waited}


def main() -> None:
    standin = StandIn()
    results = {
        policy: {name: read_losses(standin, policy, reader) for name, reader in READERS.items()}
        for policy in ("eager", "lazy", "hostile", "random-1")
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
