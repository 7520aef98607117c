"""Evidence from another tool's detailed table (docs/metrics.md, "Tables made elsewhere").

Nine columns are required. An empty cell is an unknown value.
"""

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.external_table.limits import limits, threats_of
from ecrl.analysis.external_table.manifest import PLACE, Plan, read_manifest
from ecrl.analysis.run.metrics import REFERENCE, Row, empty_row
from ecrl.analysis.statistics.compare import compare
from ecrl.config.hashing import slug
from ecrl.errors import EcrlError, did_you_mean
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS, is_axis_column

# Difference between ovl_vs_blk and ovl_goodput / blk_goodput - 1 above which the report warns: both are rounded.
RATIO_TOLERANCE = 0.005
# Bounds of rates, times and differences. A number outside counts as a typing error: ratios of such numbers may overflow
# a double.
LARGEST, SMALLEST = 1e15, 1e-12
_SHOWN_CHARACTERS = 40
_LONGEST_NAME = 120  # longer names do not fit into a plot or onto a phone's screen
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_FAILURE = re.compile(r"(?P<label>[^:]+?)(?::\s*(?P<steps>PLACE(?:[,; ]+PLACE)*))?".replace("PLACE", PLACE))
NO_FAILURES = "none"  # the schedule of a matrix that plans none
_SHORTS = {"ref": REFERENCE, "blk": BLOCKING, "ovl": OVERLAPPED}
_NUMBERS: dict[str, tuple[float, bool]] = {  # column -> lower bound, whether the bound itself is excluded
    "blk_goodput": (0, True),
    "ovl_goodput": (0, True),
    "ref_goodput": (0, True),
    "ovl_vs_blk": (-1, True),
    "blk_stall_s": (0, False),
    "ovl_stall_s": (0, False),
    "ovl_minus_blk_loss_diff": (-math.inf, True),
    "blk_wall_s": (0, True),
    "ovl_wall_s": (0, True),
    "blk_restarts": (0, False),
    "ovl_restarts": (0, False),
    "n_seeds": (0, False),
    "checkpoint_every": (1, False),
    "max_inflight": (1, False),
    "nproc": (1, False),
    "steps": (1, False),
}
_WHOLE = frozenset({"blk_restarts", "ovl_restarts", "n_seeds", "checkpoint_every", "max_inflight", "nproc", "steps"})
_TRUTH = {"true": True, "yes": True, "1": True, "pass": True, "false": False, "no": False, "0": False, "fail": False}


@dataclass
class _TableReader:
    """The state of reading one table. Problems end the reading with an error; warnings go into the report."""

    path: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def locate(self, number: int, column: str) -> str:
        return f"row {number}, column {column}"

    def add_problem(self, where: str, text: str, expected: str) -> None:
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        self.problems.append(f"{where}: found {shown!r}, expected {expected}")


def load_table_evidence(table: Path, manifest: Path | None = None) -> Evidence:
    """The evidence of a detailed table, completed from a manifest if one is given.

    Raises:
        EcrlError: the table cannot be read, a required column is missing, or a cell has a value that its column does
            not allow. The message counts all bad cells, and names the first by row and column.
    """
    reading = _TableReader(table)
    columns, records = _records(reading)
    plans = read_manifest(manifest, reading.warnings) if manifest is not None else {}
    cells = [_parse_record(record, number, reading) for number, record in records]
    if reading.problems:
        more = f" ({len(reading.problems) - 1} more bad cells)" if len(reading.problems) > 1 else ""
        raise EcrlError(
            "ECRL-707", f"{table}: {reading.problems[0]}{more}.\nCorrect the table; a missing value is an empty cell."
        )
    suites = _suites(cells, plans, reading)
    rows = tuple(row for suite in suites for row in suite.rows(columns))
    differences = {s.suite_id: s.values["ovl_minus_blk_loss_diff"] for s in suites}
    known = {suite: value for suite, value in differences.items() if value is not None}
    effect = compare(rows, OVERLAPPED, BLOCKING, "goodput_steps_per_s", "ratio", {}).overall
    seeds = [int(s.values["n_seeds"]) for s in suites if s.values.get("n_seeds")]  # 0: no block has both variants
    return Evidence(
        "table",
        table.stem.removesuffix("_detailed_table"),
        rows,
        (),
        {},
        tuple(v for short, v in _SHORTS.items() if short != "ref" or "ref_goodput" in columns),
        tuple(next((plan.seeds for plan in plans.values() if plan.seeds), ())),
        {},
        {},
        known,
        (),
        threats_of(rows, seeds, effect.center if effect else None),
        (),
        tuple(reading.warnings),
        {s.suite_id: s.plan.status for s in suites if s.plan and s.plan.status},
        columns,
        limits(rows, columns, seeds, known),
        axes=tuple(column for column in columns if is_axis_column(column) and column != "launcher"),
    )


def _records(reading: _TableReader) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
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


def _check_header(header: tuple[str, ...], reading: _TableReader) -> None:
    known = (*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS, *filter(is_axis_column, header))
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


def _parse_record(record: dict[str, str], number: int, reading: _TableReader) -> dict[str, Any]:
    values: dict[str, Any] = {"row": number}
    for column, text in record.items():
        where = reading.locate(number, column)
        if column in _NUMBERS:
            values[column] = _number(text, column, where, reading)
        elif column.endswith("_correct"):
            values[column] = _TRUTH.get(text.lower())
            if text.lower() not in _TRUTH and text.lower() not in _MISSING:
                reading.add_problem(where, text, "true or false")
        elif column in ("dataset", "model", "failure"):
            if not text:
                reading.problems.append(f"{where}: found it empty, expected a name")
            elif not text.isprintable() or len(text) > _LONGEST_NAME:
                reading.add_problem(where, text, f"a name of printable characters, at most {_LONGEST_NAME}")
            values[column] = text
        elif column in DETAILED_OPTIONAL_COLUMNS or is_axis_column(column):
            values[column] = text or None
    _check_ratio(values, number, reading)
    silent = [column for column in ("blk_goodput", "ovl_goodput") if values.get(column) is None]
    if silent:
        reading.warnings.append(f"row {number}: no {' and no '.join(silent)}, so this suite is in no comparison")
    return values


