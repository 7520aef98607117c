"""A safetensors header that cannot be true is found before anything is allocated for it."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from ecrl.checkpoint.state_view import Layout
from ecrl.storage import safetensors_header
from tests.unit.checkpoint.ranks_in_threads import ToyState


def shard(path: Path, header: Any, payload: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + payload)
    return path


def entry(begin: int, end: int, shape: list[float], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_ecrl_writes_is_true(tmp_path: Path) -> None:
    state = ToyState(0)
    layout = Layout(state.weights | state.buffers)
    (tmp_path / "shard").write_bytes(layout.header() + bytes(layout.payload_bytes))
    assert safetensors_header.find_fault(tmp_path / "shard") is None


@pytest.mark.parametrize(
    ("header", "payload", "length", "said"),
    [
        ({}, 0, 2**62, "its header claims 4611686018427387904 bytes"),
        ({"w": entry(0, 16, [4])}, 16, 10**6, "its header claims 1000000 bytes"),
        ({"w": entry(0, 2**60, [2**58])}, 16, None, f"{2**60} of 16 bytes"),
        ({"w": entry(0, 16, [2**58])}, 16, None, f"'w' the bytes 0 to 16, expected 0 to {2**60}"),
        ({"w": entry(0, 16, [4]), "v": entry(8, 24, [4])}, 24, None, "'v' the bytes 8 to 24, expected 16 to 32"),
        ({"w": entry(4, 20, [4])}, 20, None, "'w' the bytes 4 to 20"),
        ({"w": entry(0, 16, [-2, -2])}, 16, None, "'w' the bytes 0 to 16"),
        ({"w": entry(0, 16, [4])}, 20, None, "16 of 20 bytes"),
        ({"w": entry(0, 16, [4], "F31")}, 16, None, "safetensors header"),
        ({"w": {"dtype": "F32"}}, 16, None, "safetensors header"),
        ([1, 2], 0, None, "safetensors header"),
        (b"\xff{", 0, None, "safetensors header"),
        ({"w": entry(0, 16, [4.0])}, 16, None, "safetensors header"),
        (b"[" * 100_000, 0, None, "safetensors header"),
    ],
)  # fmt: skip
def test_a_lie_is_found(tmp_path: Path, header: Any, payload: int, length: int | None, said: str) -> None:
    path = shard(tmp_path / "shard", header, bytes(payload), length)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert said in str(safetensors_header.find_fault(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB: nothing of what it claims


@pytest.mark.parametrize("size", [0, 7])
def test_a_file_too_short_for_a_length_is_told(tmp_path: Path, size: int) -> None:
    (tmp_path / "shard").write_bytes(bytes(size))
    assert "too few" in str(safetensors_header.find_fault(tmp_path / "shard"))


def test_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        safetensors_header.find_fault(tmp_path / "absent")
