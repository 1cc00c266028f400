"""When a batch is closed, on a loop that turns by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyraft_fast._turn import Origin
from pyraft_fast.serving import propose
from pyraft_fast.serving.propose import Proposer


class HandLoop:
    """Calls what is due in the next turn when told to."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.now = 1.0

    def time(self) -> float:
        return self.now

    def call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        self.due.append((function, arguments))

    def turn(self) -> None:
        due, self.due = self.due, []
        for function, arguments in due:
            function(*arguments)


class Pipe:
    """Notes the batches; `behind` until somebody takes them."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.behind = False

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> None:
        self.counts.append(count)

    def is_behind(self) -> bool:
        return self.behind


class Bench:
    def __init__(self) -> None:
        self.loop = HandLoop()
        self.pipe = Pipe()
        loop: Any = self.loop
        self.proposer = Proposer(loop, self.pipe, [], lambda: None, lambda: None)
        self.proposer.new_session(1)
        self.proposer.set_serving(True)
        self.loop.turn()

    def write(self, count: int) -> None:
        for _ in range(count):
            self.proposer.write(Origin(), ["SET", "key", "value"], 0)


def test_a_lone_batch_leaves_at_the_end_of_its_turn() -> None:
    bench = Bench()
    bench.write(3)
    bench.loop.turn()
    assert bench.pipe.counts == [3]


def test_a_batch_grows_while_the_one_before_is_not_taken() -> None:
    bench = Bench()
    bench.pipe.behind = True
    for _ in range(4):
        bench.write(2)
        bench.loop.turn()
    assert bench.pipe.counts == []
    bench.pipe.behind = False
    bench.write(1)
    bench.loop.turn()
    assert bench.pipe.counts == [9]


def test_a_batch_that_does_not_grow_waits_no_longer_than_a_few_turns() -> None:
    bench = Bench()
    bench.pipe.behind = True
    bench.write(2)
    for _ in range(1 + propose.STILL_TURNS_MAX):
        bench.loop.turn()
        assert bench.pipe.counts == []
    bench.loop.turn()
    assert bench.pipe.counts == [2]
    assert bench.loop.due == []


def test_a_batch_does_not_grow_for_long() -> None:
    bench = Bench()
    bench.pipe.behind = True
    while not bench.pipe.counts:
        bench.write(1)
        bench.loop.turn()
        bench.loop.now += 0.0005
    assert 2 <= bench.pipe.counts[0] <= 6


def test_the_next_batch_may_grow_again() -> None:
    bench = Bench()
    bench.pipe.behind = True
    for expected in ([2], [2, 2]):
        bench.write(2)
        for _ in range(2 + propose.STILL_TURNS_MAX):
            bench.loop.turn()
        assert bench.pipe.counts == expected


def test_without_a_leader_nobody_asks_the_pipe() -> None:
    bench = Bench()
    bench.proposer.set_serving(False)
    bench.pipe.behind = True
    bench.write(2)
    bench.loop.turn()
    assert (bench.pipe.counts, bench.loop.due) == ([], [])
