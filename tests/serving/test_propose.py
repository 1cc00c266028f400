"""When a batch is closed, on a loop that turns by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyraft_fast import limits
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
    """Notes the batches; `behind` until somebody takes them, and they may grow until then."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.numbers: list[int] = []
        self.payloads: list[bytes] = []
        self.behind = False
        self.grows = False

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> bool:
        self.counts.append(count)
        self.numbers.append(batch)
        self.payloads.append(payload)
        return self.grows

    def add(self, count: int, payload: bytes) -> bool:
        if self.grows:
            self.counts[-1] += count
            self.payloads[-1] += payload
        return self.grows

    def is_behind(self) -> bool:
        return self.behind


class Client(Origin):
    def answer(self, value: Any) -> None:
        self.waiting -= 1


class Bench:
    def __init__(self) -> None:
        self.loop = HandLoop()
        self.pipe = Pipe()
        loop: Any = self.loop
        self.proposer = Proposer(loop, [], lambda: None, lambda: None)
        self.proposer.new_session(1, self.pipe)
        self.proposer.set_serving(True)
        self.loop.turn()

    def write(self, count: int) -> None:
        for _ in range(count):
            self.proposer.write(Client(), ["SET", "key", "value"], 0)

    def turn(self, count: int) -> None:
        self.write(count)
        self.loop.turn()


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


def test_commands_join_the_batch_that_nobody_has_taken() -> None:
    bench = Bench()
    bench.pipe.grows = True
    for count in (2, 3, 1):
        bench.turn(count)
    assert (bench.pipe.counts, bench.pipe.numbers, bench.loop.due) == ([6], [1], [])
    bench.pipe.grows = False
    bench.turn(4)
    bench.turn(1)
    assert (bench.pipe.counts, bench.pipe.numbers) == ([6, 4, 1], [1, 2, 3])
    assert [len(bench.proposer.applied(number)) for number in (1, 2, 3)] == [6, 4, 1]
    assert bench.proposer._sent_bytes == bench.proposer._under_way == 0


def test_a_batch_is_sent_again_as_it_is_and_grows_no_more() -> None:
    bench = Bench()
    bench.pipe.grows = True
    bench.turn(2)
    bench.turn(3)
    bench.proposer.resend()
    assert bench.pipe.payloads[0] == bench.pipe.payloads[1]
    bench.turn(1)
    assert (bench.pipe.counts, bench.pipe.numbers) == ([5, 5, 1], [1, 1, 2])


def test_a_batch_of_another_session_does_not_grow() -> None:
    bench = Bench()
    bench.pipe.grows = True
    bench.turn(2)
    bench.proposer.drop_session()
    bench.turn(1)
    bench.proposer.new_session(2, bench.pipe)
    bench.proposer.set_serving(True)
    bench.loop.turn()
    assert (bench.pipe.counts, bench.pipe.numbers) == ([2, 1], [1, 1])


def test_a_batch_whose_clients_were_told_does_not_grow() -> None:
    bench = Bench()
    bench.pipe.grows = True
    bench.turn(2)
    bench.proposer.sweep(bench.loop.now + 60)
    bench.turn(1)
    assert bench.pipe.counts == [2, 1]


def test_a_batch_grows_to_no_more_commands_than_an_entry_may_have() -> None:
    bench = Bench()
    bench.pipe.grows = True
    bench.turn(limits.BATCH_COMMANDS_MAX - 2)
    bench.turn(3)
    bench.turn(2)
    assert bench.pipe.counts == [limits.BATCH_COMMANDS_MAX - 2, 5]


def test_a_node_alone_divides_what_is_under_way() -> None:
    bench = Bench()
    bench.pipe.grows = True
    bench.proposer.set_alone(True)
    bench.turn(30)
    bench.proposer.applied(1)
    for _ in range(12):
        bench.turn(2)
    assert bench.pipe.counts == [30, 8, 8, 8]  # a third of what is usual, in whole turns
    bench.proposer.set_alone(False)
    bench.turn(20)
    assert bench.pipe.counts == [30, 8, 8, 28]


def test_what_is_under_way_stays_below_its_bound_and_one_batch_alone_always_goes() -> None:
    bench = Bench()
    proposer = bench.proposer
    size = limits.BATCH_BYTES_SOFT  # closes a batch
    proposer.bytes_max = size * 5 // 2
    for _ in range(4):
        proposer.write(Client(), ["SET", "key", "x" * size], 0)
    bench.loop.turn()
    assert bench.pipe.numbers == [1, 2]
    for number in (1, 2):
        proposer.applied(number)
        bench.loop.turn()
        assert bench.pipe.numbers == list(range(1, number + 3))
    for number in (3, 4):
        proposer.applied(number)
    proposer.write(Client(), ["SET", "key", "x" * 3 * size], 0)
    assert bench.pipe.numbers == [1, 2, 3, 4, 5], "more than the bound, but alone"
