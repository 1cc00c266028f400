"""Records of the log against the plain twin: which take effect, and what is told of it."""

from __future__ import annotations

import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from pyraft_fast import _entry, _turn
from pyraft_fast.errors import InvariantError
from pyraft_fast.serving.sessions import Sessions
from tests.twins import turn_twin

ME, OTHER, START = 7, 8, 3


@pytest.fixture(params=[_turn, turn_twin], ids=["product", "twin"])
def turn(request: pytest.FixtureRequest) -> Any:
    return request.param


class Machine:
    """What a record may touch, all of it noted in `log`."""

    def __init__(self, turn: Any, every: int) -> None:
        self.turn = turn
        self.log: list[Any] = []
        self.dirty: list[Any] = []
        self.track = SimpleNamespace(
            every=every, index=0,
            begin=lambda: self.log.append("begin digest"),
            end=lambda index: self.log.append(("end digest", index)),
        )  # fmt: skip
        self.gate = SimpleNamespace(clock_ms=50, applied=self.noted("applied"))
        self.place = self.new_place()

    def noted(self, name: str) -> Any:
        return lambda *values: self.log.append((name, *values))

    def handle(self, node: Any, words: Any) -> Any:
        place = self.place
        self.log.append((words, place.index, place.position, place.applying, place.term))
        if words[0] == "stop":
            raise MemoryError
        return words[1]

    def new_place(self) -> Any:
        machine, turn = self, self.turn

        class Place(turn.Place):
            def find_row(self, offset: int, words: Any) -> Any:
                machine.log.append(("find", offset, self._noting))
                return SimpleNamespace(name=words[0], function=machine.handle)

            def out_of_memory(self, row: Any) -> None:
                raise RuntimeError(row.name)

            def _other(self, head: Any, record: Any) -> None:
                machine.log.append(("other", head.kind))
                if head.kind == _entry.KIND_NOOP and head.index > self.index:
                    self._advance(head)

            def _own(self, head: Any) -> Any:
                machine.log.append(("own", head.batch))
                if head.start != START:
                    return None
                ops = []
                for number in range(head.count):
                    ops.append(machine.new_origin())
                    if (head.batch + number) % 5 == 0:  # a read rides behind the write
                        read = SimpleNamespace(name="get", function=machine.handle)
                        ops.append((machine.new_origin(), read, ["get", f"read {number}"]))
                return ops

            def _skip(self, head: Any, verdict: int) -> None:
                machine.log.append(("skip", verdict))
                self._advance(head)

        place: Any = Place()
        place.incarnation = ME
        place.sessions = Sessions()
        store = SimpleNamespace(data={}, begin=self.noted("begin"))
        place._host = SimpleNamespace(data_lock=nullcontext(), store=store)
        row = SimpleNamespace(name="set", function=self.handle)
        place._rows = SimpleNamespace(logged={"set": row})
        place._gate, place._track, place._dirty = self.gate, self.track, self.dirty
        return place

    def new_origin(self) -> Any:
        machine = self

        class Origin(self.turn.Origin):
            def answer(self, value: Any) -> None:
                self.waiting -= 1
                machine.log.append(("answer", value))

        return Origin()

    def take(self, record: bytes) -> Any:
        """What may be noticed of one record."""
        place, error = self.place, ""
        try:
            place.record(record)
        except (InvariantError, RuntimeError) as raised:
            error = repr(raised)
        log, self.log[:] = list(self.log), []
        names = ("index", "term", "time_ms", "position", "commands", "commands_total", "log_bytes")
        seen = {name: getattr(place, name) for name in names}
        flags = (bool(place.applying), bool(place._noting), len(self.dirty))
        told = (self.track.index, self.gate.clock_ms, place.sessions.copy())
        return error, log, seen, flags, told


def sealed(kind: int, index: int, origin: int, start: int, batch: int, words: list[Any]) -> bytes:
    gathered = _entry.Batch()
    for number, command in enumerate(words):
        gathered.add(command, number % 3 // 2)
    count, payload = gathered.count, gathered.take()
    return _entry.seal(kind, index, index // 5 + 1, 40 + 3 * index, origin, start, batch, count,
                       payload)  # fmt: skip


def any_record(dice: random.Random, next_index: int, last: dict[int, int]) -> bytes:
    index = next_index + dice.choice([0] * 12 + [-1, 1])
    draw = dice.random()
    if draw < 0.15:
        kind = dice.choice([_entry.KIND_NOOP, _entry.KIND_READ])
        return sealed(kind, max(0, index), 0, 0, 0, [])
    origin = dice.choice([0, ME, ME, OTHER])
    batch = last.get(origin, 0) + dice.choice([1] * 8 + [0, 2])
    start = START if dice.random() < 0.95 else dice.choice([START - 1, START + 1])
    if start == START and index == next_index and batch == last.get(origin, 0) + 1:
        last[origin] = batch
    names = ["set"] * 20 + ["get", "stop"]
    words = [[dice.choice(names), str(number)] for number in range(dice.choice([*range(5), 40]))]
    return sealed(_entry.KIND_COMMANDS, max(0, index), origin, start, batch, words)


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_product_and_twin_take_the_same_records(first: int) -> None:
    for seed in range(first, first + 50):
        dice = random.Random(f"record {seed}")
        every = dice.choice([0, 1, 4])
        product, twin = Machine(_turn, every), Machine(turn_twin, every)
        last: dict[int, int] = {}
        for _ in range(40):
            record = any_record(dice, product.place.index + 1, last)
            got, want = product.take(record), twin.take(record)
            assert got == want, f"seed {seed}: {_entry.header(record)}"


def test_an_entry_of_this_node_answers_and_a_gap_is_an_error(turn: Any) -> None:
    machine = Machine(turn, 0)
    words = [["set", "a"], ["set", "b"]]
    error, log, seen, flags, _ = machine.take(sealed(2, 1, ME, START, 1, words))
    assert (error, seen["index"], seen["commands"], flags) == ("", 1, 2, (False, False, 2))
    assert [entry for entry in log if entry[0] == "answer"] == [("answer", "a"), ("answer", "b")]
    error, log, *_ = machine.take(sealed(2, 3, ME, START, 2, words))
    assert "no gap in the log" in error and log == []
    error, log, *_ = machine.take(sealed(2, 1, ME, START, 1, words))
    assert (error, log) == ("", [])
