"""The memory plan: its sum, and the settings that it proposes."""

import dataclasses
from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.config.train import TrainSettings
from ecrl.errors import UnfitError
from ecrl.experiments.training import memory_plan
from ecrl.experiments.training.memory_plan import Footprint, MemoryPlan, check_memory
from tests.unit.launch.stand_in import MATRIX, answer

GB = 10**9
XL = Footprint(parameters=6_230_444_800, buffers=0, activations=0)
LARGE = Footprint(parameters=3_096_120_320, buffers=0, activations=0)


def plan(footprint: Footprint, *, slots: int = 0, **train: object) -> MemoryPlan:
    settings = TrainSettings(**{"steps": 1, "batch_size": 1, "optimizer": "adamw"} | train)  # type: ignore[arg-type]
    return MemoryPlan(footprint, settings, slots, jobs=1)


def need(plan: MemoryPlan) -> int:
    return plan.count_bytes(on_gpus=False)


def test_a_rank_holds_weights_gradients_moments_and_activations() -> None:
    one = Footprint(parameters=1000, buffers=10, activations=7)
    assert need(plan(one, batch_size=3)) == 4 * 1000 + 10 + 21
    assert need(plan(one, optimizer="sgd", momentum=0.9)) == 3 * 1000 + 10 + 7
    assert need(plan(one, optimizer="sgd", momentum=0.0)) == 2 * 1000 + 10 + 7
    assert need(plan(one, nproc=3)) == 3 * (4 * 1000 + 10 + 7)


def test_accumulating_costs_a_split_model_whole_gradients_and_short_types_halve_the_activations() -> None:
    one = Footprint(parameters=1200, buffers=10, activations=8)
    assert need(plan(one, accumulate=4)) == need(plan(one))
    assert plan(one, parallel="fsdp2", nproc=4, accumulate=2).rank_bytes == 3 * 300 + 1200 + 10 + 8
    for precision in ("bf16", "fp16"):
        assert need(plan(one, batch_size=2, precision=precision)) == need(plan(one, batch_size=1))


def test_a_snapshot_is_one_state_whatever_the_number_of_ranks() -> None:
    one = Footprint(parameters=1000, buffers=10, activations=0)
    assert plan(one, nproc=2, slots=3).count_bytes(on_gpus=True) == 3 * (3 * 1000 + 2 * 10)
    assert dataclasses.replace(plan(one, slots=3), jobs=2).count_bytes(on_gpus=True) == 2 * 3 * 3010


def test_gpt2_xl_with_adamw_does_not_fit_into_24_gb_and_gpt2_large_without_snapshots_does() -> None:
    assert need(plan(XL)) > 24 * GB
    assert need(plan(LARGE)) < 24 * GB


def refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, parameters: int = 1000, text: str = MATRIX
) -> list[str]:
    """The lines of the refusal with so much free memory; [] if there is none."""
    path = tmp_path / "m.toml"
    path.write_text(text)
    matrix = load(path)
    told: dict[str, int | None] = {"parameters": parameters, "buffers": 0, "activations": None}
    probe = dataclasses.replace(answer(matrix), footprints={"noise/cnn": told})
    monkeypatch.setattr(memory_plan, "usable_memory_bytes", lambda: free)
    try:
        check_memory(matrix, probe)
    except UnfitError as error:
        return error.format_message().splitlines()
    return []


def test_what_fits_exactly_is_allowed_and_a_byte_less_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = 2 * 3 * 1000 + 4 * 2000  # two ranks with SGD, and the four snapshots of overlapped
    assert refusal(tmp_path, monkeypatch, exact) == []
    found, total, advice = refusal(tmp_path, monkeypatch, exact - 1)
    assert "cnn on noise" in found
    assert found.endswith("[ECRL-621]")
    assert "1 B too much" in found
    assert "2 ranks x (weights 1.00 kB" in total or "2 ranks x (weights 1.0 kB" in total
    assert "4 snapshots x" in total
    for setting in ("max_inflight = 3", "nproc = 1", "momentum = 0.0"):
        assert setting in advice


