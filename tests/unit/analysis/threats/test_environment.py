"""Environment variables that differ between runs, by name; runs of older versions have not recorded them."""

from ecrl.analysis.threats.machine import _find_differing_facts


def test_the_variables_that_differ_are_named() -> None:
    runs = [
        {"host": "a", "environment": {"NCCL_DEBUG": "INFO", "KMP_AFFINITY": "none"}},
        {"host": "a", "environment": {"NCCL_DEBUG": "WARN", "KMP_AFFINITY": "none"}},
    ]
    assert _find_differing_facts(runs) == ["NCCL_DEBUG"]
    assert _find_differing_facts([{"environment": {}}, {"environment": {"LD_PRELOAD": "x"}}]) == ["LD_PRELOAD"]


def test_a_run_that_did_not_record_them_differs_in_nothing() -> None:
    assert _find_differing_facts([{"host": "a"}, {"host": "a", "environment": {"NCCL_DEBUG": "INFO"}}]) == []
    assert _find_differing_facts([]) == []
