"""Where the fork server keeps its sockets."""

import tempfile
from pathlib import Path

from ecrl.worker.warm.server import find_short_folder


def test_a_long_folder_of_temporary_files_gives_way_to_a_short_one(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        assert find_short_folder(short) == short
    long = tmp_path / ("t" * 110)
    long.mkdir()
    assert len(find_short_folder(str(long))) < len(str(long))
