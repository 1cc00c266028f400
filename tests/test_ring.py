"""The ring in one process: frames, room, wake-ups, views, and what it does not believe."""

from __future__ import annotations

import fcntl
import gc
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast import _ring
from pyraft_fast._ring import Ring
from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import RECORD_BYTES_MAX, RING_BYTES
from pyraft_fast.link import ring as doorbells
from tests.fuzz.fuzz_ring import PAIRS, compare, content, fuzz_round
from tests.twins.ring_twin import CONTROL_BYTES, HEAD, TAIL, TURN, VERSION

SIZE = 4096
QUARTER = SIZE // 4


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].__name__}-{pair[1].__name__}")
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    writing, reading = request.param
    reader = reading.create(SIZE)
    writer = writing.attach(reader.fd)
    yield writer, reader
    writer.close()
    reader.close()


@pytest.fixture
def product() -> Iterator[tuple[Ring, Ring]]:
    reader = Ring.create(SIZE)
    writer = Ring.attach(reader.fd)
    yield writer, reader
    writer.close()
    reader.close()


def taken(reader: Any, bytes_max: int = 1 << 30) -> list[bytes]:
    return [bytes(record) for record in reader.take(bytes_max)]


def overwrite(ring: Ring, at: int, form: str, *values: int) -> None:
    os.pwrite(ring.fd, struct.pack(form, *values), at)


# Records in, records out


