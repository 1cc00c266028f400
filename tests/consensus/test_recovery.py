"""From files to a core: what a node finds again after a crash, and where it refuses to go on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pyraft_fast.consensus import recovery
from pyraft_fast.consensus.node import make_raft
from pyraft_fast.consensus.settings import Settings, read_settings
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import HardState
from pyraft_fast.errors import DamagedFile, StorageError
from pyraft_fast.limits import KIB
from pyraft_fast.storage.disk import SECTOR_BYTES
from pyraft_fast.storage.snapshot import Meta, snapshot_path, write_snapshot

NOOP = 1
CLUSTER = 7
INCARNATION = 5
MEMBERSHIP = Membership(CLUSTER, (Member("1", "127.0.0.1:1", INCARNATION, VOTER),), (), 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    given = {"nid": "1", "addr": "127.0.0.1:1", "folder": str(tmp_path)}
    return read_settings({**given, "segment_bytes": 64 * KIB})


def write_log(settings: Settings, terms: list[int], hard: HardState) -> None:
    """Entries of these terms, each stamped with a thousand times its index."""
    wal, _ = Wal.open(
        settings.folder,
        "1",
        cluster=CLUSTER,
        incarnation=INCARNATION,
        segment_bytes=settings.segment_bytes,
    )
    records = [Entry.make(NOOP, n, t, n * 1000, b"").record for n, t in enumerate(terms, 1)]
    wal.append(hard, records)
    wal.close()


def write_file(settings: Settings, index: int, term: int, time_ms: int) -> str:
    path = snapshot_path(settings.folder, "1", index, index)
    meta = Meta(CLUSTER, index, term, time_ms, MEMBERSHIP.encode(), {}, 0)
    write_snapshot(path, meta, iter(()))
    return path


def recovered(settings: Settings) -> tuple[Raft, recovery.Recovered]:
    found = recovery.open_log(settings, recovery.look(settings))
    return make_raft(settings, found, random.Random(1)), found


def test_a_log_goes_on_where_it_stopped(settings: Settings) -> None:
    write_log(settings, [1, 1, 2], HardState(3, "2", 2))
    raft, found = recovered(settings)
    assert (raft.term, raft.vote, raft.log.commit) == (3, "2", 2)
    assert (raft.log.first, raft.log.last, raft.log.last_term) == (1, 3, 2)
    assert raft.clock_ms == 3000
    assert not found.notes


def test_a_torn_end_is_reported_by_a_node_without_a_snapshot_too(settings: Settings) -> None:
    """Whether a log is blank is looked up first; that once cut the end off without a word."""
    write_log(settings, [1, 1, 2], HardState(3, "2", 2))
    wal, _ = Wal.open(settings.folder, "1", segment_bytes=settings.segment_bytes)
    records = [Entry.make(NOOP, n, 3, n * 1000, b"").record for n in range(4, 24)]
    wal.append(HardState(3, "2", 2), records)  # and then the machine stops, before it was synced
    path = max(Path(settings.folder).glob("*.log"))
    data = path.read_bytes()
    kept = len(data.rstrip(b"\0")) // SECTOR_BYTES * SECTOR_BYTES
    path.write_bytes(data[:kept].ljust(len(data), b"\0"))
    assert not recovery.is_blank(settings, recovery.look(settings))
    raft, found = recovered(settings)
    assert raft.log.last == 3
    assert "written but never synced" in found.notes[-1]


def test_a_log_that_ends_before_the_snapshot_restarts_behind_it(settings: Settings) -> None:
    write_log(settings, [1, 1], HardState(1, "", 1))
    write_file(settings, 10, 4, 99_000)
    raft, found = recovered(settings)
    assert (raft.log.first, raft.log.last, raft.log.commit) == (11, 10, 10)
    assert (raft.term, raft.membership) == (4, MEMBERSHIP)
    assert "restarts behind the snapshot of index 10" in found.notes[-1]


def test_the_clock_never_falls_behind_the_snapshot(settings: Settings) -> None:
    """An empty log has no time of its own, and this machine's clock may be wrong."""
    write_log(settings, [1, 1], HardState(1, "", 1))
    write_file(settings, 10, 4, 99_000)
    raft, _ = recovered(settings)
    assert raft.clock_ms == 99_000
    raft.tick(5_000)
    work = raft.take()
    raft.persisted(work.entries[-1].index, work.entries[-1].term)
    assert raft.is_leader
    assert work.entries[0].time_ms == 99_000


def test_a_log_that_disagrees_with_the_snapshot_restarts_behind_it(settings: Settings) -> None:
    write_log(settings, [1, 1, 1], HardState(2, "1", 1))
    write_file(settings, 2, 2, 50_000)
    raft, _ = recovered(settings)
    assert (raft.log.first, raft.log.last, raft.log.commit) == (3, 2, 2)
    assert (raft.term, raft.vote) == (2, "1")


def test_a_hole_between_snapshot_and_log_stops_the_node(settings: Settings) -> None:
    write_log(settings, [1], HardState(1, "", 1))
    path = write_file(settings, 10, 1, 10_000)
    recovered(settings)[1].wal.close()
    Path(path).unlink()
    with pytest.raises(DamagedFile, match="begins at index 11"):
        recovered(settings)


def test_a_damaged_newest_snapshot_is_passed_over_where_the_log_joins_the_older(
    settings: Settings,
) -> None:
    write_log(settings, [1] * 12, HardState(1, "", 12))
    write_file(settings, 5, 1, 5_000)
    newest = Path(write_file(settings, 10, 1, 10_000))
    data = bytearray(newest.read_bytes())
    data[100] ^= 1
    newest.write_bytes(data)
    raft, found = recovered(settings)
    assert found.snapshot is not None
    assert found.snapshot.index == 5
    assert (raft.log.first, raft.log.commit) == (1, 12)
    assert "damaged" in found.notes[0]


def write_all(settings: Settings) -> None:
    """A log, and more snapshots of it than are kept."""
    write_log(settings, [1] * 12, HardState(1, "", 12))
    for index in (2, 4, 6, 8):
        write_file(settings, index, 1, index * 1000)


def snapshots_of(settings: Settings) -> list[int]:
    return sorted(int(path.stem.split("_")[-1]) for path in Path(settings.folder).glob("*.dat"))


def test_what_crashes_left_of_snapshots_goes_at_the_next_start(settings: Settings) -> None:
    """A writer outlives a node that is killed, and the node never hears of its file."""
    write_all(settings)
    _, found = recovered(settings)
    assert snapshots_of(settings) == [6, 8]
    assert not found.notes


def test_beside_a_damaged_snapshot_all_stay(settings: Settings) -> None:
    write_all(settings)
    for path in sorted(Path(settings.folder).glob("*.dat"))[-2:]:
        path.write_bytes(path.read_bytes()[:-1])
    _, found = recovered(settings)
    assert found.snapshot is not None
    assert found.snapshot.index == 4
    assert snapshots_of(settings) == [2, 4, 6, 8]


def test_a_snapshot_that_cannot_be_deleted_stops_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: str, nid: str) -> list[str]:
        raise StorageError("cannot delete it")

    write_log(settings, [1] * 12, HardState(1, "", 12))
    monkeypatch.setattr(recovery.snapshots, "prune", fails)
    assert recovered(settings)[1].notes == ["older snapshots stay for now: cannot delete it"]
