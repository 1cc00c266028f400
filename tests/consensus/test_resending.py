"""Pending batches are asked for again, but not behind copies that are on their way."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pyraft_fast.consensus.resending import UNSENT_BYTES_MAX, WAIT_SECONDS, Resending


class Scene:
    """A leader to which `queued` bytes are on their way, and timers fired by hand."""

    def __init__(self) -> None:
        self.queued = 0
        self.asked = 0
        self.waits: list[float] = []
        self.due: list[Callable[[], None]] = []
        raft: Any = SimpleNamespace(leader="2")
        links: Any = SimpleNamespace(queued_bytes=lambda nid: self.queued if nid == "2" else 0)
        loop: Any = SimpleNamespace(call_later=self._later)
        serving: Any = SimpleNamespace(resend=self._ask)
        self.resending = Resending(raft, links, serving, loop)

    def _ask(self) -> None:
        self.asked += 1

    def _later(self, seconds: float, callback: Callable[[], None]) -> Any:
        self.waits.append(seconds)
        self.due.append(callback)
        return SimpleNamespace(cancel=self.due.clear)

    def fire(self) -> None:
        (callback,) = self.due
        self.due.clear()
        callback()


def test_batches_are_asked_for_at_once_where_nothing_is_on_its_way() -> None:
    scene = Scene()
    scene.queued = UNSENT_BYTES_MAX
    scene.resending.now()
    assert scene.asked == 1
    assert not scene.due


def test_what_is_on_its_way_goes_on_first() -> None:
    scene = Scene()
    scene.queued = UNSENT_BYTES_MAX + 1
    scene.resending.now()
    scene.resending.now()
    assert len(scene.due) == 1
    scene.fire()
    assert scene.asked == 0
    scene.queued = 0
    scene.fire()
    assert scene.asked == 1
    assert not scene.due
    assert scene.waits == [WAIT_SECONDS, 2 * WAIT_SECONDS]


def test_a_new_leader_is_asked_sooner_again_and_nobody_after_the_end() -> None:
    scene = Scene()
    for _ in range(3):
        scene.resending.later()
        scene.fire()
    scene.resending.begin_anew()
    scene.resending.later()
    assert scene.waits[-1] == WAIT_SECONDS
    scene.resending.close()
    assert not scene.due
