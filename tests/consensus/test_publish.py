"""What goes into the ring, in which order, when it is full and when the log begins too late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from pyraft_fast import _entry
from pyraft_fast.consensus.publish import LAZY_BYTES_MAX, Publisher, SnapshotPlace
from pyraft_fast.errors import InvariantError

OWN = 9  # the origin of this node's clients


class FakeEntry(NamedTuple):
    index: int
    record: bytes


class FakeRing:
    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[bytes] = []
        self.refused: bytes | None = None

    def publish(self, record: bytes, /) -> bool:
        assert self.refused is None or self.refused is record
        if self.room == 0:
            self.refused = record
            return False
        self.room -= 1
        self.refused = None
        self.taken.append(record)
        return True

    def wake_needed(self) -> bool:
        return True

    def post(self, first: int, second: int, third: int, /) -> None:
        raise AssertionError("publishing posts nothing")


class FakeLog:
    def __init__(
        self, first: int, last: int, snapshot_index: int = 0, origin: int = OWN, size: int = 0
    ) -> None:
        self.first = first
        self.place = SnapshotPlace("/path", snapshot_index, 1)
        self.entries = {
            i: FakeEntry(
                i, _entry.seal(_entry.KIND_COMMANDS, i, 1, 0, origin, 0, 0, 0, bytes(size))
            )
            for i in range(first, last + 1)
        }

    def first_index(self) -> int:
        return self.first

    def read_entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[FakeEntry]:
        return [self.entries[i] for i in range(lo, min(hi, lo + 2))]

    def snapshot_place(self) -> SnapshotPlace:
        return self.place


def shown(ring: FakeRing) -> list[tuple[int, int]]:
    return [(h.kind, h.index) for h in map(_entry.header, ring.taken)]


def commands(*indexes: int) -> list[tuple[int, int]]:
    return [(_entry.KIND_COMMANDS, index) for index in indexes]


LATER: list[Callable[[], None]] = []  # what is to be called in a few milliseconds


@pytest.fixture
def wakes() -> list[int]:
    LATER.clear()
    return []


def time_passes() -> None:
    due = LATER[:]
    LATER.clear()
    for function in due:
        function()


def make(ring: FakeRing, wakes: list[int], applied: int = 0) -> Publisher:
    publisher = Publisher(ring, lambda: wakes.append(1), LATER.append)
    publisher.begin(applied, OWN)
    return publisher


def test_nothing_before_the_serving_side_is_ready(wakes: list[int]) -> None:
    ring = FakeRing(9)
    Publisher(ring, lambda: wakes.append(1), LATER.append).pump(3, FakeLog(1, 3))
    assert ring.taken == []


def test_entries_follow_what_is_applied_and_stop_at_commit(wakes: list[int]) -> None:
    ring = FakeRing(9)
    publisher = make(ring, wakes, applied=2)
    publisher.pump(5, FakeLog(1, 7))
    assert shown(ring) == commands(3, 4, 5)
    assert publisher.published == 5
    assert wakes == [1]
    publisher.pump(5, FakeLog(1, 7))
    assert wakes == [1]


def test_a_full_ring_is_continued_where_it_stopped(wakes: list[int]) -> None:
    ring = FakeRing(2)
    publisher = make(ring, wakes)
    publisher.add_read(77, 5, 123)
    publisher.pump(5, FakeLog(1, 5))
    assert publisher.is_blocked
    for _ in range(4):
        ring.room = 1
        publisher.pump(5, FakeLog(1, 5))
    assert shown(ring) == [*commands(1, 2, 3, 4, 5), (_entry.KIND_READ, 5)]
    assert not publisher.is_blocked
    assert _entry.header(ring.taken[-1]).batch == 77


def test_reads_go_without_entries(wakes: list[int]) -> None:
    ring = FakeRing(9)
    publisher = make(ring, wakes, applied=5)
    publisher.add_read(1, 5, 10)
    publisher.add_failed_read(2)
    publisher.pump(5, FakeLog(1, 5))
    assert [kind for kind, _ in shown(ring)] == [_entry.KIND_READ, _entry.KIND_READ_FAILED]
    assert wakes == [1]


def test_a_snapshot_fills_the_gap_before_the_log(wakes: list[int]) -> None:
    ring = FakeRing(9)
    make(ring, wakes, applied=3).pump(12, FakeLog(11, 12, snapshot_index=10))
    assert shown(ring) == [(_entry.KIND_SNAPSHOT, 10), *commands(11, 12)]
    assert _entry.unpackb(ring.taken[0][_entry.HEADER_SIZE :]) == ["/path", 10, 1]


def test_a_gap_nothing_fills_stops_the_process(wakes: list[int]) -> None:
    with pytest.raises(InvariantError):
        make(FakeRing(9), wakes, applied=3).pump(12, FakeLog(11, 12, snapshot_index=2))


def test_what_nobody_here_waits_for_wakes_a_little_later(wakes: list[int]) -> None:
    ring = FakeRing(99)
    publisher = make(ring, wakes)
    log = FakeLog(1, 30, origin=OWN + 1)
    for commit in (3, 4, 20):
        publisher.pump(commit, log)
    assert (publisher.published, wakes, len(LATER)) == (20, [], 1)
    time_passes()
    assert wakes == [1]
    time_passes()
    assert wakes == [1]
    publisher.pump(21, log)
    time_passes()
    assert wakes == [1, 1]


@pytest.mark.parametrize("answer", [True, False])
def test_what_somebody_waits_for_takes_the_rest_along(wakes: list[int], answer: bool) -> None:
    publisher = make(FakeRing(99), wakes)
    publisher.pump(3, FakeLog(1, 3, origin=OWN + 1))
    assert wakes == []
    if answer:
        publisher.add_read(1, 3, 10)
    publisher.pump(3 if answer else 4, FakeLog(1, 4))
    assert wakes == [1]
    time_passes()
    assert wakes == [1]


def test_much_that_nobody_waits_for_wakes_at_once(wakes: list[int]) -> None:
    publisher = make(FakeRing(99), wakes)
    log = FakeLog(1, 9, origin=OWN + 1, size=LAZY_BYTES_MAX // 3)
    publisher.pump(2, log)
    assert wakes == []
    publisher.pump(3, log)
    assert wakes == [1]


def test_a_full_ring_wakes_at_once(wakes: list[int]) -> None:
    publisher = make(FakeRing(2), wakes)
    publisher.pump(3, FakeLog(1, 9, origin=OWN + 1))
    assert publisher.is_blocked
    assert wakes == [1]


def test_entries_that_a_read_waits_for_wake_at_once(wakes: list[int]) -> None:
    """A read may be given an index that this node has not heard to be committed yet."""
    publisher = make(FakeRing(99), wakes)
    log = FakeLog(1, 4, origin=OWN + 1)
    publisher.add_read(1, 3, 10)
    publisher.pump(1, log)
    assert wakes == [1]
    publisher.pump(3, log)
    assert wakes == [1, 1]
    publisher.pump(4, log)
    assert wakes == [1, 1]


def test_where_others_wait_for_what_is_applied_everything_wakes_at_once(wakes: list[int]) -> None:
    publisher = Publisher(FakeRing(99), lambda: wakes.append(1), None)
    publisher.begin(0, OWN)
    publisher.pump(3, FakeLog(1, 3, origin=OWN + 1))
    assert wakes == [1]
