"""The metadata of an RO-Crate (version 1.1, Process Run Crate): what each file of a bundle is, and what made it."""

import json
import mimetypes
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecrl import __version__

_METADATA = "ro-crate-metadata.json"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_SOFTWARE = "#ecrl"


def write_crate(folder: Path, prefix: str, epoch_s: int, report: Collection[Path]) -> None:
    """Describe every file of the folder in its `ro-crate-metadata.json`. report: the files that the report made."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    when = datetime.fromtimestamp(epoch_s, UTC)
    crate.datePublished = when
    crate.name = f"ecrl campaign {prefix}"
    crate.description = f"Records and report of the campaign {prefix}, from which `ecrl report` makes the report again."
    profile = ContextEntity(crate, _PROFILE, {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"})
    software = ContextEntity(crate, _SOFTWARE, {"@type": "SoftwareApplication", "name": "ecrl", "version": __version__})
    crate.add(profile, software)
    made = {path.resolve() for path in report}
    records: list[Any] = []
    results: list[Any] = []
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        entity = crate.add_file(path, path.relative_to(folder).as_posix(), properties=_describe(path))
        (results if path.resolve() in made else records).append(entity)
    action = ContextEntity(
        crate,
        "#report",
        {"@type": "CreateAction", "name": f"ecrl report --prefix {prefix}", "endTime": when.isoformat()},
    )
    crate.add(action)
    action["instrument"], action["object"], action["result"] = software, records, results
    crate.root_dataset["conformsTo"], crate.root_dataset["mentions"] = profile, action
    (folder / _METADATA).write_text(json.dumps(crate.metadata.generate(), indent=1) + "\n")


def _describe(path: Path) -> dict[str, Any]:
    kind = "application/jsonl" if path.suffix == ".jsonl" else mimetypes.guess_type(path.name)[0]
    described: dict[str, Any] = {"name": path.name, "contentSize": str(path.stat().st_size)}
    return described | ({"encodingFormat": kind} if kind else {})
