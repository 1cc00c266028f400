"""A long message that moves is a sign of life of the peer that it is for, and nothing else is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pyraft_fast.consensus.identity import Identity
from pyraft_fast.consensus.transfers import LONG_BYTES_MIN, Transfers
from pyraft_fast.core.raft import Raft
from tests.core.single import lead, obey, raft_of, tick


class Scene:
    """A leader of three; what is queued for each peer and has left."""

    def __init__(self) -> None:
        self.raft: Raft = lead(raft_of())
        obey(self.raft)
        self.queued = {"2": 0, "3": 0}
        self.moved = {"2": 0, "3": 0}
        links: Any = SimpleNamespace(
            queued_bytes=self.queued.__getitem__, moved_bytes=self.moved.__getitem__
        )
        self.transfers = Transfers(self.raft, links)

    def is_heard(self, nid: str) -> bool:
        """Whether the next tick finds a sign of life of `nid`."""
        tick(self.raft)
        self.transfers.tick()
        return self.raft.progress[nid].heard_tick == self.raft.ticks


def test_a_long_message_counts_as_long_as_it_moves() -> None:
    scene = Scene()
    scene.queued["2"] = LONG_BYTES_MIN
    assert not scene.is_heard("2"), "it was only just queued"
    scene.moved["2"] += 1000
    assert scene.is_heard("2")
    assert not scene.is_heard("3")
    scene.moved["2"] += 1000
    scene.queued["2"] += 1_000_000  # more is added than leaves
    assert scene.is_heard("2")
    assert not scene.is_heard("2"), "nothing has left"
    scene.moved["2"] += 1000
    scene.queued["2"] = 0
    assert scene.is_heard("2"), "the end of it"
    scene.moved["2"] += 1000
    assert not scene.is_heard("2"), "a short one"


def test_a_new_link_says_nothing() -> None:
    scene = Scene()
    scene.queued["2"], scene.moved["2"] = LONG_BYTES_MIN, 5000
    assert not scene.is_heard("2")
    scene.moved["2"] = 0
    assert not scene.is_heard("2")


def test_part_of_a_message_is_a_sign_of_life_of_that_very_node() -> None:
    scene = Scene()
    tick(scene.raft)
    scene.transfers.came(Identity(7, "3", "host3:1", 33))
    assert scene.raft.progress["3"].heard_tick != scene.raft.ticks, "another life of it"
    scene.transfers.came(Identity(7, "3", "host3:1", 3))
    assert scene.raft.progress["3"].heard_tick == scene.raft.ticks