def test_records_come_out_in_order_and_unchanged(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    records = [content(n, n * 7 + 1) for n in range(12)]
    assert all(writer.publish(record) for record in records)
    assert taken(reader) == records
    assert taken(reader) == []


def test_many_rounds_wrap_around_the_end(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    for number in range(300):
        record = content(number, 1 + number * 37 % (QUARTER - 8))
        assert writer.publish(record)
        assert taken(reader) == [record]
        assert not reader.release()


@pytest.mark.parametrize("length", [1, 7, 8, 9, *range(QUARTER - 17, QUARTER + 2), SIZE, 5 * SIZE])
def test_every_length_passes_at_every_place(length: int, ends: tuple[Any, Any]) -> None:
    """Lengths around the border between whole frames and fragments, from shifted beginnings."""
    writer, reader = ends
    for shift in (1, 1000, 1016, 2000, SIZE - 3000):
        ahead, record = content(0, min(shift, 1000)), content(1, length)
        got: list[bytes] = []
        for sent in (ahead, record):
            while not writer.publish(sent):
                got += taken(reader)
                assert reader.release()
            got += taken(reader)
            reader.release()
        assert got == [ahead, record]


def test_a_full_ring_says_no_and_asks_for_a_wake_up(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    record = content(0, QUARTER - 8)
    assert [writer.publish(record) for _ in range(5)] == [True] * 4 + [False]
    assert taken(reader, 1) == [record]
    assert not reader.release()  # less than half of it is free
    assert taken(reader, 1) == [record]
    assert reader.release()
    assert writer.publish(record)
    assert not reader.release()  # nothing taken since
    assert taken(reader) == [record] * 3
    assert not reader.release()  # nobody waits any more


def test_a_record_larger_than_the_ring_comes_in_parts(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    record = os.urandom(10 * SIZE + 5)
    got: list[bytes] = []
    while not writer.publish(record):
        assert taken(reader) == []
        assert reader.release()
    got += taken(reader)
    assert got == [record]


def test_no_other_record_comes_between_the_parts_of_one(ends: tuple[Any, Any]) -> None:
    writer, _ = ends
    record = content(0, 2 * SIZE)
    assert not writer.publish(record)
    with pytest.raises(InvariantError, match="another record"):
        writer.publish(b"else")
    with pytest.raises(InvariantError, match="another record"):
        writer.publish(bytearray(record))


def test_take_stops_behind_the_bytes_it_was_asked_for(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    for number in range(8):
        writer.publish(content(number, 92))
    assert len(taken(reader, 1)) == 1
    assert len(taken(reader, 300)) == 3
    assert len(taken(reader, 313)) == 4


def test_empty_and_oversized_records_are_refused(product: tuple[Ring, Ring]) -> None:
    with pytest.raises(InvariantError, match="0 bytes"):
        product[0].publish(b"")
    with pytest.raises(InvariantError, match=str(RECORD_BYTES_MAX + 1)):
        product[0].publish(bytes(RECORD_BYTES_MAX + 1))


def test_a_record_must_not_change_its_length_half_way(product: tuple[Ring, Ring]) -> None:
    record = bytearray(2 * SIZE)
    assert not product[0].publish(record)
    record.append(0)
    with pytest.raises(InvariantError, match="changed"):
        product[0].publish(record)


# Sleeping and waking


def test_only_a_reader_that_sleeps_is_woken_and_once(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    assert not writer.wake_needed()
    assert reader.sleep()
    assert writer.publish(b"x")
    assert writer.wake_needed()
    assert writer.publish(b"y")
    assert not writer.wake_needed()


def test_a_reader_does_not_sleep_on_what_has_come(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    writer.publish(b"x")
    assert not reader.sleep()
    assert not writer.wake_needed()
    assert taken(reader) == [b"x"]
    with pytest.raises(InvariantError, match="sleep before release"):
        reader.sleep()
    reader.release()
    assert reader.sleep()


def test_the_reader_with_bells_frees_parts_and_wakes_by_itself() -> None:
    ring, bell = Ring.create(SIZE), doorbells.make_bell()
    writer, reader = Ring.attach(ring.fd), doorbells.Reader(ring, bell)
    doorbells.clear(bell)  # silencing a silent bell does not block
    record = content(0, 3 * SIZE)
    while not writer.publish(record):
        assert reader.take(1 << 20) == []
        assert os.eventfd_read(bell) == 1
    assert reader.take(1 << 20) == [record]
    assert reader.take(1 << 20) == []
    reader.release()
    assert reader.sleep()
    doorbells.wake(bell)
    doorbells.wake(bell)
    assert os.eventfd_read(bell) == 2
    os.close(bell)
    ring.close()
    writer.close()


def test_an_empty_take_frees_nothing_that_was_handed_out_before() -> None:
    ring, bell = Ring.create(SIZE), doorbells.make_bell()
    writer, reader = Ring.attach(ring.fd), doorbells.Reader(ring, bell)
    writer.publish(b"held")
    held = reader.take(1 << 20)
    used = ring.stats()["used"]
    assert reader.take(1 << 20) == []
    assert ring.stats()["used"] == used
    assert held == [b"held"]
    reader.release()
    assert ring.stats()["used"] == 0
    held.clear()
    os.close(bell)
    ring.close()
    writer.close()


# Views, closing, forks


def test_views_are_read_only_and_outlive_close(product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    writer.publish(b"still here")
    view = reader.take(100)[0]
    assert isinstance(view, memoryview)
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1
    writer.close()
    reader.close()
    gc.collect()
    assert view == b"still here"
    with pytest.raises(TypeError):
        view.obj[0] = 1  # type: ignore[index]


def mappings() -> int:
    with open("/proc/self/maps") as lines:
        return sum("pyraft-fast ring" in line for line in lines)


def test_the_memory_goes_with_the_last_view() -> None:
    before, fds = mappings(), len(os.listdir("/proc/self/fd"))
    ring = Ring.create(SIZE)
    ring.publish(b"x")
    view = ring.take(1)[0]
    ring.close()
    ring.close()
    assert ring.fd == -1
    assert mappings() == before + 1
    del view
    assert mappings() == before
    assert len(os.listdir("/proc/self/fd")) == fds
    assert not [name for name in os.listdir("/dev/shm") if "pyraft" in name]


def test_a_forgotten_ring_leaves_nothing() -> None:
    before, fds = mappings(), len(os.listdir("/proc/self/fd"))
    ring = Ring.create(SIZE)
    assert mappings() == before + 1
    del ring
    assert mappings() == before
    assert len(os.listdir("/proc/self/fd")) == fds


@pytest.mark.parametrize(
    "call", ["publish", "wake_needed", "take", "release", "sleep", "stats", "posted", "heard"]
)
def test_a_closed_ring_refuses(call: str) -> None:
    ring = Ring.create(SIZE)
    ring.close()
    arguments = {"publish": [b"x"], "take": [1]}.get(call, [])
    with pytest.raises(InvariantError, match="closed"):
        getattr(ring, call)(*arguments)


def refusals_after_fork(ring: Ring) -> int:
    calls = [lambda: ring.publish(b"x"), lambda: ring.take(1), ring.release, ring.sleep]
    refused = 0
    for call in calls:
        try:
            call()
        except InvariantError:
            refused += 1
    ring.close()
    return refused


def test_a_forked_process_cannot_use_the_ring(product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = refusals_after_fork(writer)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert writer.publish(b"x")
    assert taken(reader) == [b"x"]


# What it does not believe


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 8, 3 * SIZE, 2**32, -SIZE])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(InvariantError, match=str(size)):
        Ring.create(size)


def test_the_default_size_is_the_limit() -> None:
    ring = Ring.create()
    assert ring.size == RING_BYTES
    ring.close()


def test_a_ring_cannot_be_made_without_memory() -> None:
    with pytest.raises(TypeError, match="create"):
        Ring()


def test_the_memory_cannot_shrink_or_grow(product: tuple[Ring, Ring]) -> None:
    for length in (0, SIZE, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(product[1].fd, length)


def memory_file(content_bytes: bytes, length: int, seals: int) -> int:
    fd = os.memfd_create("no ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, length)
    os.pwrite(fd, content_bytes, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


GOOD = struct.pack("<QIIQ", int.from_bytes(b"raftring", "little"), VERSION, 0, SIZE)
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@pytest.mark.parametrize(
    ("start", "length", "seals"),
    [
        (GOOD, CONTROL_BYTES + SIZE, 0),
        (GOOD, CONTROL_BYTES, SEALS),
        (GOOD, CONTROL_BYTES + 2 * SIZE, SEALS),
        (b"x" + GOOD[1:], CONTROL_BYTES + SIZE, SEALS),
        (GOOD[:8] + b"\1" + GOOD[9:], CONTROL_BYTES + SIZE, SEALS),
        (GOOD + bytes(HEAD - 24) + b"\1", CONTROL_BYTES + SIZE, SEALS),
        (GOOD + bytes(HEAD - 24) + struct.pack("<Q", SIZE + 8), CONTROL_BYTES + SIZE, SEALS),
        (GOOD + bytes(TAIL - 24) + b"\x08", CONTROL_BYTES + SIZE, SEALS),
    ],
    ids=["unsealed", "short", "size", "magic", "version", "odd head", "far head", "tail"],
)
def test_only_a_ring_can_be_attached(start: bytes, length: int, seals: int) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    fd = memory_file(start, length, seals)
    with pytest.raises(InvariantError):
        Ring.attach(fd)
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == fds


def test_the_file_just_right_can_be_attached() -> None:
    fd = memory_file(GOOD, CONTROL_BYTES + SIZE, SEALS)
    ring = Ring.attach(fd)
    assert ring.size == SIZE
    ring.close()
    os.close(fd)


@pytest.mark.parametrize("head", [4, 2**63, SIZE + 64, 0])
def test_a_head_out_of_range_is_told_with_numbers(head: int, product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    writer.publish(b"x")
    taken(reader)
    overwrite(reader, HEAD, "<Q", head)
    for call in (lambda: reader.take(1), lambda: reader.release() or reader.sleep()):
        with pytest.raises(InvariantError, match=f"head {head} after 16, tail .*, size {SIZE}"):
            call()


@pytest.mark.parametrize("tail", [4, 2**63, SIZE + 64])
def test_a_tail_out_of_range_is_told_with_numbers(tail: int, product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    overwrite(reader, TAIL, "<Q", tail)
    with pytest.raises(InvariantError, match=f"tail {tail} after 0"):
        for _ in range(5):
            writer.publish(bytes(QUARTER - 8))


@pytest.mark.parametrize(
    ("length", "flags"),
    [(5, 5), (5, 2), (5, 3), (8, 4), (0, 0), (0, 1), (17, 0), (2**32 - 1, 0), (2**32 - 1, 4)],
)
def test_a_bad_frame_is_told_behind_the_good_ones(
    length: int, flags: int, product: tuple[Ring, Ring]
) -> None:
    writer, reader = product
    writer.publish(b"good")
    writer.publish(b"bad record")
    overwrite(reader, CONTROL_BYTES + 16, "<II", length, flags)
    assert taken(reader) == [b"good"]
    for _ in range(2):
        with pytest.raises(InvariantError, match=f"frame of {length} bytes, flags {flags}, at 16"):
            reader.take(100)


@pytest.mark.parametrize("flags", [0, 1])
def test_a_record_cannot_begin_inside_another(flags: int, product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    assert not writer.publish(bytes(2 * SIZE))
    overwrite(reader, CONTROL_BYTES + QUARTER, "<II", 8, flags)
    with pytest.raises(InvariantError, match="inside record"):
        while True:
            reader.take(1)


# The notice


def test_the_newest_notice_is_seen_by_the_reader(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    assert reader.posted() == (0, 0, 0)
    for words in ((1, 2, 3), (2**64 - 1, 0, 7)):
        writer.post(*words)
        assert reader.posted() == words
        assert reader.posted() == words  # looking takes nothing away


def test_a_notice_that_is_being_written_is_not_seen(product: tuple[Ring, Ring]) -> None:
    """As when its writer died in the middle."""
    writer, reader = product
    writer.post(1, 2, 3)
    overwrite(reader, TURN, "<Q", 3)
    assert reader.posted() is None


# The pipe beside it


def test_the_reader_knows_how_much_of_the_pipe_was_read(ends: tuple[Any, Any]) -> None:
    writer, reader = ends
    assert reader.heard() == 0
    for count, total in ((5, 5), (2**32, 2**32 + 5), (1, 2**32 + 6)):
        writer.hear(count)
        assert reader.heard() == total


# Against the twin


NAMES = (
    "publish", "publish", "take", "release", "sleep", "wake", "post", "posted", "hear", "heard",
)  # fmt: skip
CALLS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.one_of(st.integers(1, 40), st.integers(QUARTER - 20, QUARTER), st.integers(1, 9000)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CALLS)
def test_both_implementations_answer_alike_on_either_side(calls: list[tuple[str, int]]) -> None:
    assert compare(calls, SIZE) == ""


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_random_rounds_and_mad_memory(seed: int) -> None:
    for number in range(seed, seed + 10):
        assert fuzz_round(number) == ""


def test_statistics_count_what_happened(product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    reader.sleep()
    while writer.publish(bytes(500)):
        writer.wake_needed()
    taken(reader)
    reader.release()
    assert writer.stats() == {
        "published": 8, "full_seen": 1, "wakes": 1, "taken": 0, "room_wakes": 0, "used": 0,
    }  # fmt: skip
    assert reader.stats() == {
        "published": 0, "full_seen": 0, "wakes": 0, "taken": 8, "room_wakes": 1, "used": 0,
    }  # fmt: skip


@pytest.mark.skipif(not _ring.DEBUG, reason="only debug builds poison what was released")
def test_a_debug_build_poisons_what_was_released(product: tuple[Ring, Ring]) -> None:
    writer, reader = product
    writer.publish(b"stale")
    view = reader.take(100)[0]
    reader.release()
    assert view == b"\xdb" * 5
