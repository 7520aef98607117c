"""The token batches of a training run: on the device, and a pure function of (seed, step, rank)."""

from dataclasses import dataclass

import numpy as np
import torch

from ecrl.workloads.sampler import IdArray, StepSampler, digest
from ecrl.workloads.task import Batch
from ecrl.workloads.text.dataset import TokenData, count_sequences


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenBatch(Batch):
    """One step's sequences of one rank.

    Attributes:
        inputs: int64 [B, T], on the device.
        targets: int64 [B, T], the token that follows each input, on the device.
    """

    inputs: torch.Tensor
    targets: torch.Tensor


class SequenceStore:
    """The sequences of a data set, numbered from 0: each file cut into lengths of T, a shorter rest left out."""

    def __init__(self, data: TokenData, sequence_length: int) -> None:
        self._files, self._length = data.files, sequence_length
        counts = [count_sequences([len(tokens)], sequence_length) for tokens in data.files]
        self._ends = np.cumsum(counts)  # the number of sequences in each file and those before it

    def __len__(self) -> int:
        return int(self._ends[-1])

    def gather(self, ids: IdArray) -> torch.Tensor:
        """int64 [B, T + 1]: the tokens of each sequence, and the one that follows it."""
        files = np.searchsorted(self._ends, ids, side="right")
        rows = np.empty((len(ids), self._length + 1), np.int64)
        for row, sample, file in zip(rows, ids.tolist(), files.tolist(), strict=True):
            begin = (sample - (int(self._ends[file - 1]) if file else 0)) * self._length
            row[:] = self._files[file][begin : begin + self._length + 1]
        return torch.from_numpy(rows)


class BatchSource:
    """Reads each step's sequences from the files. Has no position."""

    def __init__(self, sequences: SequenceStore, sampler: StepSampler, device: torch.device) -> None:
        """Raises:
        ValueError: the sampler was created for another number of samples.
        """
        if sampler.num_samples != len(sequences):
            raise ValueError(f"the sampler draws from {sampler.num_samples} samples, the data has {len(sequences)}")
        self._sequences, self._sampler, self._device = sequences, sampler, device

    def batch(self, step: int) -> TokenBatch:
        """The batch of `step` (from 1). On a GPU it only enqueues work and never waits.

        Raises:
            ValueError: the step is below 1.
        """
        ids = self._sampler.ids(step)
        rows = self._sequences.gather(ids)
        if self._device.type == "cuda":
            # torch's pinned-memory allocator does not reuse this block before the copy on this stream has run.
            rows = rows.pin_memory().to(self._device, non_blocking=True)
        return make_batch(rows, digest(ids))


def make_batch(rows: torch.Tensor, ids_digest: str) -> TokenBatch:
    """The batch of sequences int64 [B, T + 1]."""
    return TokenBatch(inputs=rows[:, :-1], targets=rows[:, 1:], ids_digest=ids_digest)
