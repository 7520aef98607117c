"""The manifest: merged, durable, idempotent, and particular about nonsense."""

import dataclasses
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecrl.records.manifest import journal
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import COLUMNS, MAX_RECORD_BYTES, Manifest, Owner, Row
from ecrl.records.paths import CampaignPaths
from tests.errors import raises

OWNER = Owner("host", "boot", 42, 7)


def row(name: str) -> Row:
    return Row(
        suite_id=name,
        dataset="noise",
        model="cnn",
        failure_label="base",
        failure_steps=(400, 1200),
        checkpoint_every=50,
        max_inflight=4,
        nproc=4,
        steps=1600,
        seeds=(1337, 2027),
        variants=("reference", "blocking"),
        runs_total=4,
    )


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    paths = CampaignPaths(tmp_path, "exp")
    paths.root.mkdir()
    return paths


@pytest.fixture
def written(paths: CampaignPaths) -> Iterator[Manifest]:
    written = Manifest.create(paths, [row("a"), row("b")])
    yield written
    written.close()


def changes(written: Manifest) -> list[dict[str, Any]]:
    """The journal but for its first record, which describes the CSV."""
    return [record for record in journal.read(written.paths.journal, []) if "snapshot" not in record]


def edited(paths: CampaignPaths, old: str, new: str) -> None:
    text = paths.manifest.read_text()
    assert old in text
    paths.manifest.write_text(text.replace(old, new, 1))


def test_columns_are_the_contract(written: Manifest) -> None:
    header = (
        "suite_id,dataset,model,failure_label,failure_steps,checkpoint_every,max_inflight,nproc,steps,seeds,variants,"
        "status,attempts,runs_done,runs_total,started_at,finished_at,wall_s,message,axes"
    )
    first, second = written.paths.manifest.read_text().splitlines()[:2]
    assert first == header
    assert second == "a,noise,cnn,base,400;1200,50,4,4,1600,1337;2027,reference;blocking,pending,0,0,4,,,,,"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_manifest_of_version_0_1_0_which_had_no_axes_is_read(written: Manifest, trusted: bool) -> None:
    before = dict(written.rows)
    written.close()
    lines = written.paths.manifest.read_text().splitlines()
    data = "".join(f"{line.removesuffix(',axes').removesuffix(',')}\n" for line in lines).encode()
    written.paths.manifest.write_bytes(data)
    written.paths.journal.write_bytes(b"")
    if trusted:
        described = {"snapshot": [zlib.crc32(data), len(data)], "experiment": "", "token": 0}
        written.paths.journal.write_bytes(journal.frame(described))
    assert dict(manifest.read(written.paths).rows) == before
    opened = Manifest.open(written.paths)
    opened.compact()
    opened.close()
    assert written.paths.manifest.read_text().splitlines()[0].endswith(",message,axes")


def test_readers_merge_snapshot_and_journal(written: Manifest) -> None:
    written.record("b", status="running", attempts=1, owner=OWNER)
    written.record("b", status="failed", message='x, "y"\nz', wall_s=1.5, owner=None)
    before = written.paths.manifest.read_bytes()
    view = manifest.read(written.paths)
    assert view.rows == written.rows
    assert view.counts == {
        "pending": 1,
        "running": 0,
        "completed": 0,
        "skipped_exists": 0,
        "failed": 1,
        "interrupted": 0,
    }
    assert written.paths.manifest.read_bytes() == before


def test_compaction_keeps_everything_and_only_running_rows_in_the_journal(written: Manifest) -> None:
    written.record("a", status="completed", runs_done=4, wall_s=12.25, finished_at="2026-11-21T23:28:00Z")
    written.record("b", status="running", attempts=2, token=1, owner=OWNER)
    expected = dict(written.rows)
    written.compact()
    assert manifest.read(written.paths).rows == expected
    assert len(changes(written)) == 1
    written.record("b", status="completed", owner=None)
    written.compact()
    assert changes(written) == []
    assert [told["status"] for told in manifest.history(written.paths, "b")] == ["running", "completed"]


