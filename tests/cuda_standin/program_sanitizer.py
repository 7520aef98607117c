"""Snapshots under TORCH_CUDA_SANITIZER=1, which knows from the fences alone what is unordered, whatever the
schedule. Prints {stager: message}, null where it was quiet."""

import json

import torch
from torch.cuda._sanitizer import CUDASanitizerErrors

from tests.cuda_standin.drill import take_snapshots
from tests.cuda_standin.library import StandIn
from tests.cuda_standin.mutants import FENCES
from tests.cuda_standin.toy import ToyTraining

STEPS = 3


def complaint(standin: StandIn, stager: str) -> str | None:
    device = torch.device("cuda")
    training = ToyTraining(device, STEPS)
    standin.reset("eager")  # all runs at once: what is found here is found in the fences
    torch.cuda.synchronize()
    try:
        take_snapshots(FENCES[stager](device), training, STEPS, in_step=True)
    except CUDASanitizerErrors as errors:
        torch.cuda.synchronize()  # or what this one left unordered is held against the next
        return str(errors.errors[0])
    return None


def main() -> None:
    standin = StandIn()
    print(json.dumps({stager: complaint(standin, stager) for stager in FENCES}))


if __name__ == "__main__":
    main()
