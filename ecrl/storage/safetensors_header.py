"""Check the header of a safetensors file before a reader allocates memory for it. Loads no tensors.

The file: 8 bytes with the length of the header (little endian), the header (JSON), the tensors' bytes without gaps.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

SUFFIX = ".safetensors"
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
         "F64": 64, "I64": 64, "U64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "C64": 64}  # fmt: skip


def find_fault(path: Path) -> str | None:
    """Why the header contradicts itself or the file's size; None if it does not. Never reads beyond the file's end.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                return f"{size} bytes, too few for a safetensors header"
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, _MAX_HEADER_BYTES):
                return f"its header claims {length} bytes, the file has {size}"
            header = json.loads(file.read(length))
        return _find_inconsistency(header, size - 8 - length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "its header is not a safetensors header"


def read(path: Path) -> dict[str, Any]:
    """The entries of the tensors in a file in which `find_fault` finds nothing, by name.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return header


def _find_inconsistency(header: dict[str, Any], payload_bytes: int) -> str | None:
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    reached = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if any(type(number) is not int for number in (begin, end, *entry["shape"])):
            raise TypeError  # 4.0 equals 4 here, but the library that a restore uses refuses it
        needed = math.prod(entry["shape"]) * _BITS[entry["dtype"]] // 8
        if begin != reached or end - begin != needed or min(entry["shape"], default=0) < 0:
            return f"its header gives {name!r} the bytes {begin} to {end}, expected {reached} to {reached + needed}"
        reached = end
    return None if reached == payload_bytes else f"its header describes {reached} of {payload_bytes} bytes"
