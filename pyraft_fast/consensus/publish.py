"""The ring's writing side: committed entries in order, snapshots where the log begins too late.

The log decides, the ring only delivers: this remembers up to which index the ring has taken
entries, and goes on there when the reader has made room. It never waits, and it never skips: the
next thing in the ring is the entry behind the last one, or a snapshot that contains it.

The reader is woken at once for what somebody at this node waits for: entries of its own clients,
answers to reads. What other nodes' clients wrote may lie for a few milliseconds, so that a busy
follower applies a hundred commands at a time instead of ten; its reads ask for an index anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pyraft_fast import _entry
from pyraft_fast.errors import check

READ_BYTES_MAX: Final = 4 * 1024 * 1024  # entries fetched from the log at once
LAZY_SECONDS: Final = 0.01  # that entries nobody waits for may lie in the ring
LAZY_BYTES_MAX: Final = 256 * 1024  # of them


class Record(Protocol):
    """What is published of an entry."""

    @property
    def index(self) -> int: ...
    @property
    def record(self) -> bytes: ...


class RingWriter(Protocol):
    """The writing half of the ring."""

    def publish(self, record: bytes, /) -> bool:
        """False when there is no room now; then it is called again with the same object."""
        ...

    def wake_needed(self) -> bool:
        """Does the reader sleep?"""
        ...

    def post(self, first: int, second: int, third: int, /) -> None:
        """Put three words where the reader looks at them when it likes."""
        ...


class Source(Protocol):
    """Where published entries come from."""

    def first_index(self) -> int:
        """Index of the oldest entry that can be read."""
        ...

    def read_entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Record]:
        """Entries from `lo`, before `hi`: at least one, then as many as `bytes_max` allows."""
        ...

    def snapshot_place(self) -> SnapshotPlace:
        """The newest snapshot on this node's disk."""
        ...


@dataclass(frozen=True)
class SnapshotPlace:
    """A snapshot as the serving side needs it to load it."""

    path: str
    index: int
    term: int


class Publisher:
    """Delivers to the serving side what is committed.

    `later` calls what it is given in LAZY_SECONDS; without it everything is urgent.
    """

    def __init__(
        self,
        ring: RingWriter,
        wake: Callable[[], None],
        later: Callable[[Callable[[], None]], object] | None,
    ) -> None:
        self._ring = ring
        self._wake = wake
        self._later = later
        self._origin = 0  # of what this node's clients wrote
        self._published: int | None = None  # None until the serving side said what it has
        self._blocked: bytes | None = None  # the record that found no room
        self._answers: deque[bytes] = deque()  # of reads
        self._lazy_bytes = 0  # published and not told
        self._is_urgent = False  # somebody waits for something published
        self._awaited = 0  # index that reads have been given
        self._is_late = False  # a wake-up is on its way
        self.post = ring.post

    @property
    def published(self) -> int:
        """Index up to which the ring took entries; 0 before the serving side is ready."""
        return self._published or 0

    @property
    def is_blocked(self) -> bool:
        """True while the ring is full."""
        return self._blocked is not None

    def begin(self, applied: int, origin: int) -> None:
        """The serving side, `origin`, has everything up to `applied`; publish from there on."""
        check(self._published is None, "the serving side says twice what it has", applied)
        self._origin = origin
        self._published = applied

    def add_read(self, context: int, index: int, clock_ms: int) -> None:
        """A read may be answered once entries up to `index` are applied."""
        self._awaited = max(self._awaited, index)
        self._answers.append(
            _entry.seal(_entry.KIND_READ, index, 0, clock_ms, 0, 0, context, 0, b"")
        )

    def add_failed_read(self, context: int) -> None:
        """A read found no leader; it surely saw nothing."""
        self._answers.append(_entry.seal(_entry.KIND_READ_FAILED, 0, 0, 0, 0, 0, context, 0, b""))

    def pump(self, commit: int, source: Source) -> None:
        """Publish as much as there is and fits; wake the reader once if anything went in."""
        if self._published is None:
            return
        if self._blocked is None or self._put(self._blocked):
            self._publish(commit, source)
        if self._is_urgent or self._lazy_bytes > LAZY_BYTES_MAX or self._blocked is not None:
            self._tell()
        elif self._lazy_bytes and not self._is_late and self._later is not None:
            self._is_late = True
            self._later(self._tell_late)

    def _tell(self) -> None:
        self._is_urgent = False
        self._lazy_bytes = 0
        if self._ring.wake_needed():
            self._wake()

    def _tell_late(self) -> None:
        self._is_late = False
        if self._lazy_bytes:
            self._tell()

    def _publish(self, commit: int, source: Source) -> None:
        check(self._published is not None, "publishing before the start")
        published = self._published or 0
        while published < commit:
            if published + 1 < source.first_index():
                place = source.snapshot_place()
                check(published < place.index <= commit, "no snapshot fills the gap", published)
                self._published = published = place.index
                if not self._put(_seal_snapshot(place)):
                    return
                continue
            entries = source.read_entries(published + 1, commit + 1, READ_BYTES_MAX)
            check(entries, "a committed entry is not in the log", published + 1, commit)
            for entry in entries:
                check(entry.index == published + 1, "gap in what is published", entry.index)
                self._published = published = entry.index
                if not self._put(entry.record):
                    return
        while self._answers:
            if not self._put(self._answers.popleft()):
                return

    def _put(self, record: bytes) -> bool:
        """True when the ring took `record`; otherwise it is kept and comes first next time."""
        took = self._ring.publish(record)
        self._blocked = None if took else record
        if not self._is_urgent:
            head = _entry.header(record)
            if self._is_waited_for(head):
                self._is_urgent = True
            else:
                self._lazy_bytes += head.length
        return took

    def _is_waited_for(self, head: _entry.Header) -> bool:
        return (
            self._later is None
            or head.kind != _entry.KIND_COMMANDS
            or head.origin == self._origin
            or head.index <= self._awaited
        )


def _seal_snapshot(place: SnapshotPlace) -> bytes:
    payload = _entry.packb([place.path, place.index, place.term])
    return _entry.seal(_entry.KIND_SNAPSHOT, place.index, place.term, 0, 0, 0, 0, 0, payload)
