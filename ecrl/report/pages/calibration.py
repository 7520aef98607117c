"""The calibration of a campaign's claims as a file in its folder, which the report reads."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ecrl.analysis.claims.calibration import Calibration
from ecrl.errors import RecordError
from ecrl.records.paths import CampaignPaths
from ecrl.report.text.calibration import HEADERS, build_rows, describe
from ecrl.storage.atomic import write_atomic

SCHEMA = 1
_CALIBRATIONS = TypeAdapter(tuple[Calibration, ...])


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
        found = _CALIBRATIONS.validate_python(document["claims"])
        if wrong := [one.name for one in found if not _can_be(one)]:
            raise ValueError(f"{wrong[0]}: counts that cannot be")
        return found
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        what = _describe(error)
        again = f"Make it again: `ecrl selftest --statistics {paths.options}`."
        raise RecordError("ECRL-717", f"{path}: expected a calibration, found none in it ({what}).\n{again}") from None


def _can_be(one: Calibration) -> bool:
    parts = (one.false_confirmed + one.false_refuted, one.covered, one.confirmed, one.planned)
    counts = (one.false_confirmed, one.false_refuted, one.followed, *parts)
    return one.trials > 0 and min(counts) >= 0 and max(parts) <= one.trials and one.followed <= one.planned


def _describe(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
