"""A cluster of one out of a survivor's files, when a majority is lost for good.

Raft has no safe way to go on then: what the lost majority acknowledged and this node never got is
gone, and what this node has behind its commit index may have been acknowledged or not. So a person
decides, and this module does what can be done well: every entry that is here is kept and taken as
committed, and the result is another cluster, with an id of its own, which no member of the old
one can disturb (`identity.judge_hello` refuses it by that id).

The old log cannot be written on, since its files carry the old id. So a new snapshot and a new log
are made in a folder beside it, entry by entry, with the same indexes, terms, times and payloads;
in the membership entries only the cluster's id changes, and that this node was removed for ever,
should it have been. Behind the last entry come, in a new term, membership entries that remove the
other members one by one, as a leader would. The node keeps its incarnation and the log goes on
counting its starts, so its sessions go on too.

Crashes: nothing of the old files is touched before the new ones are durable to their last byte and
a mark says so. From then on files are only renamed, in two steps that the mark tells apart (the old
ones out into the backup folder, the new ones in), and each may be repeated. A node does not start
while there is a mark; `finish` goes on from it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pyraft_fast._entry import KIND_CONFIG, header
from pyraft_fast.consensus.recovery import agrees, check_joins
from pyraft_fast.consensus.snapshots import SnapshotFile
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.errors import DamagedFile, RaftException, StartError
from pyraft_fast.limits import MIB, SEGMENT_BYTES
from pyraft_fast.storage import names
from pyraft_fast.storage import snapshot as snapshots
from pyraft_fast.storage.disk import OS_DISK, Disk, failed, read_exactly, write_all
from pyraft_fast.storage.groups import HardState
from pyraft_fast.storage.reader import OpenSegment, read_entries
from pyraft_fast.storage.segments import Identity, LogOnDisk, read_log

READ_BYTES: Final = 4 * MIB
_MARK_BYTES_MAX: Final = 4096
MakeFolder = Callable[[str], None]


class Survivor(NamedTuple):
    """What the files of a node hold. Times are cluster time in milliseconds.

    `commit` is the newest index that this node knows to be committed; `doubtful` counts the entries
    behind it, `doubtful_commands` the commands in them. `start` is how often the log was opened.
    `membership` is the newest in log or snapshot, committed or not.
    """

    folder: str
    identity: Identity
    term: int
    commit: int
    last: int
    last_term: int
    last_time_ms: int
    doubtful: int
    doubtful_commands: int
    start: int
    snapshot: snapshots.Found | None
    membership: Membership
    notes: list[str]

    @property
    def me(self) -> Member | None:
        """This node in the membership; None where it is not in it."""
        member = self.membership.get(self.identity.nid)
        if member is None or member.incarnation != self.identity.incarnation:
            return None
        return member

    @property
    def others(self) -> list[Member]:
        """Everybody else in the membership."""
        return [member for member in self.membership.members if member != self.me]


class _LogReader:
    """The entries of a log that is only read: not a byte of its files changes."""

    def __init__(self, disk: Disk, log: LogOnDisk) -> None:
        self._disk = disk
        self._positions = log.positions
        self._files: list[OpenSegment] = []
        try:
            for segment in log.segments:
                fd = disk.open(segment.path)
                self._files.append(OpenSegment(fd, segment.path, segment.head))
        except OSError as error:
            self.close()
            raise failed("open", segment.path, error) from error

    @property
    def first(self) -> int:
        return self._positions.first

    @property
    def last(self) -> int:
        return self._positions.last

    def read(self, lo: int, hi: int, bytes_max: int, /) -> list[Entry]:
        return read_entries(self._disk, self._files, self._positions, lo, hi, bytes_max)

    def runs(self, lo: int) -> Iterator[list[Entry]]:
        """All entries from `lo` on, in runs of a bounded size."""
        while lo <= self.last:
            entries = self.read(lo, self.last + 1, READ_BYTES)
            yield entries
            lo += len(entries)

    def close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                self._disk.close(file.fd)


def list_nodes(folder: str, disk: Disk = OS_DISK) -> list[str]:
    """The ids of the nodes whose logs or unfinished rescues lie in a folder. Raises StartError."""
    try:
        listed = disk.listdir(folder)
    except OSError as error:
        raise StartError(f"cannot list {folder}: {error.strerror}") from error
    marked = [names.parse_recover_mark(name) for name in listed]
    parsed = [names.parse_segment(name) for name in listed]
    return sorted(
        {nid for nid in marked if nid is not None}
        | {found.nid for found in parsed if found is not None}
    )


def is_unfinished(folder: str, nid: str, disk: Disk = OS_DISK) -> bool:
    """Was a rescue interrupted after its point of no return? Then `finish` is all to be done."""
    return not set(names.recover_marks(nid)).isdisjoint(_listed(disk, folder))


def examine(folder: str, nid: str, disk: Disk = OS_DISK) -> Survivor:
    """What a node's files hold, by the rules of every start. Writes nothing.

    Raises StartError when there is nothing to recover, StorageError and DamagedFile when log and
    snapshot cannot be read or trusted.
    """
    log = read_log(disk, folder, nid)
    if log is None:
        raise StartError(f"{folder} holds no log of node {nid}: there is nothing to recover")
    found, notes = snapshots.newest_valid(folder, nid, disk)
    if log.torn is not None:
        notes.append(str(log.torn))
    if names.diverged_name(nid) in _listed(disk, folder):
        notes.append(
            "this node was stopped since its data were wrong; recover another one if you can "
            f"({names.diverged_name(nid)} says more; it stays, and no start passes it)"
        )
    identity = log.segments[0].head.identity
    file = None if found is None else _file_of(found)
    cluster = 0 if found is None else found.meta.cluster
    check_joins(folder, identity.cluster, log.positions.first, file, cluster)
    reader = _LogReader(disk, log)
    try:
        return _examine(folder, identity, log, reader, found, notes)
    finally:
        reader.close()


def _examine(
    folder: str,
    identity: Identity,
    log: LogOnDisk,
    reader: _LogReader,
    found: snapshots.Found | None,
    notes: list[str],
) -> Survivor:
    last, last_term, time_ms, base = reader.last, log.last_term, 0, 0
    membership = Membership(identity.cluster)
    joins = found is None or agrees(reader, _file_of(found))
    if found is not None:
        base, time_ms = found.meta.index, found.meta.time_ms
        if found.meta.membership:
            membership = Membership.decode(found.meta.membership)
        if not joins:
            last, last_term = found.meta.index, found.meta.term
            notes.append(f"the log holds nothing that the snapshot of index {last} does not have")
    commit = max(base, min(log.state.commit, last))
    commands = 0
    if joins:
        for config in log.configs:
            if config.index > base:
                membership = Membership.decode(config.payload)
        for run in reader.runs(max(commit + 1, reader.first)):
            commands += sum(header(entry.record).count for entry in run)
        if newest := reader.read(last, last + 1, 1):
            time_ms = max(time_ms, newest[0].time_ms)
    if not last or not membership.members:
        raise StartError(
            f"node {identity.nid} in {folder} has no data of its cluster: nothing to recover"
        )
    term = max(log.state.term, last_term)
    return Survivor(
        folder, identity, term, commit, last, last_term, time_ms, last - commit, commands,
        log.start, found, membership, notes,
    )  # fmt: skip


def plan(survivor: Survivor, cluster: int, addr: str) -> list[Membership]:
    """The memberships to append, each a lawful step from the one before: in the last, this node is
    the one member, a voter at `addr`, and all others are removed.
    """
    identity = survivor.identity
    removed = tuple(n for n in survivor.membership.removed if n != identity.incarnation)
    now = survivor.membership._replace(cluster=cluster, removed=removed, bootstrap=0)
    steps: list[Membership] = []
    if survivor.me is None and (other := now.get(identity.nid)) is not None:
        now = _without(now, other)  # another node that took this one's name
        steps.append(now)
    me = Member(identity.nid, addr, identity.incarnation, VOTER)
    members = [member for member in now.members if member.nid != me.nid]
    now = now._replace(members=tuple(sorted([*members, me])))
    steps.append(now)
    for member in members:
        now = now.with_removed(member.nid)
        steps.append(now)
    before = survivor.membership._replace(cluster=cluster)
    for step in steps:
        step.check_follows(before)
        before = step
    return steps


def _without(membership: Membership, member: Member) -> Membership:
    """Like `with_removed`, for the last voter too: this node comes in its place."""
    others = tuple(other for other in membership.members if other is not member)
    return membership._replace(members=others, removed=(*membership.removed, member.incarnation))


def rescue(
    survivor: Survivor,
    cluster: int,
    addr: str,
    disk: Disk = OS_DISK,
    make_folder: MakeFolder = os.mkdir,
    segment_bytes: int = SEGMENT_BYTES,
) -> str:
    """Put the files of the new `cluster` in the place of the old ones.

    The node's lock must be held, and nothing have changed since `examine`. Returns the folder that
    keeps the old files. Raises StorageError; then the old files are as they were, or `finish` does
    the rest (`is_unfinished` tells).
    """
    folder, nid = survivor.folder, survivor.identity.nid
    stage = names.joined(folder, names.recover_folder_name(nid))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    backup = names.backup_folder_name(nid, stamp)
    try:
        _empty(disk, stage)
        if not os.path.isdir(stage):
            make_folder(stage)
        try:
            _write_snapshot(survivor, cluster, stage, disk)
            _write_log(survivor, cluster, addr, stage, disk, segment_bytes)
        except (OSError, RaftException):  # a full disk, most likely: leave it as it was
            with contextlib.suppress(OSError):
                _empty(disk, stage)
            raise
        make_folder(names.joined(folder, backup))
        disk.fsync_dir(folder)
        _write_mark(disk, folder, nid, backup)
    except OSError as error:
        raise failed("recover in", folder, error) from error
    return finish(folder, nid, disk)


def finish(folder: str, nid: str, disk: Disk = OS_DISK) -> str:
    """Carry out what the mark says; as often as need be. Returns the folder of the old files.

    Raises StorageError, DamagedFile.
    """
    out, into = (names.joined(folder, name) for name in names.recover_marks(nid))
    stage = names.joined(folder, names.recover_folder_name(nid))
    try:
        listed = _listed(disk, folder)
        if os.path.basename(out) in listed:
            backup = _read_mark(disk, folder, out)
            for name in sorted(listed):
                if name.startswith(names.prefix(nid)):
                    disk.rename(names.joined(folder, name), names.joined(backup, name))
            disk.fsync_dir(backup)
            disk.fsync_dir(folder)
            disk.rename(out, into)
            disk.fsync_dir(folder)
        backup = _read_mark(disk, folder, into)
        for name in sorted(_listed(disk, stage)):
            disk.rename(names.joined(stage, name), names.joined(folder, name))
        disk.fsync_dir(folder)
        disk.fsync_dir(stage)
        disk.unlink(into)
        disk.fsync_dir(folder)
    except OSError as error:
        raise failed("recover in", folder, error) from error
    with contextlib.suppress(OSError):  # empty by now; it harms nobody
        os.rmdir(stage)
    return backup


def _write_snapshot(survivor: Survivor, cluster: int, stage: str, disk: Disk) -> None:
    """The same items and sessions under the new cluster's id."""
    found = survivor.snapshot
    if found is None:
        return
    meta = found.meta._replace(cluster=cluster)
    if meta.membership:
        membership = _carried_over(meta.membership, survivor.identity, cluster)
        meta = meta._replace(membership=membership.encode())
    path = names.joined(stage, os.path.basename(found.path))
    items = snapshots.read_items(found.path, disk)
    snapshots.write_snapshot(
        path, meta, ((item.key, item.code, item.value, item.deadline_ms) for item in items), disk
    )


