"""Facts that comparisons and threats rest on."""

from pathlib import Path

from ecrl.records import machine


def test_pressure_holds_what_the_threats_look_for(tmp_path: Path) -> None:
    values = machine.read_pressure(tmp_path)
    assert 0 < values["disk_free_bytes"] <= values["disk_total_bytes"]
    assert abs(values["boot_minus_mono_ns"]) < 10**18
    assert values["load1"] >= 0
    assert 0 <= values["cpu_steal_s"] < values["cpu_total_s"]
    assert values["available_memory_bytes"] > 10**6
    assert "disk_free_bytes" not in machine.read_pressure()  # absent, not zero


def test_facts_name_the_machine_and_the_software() -> None:
    facts = machine.read_facts()
    assert {"host", "boot_id", "kernel", "cpu", "cores", "memory_bytes", "python", "ecrl"} <= set(facts)
    assert machine.available_memory_bytes() > 10**6