def test_what_says_everything_already_is_not_written_again(written: Manifest) -> None:
    written.record("a", status="completed", runs_done=4)
    written.compact()
    files = {path: path.stat().st_ino for path in (written.paths.manifest, written.paths.journal)}
    again = Manifest.open(written.paths)
    again.compact()
    assert {path: path.stat().st_ino for path in files} == files
    again.next_token()
    again.compact()
    assert {path: path.stat().st_ino for path in files} != files


def test_a_journal_that_was_torn_is_made_whole_though_no_row_has_changed(written: Manifest) -> None:
    written.paths.journal.write_bytes(written.paths.journal.read_bytes() + b"torn")
    again = Manifest.open(written.paths)
    assert again.warnings
    again.compact()
    assert manifest.read(written.paths).warnings == []


def test_killed_between_the_two_replacements_nothing_changes(written: Manifest) -> None:
    written.record("a", status="running", attempts=1, owner=OWNER)
    written.record("a", status="completed", runs_done=4, owner=None)
    old_journal = written.paths.journal.read_bytes()
    written.compact()
    after = manifest.read(written.paths).rows
    written.paths.journal.write_bytes(old_journal)
    assert manifest.read(written.paths).rows == after


def test_a_journal_cut_anywhere_loses_at_most_the_last_change_and_says_so(written: Manifest) -> None:
    head = written.paths.journal.stat().st_size
    written.record("a", status="running", attempts=1, owner=OWNER)
    first = written.paths.journal.stat().st_size
    written.record("a", status="completed", runs_done=4, owner=None)
    data = written.paths.journal.read_bytes()
    for cut in range(len(data)):
        written.paths.journal.write_bytes(data[:cut])
        view = manifest.read(written.paths)
        assert view.rows["a"].status == ("pending" if cut < first else "running")
        assert len(view.warnings) == (0 if cut in (0, head, first) else 1)


def test_a_flipped_byte_anywhere_drops_that_line_alone(written: Manifest) -> None:
    head = written.paths.journal.stat().st_size
    written.record("a", status="failed")
    first = written.paths.journal.stat().st_size
    written.record("b", status="completed")
    data = written.paths.journal.read_bytes()
    for position in range(head, first - 1):
        broken = bytearray(data)
        broken[position] ^= 1
        written.paths.journal.write_bytes(broken)
        view = manifest.read(written.paths)
        assert (view.rows["a"].status, view.rows["b"].status) == ("pending", "completed")
        assert view.warnings


def test_a_csv_edited_by_hand_is_checked_again_and_an_untouched_one_is_trusted(written: Manifest) -> None:
    written.experiment = "e"
    written.compact()
    assert manifest.read(written.paths).experiment == "e"
    edited(written.paths, "\nb,noise", "\nb,other")
    assert manifest.read(written.paths).experiment == ""
    edited(written.paths, ",pending,", ",pendign,")
    with raises("ECRL-401", "column status", "'pendign'"):
        manifest.read(written.paths)


def test_a_token_rises_over_compaction_and_a_lost_header_does_not_lower_what_lines_say(written: Manifest) -> None:
    for expected in (1, 2):
        assert written.next_token() == expected
        written.record("a", status="running", token=expected, owner=OWNER)
    written.record("a", status="completed", owner=None)
    written.compact()
    written.close()
    again = Manifest.open(written.paths)
    assert again.next_token() == 3
    again.close()


