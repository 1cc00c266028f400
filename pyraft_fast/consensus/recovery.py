"""From the files of a node to a core that goes on where it stopped, or stops with a reason.

Snapshot and log must join: the log's entries begin at the latest behind the newest valid snapshot.
A hole between them means that acknowledged entries are gone; then the node must not go on, because
the others count on its memory. A log that ends before the snapshot, or that disagrees with it,
held nothing the snapshot does not have, and restarts behind it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pyraft_fast import _entry
from pyraft_fast.consensus.settings import Settings
from pyraft_fast.consensus.snapshots import SnapshotFile
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.core.work import HardState
from pyraft_fast.errors import DamagedFile, StartError, StorageError
from pyraft_fast.storage import names
from pyraft_fast.storage import snapshot as snapshots
from pyraft_fast.storage.disk import OS_DISK, failed
from pyraft_fast.storage.segments import Identity as LogIdentity
from pyraft_fast.storage.segments import read_log


class Found(NamedTuple):
    """What lies in a node's folder at start."""

    log: LogIdentity | None
    snapshot: SnapshotFile | None
    snapshot_cluster: int
    notes: list[str]  # damaged snapshots that were passed over


class Recovered(NamedTuple):
    """Everything needed to make a core. `snapshot_membership` is in force at the snapshot."""

    wal: Wal
    identity: LogIdentity
    hard: HardState
    snapshot: SnapshotFile | None
    snapshot_membership: Membership
    last_term: int
    configs: list[Entry]
    start: int
    notes: list[str]


def look(settings: Settings) -> Found:
    """See whether the folder holds a log and a snapshot. Raises StorageError, StartError."""
    log = Wal.identity(settings.folder, settings.nid)
    newest, damaged = snapshots.newest_valid(settings.folder, settings.nid)
    snapshot, cluster = None, 0
    if newest is not None:
        meta = newest.meta
        snapshot = SnapshotFile(newest.path, meta.index, meta.term, meta.time_ms, meta.membership)
        cluster = meta.cluster
    if log is None and snapshot is not None and not settings.load:
        raise StartError(
            f"{settings.folder} holds the snapshot {os.path.basename(snapshot.path)} but no log; "
            f"start with -l {snapshot.path} to found a new cluster from it, "
            "or move it away to join one"
        )
    return Found(log, snapshot, cluster, damaged)


def open_log(settings: Settings, found: Found) -> Recovered:
    """Recover a node that has a log. Raises StorageError, DamagedFile, StartError."""
    wal, recovered = Wal.open(settings.folder, settings.nid, segment_bytes=settings.segment_bytes)
    snapshot = found.snapshot
    hard = HardState(*recovered.state)
    notes = [*found.notes, *([recovered.torn] if recovered.torn else [])]
    cluster = recovered.identity.cluster
    check_joins(settings.folder, cluster, recovered.first, snapshot, found.snapshot_cluster)
    configs, last_term = recovered.configs, recovered.last_term
    if snapshot is not None and not agrees(wal, snapshot):
        hard = HardState(max(hard.term, snapshot.term), hard.vote, snapshot.index)
        wal.reset(snapshot.index, snapshot.term, hard)
        configs, last_term = [], snapshot.term
        notes.append(f"the log restarts behind the snapshot of index {snapshot.index}")
    membership = Membership(cluster)
    if snapshot is not None and snapshot.membership:
        membership = Membership.decode(snapshot.membership)
    if not found.notes:  # with damaged ones about it is not sure that the newest are the best
        notes += _prune(settings)
    return Recovered(
        wal,
        recovered.identity,
        hard,
        snapshot,
        membership,
        last_term,
        configs,
        recovered.start,
        notes,
    )


def _prune(settings: Settings) -> list[str]:
    """Each crash may leave the snapshot that was being written, and a node may crash often."""
    try:
        snapshots.prune(settings.folder, settings.nid)
    except StorageError as error:
        return [f"older snapshots stay for now: {error}"]
    return []


class Readable(Protocol):
    """A log that can be read: entries `first` to `last`."""

    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    def read(self, lo: int, hi: int, bytes_max: int, /) -> list[Entry]: ...