def _number(text: str, column: str, where: str, reading: _TableReader) -> float | None:
    if text.lower() in _MISSING:
        if text:
            reading.warnings.append(f"{where}: {text!r} is read as a missing value; an empty cell says so better")
        return None
    plain, scale = text, 1.0
    if plain.endswith("%"):
        plain, scale = plain[:-1].strip(), 0.01
        reading.warnings.append(f"{where}: {text!r} is read as {plain} percent")
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
        reading.warnings.append(f"{where}: {text!r} is read as {plain}: the commas separate thousands")
    try:
        value = float(plain) * scale
    except ValueError:
        reading.add_problem(where, text, "a number")
        return None
    bound, excluded = _NUMBERS[column]
    if not math.isfinite(value) or value < bound or (excluded and value == bound):
        limit = "" if bound == -math.inf else f" {'above' if excluded else 'of at least'} {bound:g}"
        reading.add_problem(where, text, f"a finite number{limit}")
        return None
    if abs(value) > LARGEST or (bound == 0 and excluded and value < SMALLEST):
        reading.add_problem(where, text, f"a number from {SMALLEST:g} to {LARGEST:g}")
        return None
    if column in _WHOLE and value != int(value):
        reading.add_problem(where, text, "a whole number")
        return None
    return int(value) if column in _WHOLE else value


def _check_ratio(values: dict[str, Any], number: int, reading: _TableReader) -> None:
    ours, blk, ovl = (values.get(column) for column in ("ovl_vs_blk", "blk_goodput", "ovl_goodput"))
    if ours is None or blk is None or ovl is None:
        return
    if abs(ours - (ovl / blk - 1)) > RATIO_TOLERANCE:
        where = reading.locate(number, "ovl_vs_blk")
        reading.warnings.append(
            f"{where}: {ours:g} disagrees with ovl_goodput / blk_goodput - 1 = {ovl / blk - 1:.4f}, which is used"
        )


@dataclass
class _Suite:
    suite_id: str
    label: str
    steps: str
    values: dict[str, Any]
    plan: Plan | None

    def rows(self, columns: tuple[str, ...]) -> list[Row]:
        """Up to three rows of a runs table. A value that the detailed table does not have is None."""
        shorts = [short for short in _SHORTS if f"{short}_goodput" in columns]
        return [self._row(short) for short in shorts]

    def _row(self, short: str) -> Row:
        value = self.values.get
        goodput, reference = value(f"{short}_goodput"), value("ref_goodput")
        plan = self.plan or Plan()
        return empty_row(
            suite_id=self.suite_id,
            dataset=value("dataset"),
            model=value("model"),
            failure_label=self.label,
            failure_steps="" if short == "ref" else self.steps,
            checkpoint_every=value("checkpoint_every") or plan.checkpoint_every,
            max_inflight=value("max_inflight") or plan.max_inflight,
            launcher=value("launcher"),
            nproc=value("nproc") or plan.nproc,
            steps=value("steps") or plan.steps,
            variant=_SHORTS[short],
            outcome="completed" if goodput is not None else "missing",
            goodput_steps_per_s=goodput,
            rel_goodput=goodput / reference if goodput and reference else None,
            stall_s=value(f"{short}_stall_s"),
            wall_s=value(f"{short}_wall_s"),
            restarts=value(f"{short}_restarts"),
            correct=value(f"{short}_correct"),
            **{column: text for column, text in self.values.items() if "." in column},
        )


def _suites(
    cells: list[dict[str, Any]], plans: dict[tuple[str, str, str], Plan], reading: _TableReader
) -> list[_Suite]:
    found: dict[str, _Suite] = {}
    for values in cells:
        match = _FAILURE.fullmatch(values["failure"])
        label = match["label"].strip() if match else values["failure"]
        steps = ";".join(re.findall(PLACE, match["steps"])) if match and match["steps"] else ""
        plan = plans.get((values["dataset"], values["model"], label))
        if plans and plan is None:
            reading.warnings.append(
                f"row {values['row']}: the manifest has no suite {values['dataset']}, {values['model']}, {label}"
            )
        steps = steps or (plan.failure_steps if plan else "")
        if not steps and label != NO_FAILURES:
            where, text = reading.locate(values["row"], "failure"), values["failure"]
            reading.warnings.append(f"{where}: {text!r} gives no steps (like base:400,1200); it is used as a label")
        axes = [
            f"{short}{values[c]}"
            for short, c in (("k", "checkpoint_every"), ("q", "max_inflight"), ("", "launcher"))
            if values.get(c)
        ]
        axes += [slug(f"{c}-{text}") for c, text in values.items() if is_axis_column(c) and c != "launcher" and text]
        suite_id = values.get("suite_id") or "-".join([*map(slug, (values["dataset"], values["model"], label)), *axes])
        if suite_id in found:
            raise EcrlError(
                "ECRL-707",
                f"{reading.path}: rows {found[suite_id].values['row']} and {values['row']} are the same suite"
                f" ({suite_id}), expected one row per suite.\nGive each its own failure label, or merge them.",
            )
        found[suite_id] = _Suite(suite_id, label, steps, values, plan)
    return list(found.values())
