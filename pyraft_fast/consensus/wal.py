"""The writer of the log: what was appended and synced is found again after any crash.

It decides when a segment is full, what is durable, and which files may go. It does not know what
entries mean, when to sync (the caller's policy) or what a snapshot holds.

Rules it holds:

- One write per group, behind the last one, into blocks that already hold durable zeros. So a
  crash leaves a prefix of the groups, and whatever else it leaves can be told from damage.
- The next segment gets its name only when the current one is synced to its last byte, and it
  itself, with a first group repeating the hard state, is durable. So only the last segment can
  be torn, and the oldest may be deleted at any time without losing a vote.
- A write that failed is taken back (zeros, synced) before anything else is written there. If that
  cannot be done, or a sync failed, the log is done for in this process.

Threads: what writes (`append`, `stage`, `landed`, `lost`, `sync`, `seal`, `reset`, `compact`,
`close`) belongs to one writer at a time; `prepare_next` and `delete_old` to one background thread,
the writer's or another; `read`, `first`, `last` and `wants_upkeep` to any. One lock guards the
table of positions and segments. The writer never holds it during a write or sync, so a reader waits
microseconds at most; a reader holds it while it reads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from pyraft_fast._entry import KIND_RESET, check_records, seal
from pyraft_fast.compiled import mypyc_attr
from pyraft_fast.core.entry import Entry
from pyraft_fast.errors import StorageError, check
from pyraft_fast.limits import FIRST_SEGMENT_BYTES, SEGMENT_BYTES
from pyraft_fast.storage import names
from pyraft_fast.storage.disk import OS_DISK, Disk, failed, read_exactly, write_all, write_zeros
from pyraft_fast.storage.groups import Head, State, encode_group, encode_head
from pyraft_fast.storage.oldfiles import OldFiles
from pyraft_fast.storage.reader import OpenSegment, read_entries
from pyraft_fast.storage.segments import (
    HardState,
    Identity,
    LogOnDisk,
    Positions,
    Recovered,
    Segment,
    find_segments,
    read_log,
)
from pyraft_fast.storage.spares import Spares, remove_temporary

_HEAD_ROOM_BYTES = 4096  # segment record and first group of a new segment, generously


@dataclass(slots=True)
class Piece:
    """Bytes to be written to an open segment."""

    fd: int
    data: bytes
    offset: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Wal:
    """The log on disk of one node. Make it with `Wal.open`."""

    def __init__(self, folder: str, identity: Identity, disk: Disk, segment_bytes: int) -> None:
        self._folder = folder
        self._identity = identity
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._positions = Positions(1)
        self._files: list[OpenSegment] = []  # oldest first; the last one is written
        self._spares = Spares(disk, folder, identity.nid, segment_bytes)
        self._old = OldFiles(disk, self._sync_folder)
        self._closed = False
        self._state: State = HardState(0, "", 0)
        self._last_term = 0
        self._start = 0
        self._end = 0  # of what was written to the current segment
        self._durable = 0  # up to where the current segment is synced
        self._sealed = 0  # `_end` when the last group written was a seal
        self._dead = ""  # why this log cannot be written any more

    # Opening

    @staticmethod
    def identity(folder: str, nid: str, disk: Disk = OS_DISK) -> Identity | None:
        """Whose log lies in `folder`; None if there is none yet.

        Raises StorageError, DamagedFile.
        """
        segments = find_segments(disk, folder, nid)
        return segments[-1].head.identity if segments else None

    @classmethod
    def open(
        cls,
        folder: str,
        nid: str,
        *,
        cluster: int = 0,
        incarnation: int = 0,
        start: int = 1,
        disk: Disk = OS_DISK,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Wal, Recovered]:
        """Recover the log of `nid`, or make one for (cluster, incarnation) where there is none.

        A `cluster` or `incarnation` other than 0 must be the one found. `start` is what starts
        are counted from in a new log: an incarnation never counts one twice. Everything that
        `Recovered` tells is durable when this returns, and the node's start is counted. Whether
        the log joins the newest snapshot is the caller's to check: entries must begin at its
        index + 1 at the latest.

        Raises StorageError, DamagedFile.
        """
        remove_temporary(disk, folder, nid)
        found = read_log(disk, folder, nid)
        if found is None:
            check(cluster > 0 and incarnation > 0, "a new log has an identity", cluster)
            wal = cls(folder, Identity(cluster, nid, incarnation), disk, segment_bytes)
            wal._start = start
            try:
                wal._rotate(1, 0, HardState(0, "", 0), [])
            except BaseException:
                wal._close_files()
                raise
            return wal, wal._recovered(None, True)
        identity = found.segments[0].head.identity
        if cluster not in (0, identity.cluster) or incarnation not in (0, identity.incarnation):
            raise StorageError(
                f"the log in {folder} is of cluster {identity.cluster}, incarnation "
                f"{identity.incarnation}, not of {cluster}, {incarnation}"
            )
        wal = cls(folder, identity, disk, segment_bytes)
        try:
            wal._take_over(found)
        except BaseException:
            wal._close_files()
            raise
        return wal, wal._recovered(found, False)

    def _recovered(self, found: LogOnDisk | None, fresh: bool) -> Recovered:
        torn = found.torn if found else None
        return Recovered(
            fresh,
            self._identity,
            found.state if found else HardState(0, "", 0),
            self._positions.first,
            self._positions.last,
            self._last_term,
            found.reset if found else None,
            found.configs if found else [],
            self._start,
            str(torn) if torn else None,
        )

    def _take_over(self, found: LogOnDisk) -> None:
        """Go on with what was found: open the files, cut the torn end, make all of it durable."""
        for segment in found.segments:
            newest = segment is found.segments[-1]
            self._files.append(self._open_file(segment, newest))
        self._positions = found.positions
        self._state = found.state
        self._last_term = found.last_term
        self._start = found.start + 1
        self._end = self._durable = found.end
        file = self._files[-1]
        try:
            data = read_exactly(
                self._disk, file.fd, file.head.size_bytes - found.durable, found.durable
            )
            kept = found.end - found.durable
            # Written once more, for what was read may be in memory only: after a failed sync
            # the system shows bytes that never reached the disk, and takes them for written.
            write_all(self._disk, file.fd, data[:kept], found.durable)
            write_zeros(self._disk, file.fd, found.end, found.durable + len(data.rstrip(b"\0")))
            self._disk.fdatasync(file.fd)
            self._disk.fsync_dir(self._folder)
        except OSError as error:
            raise failed("recover", file.path, error) from error
        self.seal()

    def _open_file(self, segment: Segment, writable: bool) -> OpenSegment:
        try:
            fd = self._disk.open(segment.path, writable=writable)
        except OSError as error:
            raise failed("open", segment.path, error) from error
        return OpenSegment(fd, segment.path, segment.head)

    # What there is

    @property
    def first(self) -> int:
        """Index of the oldest entry `read` can give. Any thread."""
        with self._lock:
            return self._positions.first

    @property
    def last(self) -> int:
        """Index of the newest entry appended, durable or not. Any thread."""
        with self._lock:
            return self._positions.last

    @property
    def size_bytes(self) -> int:
        """Length of all segments together. Any thread."""
        with self._lock:
            return sum(file.head.size_bytes for file in self._files)

    # Writing

    def append(self, state: State, records: Sequence[bytes]) -> None:
        """Write one group: the hard state and `records` (sealed, indexes ascending by one).

        A record whose index is already in the log replaces that entry and all behind it. Nothing
        is durable before `sync`. Writer thread.

        Raises StorageError when nothing of the group was taken (its errno tells why, for example
        ENOSPC; the log stands as before and the call may be repeated), or when the log is dead.
        """
        first_index, term = self._check(state, records)
        group, places = self._encode(state, records)
        if self._end + len(group) > self._files[-1].head.size_bytes:
            last_term = self._last_term if first_index > self._positions.last else 0
            self._rotate(first_index, last_term, self._state, [], len(group))
            group, places = self._encode(state, records)
        self._write(group)
        self._accept(state, len(group), first_index, term, places)

    def stage(self, state: State, records: Sequence[bytes], synced: bool) -> Piece | None:
        """What `append` would write, for the caller to write at once and to report by `landed`.

        None where that is not all there is to it: a new segment is due, or, if the caller is to
        sync just this piece (`synced`), there is something before it that is not durable. Then
        `append` is to be called. Until `landed` nothing else may be. Writer thread.
        """
        first_index, term = self._check(state, records)
        group, places = self._encode(state, records)
        file, end = self._files[-1], self._end
        if end + len(group) > file.head.size_bytes or (synced and self._durable < end):
            return None
        self._accept(state, len(group), first_index, term, places)
        return Piece(file.fd, group, end)

    def landed(self, synced: bool) -> None:
        """The staged piece is written, and durable if it was to be synced. Writer thread."""
        if synced:
            self._durable = self._end

    def lost(self, error: OSError) -> StorageError:
        """The staged piece could not be written: the log is dead, the error says why."""
        problem = failed("append to", self._files[-1].path, error)
        self._dead = str(problem)
        return problem

    def sync(self) -> None:
        """Make everything appended durable. Writer thread.

        Raises StorageError, and from then on always: after a failed sync the system forgets which
        bytes did not reach the disk, so a second try would report success and prove nothing. Only
        a new start, which reads and writes again what there is, can find out.
        """
        self._check_alive()
        if self._durable < self._end:
            self._sync_file(self._files[-1].fd, self._files[-1].path)
            self._durable = self._end

    def seal(self) -> None:
        """Sync, and write a group that says so; damage to any byte before it then shows.

        Worth doing when the log falls idle: otherwise the next group does it. Writer thread.
        Raises StorageError.
        """
        if self._sealed == self._end:
            return
        self.sync()
        self.append(self._state, [])
        self.sync()
        self._sealed = self._end

    def reset(self, index: int, term: int, state: State) -> None:
        """Forget all entries: the log goes on at `index` + 1, behind a snapshot.

        The snapshot must be durable before. Durable when this returns; the older segments are
        deleted. Writer thread. Raises StorageError (repeat it, or go on with the old log).
        """
        self._check_alive()
        hard = HardState(state.term, state.vote, state.commit)
        check(hard.term >= self._state.term, "terms never go back", hard, self._state)
        record = seal(KIND_RESET, index, term, 0, 0, 0, 0, 0, b"")
        self._rotate(index + 1, term, hard, [record])
        self._state = hard
        self._last_term = term
        with self._lock:
            self._positions.restart(index + 1)
        self._drop_oldest(len(self._files) - 1)
        self._old.delete_all()

    def compact(self, keep_from: int) -> int:
        """Forget the oldest segments that hold no entry from `keep_from` on; returns how many.

        The segment being written stays. `delete_old` deletes the files. Writer thread. Raises
        StorageError.
        """
        self._check_alive()
        count = 0
        with self._lock:
            end = self._positions.last + 1
            for file in self._files[:-1]:
                behind = self._positions.first_behind(file.head.sequence)
                if behind > keep_from or behind == end != self._files[-1].head.first_index:
                    break  # needed, or nothing behind it tells where the log ends
                count += 1
        if count:
            self.sync()  # what replaced entries of those segments must not be lost after them
        self._drop_oldest(count)
        return count

    def begin_of_last(self, bytes_max: int, index: int) -> int:
        """First entry of the segments with the last `bytes_max` up to `index`; 0 if it is gone."""
        with self._lock:
            if not self._positions.first <= index <= self._positions.last:
                return 0
            sequence, held = self._positions.locate(index)
            oldest = self._files[0].head.sequence
            while sequence > oldest and held < bytes_max:
                sequence -= 1
                held += self._files[sequence - oldest].head.size_bytes
            return self._positions.first_behind(sequence - 1)

    def wants_upkeep(self) -> bool:
        """Should `prepare_next` and `delete_old` be called? Any thread."""
        return self._old.are_there or self._spares.wanted()

    def prepare_next(self) -> None:
        """Make the next segment ahead of need: writes and syncs a whole segment of zeros.

        Without it the writer makes the segment when it needs it, and everyone waits. One
        background thread. Raises StorageError (no harm done; the writer will try itself).
        """
        self._spares.prepare()

    def delete_old(self) -> None:
        """Delete the files that `compact` has left. One background thread. Raises StorageError."""
        self._old.delete_all()

    def close(self) -> None:
        """Seal (unless the log is dead) and close. Writer thread, and nothing else may run.

        Raises StorageError if the seal fails; the files are closed all the same.
        """
        if self._closed:
            return
        try:
            if not self._dead:
                self.seal()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        with self._lock:
            self._closed = True
            self._dead = self._dead or "it is closed"
            files, self._files = self._files, []
        for file in files:
            with contextlib.suppress(OSError):
                self._disk.close(file.fd)
        self._spares.close()

    def _check_alive(self) -> None:
        if self._dead:
            raise StorageError(f"the log in {self._folder} cannot be written: {self._dead}")

    def _check(self, state: State, records: Sequence[bytes]) -> tuple[int, int]:
        """May this group be written? Returns its first index and the term of its last record."""
        self._check_alive()
        check(state.term >= self._state.term, "terms never go back", state, self._state)
        return check_records(records, self._positions.last, self._state.commit)

    def _encode(self, state: State, records: Sequence[bytes]) -> tuple[bytes, list[int]]:
        """A group for the next place of the current segment, and the places of its records."""
        head = self._files[-1].head
        return encode_group(head, self._end, state, self._start, self._durable, records)

    def _accept(
        self, state: State, size: int, first_index: int, last_term: int, places: list[int]
    ) -> None:
        """Take a group of `size` bytes for a part of the log."""
        self._state = state
        if places:
            with self._lock:
                self._positions.put_all(first_index, self._files[-1].head.sequence, places)
            self._last_term = last_term
        self._end += size

    def _write(self, group: bytes) -> None:
        """Put `group` behind what was written. Takes a failed write back before it raises."""
        file = self._files[-1]
        try:
            write_all(self._disk, file.fd, group, self._end)
        except OSError as error:
            problem = failed("append to", file.path, error)
            try:
                # Whatever arrived must be gone for good before the next group is written over
                # it; else a crash could mix the two into something that looks damaged.
                write_zeros(self._disk, file.fd, self._end, self._end + len(group))
                self._disk.fdatasync(file.fd)
            except OSError as second:
                self._dead = f"{problem}, and that write could not be taken back ({second})"
            else:
                self._durable = self._end
            raise problem from error

    def _sync_file(self, fd: int, path: str) -> None:
        try:
            self._disk.fdatasync(fd)
        except OSError as error:
            problem = failed("sync", path, error)
            self._dead = str(problem)
            raise problem from error

    def _sync_folder(self) -> None:
        try:
            self._disk.fsync_dir(self._folder)
        except OSError as error:
            problem = failed("sync the folder", self._folder, error)
            self._dead = str(problem)
            raise problem from error

    def _rotate(
        self,
        first_index: int,
        last_term: int,
        state: State,
        records: Sequence[bytes],
        room_bytes: int = 0,
    ) -> None:
        """Go on in a new segment that has room for `room_bytes`; durable when this returns.

        Its first group repeats `state` and holds `records`. Raises StorageError; then the old
        segment is still the current one, unless the log is dead.
        """
        if self._files:
            self.sync()
        sequence = self._files[-1].head.sequence + 1 if self._files else 1
        usual = self._segment_bytes
        size_bytes = usual if self._files else min(usual, FIRST_SEGMENT_BYTES)
        spare = self._spares.take(max(size_bytes, room_bytes + _HEAD_ROOM_BYTES))
        head = Head(self._identity, sequence, first_index, last_term, spare.size_bytes)
        top = encode_head(head)
        group, _ = encode_group(head, len(top), state, self._start, 0, records)
        try:
            write_all(self._disk, spare.fd, top + group, 0)
            path = self._free_path(first_index, sequence)
            self._sync_file(spare.fd, spare.path)
            self._disk.rename(spare.path, path)
        except OSError as error:
            self._spares.discard(spare)
            raise failed("begin", spare.path, error) from error
        except StorageError:
            self._spares.discard(spare)
            raise
        with self._lock:
            self._files.append(OpenSegment(spare.fd, path, head))
        self._end = self._durable = self._sealed = len(top) + len(group)
        self._sync_folder()

    def _free_path(self, first_index: int, sequence: int) -> str:
        """A path no file has: the first index alone may have been used before a truncation."""
        name = names.segment_name(self._identity.nid, first_index)
        if name in self._disk.listdir(self._folder):
            name = names.segment_name(self._identity.nid, first_index, sequence)
        return names.joined(self._folder, name)

    def _drop_oldest(self, count: int) -> None:
        """Let go of the oldest `count` segments."""
        with self._lock:
            dropped, self._files = self._files[:count], self._files[count:]
            for file in dropped:
                self._positions.forget_below(self._positions.first_behind(file.head.sequence))
                with contextlib.suppress(OSError):
                    self._disk.close(file.fd)
        self._old.add(file.path for file in dropped)

    # Reading

    def read(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Entries `lo` up to `hi` (excluded): at least one, then as many as `bytes_max` allows.

        [] where `lo` is not in the log (any more, or yet). Entries need not be durable. Any
        thread. Raises DamagedFile, StorageError.
        """
        with self._lock:
            return read_entries(self._disk, self._files, self._positions, lo, hi, bytes_max)
