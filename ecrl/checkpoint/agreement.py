"""Agreement of all ranks through the key-value store: no collectives, so any thread may take part."""

import json
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it without saying so


class AgreementError(Exception):
    """The other ranks did not answer in time, or the store is gone."""


class Agreement:
    """Every rank says something under one topic and hears what all said.

    A topic is used once per attempt. Each instance needs a store connection of its own: a thread that waits
    in a shared connection would hold up every other user of it.
    """

    def __init__(self, store: Store, rank: int, world_size: int, timeout_s: float) -> None:
        self.rank = rank
        self.world_size = world_size
        self._store = store
        self._timeout = timedelta(seconds=timeout_s)

    @property
    def timeout_s(self) -> float:
        """How long one rank waits for another."""
        return self._timeout.total_seconds()

    def say(self, topic: str, value: Any) -> None:
        """Publish this rank's word under `topic`; returns at once."""
        try:
            self._store.set(f"{topic}/{self.rank}", json.dumps(value))
        except RuntimeError as error:  # torch raises DistNetworkError and kin, all of them RuntimeErrors
            raise AgreementError(f"{topic}: the store is gone ({error})") from error

    def hear(self, topic: str, rank: int, *, timeouts: int = 1) -> Any:
        """What `rank` said under `topic`, waiting for it up to `timeouts` timeouts.

        Raises:
            AgreementError: nothing heard in that time.
        """
        key = f"{topic}/{rank}"
        try:
            self._store.wait([key], self._timeout * timeouts)
            return json.loads(self._store.get(key))
        except RuntimeError as error:
            patience = self._timeout.total_seconds() * timeouts
            raise AgreementError(f"{topic}: rank {rank} said nothing within {patience:g} s") from error

    def exchange(self, topic: str, value: Any) -> list[Any]:
        """Say `value` and hear all ranks, in rank order."""
        self.say(topic, value)
        return [self.hear(topic, rank) for rank in range(self.world_size)]