def _write_log(
    survivor: Survivor, cluster: int, addr: str, stage: str, disk: Disk, segment_bytes: int
) -> None:
    """Everything behind the snapshot, then the new membership; all of it committed."""
    identity, found = survivor.identity, survivor.snapshot
    base, base_term = (0, 0) if found is None else (found.meta.index, found.meta.term)
    wal, _ = Wal.open(
        stage,
        identity.nid,
        cluster=cluster,
        incarnation=identity.incarnation,
        start=survivor.start,
        disk=disk,
        segment_bytes=segment_bytes,
    )
    try:
        state = HardState(survivor.term, "", base)
        if base:
            wal.reset(base, base_term, state)
        if survivor.last > base:
            _copy_entries(survivor, cluster, base + 1, wal, state, disk)
        term, index = survivor.term + 1, survivor.last
        records = []
        for membership in plan(survivor, cluster, addr):
            index += 1
            payload = membership.encode()
            entry = Entry.make(KIND_CONFIG, index, term, survivor.last_time_ms, payload)
            records.append(entry.record)
        wal.append(HardState(term, identity.nid, survivor.last), records)
        wal.sync()
        wal.append(HardState(term, identity.nid, index), [])
    finally:
        wal.close()


def _copy_entries(
    survivor: Survivor, cluster: int, first: int, wal: Wal, state: HardState, disk: Disk
) -> None:
    log = read_log(disk, survivor.folder, survivor.identity.nid)
    if log is None:
        raise StartError(f"the log in {survivor.folder} is gone")
    reader = _LogReader(disk, log)
    try:
        for run in reader.runs(first):
            entries = [_for_cluster(entry, survivor.identity, cluster) for entry in run]
            wal.append(state, [entry.record for entry in entries])
    finally:
        reader.close()


