"""Evidence from another tool's detailed table (docs/metrics.md, "Tables made elsewhere").

Nine columns are required. An empty cell is an unknown value.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.external_table.blocks import SHORTS, Block, build_blocks
from ecrl.analysis.external_table.cells import SEED, Reading, measure_errors, parse_row, refuse_ambiguous_commas
from ecrl.analysis.external_table.limits import list_limits
from ecrl.analysis.external_table.manifest import read_manifest
from ecrl.analysis.external_table.threats import detect_table_threats
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import compare
from ecrl.analysis.threats.base import join_some
from ecrl.errors import EcrlError, did_you_mean
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS, is_axis_column


def load_table_evidence(table: Path, manifest: Path | None = None) -> Evidence:
    """The evidence of a detailed table, completed from a manifest if one is given.

    Raises:
        EcrlError: the table cannot be read, a required column is missing, or a cell has a value that its column does
            not allow. The message counts all bad cells, and names the first by row and column.
    """
    reading = Reading(table)
    columns, records = _read_records(reading)
    plans = read_manifest(manifest, reading.warnings) if manifest is not None else None
    refuse_ambiguous_commas(records, reading)
    cells = [parse_row(record, number, reading) for number, record in records]
    if reading.problems:
        more = f" ({len(reading.problems) - 1} more bad cells)" if len(reading.problems) > 1 else ""
        raise EcrlError(
            "ECRL-707", f"{table}: {reading.problems[0]}{more}.\nCorrect the table; a missing value is an empty cell."
        )
    numbers = [number for number, _ in records]
    rows = list(zip(numbers, cells, measure_errors(records, cells), strict=True))
    return _build_evidence(build_blocks(rows, plans, reading), columns, reading)


def _build_evidence(blocks: Sequence[Block], columns: tuple[str, ...], reading: Reading) -> Evidence:
    has_reference = any(block.values.get("ref_goodput") for block in blocks)
    variants = tuple(variant for variant in SHORTS.values() if variant != REFERENCE or has_reference)
    rows = tuple(row for block in blocks for row in block.build_rows(variants))
    faults = {
        (row["suite_id"], row["variant"], row["seed"]): f"no goodput of {row['variant']}"
        for row in rows
        if row["variant"] != REFERENCE and row["goodput_steps_per_s"] is None
    }
    dropped: dict[tuple[str, int], str] = {}
    for (suite_id, _, seed), why in faults.items():
        dropped[suite_id, seed] = f"{dropped[suite_id, seed]}; {why}" if (suite_id, seed) in dropped else why
    c = compare(rows, OVERLAPPED, BLOCKING, "goodput_steps_per_s", "ratio", faults)
    return Evidence(
        "table",
        reading.path.stem.removesuffix("_detailed_table"),
        rows,
        (),
        dropped,
        variants,
        _find_seeds(blocks, reading),
        {},
        {},
        _average_differences(blocks),
        (),
        detect_table_threats(blocks, rows, c),
        (),
        tuple(reading.warnings),
        {block.suite_id: block.plan.status for block in blocks if block.plan and block.plan.status},
        columns,
        list_limits(blocks, columns),
        axes=tuple(column for column in columns if is_axis_column(column) and column != "launcher"),
        faults=faults,
    )


def _find_seeds(blocks: Sequence[Block], reading: Reading) -> tuple[int, ...]:
    """The seeds of all suites; () where those of a suite are not known. Suites with different seeds are named."""
    found: dict[str, set[int]] = {}
    for block in blocks:
        planned = block.plan.seeds if block.plan and not block.conflicts else ()
        found.setdefault(block.suite_id, set()).update(planned if block.seed is None else (block.seed,))
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for suite_id, seeds in found.items():
        by_seeds.setdefault(tuple(sorted(seeds)), []).append(suite_id)
    if () in by_seeds:
        return ()
    if len(by_seeds) > 1:
        told = "; ".join(f"{', '.join(map(str, s))} in {join_some(ids)}" for s, ids in list(by_seeds.items())[:4])
        reading.warnings.append(f"suites have different seeds ({len(by_seeds)} sets): {told}")
    return tuple(sorted({seed for seeds in by_seeds for seed in seeds}))


def _average_differences(blocks: Sequence[Block]) -> dict[str, float]:
    """The mean difference of the final loss over the seeds of each suite."""
    found: dict[str, list[float]] = {}
    for block in blocks:
        if (difference := block.values.get("ovl_minus_blk_loss_diff")) is not None:
            found.setdefault(block.suite_id, []).append(difference)
    return {suite_id: sum(values) / len(values) for suite_id, values in found.items()}


def _read_records(reading: Reading) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """The header, and (row number, cells) of every other row. The header is row 0."""
    try:
        text = reading.path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EcrlError("ECRL-705", f"{reading.path}: cannot be read as a UTF-8 table: {error}.") from None
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise EcrlError(
            "ECRL-705", f"{reading.path}: not a CSV table: {error}. Expected commas, a header and quoted commas."
        ) from None
    header = tuple(cell.strip() for cell in lines[0]) if lines else ()
    _check_header(header, reading)
    records = []
    for number, line in enumerate(lines[1:], start=1):
        if not any(cell.strip() for cell in line):
            continue  # an empty line
        if len(line) != len(header):
            hint = (
                " A thousands separator or a failure like base:400,1200 needs quotes."
                if len(line) > len(header)
                else ""
            )
            raise EcrlError(
                "ECRL-707", f"{reading.path}: row {number} has {len(line)} cells, expected {len(header)}.{hint}"
            )
        records.append((number, dict(zip(header, (cell.strip() for cell in line), strict=True))))
    if not records:
        raise EcrlError("ECRL-707", f"{reading.path}: found a header and no rows, expected one row per suite.")
    return header, records


def _check_header(header: tuple[str, ...], reading: Reading) -> None:
    known = (*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS, SEED, *filter(is_axis_column, header))
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise EcrlError(
            "ECRL-706", f"{reading.path}: column {repeated[0]!r} stands there twice, expected each column once."
        )
    missing = [column for column in DETAILED_COLUMNS if column not in header]
    unknown = [column for column in header if column not in known]
    if missing:
        near = "".join(did_you_mean(column, unknown) for column in missing[:1])
        if len(header) == 1 and (other := next((mark for mark in (";", "\t", "|") if mark in header[0]), None)):
            near = f" Its cells are parted by {other!r}, expected commas."
        raise EcrlError(
            "ECRL-706",
            f"{reading.path}: missing columns: {', '.join(missing)}.{near}\n"
            f"Found: {', '.join(header) or 'nothing'}. Needed: {', '.join(DETAILED_COLUMNS)}.",
        )
    for column in unknown:
        reading.warnings.append(f"column {column!r} is not known and was left out.{did_you_mean(column, known)}")
