"""Two real processes on one ring: nothing lost, nothing changed, nobody sleeps through a record.

The stream is decided by a seed, so the reading side knows every byte that must come. Waiting is
always for a bell or the end of the pipe; a lost wake-up shows as TimeoutError.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from pyraft_fast._ring import Ring
from pyraft_fast.limits import MIB
from pyraft_fast.link import pipe
from pyraft_fast.link.ring import wake
from pyraft_fast.link.spawn import Child, start_child
from tests.ring_player import (
    Gone,
    Side,
    read_stream,
    receive,
    send,
    stream,
    write_stream,
)

MODULE = "tests.ring_player"


@contextmanager
def child_with(ring_bytes: int, **wish: object) -> Iterator[Child]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lock_fd = listener.fileno()  # any descriptor does
        child = start_child(listener.fileno(), lock_fd, ring_bytes=ring_bytes, module=MODULE)
    try:
        send(child.pipe, pipe.Start(dict(wish)))
        yield child
    finally:
        child.close()


def check_prefix(got: list[bytes], seed: int, length_max: int) -> None:
    for number, (mine, sent) in enumerate(
        zip(got, stream(seed, len(got), length_max), strict=True)
    ):
        assert mine == sent, f"record {number} of {len(got)}"


# ring bytes, records, longest record: mostly full, mostly empty, records beyond the ring, usual
MIXES = [
    (4096, 20_000, 300),
    (4096, 3_000, 20_000),
    (65536, 10_000, 60_000),
    (8 * MIB, 4_000, MIB // 4),
]


@pytest.mark.parametrize(("ring_bytes", "count", "length_max"), MIXES)
def test_a_stream_from_the_child_arrives_whole(
    ring_bytes: int, count: int, length_max: int
) -> None:
    got: list[bytes] = []
    wish = {"seed": ring_bytes + length_max, "count": count, "length_max": length_max}
    with child_with(ring_bytes, part="write", **wish) as child:
        side = Side(child.pipe, child.to_serving)
        read_stream(side, child.reader, count, got.append)
        sent, checksum, _ = receive(child.pipe).value
        assert child.reader.take(1) == []
        assert child.ring.stats()["used"] == 0
    assert sent == count == len(got)
    assert zlib.crc32(b"".join(got)) == checksum
    check_prefix(got, wish["seed"], length_max)


@pytest.mark.parametrize(("ring_bytes", "count", "length_max"), MIXES[:3])
def test_a_stream_to_the_child_arrives_whole(ring_bytes: int, count: int, length_max: int) -> None:
    with child_with(ring_bytes, part="read", count=count) as child:
        side = Side(child.pipe, child.to_serving)
        records = stream(ring_bytes, count, length_max)
        sent = write_stream(side, child.ring, child.to_consensus, records, Random(1))
        came = receive(child.pipe).value
    assert tuple(came[:2]) == sent


def test_both_sides_sleep_often_and_always_wake() -> None:
    """A ring of one page: the writer soon waits for room, the reader soon for records."""
    count = 30_000
    got: list[bytes] = []
    with child_with(4096, part="write", seed=5, count=count, length_max=900) as child:
        side = Side(child.pipe, child.to_serving)
        read_stream(side, child.reader, count, got.append)
        _, _, writer_sleeps = receive(child.pipe).value
        stats = child.ring.stats()
    check_prefix(got, 5, 900)
    assert writer_sleeps > 0
    assert stats["room_wakes"] > 0


def test_records_that_come_just_as_the_reader_falls_asleep() -> None:
    """Each record is published the moment the reader gave its room back: next it goes to sleep."""
    count = 20_000
    with child_with(4096, part="read", count=count) as child:
        for number in range(count):
            while child.ring.stats()["used"] and child.poll() is None:
                os.sched_yield()
            assert child.ring.publish(b"%d" % number)
            if child.ring.wake_needed():
                wake(child.to_consensus)
        came, checksum, sleeps = receive(child.pipe).value
    assert came == count
    assert checksum == zlib.crc32(b"".join(b"%d" % number for number in range(count)))
    assert sleeps > 0


def test_a_notice_is_seen_whole_or_not_at_all() -> None:
    """Looked at all the time while another process changes it all the time."""
    newest = changes = 0
    with child_with(4096, part="post") as child:
        while changes < 5_000:
            words = child.ring.posted()
            if words is not None:
                assert words == (words[0], words[0] * 3, words[0] * 7)
                assert words[0] >= newest
                changes += words[0] > newest
                newest = words[0]
        child.pipe.send(b"x")
        assert receive(child.pipe).value >= newest


@pytest.mark.parametrize("seed", range(12))
def test_what_a_killed_writer_left_is_a_prefix_of_its_stream(seed: int) -> None:
    """SIGKILL at a random moment: every record that can be taken is whole, in order, unchanged."""
    dice = Random(seed)
    ring_bytes = dice.choice((4096, 65536, MIB))
    length_max = dice.choice((300, 20_000))
    stop_after = dice.randint(1, 2_000)
    got: list[bytes] = []

    def seen(record: bytes) -> None:
        got.append(record)
        if len(got) == stop_after:
            child.kill()

    wish = {"seed": seed, "count": 10**9, "length_max": length_max}
    with child_with(ring_bytes, part="write", **wish) as child:
        with pytest.raises((Gone, ConnectionResetError)):
            read_stream(Side(child.pipe, child.to_serving), child.reader, 10**9, seen)
        assert child.how() == "signal SIGKILL"
        assert child.reader.take(1) == []
    assert len(got) >= stop_after
    check_prefix(got, seed, length_max)


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_reader_is_noticed_by_a_waiting_writer(seed: int) -> None:
    stop_after = Random(seed).randint(1, 1_000)

    def records() -> Iterator[bytes]:
        for number, record in enumerate(stream(seed, 10**9, 5_000)):
            if number == stop_after:
                child.kill()
            yield record

    with child_with(65536, part="read", count=10**9) as child:
        side = Side(child.pipe, child.to_serving)
        with pytest.raises((Gone, ConnectionResetError)):
            write_stream(side, child.ring, child.to_consensus, records(), Random(seed))
        assert not child.ring.publish(bytes(65536 // 4 - 8)) or not child.ring.publish(bytes(65536))


def test_a_killed_child_leaves_no_memory_and_no_descriptor() -> None:
    def held() -> tuple[int, int]:
        with open("/proc/self/maps") as lines:
            return sum("pyraft-fast ring" in line for line in lines), len(
                os.listdir("/proc/self/fd")
            )

    before = held()
    for _ in range(3):
        with child_with(MIB, part="write", seed=1, count=10**9, length_max=300) as child:
            records: list[memoryview | bytes] = []
            side = Side(child.pipe, child.to_serving)
            while not (records := child.reader.take(1000)):
                if child.reader.sleep():
                    side.rest()
            child.kill()
        assert bytes(records[0]) == next(stream(1, 1, 300))
        records.clear()
        assert held() == before
    assert not [name for name in os.listdir("/dev/shm") if "pyraft" in name]


def test_the_next_ring_starts_afresh_after_a_death() -> None:
    for seed in (1, 2):
        got: list[bytes] = []
        with child_with(4096, part="write", seed=seed, count=200, length_max=9_000) as child:
            assert isinstance(child.ring, Ring)
            read_stream(Side(child.pipe, child.to_serving), child.reader, 200, got.append)
            child.kill()
        check_prefix(got, seed, 9_000)
