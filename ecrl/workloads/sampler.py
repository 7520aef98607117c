"""The samples of a rank at each step, as a pure function of the step: a resume need not replay the sampler."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

IdArray = np.ndarray[Any, np.dtype[np.int64]]


class StepSampler:
    """Shuffles once per epoch and splits each global batch across the ranks.

    Within an epoch, every sample occurs at most once over all ranks. The samples after the last whole global batch are
    dropped; they differ from epoch to epoch. The global batch of a step depends on `batch_size * world_size` only, so
    another split over ranks trains on the same samples.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int, world_size: int, seed: int) -> None:
        """batch_size: samples per rank.

        Raises:
            ValueError: the global batch is larger than the data set, or an argument is out of range.
        """
        if batch_size < 1 or world_size < 1 or not 0 <= rank < world_size or seed < 0:
            raise ValueError(
                f"batch_size={batch_size}, rank={rank}, world_size={world_size}, seed={seed}: expected"
                " batch_size >= 1, 0 <= rank < world_size and seed >= 0"
            )
        global_batch = batch_size * world_size
        if global_batch > num_samples:
            raise ValueError(
                f"the global batch of {global_batch} samples ({batch_size} x {world_size} ranks) is larger than"
                f" the data set, {num_samples}; lower the batch size or the number of ranks"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.steps_per_epoch = num_samples // global_batch
        # A cache, not state: callers may ask for any step of any epoch in any order.
        self._shuffled: tuple[int, IdArray] | None = None

    def epoch(self, step: int) -> int:
        """The epoch (from 0) of `step` (from 1).

        Raises:
            ValueError: the step is below 1.
        """
        if step < 1:
            raise ValueError(f"step {step}: steps are counted from 1")
        return (step - 1) // self.steps_per_epoch

    def ids(self, step: int) -> IdArray:
        """This rank's sample indices at `step`, int64 [batch_size]. The array is the caller's own copy.

        Raises:
            ValueError: the step is below 1.
        """
        order = self._order(self.epoch(step))
        start = ((step - 1) % self.steps_per_epoch * self.world_size + self.rank) * self.batch_size
        return order[start : start + self.batch_size].copy()

    def _order(self, epoch: int) -> IdArray:
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
            self._shuffled = (epoch, order.astype(np.int64, copy=False))
        return self._shuffled[1]


def digest(ids: IdArray) -> str:
    """Eight hex digits that identify a sequence of samples, the same on any machine."""
    return f"{zlib.crc32(ids.astype('<i8', copy=False).tobytes()):08x}"


def join_digests(digests: Sequence[str]) -> str:
    """The digest of a sequence of micro-batches from theirs; a single one keeps its own."""
    return digests[0] if len(digests) == 1 else f"{zlib.crc32(''.join(digests).encode()):08x}"
