"""The serving side knows what of its pipe the consensus process has not read yet."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pyraft_fast._slot import Slot
from pyraft_fast.limits import SLOT_BYTES
from pyraft_fast.link.ring import Ring
from pyraft_fast.serving import child
from pyraft_fast.serving.child import SLOT_FILLED, ConsensusChild

RING_BYTES = 4096
BATCH = bytes(SLOT_BYTES + 1)  # too large for the slot


class Ends:
    """A pipe and a ring, with the test in the place of the consensus process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.ring = Ring.create(RING_BYTES)
        self.writers: list[Callable[[], None]] = []
        self.slot = Slot.create()
        started = SimpleNamespace(pipe=ours, reader=self.ring, slot=self.slot, to_serving=0)
        monkeypatch.setattr(child, "start_child", lambda *_, **__: started)
        loop: Any = SimpleNamespace(
            add_reader=lambda *_: None,
            add_writer=lambda _, callback: self.writers.append(callback),
            remove_writer=lambda _: self.writers.clear(),
        )
        settings: Any = SimpleNamespace(ring_bytes=RING_BYTES, for_consensus=dict)
        events: Any = None
        self.serving = ConsensusChild(settings, 0, 0, loop, events)

    def read(self) -> int:
        """Take all that lies in the pipe, and say so."""
        count = 0
        while True:
            try:
                count += len(self.theirs.recv(1 << 20))
            except BlockingIOError:
                self.ring.hear(count)
                return count


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    made = Ends(monkeypatch)
    yield made
    made.serving._pipe.close()
    made.theirs.close()
    made.ring.close()
    made.slot.close()


def test_what_was_sent_is_behind_until_it_is_read(ends: Ends) -> None:
    assert ends.serving.is_behind()  # the settings
    for _ in range(3):
        assert ends.read()
        assert not ends.serving.is_behind()
        ends.serving.propose(1, 1, 1, b"batch")
        assert ends.serving.is_behind()


def test_a_full_pipe_is_behind_until_its_rest_is_read_too(ends: Ends) -> None:
    while not ends.writers:
        ends.serving.propose(1, 1, 1, BATCH)
    ends.serving.propose(1, 2, 1, BATCH)
    while ends.writers:
        assert ends.read()
        assert ends.serving.is_behind()
        ends.writers[0]()
    assert ends.serving.is_behind()
    assert ends.read()
    assert not ends.serving.is_behind()


def test_a_batch_in_the_slot_is_told_of_once(ends: Ends) -> None:
    ends.read()
    assert ends.serving.propose(1, 1, 1, b"one")
    assert ends.serving.add(1, b"two")
    assert ends.read() == len(SLOT_FILLED)
    assert ends.slot.take() == (1, 1, 2, b"onetwo")
    assert not ends.serving.add(1, b"three")
    assert ends.serving.propose(1, 2, 1, b"three")
    assert ends.read() == 0  # who takes has not found the slot empty


def test_no_batch_passes_by_a_larger_one_in_the_pipe(ends: Ends) -> None:
    ends.read()
    assert ends.serving.propose(1, 1, 1, b"one")
    assert not ends.serving.propose(1, 2, 1, b"two")  # the slot is full
    assert ends.slot.take() == (1, 1, 1, b"one")
    assert not ends.serving.propose(1, 3, 1, b"three")  # two is in the pipe
    assert ends.read() > 0
    assert ends.slot.take() is None
    assert ends.serving.propose(1, 4, 1, b"four")


def test_no_batch_passes_by_one_that_the_pipe_has_no_room_for(ends: Ends) -> None:
    while not ends.writers:
        assert not ends.serving.propose(1, 1, 1, BATCH)
    while ends.writers:
        assert not ends.serving.propose(1, 2, 1, b"small")
        ends.read()
        ends.writers[0]()
    assert not ends.serving.propose(1, 2, 1, b"small")
    ends.read()
    assert ends.serving.propose(1, 3, 1, b"small")
