"""The cells of a table made elsewhere: what is read, what is refused, and how precisely a column is printed."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ecrl.records.columns import DETAILED_OPTIONAL_COLUMNS, is_axis_column

# Bounds of rates, times and differences. A number outside counts as a typing error: ratios of such numbers may overflow
# a double.
LARGEST, SMALLEST = 1e15, 1e-12
SEED = "seed"  # rows of one suite that differ in it are blocks; ecrl's own tables have a row a suite
_SHOWN_CHARACTERS = 40
_LONGEST_NAME = 120  # longer names do not fit into a plot or onto a phone's screen
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_AMBIGUOUS = re.compile(r"[+-]?\d{1,3},\d{3}")
_PLAIN_DECIMALS = re.compile(r"[^.]*\.\d+|[^,]*,[^,]*,.*")
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
    SEED: (0, False),
    "checkpoint_every": (1, False),
    "max_inflight": (1, False),
    "nproc": (1, False),
    "steps": (1, False),
}
_WHOLE = frozenset({"n_seeds", SEED, "checkpoint_every", "max_inflight", "nproc", "steps"})
_MEANS = frozenset({"blk_restarts", "ovl_restarts"})  # whole numbers where one run stands behind a row
_TRUTH = {"true": True, "yes": True, "1": True, "pass": True, "false": False, "no": False, "0": False, "fail": False}
# The columns of one quantity are printed alike. A ratio's own cell says how precise it is.
_QUANTITIES = (
    ("blk_goodput", "ovl_goodput", "ref_goodput"),
    ("blk_stall_s", "ovl_stall_s"),
    ("blk_wall_s", "ovl_wall_s"),
)
Value = float | str | bool | None


@dataclass
class Reading:
    """The state of reading one table. Problems end the reading with an error; warnings go into the report."""

    path: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_problem(self, where: str, text: str, expected: str) -> None:
        """Note a cell that cannot be what it says."""
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
        self.problems.append(f"{where}: found {shown!r}, expected {expected}")


@dataclass(frozen=True)
class Precision:
    """How a quantity is printed: the most decimals and the most significant digits of its cells."""

    decimals: int
    digits: int

    def get_half_unit(self, value: float) -> float:
        """How far the unrounded number may lie from this one."""
        if value == 0:
            return 0.5 * 10.0**-self.decimals
        # Cells have a fixed number of decimals or of significant digits, the last zeros of which may not be printed.
        return 0.5 * max(10.0**-self.decimals, 10.0 ** (math.floor(math.log10(abs(value))) + 1 - self.digits))


def measure_precision(texts: Iterable[str]) -> Precision | None:
    """The precision of cells that are numbers; None without any."""
    found = [one for text in texts if (one := _measure_cell(text)) is not None]
    return Precision(max(d for d, _ in found), max(1, *(n for _, n in found))) if found else None


def _measure_cell(text: str) -> tuple[int, int] | None:
    try:
        value = Decimal(text.replace(",", "").removesuffix("%").strip())
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return -exponent + (2 if text.endswith("%") else 0), len(digits)


def name_cell(number: int, column: str) -> str:
    """The name of a cell."""
    return f"row {number}, column {column}"


def parse_row(record: Mapping[str, str], number: int, reading: Reading) -> dict[str, Value]:
    """The values of a row by column. A column that is not known is left out."""
    values: dict[str, Value] = {}
    for column, text in record.items():
        where = name_cell(number, column)
        if column in _NUMBERS:
            values[column] = _parse_number(text, column, where, reading)
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
    silent = [column for column in ("blk_goodput", "ovl_goodput") if values.get(column) is None]
    if silent:
        reading.warnings.append(f"row {number}: no {' and no '.join(silent)}, so this row is in no comparison")
    return values


def _parse_number(text: str, column: str, where: str, reading: Reading) -> float | None:
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
    return int(value) if column in _WHOLE or (column in _MEANS and value == int(value)) else value


def refuse_ambiguous_commas(records: Sequence[tuple[int, dict[str, str]]], reading: Reading) -> None:
    """Note the cells of which nothing in their column says whether their comma separates thousands or decimals."""
    for column in _NUMBERS:
        cells = {number: record[column] for number, record in records if column in record}
        if any(_PLAIN_DECIMALS.fullmatch(text) for text in cells.values()):
            continue
        for number, text in cells.items():
            if _AMBIGUOUS.fullmatch(text.removesuffix("%").strip()):
                plain, decimal = text.replace(",", ""), text.replace(",", ".")
                reading.add_problem(name_cell(number, column), text, f"{decimal} or {plain}: its comma may mean both")


def measure_errors(
    records: Sequence[tuple[int, dict[str, str]]], rows: Sequence[Mapping[str, Value]]
) -> list[dict[str, float]]:
    """For each row and column, how far the rounded number may be off."""
    errors: list[dict[str, float]] = [{} for _ in rows]
    for columns in _QUANTITIES:
        precision = measure_precision(record.get(column, "") for _, record in records for column in columns)
        for own, values in zip(errors, rows, strict=True):
            for column in columns:
                if precision is not None and isinstance(value := values.get(column), float):
                    own[column] = precision.get_half_unit(value)
    for own, (_, record) in zip(errors, records, strict=True):
        if (precision := measure_precision([record["ovl_vs_blk"]])) is not None:
            own["ovl_vs_blk"] = 0.5 * 10.0**-precision.decimals
    return errors
