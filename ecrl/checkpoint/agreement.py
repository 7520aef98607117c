"""Agreement of all ranks through the key-value store: no collectives, so any thread may take part."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it without saying so

# Longer than any run: a rank that died is noticed by the launcher, which ends the others.
_WITHOUT_END = timedelta(days=3650)


class AgreementError(Exception):
    """Other ranks did not answer in time."""


class StoreGoneError(Exception):
    """The store is gone, and with it the launcher that started this rank: nothing can be agreed any more."""


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

    def publish(self, topic: str, value: Any) -> None:
        """Publish this rank's word under `topic`; returns at once."""
        try:
            self._store.set(f"{topic}/{self.rank}", json.dumps(value))
        except RuntimeError as error:  # torch raises DistNetworkError and kin, all of them RuntimeErrors
            raise StoreGoneError(f"{topic}: the store is gone ({error})") from error

    def gather_all(self, topic: str) -> list[Any]:
        """What every rank said under `topic`, in rank order, waiting one timeout for all of them together.

        Raises:
            AgreementError: names the ranks that said nothing in that time.
        """
        keys = [f"{topic}/{rank}" for rank in range(self.world_size)]
        try:
            self._store.wait(keys, self._timeout)
        except RuntimeError as error:
            silent = [str(rank) for rank, key in enumerate(keys) if not self._is_published(key)]
            if silent:  # else the last one spoke just now
                who = f"rank {silent[0]}" if len(silent) == 1 else f"ranks {', '.join(silent)}"
                raise AgreementError(f"{topic}: {who} said nothing within {self.timeout_s:g} s") from error
        return [self._get_value(key) for key in keys]

    def exchange(self, topic: str, value: Any) -> list[Any]:
        """Say `value` and hear all ranks, in rank order."""
        self.publish(topic, value)
        return self.gather_all(topic)

    def decide(self, topic: str, word: Any, judge: Callable[[list[Any]], Any]) -> Any:
        """Rank 0 judges what every rank said, and its verdict is everybody's: the ranks cannot come to differ.

        The others wait for the verdict as long as it takes. A rank that rank 0 did not hear in time is the
        verdict "... said nothing ..." to the others.

        Raises:
            AgreementError: on rank 0 alone, for such a silence.
        """
        self.publish(topic, word)
        if self.rank != 0:
            return self._verdict(topic)
        try:
            words = self.gather_all(topic)
        except AgreementError as error:
            self.publish(f"{topic}/verdict", str(error))
            raise
        verdict = judge(words)
        self.publish(f"{topic}/verdict", verdict)
        return verdict

    def _verdict(self, topic: str) -> Any:
        key = f"{topic}/verdict/0"
        try:
            self._store.wait([key], _WITHOUT_END)
        except RuntimeError as error:
            raise StoreGoneError(f"{topic}: the store is gone ({error})") from error
        return self._get_value(key)

    def _is_published(self, key: str) -> bool:
        try:
            return self._store.check([key])
        except RuntimeError as error:
            raise StoreGoneError(f"{key}: the store is gone ({error})") from error

    def _get_value(self, key: str) -> Any:
        try:
            return json.loads(self._store.get(key))
        except RuntimeError as error:
            raise StoreGoneError(f"{key}: the store is gone ({error})") from error
