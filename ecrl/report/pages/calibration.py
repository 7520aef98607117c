"""The calibration of a campaign's claims as a file in its folder, which the report reads."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from ecrl.analysis.claims.calibration import Calibration
from ecrl.errors import RecordError
from ecrl.records.paths import CampaignPaths
from ecrl.report.text.calibration import HEADERS, build_rows, describe
from ecrl.storage.atomic import write_atomic

SCHEMA = 1


def write_calibrations(paths: CampaignPaths, found: Sequence[Calibration]) -> Path:
    """Write the calibrations beside the report, and return the path."""
    path = paths.calibration
    document = {"schema": SCHEMA, "claims": [asdict(one) for one in found]}
    write_atomic(path, (json.dumps(document, indent=2) + "\n").encode())
    return path


def build_table(found: Sequence[Calibration]) -> tuple[list[str], list[list[str]], str]:
    """(headers, rows, what was simulated) for a terminal."""
    return list(HEADERS), [list(row) for row in build_rows(found)], describe(found[0].trials)


def read_calibrations(paths: CampaignPaths) -> tuple[Calibration, ...]:
    """The calibrations of a campaign; empty if none were made.

    Raises:
        RecordError: the file is damaged.
    """
    path = paths.calibration
    try:
        document = json.loads(path.read_bytes())
        return tuple(map(_build, document["claims"]))
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        again = f"Make it again: `ecrl selftest --statistics {paths.options}`."
        raise RecordError("ECRL-717", f"{path}: expected a calibration, found none in it ({error}).\n{again}") from None


def _build(entry: dict[str, Any]) -> Calibration:
    one = Calibration(**entry)
    for field in fields(one):
        if not _has_type(value := entry[field.name], field.type):
            raise TypeError(f"{field.name}: found {value!r}")
    parts = (one.false_confirmed + one.false_refuted, one.covered, one.confirmed, one.planned)
    counts = (one.false_confirmed, one.false_refuted, one.followed, *parts)
    if one.trials <= 0 or min(counts) < 0 or max(parts) > one.trials or one.followed > one.planned:
        raise ValueError(f"{one.name}: found impossible counts")
    return one


def _has_type(value: Any, expected: Any) -> bool:
    """Whether a JSON value is one of a field's type. Neither NaN nor infinity is a number."""
    if expected is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is expected if isinstance(expected, type) else value in get_args(expected)
