"""Reading a log back: which segments there are, what they hold, and where it ends.

A log is the segments of one node in the order of their sequence numbers, without a gap. Reading
goes through all groups in that order: the last STATE wins; an entry whose index is already there
replaces it and everything behind it; a RESET forgets all entries and lets the log go on behind a
snapshot. The result is the same every time, and reading writes nothing: what has to be cut off is
told to the caller.

Only the end of the last segment may be torn, because a segment is durable to its last byte before
the next one gets its name. Everything else that is not as it was written raises `DamagedFile`: a
node that has lost a vote or an entry it acknowledged must not take part, or the others count on
something that is no longer there.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pyraft_fast._entry import KIND_CONFIG, KIND_RESET, Header
from pyraft_fast.core.entry import Entry
from pyraft_fast.errors import DamagedFile, StorageError, check
from pyraft_fast.storage import names
from pyraft_fast.storage.disk import Disk, failed, read_exactly
from pyraft_fast.storage.groups import (
    Broken,
    Group,
    HardState,
    Head,
    Identity,
    claims_beyond,
    decode_head,
    parse_group,
)

__all__ = [
    "HardState",
    "Identity",
    "LogOnDisk",
    "Positions",
    "Recovered",
    "Segment",
    "Torn",
    "damaged",
    "find_segments",
    "read_log",
    "read_segment",
]

_HEAD_BYTES_MAX = 4096
_OFFSET_BITS = 40


class Recovered(NamedTuple):
    """What a log held when it was opened.

    The log has entries `first`..`last`; it is empty when `last < first`. `last_term` is the term
    of entry `last`, or of what was right before the log where it is empty (0: nothing was).
    `reset` is the (index, term) of the snapshot the log was last restarted behind, None if never
    or no longer known. `configs` are the membership entries among `first`..`last`. `start` counts
    how often this log was opened, this time included; it is durable. `torn` tells in words what
    was cut off the end (bytes no one was promised), None if nothing was. `fresh`: just made.
    """

    fresh: bool
    identity: Identity
    state: HardState
    first: int
    last: int
    last_term: int
    reset: tuple[int, int] | None
    configs: list[Entry]
    start: int
    torn: str | None


class Segment(NamedTuple):
    """One file of a log; groups begin at `begin`."""

    path: str
    head: Head
    begin: int


class Torn(NamedTuple):
    """The end of the last segment, from `offset` on, is what a crash left of writes unsynced."""

    path: str
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: cut off at offset {self.offset}, written but never synced: {self[2]}"


class Positions:
    """Where each entry `first`..`last` lies: eight bytes per entry, which has 64 or more on disk.

    Positions ascend with the index, since an entry written again takes everything behind it
    along. Only deleting segments forgets them, however long the log grows while no snapshot can
    be written: an entry without a place would be as good as lost.
    """

    __slots__ = ("_cells", "first")

    def __init__(self, first: int) -> None:
        self.first = first
        self._cells = array("Q")

    @property
    def last(self) -> int:
        """Index of the newest entry; `first - 1` where there is none."""
        return self.first + len(self._cells) - 1

    def put(self, index: int, sequence: int, offset: int) -> None:
        """Entry `index` lies at `offset` of segment `sequence`; forgets entries behind it."""
        check(index <= self.last + 1, "no gap in the log", index, self.last)
        if index <= self.first:
            self.restart(index)
        elif index <= self.last:
            del self._cells[index - self.first :]
        self._cells.append(sequence << _OFFSET_BITS | offset)

    def put_all(self, index: int, sequence: int, offsets: Sequence[int]) -> None:
        """Entries from `index` on lie at `offsets` of segment `sequence`."""
        if not offsets:
            return
        self.put(index, sequence, offsets[0])
        base = sequence << _OFFSET_BITS
        cells = self._cells
        for offset in offsets[1:]:
            cells.append(base | offset)

    def restart(self, first: int) -> None:
        """Forget all entries; the next one is `first`."""
        self.first = first
        del self._cells[:]

    def forget_below(self, index: int) -> None:
        """Forget entries below `index`, as many as there are."""
        count = min(max(index - self.first, 0), len(self._cells))
        del self._cells[:count]
        self.first += count

    def locate(self, index: int) -> tuple[int, int]:
        """(sequence, offset) of an entry among `first`..`last`."""
        cell = self._cells[index - self.first]
        return cell >> _OFFSET_BITS, cell & (1 << _OFFSET_BITS) - 1

    def first_behind(self, sequence: int) -> int:
        """The lowest index in a segment newer than `sequence`; `last + 1` if there is none."""
        return self.first + bisect_left(self._cells, sequence + 1 << _OFFSET_BITS)


class LogOnDisk(NamedTuple):
    """A log as `read_log` found it. `end` is where the last good group of the last segment ends,
    `durable` up to where that segment is proven to have been synced.
    """

    segments: list[Segment]
    positions: Positions
    state: HardState
    last_term: int
    reset: tuple[int, int] | None
    configs: list[Entry]
    start: int
    end: int
    durable: int
    torn: Torn | None


def damaged(path: str, offset: int, reason: str) -> DamagedFile:
    """The error that stops a node, with what its operator should do."""
    return DamagedFile(
        f"{path} is damaged at offset {offset}: {reason}. The node may have acknowledged what is "
        "lost here, so it must not go on. Check the disk, look at the file with `python -m "
        "pyraft_fast dump`, then move all files of this node out of its folder and start it "
        "again: the cluster takes it back as a new member and gives it all data. Do not put back "
        "an old copy, it would not know the votes given since."
    )


def find_segments(disk: Disk, folder: str, nid: str) -> list[Segment]:
    """The segments of a node's log, oldest first; [] if it has none.

    Raises StorageError, and DamagedFile for a segment without a head, a missing one, one of
    another node's log.
    """
    try:
        listed = names.segments(disk.listdir(folder), nid)
    except OSError as error:
        raise failed("list", folder, error) from error
    found = [_read_head(disk, names.joined(folder, each.name)) for each in listed]
    found.sort(key=lambda segment: segment.head.sequence)
    for older, newer in pairwise(found):
        if newer.head.sequence != older.head.sequence + 1:
            reason = (
                f"it is segment {newer.head.sequence} of the log, and the one before it is "
                f"{older.head.sequence} ({older.path}): files are missing"
            )
            raise damaged(newer.path, 0, reason)
        if newer.head.identity != older.head.identity:
            raise damaged(newer.path, 0, f"it belongs to another log than {older.path}")
    if found and found[-1].head.identity.nid != nid:
        raise damaged(found[-1].path, 0, f"it is the log of {found[-1].head.identity.nid!r}")
    return found


def _read_head(disk: Disk, path: str) -> Segment:
    try:
        fd = disk.open(path)
        try:
            data = read_exactly(disk, fd, _HEAD_BYTES_MAX, 0)
            size = disk.size(fd)
        finally:
            disk.close(fd)
    except OSError as error:
        raise failed("read", path, error) from error
    try:
        head, begin = decode_head(data)
    except StorageError as error:
        raise damaged(path, 0, str(error)) from error
    if size != head.size_bytes:
        raise damaged(path, size, f"it has {size} bytes and should have {head.size_bytes}")
    return Segment(path, head, begin)


def read_segment(disk: Disk, segment: Segment) -> bytes:
    """All bytes of a segment. Raises StorageError, DamagedFile if the file got shorter."""
    try:
        fd = disk.open(segment.path)
        try:
            data = read_exactly(disk, fd, segment.head.size_bytes, 0)
        finally:
            disk.close(fd)
    except OSError as error:
        raise failed("read", segment.path, error) from error
    if len(data) != segment.head.size_bytes:
        raise damaged(segment.path, len(data), "the file ends here")
    return data


def read_log(disk: Disk, folder: str, nid: str) -> LogOnDisk | None:
    """Read a whole log, one segment in memory at a time; None if there is none. Writes nothing.

    Raises StorageError when a file cannot be read, DamagedFile when it cannot be trusted.
    """
    segments = find_segments(disk, folder, nid)
    if not segments:
        return None
    replay = _Replay(segments[0].head)
    for segment in segments:
        replay.segment(read_segment(disk, segment), segment, last=segment is segments[-1])
    return LogOnDisk(
        segments,
        replay.positions,
        replay.state,
        replay.last_term,
        replay.reset,
        replay.configs,
        replay.start,
        replay.end,
        replay.durable,
        replay.torn,
    )


class _Replay:
    """The log as far as it has been read."""

    def __init__(self, oldest: Head) -> None:
        self.positions = Positions(oldest.first_index)
        self.state = HardState(0, "", 0)
        self.last_term = oldest.last_term
        self._is_bare = True  # no record yet: where the log begins is known from heads alone
        self.reset: tuple[int, int] | None = None
        self.configs: list[Entry] = []
        self.start = 0
        self.end = 0
        self.durable = 0
        self.torn: Torn | None = None

    def segment(self, data: bytes, segment: Segment, *, last: bool) -> None:
        """Go through the groups of one segment."""
        self.end = segment.begin
        self.durable = 0
        if self._is_bare:
            self.positions.restart(segment.head.first_index)
            self.last_term = segment.head.last_term
        while (group := parse_group(data, segment.head, self.end)) is not None:
            if isinstance(group, Broken):
                self.torn = self._judge(data, segment, group, last)
                break
            self._group(data, segment, group)
            self.end = group.end
            # The first group was synced before the file had its name.
            self.durable = max(group.durable_offset, self.durable or group.end)
        if self.end == segment.begin:
            raise damaged(segment.path, segment.begin, "its first group is missing")

    def _judge(self, data: bytes, segment: Segment, broken: Broken, last: bool) -> Torn:
        """Torn, or raise DamagedFile."""
        if not last:
            reason = f"{broken.reason}, and the log goes on in a newer file"
        elif broken.offset == segment.begin:
            reason = broken.reason
        elif claim := claims_beyond(data, segment.head, broken.offset):
            reason = f"{broken.reason}, and a group at offset {claim} says it was synced"
        elif not broken.blank:
            reason = f"{broken.reason}, and not in the way an interrupted write leaves it"
        else:
            return Torn(segment.path, broken.offset, broken.reason)
        raise damaged(segment.path, broken.offset, reason)

    def _group(self, data: bytes, segment: Segment, group: Group) -> None:
        for offset, found in group.records:
            if found.kind == KIND_RESET:
                self.positions.restart(found.index + 1)
                self.reset = (found.index, found.term)
                self.configs.clear()
            else:
                self._entry(data, segment, offset, found)
            self.last_term = found.term
            self._is_bare = False
        self.state = group.state
        self.start = group.start

    def _entry(self, data: bytes, segment: Segment, offset: int, found: Header) -> None:
        if self._is_bare and self._was_to_replace(segment.head, found.index):
            self.positions.restart(found.index)
        last = self.positions.last
        if found.index > last + 1:
            raise damaged(segment.path, offset, f"entry {found.index} follows entry {last}")
        if found.index <= min(last, self.state.commit):
            raise damaged(
                segment.path, offset, f"entry {found.index} replaces one that was committed"
            )
        self.positions.put(found.index, segment.head.sequence, offset)
        while self.configs and self.configs[-1].index >= found.index:
            self.configs.pop()
        if found.kind == KIND_CONFIG:
            self.configs.append(Entry.from_record(data[offset : offset + found.length]))

    def _was_to_replace(self, head: Head, index: int) -> bool:
        """Was this segment begun for entries that replace others, and got later ones instead?

        When the power goes before those are on the disk, the log goes on behind what they were to
        replace; once the older segments are deleted, only these later entries tell where it begins.
        """
        return head.sequence > 1 and head.last_term == 0 and head.first_index < index