def check_joins(
    folder: str, cluster: int, first: int, snapshot: SnapshotFile | None, snapshot_cluster: int
) -> None:
    """A log of `cluster` from index `first` and the snapshot beside it must belong together.

    Raises StartError for a snapshot of another cluster, DamagedFile for a hole between the two.
    """
    if snapshot is not None and snapshot_cluster not in (0, cluster):
        raise StartError(
            f"{snapshot.path} is of cluster {snapshot_cluster:016x}, the log beside it of "
            f"{cluster:016x}; one of them does not belong here"
        )
    base = 0 if snapshot is None else snapshot.index
    if first > base + 1:
        raise DamagedFile(
            f"the log in {folder} begins at index {first}, but the newest "
            f"valid snapshot ends at {base}: what lies between is gone. Restore the snapshot, "
            "or clear the folder to have this node start over from the others"
        )


def agrees(wal: Readable, snapshot: SnapshotFile) -> bool:
    """Does the log go on where the snapshot ends?"""
    if wal.last < snapshot.index:
        return False
    if wal.first == snapshot.index + 1:
        return True
    entries = wal.read(snapshot.index, snapshot.index + 1, 1)
    return bool(entries) and entries[0].term == snapshot.term


def is_blank(settings: Settings, found: Found) -> bool:
    """Is the log one that never got beyond its making? Then it promised nothing to anybody.

    Only looks: a torn end is cut where the log is opened, which reports it. Raises StorageError,
    DamagedFile.
    """
    if found.log is None or found.snapshot is not None:
        return False
    log = read_log(OS_DISK, settings.folder, settings.nid)
    return log is not None and log.positions.last == 0 and log.state.term == 0


def discard_log(settings: Settings) -> None:
    """Remove a blank log. Raises StorageError."""
    try:
        for segment in names.segments(OS_DISK.listdir(settings.folder), settings.nid):
            OS_DISK.unlink(names.joined(settings.folder, segment.name))
    except OSError as error:
        raise failed("clear", settings.folder, error) from error


def found_cluster(
    settings: Settings, found: Found, cluster: int, incarnation: int, bootstrap: int
) -> None:
    """Make the log of a new cluster with this node as its one voter. Raises StorageError.

    The first entry is the membership, as if a leader of the term after the snapshot's (term 1
    without one) had written it.
    """
    me = Member(settings.nid, settings.addr, incarnation, VOTER)
    membership = Membership(cluster, (me,), (), bootstrap)
    index = term = time_ms = 0
    if found.snapshot is not None:
        # At least index 1: what lies before the log must be a snapshot that others can be sent.
        index, term = max(found.snapshot.index, 1), max(found.snapshot.term, 1)
        time_ms = found.snapshot.time_ms
        _adopt_snapshot(settings, found.snapshot, membership, index, term)
    wal, _ = Wal.open(
        settings.folder,
        settings.nid,
        cluster=cluster,
        incarnation=incarnation,
        segment_bytes=settings.segment_bytes,
    )
    hard = HardState(term + 1, settings.nid, index)
    if index:
        wal.reset(index, term, hard)
    time_ms = max(time_ms, time.time_ns() // 1_000_000)
    first = Entry.make(_entry.KIND_CONFIG, index + 1, term + 1, time_ms, membership.encode())
    wal.append(hard, [first.record])
    wal.sync()
    wal.close()


def _adopt_snapshot(
    settings: Settings, snapshot: SnapshotFile, membership: Membership, index: int, term: int
) -> None:
    """Rewrite a snapshot to load, so that it says it is of the new cluster."""
    meta = snapshots.read_meta(snapshot.path)
    own = meta._replace(
        cluster=membership.cluster,
        membership=membership.encode(),
        sessions={},
        index=index,
        term=term,
    )
    path = snapshots.snapshot_path(
        settings.folder, settings.nid, max(int(time.time()), _epoch(snapshot.path) + 1), index
    )
    items = ((item.key, item.code, item.value, item.deadline_ms) for item in _items(snapshot))
    snapshots.write_snapshot(path, own, items)  # the old file stays: it may be being loaded


def _items(snapshot: SnapshotFile) -> Iterator[snapshots.Item]:
    return snapshots.read_items(snapshot.path)


def _epoch(path: str) -> int:
    parsed = names.parse_snapshot(os.path.basename(path))
    return 0 if parsed is None else parsed.epoch_seconds


def join_cluster(settings: Settings, cluster: int, incarnation: int) -> None:
    """Make the empty log of a node that a cluster took in. Raises StorageError.

    Its term is 1, not 0, which tells it from a log whose making was interrupted.
    """
    wal, _ = Wal.open(
        settings.folder,
        settings.nid,
        cluster=cluster,
        incarnation=incarnation,
        segment_bytes=settings.segment_bytes,
    )
    wal.append(HardState(1, "", 0), [])
    wal.sync()
    wal.close()
