"""Snapshots on an accelerator, proved without one: production code over a CUDA runtime that orders work as
badly as the fences allow. Each fence is shown to be needed by leaving it out."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cuda_standin.build import build_or_skip, cache_of, run_programs
from tests.cuda_standin.library import HOST_WAITS, Entry
from tests.cuda_standin.toy import HOST_STEP, ON_DEVICE_BUFFERS, ON_DEVICE_REPLICATED

RANDOM = [f"random-{seed}" for seed in range(8)]
ON_DEVICE = {*ON_DEVICE_BUFFERS, *ON_DEVICE_REPLICATED}

# policy -> stager -> every tensor that some snapshot had wrong. Not listed: none.
SEEN: dict[str, dict[str, set[str]]] = {
    "eager": {
        "host_state_copied_late": {HOST_STEP},
    },
    "lazy": {
        "copy_ignores_update": ON_DEVICE,
        "persister_ignores_copy": ON_DEVICE,
        "host_state_copied_late": {HOST_STEP},
    },
    "hostile": {
        "forward_ignores_copy": {*ON_DEVICE_BUFFERS},
        "update_ignores_copy": {*ON_DEVICE_REPLICATED},
        "persister_ignores_copy": ON_DEVICE,
        "host_state_copied_late": {HOST_STEP},
    },
}


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest) -> Path:
    return build_or_skip(cache_of(request.config))


@pytest.fixture(scope="module")
def printed(library: Path) -> dict[str, Any]:
    """What each program printed. The log of allocations is first: later ones find memory that others left."""
    programs = ("overlap", "losses", "snapshots", "sgd")
    return dict(zip(programs, run_programs(library, *programs), strict=True))


@pytest.fixture(scope="module")
def toy(printed: dict[str, Any]) -> Any:
    return printed["snapshots"]


@pytest.fixture(scope="module")
def sgd(printed: dict[str, Any]) -> Any:
    return printed["sgd"]


@pytest.fixture(scope="module")
def overlap(printed: dict[str, Any]) -> Any:
    return printed["overlap"]


@pytest.fixture(scope="module")
def losses(printed: dict[str, Any]) -> Any:
    return printed["losses"]


def names(torn: dict[str, list[str]]) -> set[str]:
    return {name for names in torn.values() for name in names}


# --- what is in the slots -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["eager", "lazy", "hostile", *RANDOM])
@pytest.mark.parametrize("run", ["right", "right, unsynchronised"])
def test_a_snapshot_is_the_state_after_its_step(toy: Any, policy: str, run: str) -> None:
    assert toy[policy][run] == {}


@pytest.mark.parametrize("policy", SEEN)
def test_each_policy_sees_exactly_the_fences_it_can_see_missing(toy: Any, policy: str) -> None:
    seen = {stager: names(torn) for stager, torn in toy[policy].items() if torn}
    assert seen == SEEN[policy]


def test_every_fence_is_needed(toy: Any) -> None:
    stagers = {stager for stager in toy["lazy"] if not stager.startswith("right")}
    assert stagers == {stager for seen in SEEN.values() for stager in seen}


def test_a_device_without_queues_would_see_no_fence_missing(toy: Any) -> None:
    assert not any(torn for stager, torn in toy["eager"].items() if "ignores" in stager)


@pytest.mark.parametrize("policy", ["eager", "lazy", "hostile", "random-1"])
def test_the_training_state_under_a_real_optimizer_is_snapshotted_exactly(sgd: Any, policy: str) -> None:
    assert sgd[policy]["right"] == {}


@pytest.mark.parametrize(
    ("stager", "policy", "torn_prefixes"),
    [
        ("copy_ignores_update", "lazy", {"model", "optimizer", "own"}),
        ("forward_ignores_copy", "hostile", {"own"}),
        ("update_ignores_copy", "hostile", {"model", "optimizer"}),
        ("persister_ignores_copy", "lazy", {"model", "optimizer", "own"}),
        ("persister_ignores_copy", "hostile", {"model", "optimizer", "own"}),
    ],
)
def test_under_a_real_optimizer_too_each_fence_is_needed(
    sgd: Any, stager: str, policy: str, torn_prefixes: set[str]
) -> None:
    assert {name.split("/")[0] for name in names(sgd[policy][stager])} == torn_prefixes


def test_the_stream_sanitizer_is_quiet_and_sees_the_fences_on_the_device(library: Path) -> None:
    [complaints] = run_programs(library, "sanitizer", sanitizer=True)
    seen = {stager for stager, message in complaints.items() if message and "possible data race" in message}
    assert seen == {"copy_ignores_update", "forward_ignores_copy", "update_ignores_copy"}
    assert complaints["right"] is None


# --- what it makes the device and the host do ---------------------------------------------------------------


def entries(overlap: Any, stager: str, *parts: str) -> list[Entry]:
    return [Entry(*fields) for part in parts for fields in overlap["logs"][stager][part]]


def test_copies_run_on_the_side_stream_into_pinned_memory(overlap: Any) -> None:
    copies = [entry for entry in entries(overlap, "right", "begin") if entry.kind == "D2H"]
    updates = [entry for entry in entries(overlap, "right", "fences") if entry.kind == "H2D"]
    assert {entry.memory for entry in copies} == {"pinned"}
    assert {entry.stream for entry in updates} == {0}
    assert len({entry.stream for entry in copies}) == 1
    assert {entry.stream for entry in copies}.isdisjoint({0})


def test_every_byte_on_the_device_is_copied_once(overlap: Any) -> None:
    log = overlap["logs"]["right"]
    copied = sum(entry.bytes for entry in entries(overlap, "right", "begin") if entry.kind == "D2H")
    assert copied == log["payload_bytes"] - log["host_bytes"]


def test_training_waits_for_nothing_between_a_snapshot_and_the_next_update(overlap: Any) -> None:
    assert not [entry for entry in entries(overlap, "right", "begin", "fences") if entry.phase != "queued"]


def test_the_copy_waits_once_and_training_twice(overlap: Any) -> None:
    begin = Counter((entry.stream > 0, entry.kind) for entry in entries(overlap, "right", "begin"))
    assert begin[(True, "wait")] == 1  # for the update
    assert begin[(False, "record")] == 1
    assert begin[(True, "record")] == 2  # buffers copied, all copied
    fences = [entry.kind for entry in entries(overlap, "right", "fences") if entry.stream == 0]
    assert fences == ["wait", "H2D", "H2D", "wait"]  # fence, forward, fence


def test_the_persister_looks_whether_the_copy_is_over_and_spins_in_no_wait(overlap: Any) -> None:
    assert not [entry for entry in entries(overlap, "right", "wait") if entry.kind in HOST_WAITS]
    assert "D2H" in {entry.kind for entry in entries(overlap, "right", "wait") if entry.phase == "ran"}


def test_a_lost_overlap_would_be_noticed(overlap: Any) -> None:
    copies = [e for e in entries(overlap, "copies_on_compute_stream", "begin") if e.kind == "D2H"]
    assert {entry.stream for entry in copies} == {0}
    for stager in ("copies_block", "fence_blocks"):
        assert any(entry.kind in HOST_WAITS for entry in entries(overlap, stager, "begin", "fences"))


def test_a_pageable_slot_is_refused(overlap: Any) -> None:
    assert overlap["pageable"] == "snapshot slots of an accelerator must be pinned"


def test_a_pinned_slot_takes_what_was_said_and_no_more_than_the_snapshot(overlap: Any) -> None:
    for slot in overlap["slots"]:
        assert slot["said"] == slot["allocated"]
    assert [slot["allocated"] for slot in overlap["slots"]] == [1 << 20, (1 << 20) + 1, (1 << 22) + 1]


def test_on_the_second_gpu_the_persister_never_touches_the_first(overlap: Any) -> None:
    assert overlap["devices"] == [1]


# --- losses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["eager", "lazy", "hostile", "random-1"])
def test_losses_come_in_order_and_exact(losses: Any, policy: str) -> None:
    right = losses[policy]["right"]
    assert right["steps"] == list(range(1, 201))
    assert right["wrong"] == []


@pytest.mark.parametrize("policy", ["lazy", "hostile"])
def test_losses_read_at_once_are_wrong(losses: Any, policy: str) -> None:
    assert len(losses[policy]["reads_at_once"]["wrong"]) > 100


def test_reading_a_loss_waits_only_once_the_ring_is_full(losses: Any) -> None:
    assert min(losses["lazy"]["right"]["waited"]) > 64
