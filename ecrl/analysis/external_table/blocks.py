"""The rows of a table made elsewhere as blocks: one suite under one seed, or under all of its seeds together."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED
from ecrl.analysis.external_table.cells import SEED, Reading, name_cell
from ecrl.analysis.external_table.manifest import PLACE, Plan, find_plan
from ecrl.analysis.run.metrics import REFERENCE, Row, empty_row
from ecrl.config.hashing import slug
from ecrl.errors import EcrlError
from ecrl.records.columns import is_axis_column

NO_FAILURES = "none"  # the schedule of a matrix that plans none
SHORTS = {"ref": REFERENCE, "blk": BLOCKING, "ovl": OVERLAPPED}
_FAILURE = re.compile(r"(?P<label>[^:]+?)(?::\s*(?P<steps>PLACE(?:[,; ]+PLACE)*))?".replace("PLACE", PLACE))
_ID_AXES = (("k", "checkpoint_every"), ("q", "max_inflight"), ("", "launcher"))


@dataclass(frozen=True)
class Block:
    """One row of the table.

    number: of the row; the header is row 0. failure_steps: joined with ';'. errors: how far the rounded number of a
    column may be off. plan: of the manifest, None if it has none.
    """

    number: int
    suite_id: str
    label: str
    failure_steps: str
    values: Mapping[str, Any]
    errors: Mapping[str, float]
    plan: Plan | None

    @property
    def name(self) -> str:
        """'row 3'."""
        return f"row {self.number}"

    @property
    def seed(self) -> int | None:
        """The seed, if the table has one for the row."""
        seed: int | None = self.values.get(SEED)
        return seed

    @property
    def n_seeds(self) -> int | None:
        """How many seeds stand behind the row; None if neither the table nor the manifest says so."""
        if self.seed is not None:
            return 1
        # 0 stands in tables of ecrl for a suite of which no block has both variants
        n: int | None = self.values.get("n_seeds") or (len(self.plan.seeds) if self.plan else 0) or None
        return n

    @property
    def told_values(self) -> dict[str, Any]:
        """The values of the row, by the manifest's columns."""
        return {**self.values, "failure_steps": self.failure_steps}

    @cached_property
    def conflicts(self) -> list[str]:
        """What the manifest says otherwise."""
        return self.plan.list_conflicts(self.told_values) if self.plan else []

    def get_setting(self, name: str) -> Any:
        """The value of a setting: of the table, else of the manifest."""
        return self.values.get(name) or (getattr(self.plan, name) if self.plan else None)

    def get_wall_s(self, short: str) -> float | None:
        """The wall-clock of a variant: of the table, else steps / goodput."""
        wall_s: float | None = self.values.get(f"{short}_wall_s")
        steps, goodput = self.get_setting("steps"), self.values.get(f"{short}_goodput")
        return wall_s if wall_s is not None else steps / goodput if steps and goodput else None

    def get_bounds(self, column: str) -> tuple[float, float] | None:
        """The least and the largest number that the cell may stand for; None if it is empty."""
        value = self.values.get(column)
        if value is None:
            return None
        return value - self.errors.get(column, 0.0), value + self.errors.get(column, 0.0)

    @cached_property
    def log_ratio(self) -> float | None:
        """ln(overlapped / blocking) of goodput."""
        blk, ovl = self.values.get("blk_goodput"), self.values.get("ovl_goodput")
        return math.log(ovl / blk) if blk and ovl else None

    @cached_property
    def ratio_bounds(self) -> tuple[float, float] | None:
        """The least and the largest overlapped / blocking that the rounded goodputs allow."""
        blk, ovl = self.get_bounds("blk_goodput"), self.get_bounds("ovl_goodput")
        if blk is None or ovl is None:
            return None
        return ovl[0] / blk[1], ovl[1] / blk[0] if blk[0] > 0 else math.inf

    def build_rows(self, variants: Sequence[str]) -> list[Row]:
        """Rows of a runs table. A value that the detailed table does not have is None."""
        return [self._build_row(short) for short, variant in SHORTS.items() if variant in variants]

    def _build_row(self, short: str) -> Row:
        value = self.values.get
        goodput, reference = value(f"{short}_goodput"), value("ref_goodput")
        return empty_row(
            suite_id=self.suite_id,
            dataset=value("dataset"),
            model=value("model"),
            failure_label=self.label,
            failure_steps="" if short == "ref" else self.failure_steps,
            **{name: self.get_setting(name) for name in ("checkpoint_every", "max_inflight", "nproc", "steps")},
            launcher=value("launcher"),
            variant=SHORTS[short],
            seed=self.seed,
            outcome="completed" if goodput is not None else "missing",
            goodput_steps_per_s=goodput,
            rel_goodput=goodput / reference if goodput and reference else None,
            stall_s=value(f"{short}_stall_s"),
            wall_s=self.get_wall_s(short),
            restarts=value(f"{short}_restarts"),
            correct=value(f"{short}_correct"),
            **{column: text for column, text in self.values.items() if "." in column},
        )


def build_blocks(
    rows: Sequence[tuple[int, Mapping[str, Any], Mapping[str, float]]], plans: Sequence[Plan] | None, reading: Reading
) -> list[Block]:
    """The blocks, in the order of the table. rows: (number, values, errors) of each. plans: None without a manifest.

    Raises:
        EcrlError: two rows are the same suite and seed.
    """
    found: dict[tuple[str, int | None], Block] = {}
    for number, values, errors in rows:
        one = _build_block(number, values, errors, plans, reading)
        if (first := found.setdefault((one.suite_id, one.seed), one)) is not one:
            seed = "" if one.seed is None else f", seed {one.seed}"
            raise EcrlError(
                "ECRL-707",
                f"{reading.path}: rows {first.number} and {number} are the same suite ({one.suite_id}{seed}), expected"
                f" one row for each suite and seed.\nRuns of one suite need a column `{SEED}` that tells them apart.",
            )
    return list(found.values())


def _build_block(
    number: int,
    values: Mapping[str, Any],
    errors: Mapping[str, float],
    plans: Sequence[Plan] | None,
    reading: Reading,
) -> Block:
    match = _FAILURE.fullmatch(values["failure"])
    label = match["label"].strip() if match else values["failure"]
    steps = ";".join(re.findall(PLACE, match["steps"])) if match and match["steps"] else ""
    key = (values["dataset"], values["model"], label)
    plan = find_plan(plans or [], key, {**values, "failure_steps": steps})
    if plans is not None and plan is None:
        reading.warnings.append(f"row {number}: the manifest has no suite {', '.join(key)}")
    steps = steps or (plan.failure_steps if plan else "")
    if not steps and label != NO_FAILURES:
        where, text = name_cell(number, "failure"), values["failure"]
        reading.warnings.append(f"{where}: {text!r} gives no steps (like base:400,1200); it is used as a label")
    return Block(number, _name_suite(values, label), label, steps, values, errors, plan)


def _name_suite(values: Mapping[str, Any], label: str) -> str:
    axes = [f"{short}{values[column]}" for short, column in _ID_AXES if values.get(column)]
    axes += [slug(f"{c}-{text}") for c, text in values.items() if is_axis_column(c) and c != "launcher" and text]
    return values.get("suite_id") or "-".join([*map(slug, (values["dataset"], values["model"], label)), *axes])
