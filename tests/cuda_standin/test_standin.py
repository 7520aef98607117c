"""The stand-in itself: built or loudly missing, and true to CUDA where a proof leans on it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cuda_standin import build


@pytest.fixture(scope="module")
def facts(request: pytest.FixtureRequest) -> Any:
    [facts] = build.run_programs(build.build_or_skip(build.cache_of(request.config)), "behaviour")
    return facts


def test_it_is_built_wherever_ci_is_set(request: pytest.FixtureRequest) -> None:
    library = build.build_or_skip(build.cache_of(request.config))
    assert (library / "libcuda.so.1").exists()


def test_without_a_compiler_it_skips_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(build, "_cuda_headers", lambda: (tmp_path, "13.0"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"g\+\+ is not installed"):
        build.build_or_skip(tmp_path)


def test_under_ci_what_would_skip_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"needs torch built for CUDA 13, torch\.version\.cuda is None"):
        build.build_or_skip(tmp_path)


def test_another_cuda_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(build.CannotBuildError, match=r"torch\.version\.cuda is 12\.8"):
        build.build(tmp_path)


def test_its_name_cannot_be_taken_for_hardware(facts: Any) -> None:
    assert facts["name"] == "FakeCUDA (no kernels)"


def test_a_kernel_fails_instead_of_doing_nothing(facts: Any) -> None:
    assert "compute kernels are not emulated" in facts["kernel_launch"]


def test_a_pending_event_is_not_ready_three_times(facts: Any) -> None:
    assert facts["four_queries_of_a_pending_event"] == [False, False, False, True]


def test_a_copy_to_pinned_memory_is_over_after_a_wait_and_not_before(facts: Any) -> None:
    assert facts["copy_to_pinned_before_and_after_a_wait"] == [False, True]


def test_a_copy_to_pageable_memory_is_over_when_the_call_returns(facts: Any) -> None:
    assert facts["copy_to_pageable_before_a_wait"] is True


def test_fresh_memory_is_poisoned(facts: Any) -> None:
    assert facts["fresh_pinned_memory"] == facts["fresh_device_memory"] == [0xEE]


def test_a_wait_means_the_recording_of_its_time(facts: Any) -> None:
    assert facts["value_behind_a_wait_for_an_event_recorded_again"] == 1


def test_the_log_tells_who_holds_the_interpreters_lock(facts: Any) -> None:
    assert facts["lock_while_setting_the_device"] == ["gil", "gil"]


def test_an_event_recorded_too_early_protects_nothing(facts: Any) -> None:
    assert facts["event_recorded_before_the_copy"] == 2
