"""The CPU's side of the snapshot contract: slots that refuse every wrong move, and copies by a thread."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import torch

from ecrl.checkpoint.sharded import snapshot
from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, Stager, ThreadStager, make_stager, slot_bytes
from ecrl.checkpoint.state_view import Layout, StateView

SNAPSHOTS = 200
RING = [SlotState.FREE, SlotState.STAGING, SlotState.STAGED, SlotState.PERSISTING]


# --- slots --------------------------------------------------------------------------------------------------


def small_slot() -> Slot:
    return Slot(Layout({"model/weight": torch.zeros(3)}), pinned=False)


def slot_in(state: SlotState) -> Slot:
    slot = small_slot()
    for passed in RING[1 : RING.index(state) + 1]:
        slot.move_to(passed)
    return slot


def test_a_slot_goes_round_and_round() -> None:
    slot = small_slot()
    for state in [*RING[1:], *RING, RING[0]]:
        slot.move_to(state)
    assert slot.state is SlotState.FREE


@pytest.mark.parametrize(
    ("state", "to"),
    [(a, b) for a, b in itertools.product(RING, RING) if RING[(RING.index(a) + 1) % 4] is not b],
)
def test_every_other_move_is_refused_and_changes_nothing(state: SlotState, to: SlotState) -> None:
    slot = slot_in(state)
    with pytest.raises(AssertionError, match=f"slot cannot go from {state.value} to {to.value}"):
        slot.move_to(to)
    assert slot.state is state


def test_views_write_through_to_the_payload() -> None:
    slot = small_slot()
    slot.views["model/weight"].fill_(1)
    assert slot.payload.view(torch.float32).tolist() == [1, 1, 1]


def test_a_slot_in_pageable_memory_takes_its_payload() -> None:
    assert slot_bytes(Layout({"model/weight": torch.zeros(3)}), pinned=False) == 12


# --- copies by a thread -------------------------------------------------------------------------------------


class Probe:
    """State whose every element is the step that wrote it, so that a torn snapshot shows itself."""

    def __init__(self, *, parts: int = 4, elements: int = 20_000) -> None:
        self.parameters = {f"model/{i}": torch.zeros(elements) for i in range(parts)}
        self.buffers = {"own/buffers/mean": torch.zeros(elements)}

    def forward(self, step: int) -> None:
        for buffer in self.buffers.values():
            buffer.fill_(step)

    def update(self, step: int) -> None:
        for parameter in self.parameters.values():
            parameter.fill_(step)

    def view(self, step: int) -> StateView:
        return StateView(self.parameters, self.buffers, {"own/rng/torch": torch.tensor([step])}, {"step": step})

    def slot(self) -> Slot:
        view = self.view(0)
        return Slot(Layout(view.replicated | view.local | view.host), pinned=False)


def torn_snapshots(
    stager: Stager, probe: Probe, count: int, *, updated: Callable[[], None] = lambda: None
) -> list[int]:
    """Steps whose snapshot holds another step's values anywhere. `updated` is called after each next update."""
    slots, torn = itertools.cycle([probe.slot(), probe.slot()]), []
    probe.forward(1)
    probe.update(1)
    for step in range(1, count + 1):
        slot = next(slots)
        stager.begin(slot, probe.view(step))
        stager.before_forward()
        probe.forward(step + 1)
        stager.before_update()
        probe.update(step + 1)
        updated()
        stager.wait(slot)
        if slot.meta != {"step": step} or any(bool((v != step).any()) for v in slot.views.values()):
            torn.append(step)
        slot.move_to(SlotState.PERSISTING)
        slot.move_to(SlotState.FREE)
    stager.close()
    return torn


class SlowCopies:
    """Copies that stop half way, in the staging thread, until the next update is made or `patience_s` is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
        self._copy, self._patience_s = snapshot._copy, patience_s
        self.updated = threading.Event()
        monkeypatch.setattr(snapshot, "_copy", self._slow_copy)

    def _slow_copy(self, targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        half = 0 if threading.current_thread() is threading.main_thread() else len(targets) // 2
        self._copy(targets[:half], sources[:half])
        if half:
            self.updated.wait(self._patience_s)
            self.updated.clear()
        self._copy(targets[half:], sources[half:])


class UpdateIgnoresCopy(ThreadStager):
    """The update does not wait for the copy of what it changes."""

    def before_update(self) -> bool:
        return False


def test_the_cpu_gets_the_thread() -> None:
    stager = make_stager(torch.device("cpu"))
    stager.close()
    assert isinstance(stager, ThreadStager)


def test_no_snapshot_is_torn() -> None:
    assert torn_snapshots(ThreadStager(), Probe(elements=200_000), SNAPSHOTS) == []


def test_no_snapshot_is_torn_where_copies_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    SlowCopies(monkeypatch, patience_s=0.001)  # nobody announces an update: the fence has to hold it back
    assert torn_snapshots(ThreadStager(), Probe(), SNAPSHOTS) == []


def test_an_update_that_does_not_wait_tears_every_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCopies(monkeypatch, patience_s=20)
    torn = torn_snapshots(UpdateIgnoresCopy(), Probe(), 20, updated=slow.updated.set)
    assert torn == list(range(1, 21))


def test_a_fence_says_whether_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowCopies(monkeypatch, patience_s=0.05)
    probe, stager = Probe(), ThreadStager()
    slot = probe.slot()
    stager.begin(slot, probe.view(1))
    assert not stager.before_forward()
    assert stager.before_update()
    assert not stager.before_update()
    assert not slow.updated.is_set()
    stager.wait(slot)
    stager.close()


def test_only_this_ranks_share_is_copied() -> None:
    probe, stager = Probe(), ThreadStager()
    slot = Slot(Layout({"model/1": probe.parameters["model/1"]} | probe.buffers), pinned=False)
    probe.update(7)
    stager.begin(slot, StateView(probe.parameters, probe.buffers))
    stager.wait(slot)
    stager.close()
    assert set(slot.views) == {"model/1", "own/buffers/mean"}
    assert bool((slot.views["model/1"] == 7).all())


def test_a_failed_copy_surfaces_where_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    probe, stager = Probe(), ThreadStager()
    slot = probe.slot()
    copy = snapshot._copy

    def fails_in_the_thread(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("no room")
        copy(targets, sources)

    monkeypatch.setattr(snapshot, "_copy", fails_in_the_thread)
    stager.begin(slot, probe.view(1))
    stager.before_update()  # the training thread goes on
    with pytest.raises(MemoryError, match="no room"):
        stager.wait(slot)
    assert slot.state is SlotState.STAGING
    stager.close()


def test_a_busy_slot_takes_no_second_snapshot() -> None:
    probe, stager = Probe(), ThreadStager()
    slot = probe.slot()
    stager.begin(slot, probe.view(1))
    with pytest.raises(AssertionError, match="slot cannot go from"):
        stager.begin(slot, probe.view(2))
    stager.wait(slot)
    assert slot.meta == {"step": 1}
    stager.close()


ASKED = """
import torch
from ecrl.checkpoint.sharded import snapshot
settings = torch._C._accelerator_getAllocatorSettings
print(settings(), snapshot._has_rounded_blocks(), settings())
"""


@pytest.mark.parametrize("own", ["", "max_split_size_mb:128,expandable_segments:True"])
def test_exact_slots_leave_what_the_user_told_the_allocator(own: str) -> None:
    environment = os.environ | {"PYTORCH_ALLOC_CONF": own}
    told = subprocess.run([sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=True)
    key = "pinned_max_round_threshold_mb:1"
    assert told.stdout.split() == [*own.split(), "False", f"{own},{key}" if own else key]
