"""Kinds of failures that tests add to the folder of kinds, as their files."""

# Strikes inside a step and leaves the attempt alive: the loss is multiplied, the rank waits for a while.
FACTOR = '''
"""`factor`: the loss of one step is multiplied, on one rank."""

import time

from ecrl.failures.base import FailureKind, Strike


class Factor(FailureKind):
    """Scales the loss, and keeps the rank waiting."""

    def on_loss(self, strike: Strike, loss):
        time.sleep(strike.options["wait_s"])
        return loss * strike.options["factor"]


PLUGIN = Factor(
    description="one rank's loss is multiplied",
    ends_attempt=False,
    phases=("loss",),
    options={
        "factor": {"type": "float", "default": 2.0, "legacy": 4.0, "gt": 0, "help": "what the loss is multiplied by"},
        "wait_s": {"type": "float", "default": 0.0, "legacy": 0.0, "ge": 0, "help": "seconds that the rank waits"},
    },
)
'''

# Every hook and every phase, all of them told to a list that the module keeps.
EVERYWHERE = '''
"""`everywhere`: strikes wherever anything can, and only notes it."""

from ecrl.failures.base import FailureKind

SEEN = []


class Everywhere(FailureKind):
    """Notes the places."""

    def on_phase(self, strike):
        SEEN.append(strike)

    def on_loss(self, strike, loss):
        SEEN.append(strike)
        return loss + 1

    def on_gradients(self, strike, model):
        SEEN.append(strike)

    def on_update(self, strike, model, optimizer):
        SEEN.append(strike)


PLUGIN = Everywhere(
    description="notes where it strikes",
    ends_attempt=False,
    phases=("step", "loss", "gradients", "update", "staging", "persist", "commit", "retention", "restore", "init"),
    options={"note": {"type": "str", "default": "", "legacy": "old", "help": "anything"}},
)
'''
