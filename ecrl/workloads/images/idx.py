"""The idx file format of the MNIST family: big-endian header, then unsigned bytes; plain or gzip-compressed."""

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

_UNSIGNED_BYTE = 0x08


def read_content(path: Path) -> bytes:
    """The uncompressed bytes of an idx file. A file whose name ends in `.gz` is decompressed and its CRC verified.

    Raises:
        ValueError: the compressed file is cut short or damaged.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path.name} is cut short or damaged (incomplete download?): {error}") from error


def parse(content: bytes, shape: tuple[int, ...], name: str) -> "numpy.ndarray[Any, Any]":
    """The array in an idx file's bytes: uint8 [N, *shape], a read-only view of `content`.

    Args:
        content: the whole file.
        shape: of one item: (28, 28) for an image, () for a label.
        name: for messages.

    Raises:
        ValueError: magic number, item shape or length are not as expected.
    """
    import numpy as np

    num_dims = 1 + len(shape)
    header_bytes = 4 + 4 * num_dims
    magic = _UNSIGNED_BYTE << 8 | num_dims
    if len(content) < header_bytes:
        raise ValueError(f"{name} is cut short: {len(content)} bytes, its header alone has {header_bytes}")
    found_magic = int.from_bytes(content[:4], "big")
    if found_magic != magic:
        raise ValueError(f"{name} is not an idx file of this kind: magic 0x{found_magic:08x}, expected 0x{magic:08x}")
    dims = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header_bytes, 4))
    if dims[1:] != shape:
        raise ValueError(f"{name} holds items of {dims[1:]}, expected {shape}")
    expected_bytes = header_bytes + math.prod(dims)
    if len(content) != expected_bytes:
        why = "cut short (incomplete download?)" if len(content) < expected_bytes else "too long"
        raise ValueError(f"{name} is {why}: {len(content):,} bytes, expected {expected_bytes:,} from its header")
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(dims)
