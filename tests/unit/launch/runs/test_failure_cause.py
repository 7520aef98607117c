"""Kinds of failures by evidence, and failures that are alike."""

from pathlib import Path

import pytest

from ecrl.launch.runs.failure_cause import RepeatedFailures, build_signature, classify_failure, read_oom_kills


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("out of memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("out of memory", "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory"),
        ("communication", "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)"),
        ("communication", "RuntimeError: Gloo connectFullMesh failed with ... Connection refused"),
        ("communication", "torch.distributed.DistBackendError: NCCL error in: ..."),
        ("communication", "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]"),
        ("data missing", "ecrl.errors.DataMissingError: cifar10: not found in data"),
        ("disk full", "OSError: [Errno 28] No space left on device"),
        ("gpu fault", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
        ("bug", "ValueError: 3 is not 4"),
    ],
)
def test_a_failure_is_judged_by_what_its_logs_say(tmp_path: Path, kind: str, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"one\n{line}\ntwo\n")
    found = classify_failure("rank 0 died unplanned", [tmp_path / "absent", log])
    assert (found.kind, found.evidence) == (kind, "" if kind == "bug" else line)
    assert classify_failure(line, []).kind == kind


def test_the_cause_outranks_what_follows_from_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("gloo: Connection closed by peer\nOSError: [Errno 28] No space left on device\n")
    assert classify_failure("died", [log]).kind == "disk full"


def test_a_kill_is_want_of_memory_only_where_the_kernel_says_so() -> None:
    assert classify_failure("rank 0 died unplanned: SIGKILL (after step 3)", []).kind == "bug"
    assert classify_failure("rank 0 died unplanned: SIGKILL (after step 3)", [], oom_kills=1).kind == "out of memory"
    assert classify_failure("not done after 3 s", [], timed_out=True).kind == "timeout"


def test_alike_is_the_same_reason_wherever_it_struck() -> None:
    one = build_signature("bug", "RuntimeError: boom 0x7f at 12 (rank 1, after step 3)")
    assert one == build_signature("bug", "RuntimeError: boom 0x80 at 9 (rank 0, before its first step)")
    assert one != build_signature("bug", "RuntimeError: bang (rank 1, after step 3)")


def test_too_many_alike_in_a_row_and_a_completed_run_begins_anew() -> None:
    alike = RepeatedFailures(2)
    assert not alike.add_failure("a")
    alike.reset()
    assert not alike.add_failure("a")
    assert not alike.add_failure("b")
    assert alike.add_failure("b")
    assert not any(RepeatedFailures(0).add_failure("a") for _ in range(9))


@pytest.mark.parametrize(
    ("groups", "file", "text", "kills"),
    [
        ("0::/a/b\n", "a/b/memory.events", "low 0\noom 3\noom_kill 2\n", 2),
        ("0::/not/seen/from/here\n", "memory.events", "oom_kill 4\n", 4),
        (
            "5:cpu,cpuacct:/a\n4:memory:/a\n0::/a\n",
            "memory/a/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            3,
        ),
        ("4:memory:/docker/x\n", "memory/memory.oom_control", "under_oom 0\noom_kill 1\n", 1),
        ("4:memory:/a\n", "memory/a/memory.oom_control", "under_oom 0\n", 0),
        ("4:cpu:/a\n", "memory/a/memory.oom_control", "oom_kill 1\n", 0),
        ("", "memory.events", "oom_kill 1\n", 0),
    ],
)
def test_oom_kills_are_read_from_groups_of_both_versions(
    tmp_path: Path, groups: str, file: str, text: str, kills: int
) -> None:
    for name, content in (("proc/self/cgroup", groups), (f"cgroup/{file}", text)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    assert read_oom_kills(tmp_path / "proc", tmp_path / "cgroup") == kills
    assert read_oom_kills(tmp_path / "absent", tmp_path / "cgroup") == 0
