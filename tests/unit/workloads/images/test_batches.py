"""What the training loop gets at each step."""

import dataclasses

import pytest
import torch

from ecrl import plugins
from ecrl.workloads.images.batches import BatchSource
from ecrl.workloads.images.dataset import ImageData
from ecrl.workloads.sampler import StepSampler, digest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> ImageData:
    loaded: ImageData = plugins.load("dataset", "noise").load(None)
    return dataclasses.replace(loaded, images=loaded.images[:100], labels=loaded.labels[:100])


def source(data: ImageData, batch_size: int = 8, rank: int = 0, world_size: int = 1, **changes: object) -> BatchSource:
    settings = {"device": CPU, "augment": True, "seed": 5} | changes
    return BatchSource(data, StepSampler(len(data.images), batch_size, rank, world_size, 3), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("augment", [True, False])
def test_a_batch_has_the_promised_shape_and_types(data: ImageData, augment: bool) -> None:
    batch = source(data, augment=augment).batch(1)
    assert (batch.images.dtype, batch.images.shape) == (torch.float32, (8, 3, 32, 32))
    assert (batch.labels.dtype, batch.labels.shape) == (torch.int64, (8,))
    assert batch.images.is_contiguous()
    assert not batch.images.requires_grad


def test_without_augmentation_it_is_the_samples_normalised(data: ImageData) -> None:
    ids = StepSampler(100, 8, 0, 1, 3).ids(20)
    batch = source(data, augment=False).batch(20)
    expected = (data.images[ids].float() / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(batch.images, expected)
    assert torch.equal(batch.labels, data.labels[ids])
    assert batch.ids_digest == digest(ids)


def test_a_resumed_source_gives_the_same_bits(data: ImageData) -> None:
    first = source(data)
    seen = [first.batch(step) for step in range(1, 31)]
    for step in (25, 13, 30):
        again = source(data).batch(step)
        assert torch.equal(again.images, seen[step - 1].images)
        assert torch.equal(again.labels, seen[step - 1].labels)
        assert again.ids_digest == seen[step - 1].ids_digest


def test_two_ranks_together_have_the_bits_of_one_with_both_batches(data: ImageData) -> None:
    for step in (1, 9):
        parts = [source(data, 8, rank, 2).batch(step).images for rank in range(2)]
        assert torch.equal(source(data, 16).batch(step).images, torch.cat(parts))


def test_a_sample_looks_different_in_another_epoch(data: ImageData) -> None:
    sampler = StepSampler(100, 100, 0, 1, 3)
    whole = BatchSource(data, sampler, CPU, augment=True, seed=5)
    by_sample = [whole.batch(step).images[torch.from_numpy(sampler.ids(step)).argsort()] for step in (1, 2)]
    same = sum(torch.equal(a, b) for a, b in zip(*by_sample, strict=True))
    assert same < 10


def test_training_in_place_on_a_batch_leaves_the_data_alone(data: ImageData) -> None:
    whole = source(data, 8, augment=False)
    before = data.images.clone()
    whole.batch(1).images.zero_()
    assert torch.equal(data.images, before)


def test_torchs_generator_is_not_touched(data: ImageData) -> None:
    before = torch.get_rng_state()
    source(data).batch(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sampler_for_other_data_is_refused(data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"99 .* 100"):
        BatchSource(data, StepSampler(99, 8, 0, 1, 3), CPU, augment=True, seed=5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_same_samples_without_the_host_waiting(data: ImageData) -> None:
    on_gpu = source(data, device=torch.device("cuda"))
    on_gpu.batch(1)  # pays for the first allocations
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [on_gpu.batch(step) for step in range(1, 31)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, batch in enumerate(batches, start=1):
        expected = source(data).batch(step)
        torch.testing.assert_close(batch.images.cpu(), expected.images)
        assert torch.equal(batch.labels.cpu(), expected.labels)
