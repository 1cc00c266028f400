"""What a node clears away before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyraft_fast.errors import StartError
from pyraft_fast.serving.startup import clean_folder


def test_half_written_snapshots_go_and_nothing_else(tmp_path: Path) -> None:
    keep = ["raft_1_0000000001.log", "raft_1_1700_5.dat", "raft_2_1700_5.dat.tmp", "mine.dat.tmp"]
    for name in [*keep, "raft_1_1700_6.dat.tmp", "raft_1_1701_7.dat.tmp"]:
        (tmp_path / name).touch()
    clean_folder(str(tmp_path), "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="gone"):
        clean_folder(str(tmp_path / "gone"), "1")
