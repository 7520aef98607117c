"""Properties of the augmentation."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecrl.workloads.images.augment import Draws, Normaliser, crop_and_flip, draw

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8))
SEEDS = st.integers(-(2**63), 2**64)


def augmented(seed: int, epoch: int, ids: list[int]) -> torch.Tensor:
    draws = draw(seed, epoch, np.array(ids, np.int64))
    return crop_and_flip(IMAGES[ids], *tensors(draws))


def tensors(draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(draws.shift_y), torch.from_numpy(draws.shift_x), torch.from_numpy(draws.flip)


@settings(deadline=None)  # the machine may be busy
@given(SEEDS, st.integers(0, 1000), st.lists(st.integers(0, 63), min_size=1, max_size=20), st.data())
def test_a_samples_pixels_do_not_depend_on_its_batch(
    seed: int, epoch: int, ids: list[int], data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(ids) - 1))
    assert torch.equal(augmented(seed, epoch, ids)[position], augmented(seed, epoch, [ids[position]])[0])


@settings(deadline=None)  # the machine may be busy
@given(SEEDS, st.integers(0, 1000), st.integers(0, 63))
def test_it_is_a_crop_of_the_padded_image_and_perhaps_its_mirror(seed: int, epoch: int, sample: int) -> None:
    draws = draw(seed, epoch, np.array([sample], np.int64))
    top, left = int(draws.shift_y[0]), int(draws.shift_x[0])
    padded = np.pad(IMAGES[sample].numpy(), ((0, 0), (4, 4), (4, 4)))
    expected = padded[:, top : top + 32, left : left + 32]
    if draws.flip[0]:
        expected = expected[:, :, ::-1]
    np.testing.assert_array_equal(augmented(seed, epoch, [sample])[0].numpy(), expected)


def test_shift_four_without_a_flip_leaves_an_image_as_it_is() -> None:
    four, none = torch.full((64,), 4), torch.zeros(64, dtype=torch.int64)
    assert torch.equal(crop_and_flip(IMAGES, four, four, none), IMAGES)
    assert torch.equal(crop_and_flip(IMAGES, four, four, none + 1), IMAGES.flip(3))


@pytest.mark.parametrize(("field", "num_values"), [("shift_y", 9), ("shift_x", 9), ("flip", 2)])
def test_every_shift_and_both_flips_are_equally_likely(field: str, num_values: int) -> None:
    ids = np.arange(90_000, dtype=np.int64)
    counts = np.bincount(getattr(draw(1337, 0, ids), field))
    assert len(counts) == num_values
    # five standard deviations of a binomial count
    assert np.abs(counts - 90_000 / num_values).max() < 5 * np.sqrt(90_000 / num_values)


def combined(draws: Draws) -> np.ndarray[Any, np.dtype[np.int64]]:
    return draws.shift_y * 18 + draws.shift_x * 2 + draws.flip


def test_the_three_draws_are_independent() -> None:
    counts = np.bincount(combined(draw(7, 3, np.arange(162_000, dtype=np.int64))), minlength=162)
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize(("seed", "epoch"), [(8, 3), (7, 4), (4, 7)])
def test_another_seed_or_epoch_draws_anew(seed: int, epoch: int) -> None:
    ids = np.arange(10_000, dtype=np.int64)
    same = np.mean(combined(draw(7, 3, ids)) == combined(draw(seed, epoch, ids)))
    assert same == pytest.approx(1 / 162, abs=0.005)


def test_the_hash_is_splitmix64() -> None:
    # the first outputs for seed 1234567 of the reference implementation, https://prng.di.unimi.it/splitmix64.c
    from ecrl.workloads.images import augment

    golden, state, outputs = 0x9E3779B97F4A7C15, 1234567, []
    for _ in range(3):
        outputs.append(augment._mix_int(state))
        state += golden
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.array([1234567 + golden], np.uint64)
    assert int(augment._mix(states)[0]) == outputs[0]


def test_normalising_is_the_formula() -> None:
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    result = Normaliser(mean, std, torch.device("cpu"))(IMAGES)
    expected = (IMAGES.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected.float(), rtol=1e-5, atol=1e-5)
