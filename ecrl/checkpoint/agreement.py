"""Agreement of all ranks through the key-value store. It uses no collectives, so any thread may take part."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import Store  # torch.distributed re-exports it without saying so

# Longer than any run: the launcher detects a dead rank and ends the others.
_WITHOUT_END = timedelta(days=3650)


class AgreementError(Exception):
    """Other ranks did not answer in time."""


class StoreGoneError(Exception):
    """The store is gone, and with it the launcher that started this rank: nothing can be agreed any more."""


class Agreement:
    """Every rank publishes a value under one topic and reads the values of all ranks.

    A topic is used once per attempt. Each instance needs its own store connection: a thread that waits on a shared
    connection blocks every other user of it.
    """

    def __init__(self, store: Store, rank: int, world_size: int, timeout_s: float) -> None:
        self.rank = rank
        self.world_size = world_size
        self._store = store
        self._timeout = timedelta(seconds=timeout_s)

    @property
    def timeout_s(self) -> float:
        """How long one rank waits for the others, in seconds."""
        return self._timeout.total_seconds()

    def publish(self, topic: str, value: Any) -> None:
        """Publish this rank's value under `topic`. Returns at once.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        try:
            self._store.set(f"{topic}/{self.rank}", json.dumps(value))
        except RuntimeError as error:  # torch's DistNetworkError and its relatives are RuntimeErrors
            raise StoreGoneError(f"{topic}: the store is gone ({error})") from error

    def read(self, topic: str) -> Any:
        """What rank 0 publishes under `topic`. Waits for it without a time limit.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        key = f"{topic}/0"
        self._wait(topic, [key])
        return self._get_value(key)

    def forget(self, topic: str) -> None:
        """Remove what this rank has published under `topic`, which nobody reads any more.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        try:
            self._store.delete_key(f"{topic}/{self.rank}")
        except RuntimeError as error:
            raise StoreGoneError(f"{topic}: the store is gone ({error})") from error

    def gather_all(self, topic: str) -> list[Any]:
        """The values of all ranks under `topic`, in rank order. Waits at most one timeout for all ranks together.

        Raises:
            AgreementError: some ranks published nothing in that time; the message names them.
            StoreGoneError: the store cannot be reached.
        """
        keys = [f"{topic}/{rank}" for rank in range(self.world_size)]
        try:
            self._store.wait(keys, self._timeout)
        except RuntimeError as error:
            silent = [str(rank) for rank, key in enumerate(keys) if not self._is_published(key)]
            if silent:  # empty if the last value arrived right after the timeout
                who = f"rank {silent[0]}" if len(silent) == 1 else f"ranks {', '.join(silent)}"
                raise AgreementError(f"{topic}: {who} said nothing within {self.timeout_s:g} s") from error
        return [self._get_value(key) for key in keys]

    def exchange(self, topic: str, value: Any) -> list[Any]:
        """Publish `value` and return the values of all ranks, in rank order. Waits for them without a time limit.

        Raises:
            StoreGoneError: the store cannot be reached.
        """
        # Nothing can go on without these values, and one rank may take long: it verifies or removes a checkpoint.
        self.publish(topic, value)
        keys = [f"{topic}/{rank}" for rank in range(self.world_size)]
        self._wait(topic, keys)
        return [self._get_value(key) for key in keys]

    def decide(self, topic: str, word: Any, judge: Callable[[list[Any]], Any]) -> Any:
        """Let rank 0 judge the words of all ranks. Every rank returns rank 0's verdict, so the ranks cannot differ.

        The other ranks wait for the verdict without a time limit. If a rank's word does not reach rank 0 in time, the
        other ranks get the text of the AgreementError as their verdict.

        Raises:
            AgreementError: on rank 0 only, if a rank's word does not arrive in time.
            StoreGoneError: the store cannot be reached.
        """
        self.publish(topic, word)
        if self.rank != 0:
            return self.read(f"{topic}/verdict")
        try:
            words = self.gather_all(topic)
        except AgreementError as error:
            self.publish(f"{topic}/verdict", str(error))
            raise
        verdict = judge(words)
        self.publish(f"{topic}/verdict", verdict)
        return verdict

    def _wait(self, topic: str, keys: list[str]) -> None:
        try:
            self._store.wait(keys, _WITHOUT_END)
        except RuntimeError as error:
            raise StoreGoneError(f"{topic}: the store is gone ({error})") from error

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
