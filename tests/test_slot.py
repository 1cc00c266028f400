"""One batch in shared memory that grows until it is taken."""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from pyraft_fast._slot import ADDED, ADDED_TELL, NOT_ADDED, Slot
from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import BATCH_COMMANDS_MAX, SLOT_BYTES

SIZE = 64
CONTROL_BYTES = 4096
STATE_AT, COUNT_AT, LENGTH_AT = 128, 152, 160
FULL, ADDING = 1, 2
SECONDS_MAX = 60


@pytest.fixture
def ends() -> Iterator[tuple[Slot, Slot]]:
    giver = Slot.create(SIZE)
    taker = Slot.attach(giver.fd)
    yield giver, taker
    giver.close()
    taker.close()


def write_word(slot: Slot, at: int, value: int, size: int = 8) -> None:
    assert os.pwrite(slot.fd, value.to_bytes(size, "little"), at) == size


def test_who_takes_finds_all_that_was_added(ends: tuple[Slot, Slot]) -> None:
    giver, taker = ends
    assert giver.put(3, 7, 1, b"one ") == ADDED_TELL  # nobody has looked yet
    assert giver.add(2, b"two three ") == ADDED
    assert giver.add(0, b"") == ADDED
    assert taker.take() == (3, 7, 3, b"one two three ")
    assert giver.add(1, b"late") == NOT_ADDED
    assert taker.take() is None
    assert giver.put(3, 8, 1, bytearray(b"late")) == ADDED_TELL
    assert taker.take() == (3, 8, 1, b"late")


def test_who_has_not_looked_again_is_not_told(ends: tuple[Slot, Slot]) -> None:
    giver, taker = ends
    giver.put(1, 1, 1, b"a")
    assert taker.take() is not None
    assert giver.put(1, 2, 1, b"b") == ADDED
    assert taker.take() is not None
    assert taker.take() is None
    assert giver.put(1, 3, 1, b"c") == ADDED_TELL
    assert giver.add(1, b"d") == ADDED


def test_nothing_is_put_over_what_lies_there(ends: tuple[Slot, Slot]) -> None:
    giver, taker = ends
    giver.put(1, 1, 1, b"first")
    assert giver.put(1, 2, 1, b"second") == NOT_ADDED
    assert taker.take() == (1, 1, 1, b"first")


def test_what_is_too_large_is_refused(ends: tuple[Slot, Slot]) -> None:
    giver, taker = ends
    assert giver.put(1, 1, 1, bytes(SIZE + 1)) == NOT_ADDED
    assert giver.put(1, 1, 1, bytes(SIZE - 1)) == ADDED_TELL
    assert giver.add(1, b"ab") == NOT_ADDED
    assert giver.add(1, b"a") == ADDED
    assert taker.take() == (1, 1, 2, bytes(SIZE - 1) + b"a")
    giver.put(1, 2, BATCH_COMMANDS_MAX, b"x")
    assert giver.add(1, b"y") == NOT_ADDED


def test_who_comes_while_something_is_added_is_told(ends: tuple[Slot, Slot]) -> None:
    giver, taker = ends
    giver.put(1, 1, 1, b"a")
    write_word(giver, STATE_AT, ADDING, 4)
    assert taker.take() is None
    write_word(giver, STATE_AT, FULL, 4)
    assert giver.add(1, b"b") == ADDED_TELL
    assert taker.take() == (1, 1, 2, b"ab")


@pytest.mark.parametrize(
    ("at", "value"),
    [(LENGTH_AT, SIZE + 1), (LENGTH_AT, 2**64 - 1), (COUNT_AT, BATCH_COMMANDS_MAX + 1)],
)
def test_what_cannot_be_is_not_taken(ends: tuple[Slot, Slot], at: int, value: int) -> None:
    giver, taker = ends
    giver.put(1, 1, 1, b"a")
    write_word(giver, at, value)
    with pytest.raises(InvariantError, match="commands of"):
        taker.take()


def test_the_usual_size() -> None:
    slot = Slot.create()
    assert slot.size == SLOT_BYTES
    slot.close()


def test_a_forgotten_slot_leaves_nothing() -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    slot = Slot.create(SIZE)
    del slot
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_slot_is_made_or_attached() -> None:
    with pytest.raises(TypeError, match="create"):
        Slot()
    with pytest.raises(InvariantError, match="0 bytes"):
        Slot.create(0)


@pytest.mark.parametrize("call", ["take", "add", "put"])
def test_a_closed_slot_refuses(call: str) -> None:
    slot = Slot.create(SIZE)
    slot.close()
    slot.close()
    assert slot.fd == -1
    arguments: dict[str, tuple[Any, ...]] = {"add": (1, b"a"), "put": (1, 1, 1, b"a")}
    with pytest.raises(InvariantError, match="closed"):
        getattr(slot, call)(*arguments.get(call, ()))


@pytest.mark.parametrize("length", [0, CONTROL_BYTES, CONTROL_BYTES + SIZE])
@pytest.mark.parametrize("sealed", [True, False])
def test_only_a_slot_can_be_attached(length: int, sealed: bool) -> None:
    fd = os.memfd_create("no slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, length)
        if sealed:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        open_before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(InvariantError, match="no slot"):
            Slot.attach(fd)
        assert len(os.listdir("/proc/self/fd")) == open_before
    finally:
        os.close(fd)


def give(slot: Slot, pipe: int, commands: int) -> None:
    """In a process of its own: numbers in order, in batches of their own number."""
    dice = random.Random(5)
    batch = sent = 0
    while sent < commands:
        count = min(dice.randrange(1, 6), commands - sent)
        payload = struct.pack(f"<{count}Q", *range(sent, sent + count))
        added = slot.add(count, payload) if dice.random() < 0.7 else NOT_ADDED
        if added == NOT_ADDED:
            added = slot.put(1, batch + 1, count, payload)
            batch += added != NOT_ADDED
        if added != NOT_ADDED:
            sent += count
        if added == ADDED_TELL:
            os.write(pipe, b"!")


def test_two_processes_lose_nothing_and_nobody_sleeps_beside_a_batch() -> None:
    giver = Slot.create(400)
    taker = Slot.attach(giver.fd)
    told, tell = os.pipe()
    commands = 300_000
    child = os.fork()
    if child == 0:
        try:
            give(giver, tell, commands)
        finally:
            os._exit(0)
    os.close(tell)
    try:
        following = batches = largest = 0
        while following < commands:
            taken = taker.take()
            if taken is None:
                assert select.select([told], [], [], SECONDS_MAX)[0], "not told of a batch"
                os.read(told, 1)
                continue
            start, number, count, payload = taken
            batches += 1
            assert (start, number, len(payload)) == (1, batches, 8 * count)
            assert struct.unpack(f"<{count}Q", payload) == (*range(following, following + count),)
            following += count
            largest = max(largest, count)
        assert taker.take() is None
        assert largest > 5  # something grew
    finally:
        os.waitpid(child, 0)
        os.close(told)
        giver.close()
        taker.close()
