"""Check that the ranks' rows of every split tensor add up to the whole tensor. Loads no tensors.

`rank-<rank>.json` names under `shards` each tensor of its rank's files that is a part of a larger one, with the whole
tensor's `shape` and the index `begin` of the part's first row.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ecrl.storage import safetensors_header


def find_gap(files: Iterable[tuple[Sequence[Path], Path]]) -> str | None:
    """What is wrong with the rows of split tensors; None if nothing is.

    files: each rank's files of tensors, and its facts.

    Raises:
        OSError: a file cannot be read.
    """
    parts: dict[str, list[tuple[int, int, list[int]]]] = {}
    try:
        for tensors, facts in files:
            text = facts.read_bytes()
            # Most files say nothing of it, and are large.
            places = json.loads(text).get("shards") if b'"shards"' in text else None
            if not places:
                continue
            header = {name: entry for path in tensors for name, entry in safetensors_header.read(path).items()}
            for name, place in places.items():
                rows, *rest = header[name]["shape"]
                if rest != place["shape"][1:]:
                    return f"{facts.name}: {name}: found rows of the shape {rest}, expected {place['shape'][1:]}"
                parts.setdefault(name, []).append((place["begin"], place["begin"] + rows, place["shape"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{facts.name}: does not describe the split tensors of its rank"
    return next((fault for name, found in parts.items() if (fault := _find_fault(name, found))), None)


def _find_fault(name: str, parts: list[tuple[int, int, Any]]) -> str | None:
    reached, shape = 0, parts[0][2]
    for begin, end, whole in sorted(parts, key=lambda part: part[:2]):
        if whole != shape:
            return f"{name}: found the whole shapes {shape} and {whole}, expected one"
        if begin > reached:
            return f"{name}: rows {reached} to {begin} are saved by no rank"
        if begin < reached:
            return f"{name}: rows {begin} to {reached} are saved twice"
        reached = end
    return None if reached == shape[0] else f"{name}: {reached} of {shape[0]} rows are saved"