def test_a_long_journal_is_folded_in_while_work_goes_on(written: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LONG_JOURNAL_BYTES", 2000)
    for attempt in range(1, 101):
        written.record("a", status="running", attempts=attempt, token=attempt, owner=OWNER)
        assert written.paths.journal.stat().st_size < 3000
    assert manifest.read(written.paths).rows["a"].attempts == 100
    assert [told["token"] for told in manifest.history(written.paths, "a")] == list(range(1, 101))


def test_changes_after_a_torn_line_are_read(written: Manifest) -> None:
    written.record("a", status="failed")
    data = written.paths.journal.read_bytes()
    written.close()
    written.paths.journal.write_bytes(data[:-9])
    again = Manifest.open(written.paths)
    again.record("b", status="completed")
    again.close()
    assert manifest.read(written.paths).rows["b"].status == "completed"


def test_a_record_never_exceeds_its_bound_whatever_the_message(written: Manifest) -> None:
    for length in (0, 100, 250, 400, 5000):
        for letter in ("x", "é", "\n", "🙂"):
            written.record(
                "a", status="failed", attempts=123, runs_done=4, started_at="2026-11-21T23:28:00Z", wall_s=123456.789,
                message=letter * length, owner=dataclasses.replace(OWNER, host="h" * 64, boot_id="b" * 36),
            )  # fmt: skip
    lines = written.paths.journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 21  # and the one that describes the CSV
    assert max(map(len, lines)) <= MAX_RECORD_BYTES
    assert manifest.read(written.paths).warnings == []


def test_a_disk_that_takes_half_a_line_leaves_none_of_it(written: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    written.record("a", status="running")
    size = written.paths.journal.stat().st_size
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 5:
            return real(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda fd, data: full(fd, bytes(data)[:6] if len(data) > 6 else bytes(data)))
    with pytest.raises(OSError, match="No space"):
        written.record("a", status="completed")
    monkeypatch.undo()
    assert written.paths.journal.stat().st_size == size
    assert written.rows["a"].status == "running"


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        (",pending,", ",pendign,", ("row 1, column status: ", "'pendign'", "'pending'")),
        (",50,", ",fifty,", ("row 1, column checkpoint_every: ", "'fifty'")),
        ("400;1200", "400,1200", ("row 1 ", "21", "20")),
        ("1337;2027", "1337;", ("row 1, column seeds: ", "'1337;'", "';'")),
        (",,,,,\n", ",,,soon,,\n", ("row 1, column wall_s: ", "'soon'", "seconds")),
        ("\nb,", "\na,", ("row 2, column suite_id: ", "'a'")),
        ("\nb,", "\n,", ("row 2, column suite_id: ", "''")),
        ("status", "state", ("row 0 ", "column 12: ", "'state'", "'status'")),
    ],
)
def test_nonsense_names_file_row_column_found_expected_and_the_next_command(
    written: Manifest, old: str, new: str, facts: tuple[str, ...]
) -> None:
    edited(written.paths, old, new)
    with raises("ECRL-401", "exp_manifest.csv: ", *facts, f"ecrl matrix resume {written.paths.options}`"):
        manifest.read(written.paths)


def test_what_an_editor_leaves_is_read(written: Manifest) -> None:
    text = written.paths.manifest.read_text()
    written.paths.manifest.write_bytes(text.replace("\n", "\r\n").encode() + b"\r\n")
    assert manifest.read(written.paths).rows == written.rows


def test_a_missing_manifest_says_how_to_make_it_again(paths: CampaignPaths) -> None:
    paths.matrix.touch()
    with raises("ECRL-402", str(paths.manifest), "ecrl matrix resume --prefix exp"):
        manifest.read(paths)


def test_json_has_the_columns_with_lists_numbers_and_nulls(written: Manifest) -> None:
    told = json.loads(json.dumps(written.rows["a"].to_json()))
    assert tuple(told) == COLUMNS
    assert (told["failure_steps"], told["variants"]) == (["400", "1200"], ["reference", "blocking"])
    assert (told["wall_s"], told["started_at"], told["attempts"]) == (None, None, 0)


def test_a_change_of_an_unknown_suite_is_dropped_with_a_warning(written: Manifest) -> None:
    written.paths.journal.write_bytes(journal.frame({"suite_id": "zzz", "status": "failed"}))
    view = manifest.read(written.paths)
    assert view.rows == written.rows
    assert "unknown suite zzz" in view.warnings[0]
