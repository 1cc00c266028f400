"""Every file of a node can be read by a person, damaged ones as far as they go."""

from __future__ import annotations

import pytest

from pyraft_fast._entry import KIND_NOOP, Batch, seal
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.membership import Member, Membership
from pyraft_fast.errors import StorageError
from pyraft_fast.storage import dump, snapshot
from pyraft_fast.storage.segments import HardState, find_segments

from .fakedisk import FakeDisk
from .model import CLUSTER, FOLDER, INCARNATION, NID, config


def commands(index: int, *rows: list[object]) -> bytes:
    batch = Batch()
    for row in rows:
        batch.add(row)
    count = batch.count
    return seal(2, index, 1, 5, INCARNATION, 1, index, count, batch.take())


@pytest.fixture
def log():
    disk = FakeDisk()
    wal, _ = Wal.open(FOLDER, NID, cluster=CLUSTER, incarnation=INCARNATION, disk=disk)
    wal.append(HardState(1, NID, 0), [seal(KIND_NOOP, 1, 1, 5, 0, 0, 0, 0, b"")])
    wal.append(
        HardState(1, NID, 1),
        [
            commands(2, ["SET", "key", "two words"], ["DEL", "a\nb", "x" * 500]),
            config(3, 1),
        ],
    )
    wal.sync()
    wal.close()
    return disk, find_segments(disk, FOLDER, NID)[0].path


def test_a_log_is_shown_record_by_record(log):
    disk, path = log
    lines = list(dump.lines(path, disk))
    text = "\n".join(lines)
    assert lines[0].startswith(f"log of node {NID!r}, cluster {CLUSTER}, incarnation {INCARNATION}")
    assert "noop index=1 term=1" in text
    assert "commands index=2 term=1" in text
    assert "0: SET key 'two words'" in text
    assert r"DEL 'a\nb' xxx" in text
    assert "config index=3" in text
    assert "cannot be decoded" in text  # that membership is no membership
    assert f"state term=1 vote={NID!r} commit=1" in text
    assert " end, " in lines[-1]
    assert max(len(line) for line in lines) < 300


def test_damage_is_the_last_line_and_does_not_hide_what_is_before(log):
    disk, path = log
    at = bytes(disk.names[path].live).index(b"two words")
    disk.rot(path, at, 1)
    lines = list(dump.lines(path, disk))
    assert "noop index=1" in "\n".join(lines)
    assert lines[-1].startswith("DAMAGED at ")
    assert "says it was synced" in lines[-1]
    disk.rot(path, 70, 1)
    assert list(dump.lines(path, disk))[-1].startswith("DAMAGED at 0")


def test_a_torn_end_is_called_torn(log):
    disk, path = log
    end = len(bytes(disk.names[path].live).rstrip(b"\0"))
    disk.names[path].live[end + 2000 : end + 2003] = b"xyz"
    assert list(dump.lines(path, disk))[-1].startswith(f"TORN at {end}")


def test_a_snapshot_is_shown_item_by_item():
    disk = FakeDisk()
    members = Membership(CLUSTER, (Member("1", "127.0.0.1:5010", 5, "voter"),), (), 0)
    meta = snapshot.Meta(CLUSTER, 9, 2, 77, members.encode(), {5: (1, 3)}, 2)
    items = [("k", 1, "v", None), ("a b", 2, ["x"], 1234)]
    path = f"{FOLDER}/any-name"
    snapshot.write_snapshot(path, meta, items, disk)
    lines = list(dump.lines(path, disk))
    assert lines[0] == f"snapshot of cluster {CLUSTER}: index 9, term 2, time 77, 2 keys"
    assert "127.0.0.1:5010" in lines[1]
    assert lines[2:] == [
        "session 5: start 1, last batch 3",
        "k [1] 'v'",
        "'a b' [2] until 1234 ['x']",
        "end, 2 keys, every checksum is right",
    ]
    disk.rot(path, len(disk.names[path].live) - 1, 1)
    lines = list(dump.lines(path, disk))
    assert "k [1] 'v'" in lines
    assert lines[-1].startswith("DAMAGED: ")


def test_the_text_of_the_original_is_shown(tmp_path):
    path = tmp_path / "raft_1_1700000000_3.dat"
    path.write_text(str({"_META_": {"term": 4}, "ttl": {"k": 5}, "k": "v", "n": 1}))
    assert list(dump.lines(str(path))) == [
        "snapshot of the original pyraft, 2 keys",
        "term = 4",
        "k until 5.0 'v'",
        "n 1",
    ]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(StorageError, match=r"notes\.txt"):
        list(dump.lines(str(path)))
    with pytest.raises(StorageError, match="nothing-here"):
        list(dump.lines(str(tmp_path / "nothing-here")))


def test_a_log_on_the_real_disk_is_shown(tmp_path):
    wal, _ = Wal.open(str(tmp_path), NID, cluster=1, incarnation=2, segment_bytes=4096)
    wal.append(HardState(1, "", 0), [commands(1, ["SET", "a", "b"])])
    wal.close()
    (path,) = tmp_path.iterdir()
    assert any("SET a b" in line for line in dump.lines(str(path)))