def test_settings_that_are_enough_only_together_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, advice = refusal(tmp_path, monkeypatch, 3100)
    assert "together" in advice
    for setting in ("max_inflight = 1", "nproc = 1", "momentum = 0.0"):
        assert setting in advice


def test_what_no_setting_makes_fit_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, advice = refusal(tmp_path, monkeypatch, 100)
    assert "No setting makes it fit" in advice


def test_without_a_footprint_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    monkeypatch.setattr(memory_plan, "usable_memory_bytes", lambda: 0)
    check_memory(load(path), answer(load(path)))


def test_only_engines_that_copy_into_memory_of_ecrls_count_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = 2 * 3 * 1000
    for variants, copies in (('["reference"]', 0), ('["blocking"]', 0), ('["dcp"]', 0), ('["overlapped"]', 4)):
        text = MATRIX.replace("checkpoint_every", f"variants = {variants}\ncheckpoint_every")
        assert refusal(tmp_path, monkeypatch, ranks + copies * 2000, text=text) == []
        assert refusal(tmp_path, monkeypatch, ranks + copies * 2000 - 1, text=text)


def test_a_gpu_that_is_too_small_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(MATRIX)
    matrix = load(path)
    told: dict[str, int | None] = {"parameters": 1000, "buffers": 0, "activations": 0}
    gpus = dataclasses.replace(answer(matrix), footprints={"noise/cnn": told}, gpus=("G", "G"))
    check_memory(matrix, dataclasses.replace(gpus, gpu_bytes=(3000, 3000)))
    with pytest.raises(UnfitError, match="of memory on a GPU"):
        check_memory(matrix, dataclasses.replace(gpus, gpu_bytes=(3000, 2999)))


@pytest.mark.parametrize(("parallel", "parts"), [("fsdp2", 4), ("hsdp", 2)])
def test_ranks_of_a_split_model_hold_its_parts(parallel: str, parts: int) -> None:
    one = Footprint(parameters=1000, buffers=10, activations=7)
    shard_ranks = 0 if parallel == "fsdp2" else parts
    split = plan(one, slots=1, nproc=4, parallel=parallel, shard_ranks=shard_ranks)
    assert need(split) == 4 * (4 * 1000 // parts + 10 + 7) + (3 * 1000 + 4 * 10)
    on_gpu = dataclasses.replace(split, gpus=2, slots=0)
    assert need(on_gpu) == 2 * (4 * 1000 // parts + 10 + 7)
    assert [setting for setting, _ in on_gpu.list_smaller() if "nproc" in setting] == []
    fewer = [setting for setting, _ in split.list_smaller() if "nproc" in setting]
    assert fewer == [f"nproc = {n}" for n in (3, 2, 1) if parallel == "fsdp2" or n % parts == 0]


def test_a_split_model_that_fits_in_parts_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MATRIX.replace("[train]", '[train]\nparallel = "fsdp2"')
    exact = 3 * 1000 + 4 * 2000  # one model in two parts, and the snapshots
    assert refusal(tmp_path, monkeypatch, exact, text=text) == []
    assert refusal(tmp_path, monkeypatch, exact - 1, text=text)


def test_what_the_longest_sequence_keeps_is_not_charged_to_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        MATRIX.replace('"noise"', '"python-source"').replace('"cnn"', '"gpt2-nano"')
        + '[axes]\n"train.sequence_length" = [16, 256]\n"train.batch_size" = [1, 4]\n'
        '[[exclude]]\n"train.sequence_length" = 256\n"train.batch_size" = 4\n'
    )
    matrix = load(path)
    told: dict[str, int | None] = {"parameters": 0, "buffers": 0, "activations": 500}
    gpus = dataclasses.replace(answer(matrix), footprints={"python-source/gpt2-nano": told}, gpus=("G", "G"))
    check_memory(matrix, dataclasses.replace(gpus, gpu_bytes=(500, 500)))
    with pytest.raises(UnfitError, match="activations of 1 sample"):
        check_memory(matrix, dataclasses.replace(gpus, gpu_bytes=(499, 499)))
