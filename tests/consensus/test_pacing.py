"""What is not committed within a look goes to those who were spared, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from pyraft_fast.consensus.pacing import LOOK_SECONDS, PaceWatch
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.raft import Raft
from tests.core.single import accept, obey, to
from tests.core.test_sparing import busy, propose, sent


class Hand:
    """A loop whose one timer is fired by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        assert seconds == LOOK_SECONDS
        self.due.append(callback)
        return self

    def cancel(self) -> None:
        self.due.clear()

    def fire(self) -> None:
        (callback,) = self.due
        self.due.clear()
        callback()


def watched() -> tuple[Raft, Hand, PaceWatch, list[str]]:
    raft, hand, wakes = busy(), Hand(), list[str]()
    loop = cast(asyncio.AbstractEventLoop, hand)
    return raft, hand, PaceWatch(raft, loop, lambda: wakes.append("wake")), wakes


def test_entries_that_are_not_committed_within_a_look_go_to_everybody() -> None:
    raft, hand, watch, wakes = watched()
    propose(raft)
    assert sent(raft) == {"2": [1]}
    watch.turn()
    watch.turn()
    hand.fire()
    assert wakes == ["wake"]
    assert sent(raft) == {"3": [1]}
    accept(raft, "3", raft.log.last)
    assert raft.log.commit == raft.log.last, "the leader and this one are a majority, too"
    propose(raft)
    assert sent(raft) == {"2": [1]}, "nothing else has changed"


def test_what_came_since_the_last_look_has_until_the_next_one() -> None:
    raft, hand, watch, wakes = watched()
    watch.turn()
    propose(raft)
    obey(raft)
    hand.fire()
    assert not wakes
    accept(raft, "2", raft.log.last)
    hand.fire()
    assert not wakes
    assert not to(obey(raft).send_now, "3", MessageKind.APPEND)


def watched_while_slow(count: int) -> tuple[Raft, Hand, list[str]]:
    """Of so many entries all but the last are committed at the first look, which goes by."""
    raft, hand, watch, wakes = watched()
    for _ in range(count):
        propose(raft)
    obey(raft)
    watch.turn()
    accept(raft, "2", raft.log.last - 1)
    hand.fire()
    return raft, hand, wakes


def test_who_is_slow_and_gets_on_has_one_look_more() -> None:
    raft, hand, wakes = watched_while_slow(3)
    assert not wakes
    assert not to(obey(raft).send_now, "3", MessageKind.APPEND)
    hand.fire()
    assert wakes == ["wake"]
    assert sent(raft) == {"3": [3]}


def test_what_came_in_the_look_that_was_given_counts_from_the_next() -> None:
    raft, hand, wakes = watched_while_slow(2)
    last = raft.log.last
    propose(raft)
    obey(raft)
    accept(raft, "2", last)
    hand.fire()
    assert not wakes
    hand.fire()
    assert wakes == ["wake"], "it stood still for the whole of a look"


def test_nobody_looks_while_nobody_is_spared_or_when_it_is_closed() -> None:
    raft, hand, watch, _ = watched()
    watch.turn()
    raft.sparing.needed = []
    hand.fire()
    assert not hand.due
    watch.turn()
    assert not hand.due
    raft.sparing.needed = list(raft.voting_peers)[:1]
    watch.turn()
    watch.close()
    assert not hand.due


def test_who_was_closed_does_not_begin_again() -> None:
    _, hand, watch, _ = watched()
    watch.close()
    watch.turn()  # a turn of the loop that was on its way
    assert not hand.due
