"""Properties of the sampling order."""

import zlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ecrl.workloads.sampler import StepSampler, digest

SIZES = {
    "num_samples": st.integers(1, 200),
    "batch_size": st.integers(1, 12),
    "world_size": st.integers(1, 6),
    "seed": st.integers(0, 2**63),
}


def group(num_samples: int, batch_size: int, world_size: int, seed: int) -> list[StepSampler]:
    """One sampler per rank."""
    return [StepSampler(num_samples, batch_size, rank, world_size, seed) for rank in range(world_size)]


@settings(deadline=None)  # the machine may be busy
@given(epoch=st.integers(0, 5), **SIZES)
def test_in_an_epoch_a_sample_occurs_at_most_once_over_all_ranks(
    num_samples: int, batch_size: int, world_size: int, seed: int, epoch: int
) -> None:
    assume(batch_size * world_size <= num_samples)
    ranks = group(num_samples, batch_size, world_size, seed)
    steps = ranks[0].steps_per_epoch
    drawn = [ids for step in range(1, steps + 1) for rank in ranks for ids in rank.ids(epoch * steps + step).tolist()]
    assert len(drawn) == steps * batch_size * world_size > num_samples - batch_size * world_size
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(num_samples))


@settings(deadline=None)  # the machine may be busy
@given(steps=st.lists(st.integers(1, 100), min_size=1, max_size=20), **SIZES)
def test_a_step_does_not_depend_on_the_steps_asked_for_before(
    num_samples: int, batch_size: int, world_size: int, seed: int, steps: list[int]
) -> None:
    assume(batch_size * world_size <= num_samples)
    used = group(num_samples, batch_size, world_size, seed)[-1]
    for step in steps:
        fresh = group(num_samples, batch_size, world_size, seed)[-1]
        np.testing.assert_array_equal(used.ids(step), fresh.ids(step))


@settings(deadline=None)  # the machine may be busy
@given(step=st.integers(1, 50), half=st.integers(1, 6), num_samples=st.integers(50, 200))
def test_the_split_over_ranks_does_not_change_the_global_batch(step: int, half: int, num_samples: int) -> None:
    one, two = group(num_samples, 2 * half, 1, 3), group(num_samples, half, 2, 3)
    np.testing.assert_array_equal(one[0].ids(step), np.concatenate([rank.ids(step) for rank in two]))


def test_epochs_and_seeds_differ_in_order() -> None:
    sampler = StepSampler(100, 100, 0, 1, seed=1)
    orders = [sampler.ids(1), sampler.ids(2), StepSampler(100, 100, 0, 1, seed=2).ids(1)]
    assert len({digest(ids) for ids in orders}) == 3
    assert [sampler.epoch(step) for step in (1, 2, 3)] == [0, 1, 2]


def test_what_a_caller_does_to_its_ids_stays_its_own() -> None:
    sampler = StepSampler(10, 5, 0, 1, seed=1)
    before = sampler.ids(1).copy()
    sampler.ids(1)[:] = 0
    np.testing.assert_array_equal(sampler.ids(1), before)


def test_a_global_batch_larger_than_the_data_is_refused() -> None:
    assert StepSampler(12, 4, 0, 3, seed=0).steps_per_epoch == 1
    with pytest.raises(ValueError, match=r"16 samples \(4 x 4 ranks\).*12"):
        StepSampler(12, 4, 0, 4, seed=0)


@pytest.mark.parametrize(
    ("batch_size", "rank", "world_size", "seed"),
    [(0, 0, 1, 0), (1, 1, 1, 0), (1, -1, 1, 0), (1, 0, 0, 0), (1, 0, 1, -1)],
)
def test_impossible_arguments_are_refused(batch_size: int, rank: int, world_size: int, seed: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size={batch_size}, rank={rank}, world_size={world_size}, seed={seed}"):
        StepSampler(10, batch_size, rank, world_size, seed)


def test_steps_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="step 0"):
        StepSampler(10, 1, 0, 1, 0).ids(0)


def test_the_digest_is_the_crc_of_the_little_endian_ids() -> None:
    ids = np.array([1, 258], np.int64)
    expected = f"{zlib.crc32(bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0])):08x}"
    assert digest(ids) == expected == digest(ids.astype(">i8"))
    assert digest(ids) != digest(ids[::-1])