def _for_cluster(entry: Entry, me: Identity, cluster: int) -> Entry:
    if entry.kind != KIND_CONFIG:
        return entry
    membership = _carried_over(entry.payload, me, cluster)
    return Entry.make(entry.kind, entry.index, entry.term, entry.time_ms, membership.encode())


def _carried_over(payload: bytes, me: Identity, cluster: int) -> Membership:
    """A membership of the past for the new cluster. Where this node was removed it only left: a
    newcomer that has replayed up to there would tell its leader to go.
    """
    old = Membership.decode(payload)
    removed = tuple(number for number in old.removed if number != me.incarnation)
    return old._replace(cluster=cluster, removed=removed)


def _file_of(found: snapshots.Found) -> SnapshotFile:
    meta = found.meta
    return SnapshotFile(found.path, meta.index, meta.term, meta.time_ms, meta.membership)


def _write_mark(disk: Disk, folder: str, nid: str, backup: str) -> None:
    """From when this is durable, the new files are the node's. Raises OSError."""
    path = names.joined(folder, names.recover_marks(nid)[0])
    temporary = path + names.TEMPORARY
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(temporary)
    fd = disk.create(temporary)
    try:
        write_all(disk, fd, backup.encode("utf-8", "surrogateescape"), 0)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, path)
    disk.fsync_dir(folder)


def _read_mark(disk: Disk, folder: str, path: str) -> str:
    """The path of the backup folder. Raises OSError, DamagedFile."""
    fd = disk.open(path)
    try:
        data = read_exactly(disk, fd, _MARK_BYTES_MAX, 0)
    finally:
        disk.close(fd)
    name = data.decode("utf-8", "surrogateescape")
    if not name.startswith(names.BACKUP) or os.path.basename(name) != name:
        raise DamagedFile(f"{path} is damaged: it does not name the folder of the old files")
    return names.joined(folder, name)


def _empty(disk: Disk, folder: str) -> None:
    for name in _listed(disk, folder):
        disk.unlink(names.joined(folder, name))


def _listed(disk: Disk, folder: str) -> list[str]:
    try:
        return disk.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failed("list", folder, error) from error
