"""The serving side knows what of its pipe the consensus process has not read yet."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pyraft_fast.link.ring import Ring
from pyraft_fast.serving import child
from pyraft_fast.serving.child import ConsensusChild

RING_BYTES = 4096
BATCH = bytes(100_000)


class Ends:
    """A pipe and a ring, with the test in the place of the consensus process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.ring = Ring.create(RING_BYTES)
        self.writers: list[Callable[[], None]] = []
        started = SimpleNamespace(pipe=ours, reader=self.ring, to_serving=0)
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
