"""Snapshots under every policy, with every fence and with each left out. Prints {policy: {stager: torn}}."""

import json

import torch

from tests.cuda_standin.drill import Torn, take_snapshots
from tests.cuda_standin.library import StandIn
from tests.cuda_standin.mutants import FENCES
from tests.cuda_standin.toy import ToyTraining

STEPS = 6
POLICIES = ["eager", "lazy", "hostile", *(f"random-{seed}" for seed in range(8))]


def snapshots(standin: StandIn, policy: str, stager: str, *, in_step: bool) -> Torn:
    device = torch.device("cuda")
    standin.reset("eager")
    training = ToyTraining(device, STEPS)
    standin.reset(policy)
    return take_snapshots(FENCES[stager](device), training, STEPS, in_step=in_step)


def main() -> None:
    standin = StandIn()
    results = {p: {stager: snapshots(standin, p, stager, in_step=True) for stager in FENCES} for p in POLICIES}
    for policy in POLICIES:
        results[policy]["right, unsynchronised"] = snapshots(standin, policy, "right", in_step=False)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
