"""What a run's events give to say while it goes on."""

from typing import Any

from ecrl.launch.runs.warnings import RunWarnings

FULL = {"e": "persist_failed", "reason": "rank 1: No space left on device"}


def said(*events: tuple[int, int, dict[str, Any]]) -> list[str]:
    remarks = RunWarnings()
    return [text for event in events for text in remarks.get_warnings(*event)] + list(remarks.get_final_warnings())


def test_the_first_checkpoint_that_is_lost_is_told_once_and_all_are_counted() -> None:
    lost = [(0, rank, FULL | {"s": step}) for step in (4, 8) for rank in (0, 1)]
    assert said(*lost, (1, 0, FULL | {"s": 4})) == [
        "checkpoint 4 could not be kept: rank 1: No space left on device; training goes on",
        "3 checkpoints could not be kept",
    ]
    assert len(said(*lost[:2])) == 1


def test_a_restart_without_a_checkpoint_says_so_and_names_those_it_passed_over() -> None:
    restored = {"e": "restored", "step": 0, "passed_over": [{"step": 4, "reason": "COMMIT.json: torn"}]}
    assert said(*((1, rank, restored) for rank in (0, 1))) == [
        "checkpoint 4 was passed over: COMMIT.json: torn",
        "there is no checkpoint to restore: training restarts at step 0",
    ]
    assert said((0, 0, restored)) == []  # a first attempt begins where it should
    assert said((1, 0, {"e": "restored", "step": 4, "passed_over": []})) == []


def test_a_checkpoint_that_goes_elsewhere_is_told_with_its_place_and_all_are_counted() -> None:
    moved = {"e": "rerouted", "reason": "rank 1: No space left on device", "to": "/mnt/b/place"}
    assert said(*((0, rank, moved | {"s": step}) for step in (4, 8) for rank in (0, 1))) == [
        "checkpoint 4 goes to /mnt/b/place: rank 1: No space left on device",
        "2 checkpoints were written to a fallback",
    ]
