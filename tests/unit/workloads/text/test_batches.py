"""Sequences: where they are cut, and what follows each token."""

import numpy as np
import pytest
import torch

from ecrl.workloads.sampler import StepSampler
from ecrl.workloads.text.batches import BatchSource, SequenceStore
from ecrl.workloads.text.dataset import TokenData, count_sequences


def data(*sizes: int) -> TokenData:
    ends = np.cumsum(sizes)
    files = [np.arange(end - size, end, dtype=np.uint16) for size, end in zip(sizes, ends, strict=True)]
    return TokenData("d", files, 50257, synthetic=True)


def test_no_sequence_spans_two_files_and_each_has_the_token_that_follows_it() -> None:
    store = SequenceStore(data(9, 3, 0, 13), 4)
    assert len(store) == count_sequences([9, 3, 0, 13], 4) == 2 + 0 + 0 + 3
    rows = store.gather(np.arange(5)).tolist()
    assert rows == [list(range(begin, begin + 5)) for begin in (0, 4, 12, 16, 20)]


def test_a_file_needs_one_token_more_than_its_sequences() -> None:
    assert count_sequences([8], 4) == 1
    assert count_sequences([9], 4) == 2
    assert count_sequences([0], 4) == 0


def test_an_epoch_trains_on_every_sequence_once() -> None:
    store = SequenceStore(data(17, 17), 4)
    source = BatchSource(store, StepSampler(len(store), 2, 0, 1, seed=5), torch.device("cpu"))
    batches = [source.batch(step) for step in range(1, 5)]
    assert sorted(int(row[0]) for batch in batches for row in batch.inputs) == [0, 4, 8, 12, 17, 21, 25, 29]
    assert all(torch.equal(batch.inputs + 1, batch.targets) for batch in batches)
    assert batches[0].inputs.dtype == torch.int64


def test_a_sampler_of_other_data_is_refused() -> None:
    store = SequenceStore(data(17), 4)
    with pytest.raises(ValueError, match="5 samples, the data has 4"):
        BatchSource(store, StepSampler(5, 1, 0, 1, seed=0), torch.device("cpu"))
