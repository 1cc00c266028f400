"""The judge of recorded histories is judged itself: what it must accept, and what it must not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.process.history import longest_silence
from tests.process.linearizability import (
    FOREVER,
    Operation,
    Outcome,
    is_linearizable,
    judge,
    settle,
    step,
)


def ok(kind: str, argument: str | None, invoked: float, returned: float, result=None, **more):
    return Operation("k", kind, argument, invoked, returned, Outcome.OK, result, "", **more)


def unknown(kind: str, argument: str | None, invoked: float, **more):
    return Operation("k", kind, argument, invoked, FOREVER, Outcome.UNKNOWN, None, "", **more)


def failed(kind: str, argument: str | None, invoked: float) -> Operation:
    return Operation("k", kind, argument, invoked, FOREVER, Outcome.FAILED)


GOOD = {
    "nothing": [],
    "one after the other": [ok("set", "a", 1, 2), ok("get", None, 3, 4, "a")],
    "a read beside a write sees the old value": [
        ok("set", "a", 1, 2),
        ok("set", "b", 3, 6),
        ok("get", None, 4, 5, "a"),
    ],
    "or the new one": [
        ok("set", "a", 1, 2),
        ok("set", "b", 3, 6),
        ok("get", None, 4, 5, "b"),
    ],
    "an unknown write that happened much later": [
        unknown("set", "a", 1),
        ok("set", "b", 2, 3),
        ok("get", None, 4, 5, "b"),
        ok("get", None, 6, 7, "a"),
    ],
    "an unknown write that never happened": [
        unknown("set", "a", 1),
        ok("get", None, 2, 3, None),
        ok("get", None, 4, 5, None),
    ],
    "a write that failed and is not seen": [failed("set", "a", 1), ok("get", None, 2, 3, None)],
    "counters": [
        ok("incr", None, 1, 5, 2),
        ok("incr", None, 1, 5, 1),
        unknown("incr", None, 2),
        ok("incr", None, 6, 7, 4),
    ],
    "texts": [
        ok("append", "<a>", 1, 4, 6),
        ok("append", "<b>", 2, 3, 3),
        ok("get", None, 5, 6, "<b><a>"),
    ],
    "locks": [
        ok("setnx", "a", 1, 5, 0),
        ok("setnx", "b", 2, 3, 1),
        ok("get", None, 4, 5, "b"),
        ok("del", None, 6, 7, 1),
        ok("del", None, 8, 9, 0),
        unknown("setnx", "c", 10),
        ok("setnx", "d", 11, 12, 0),
    ],
    "a pipeline in its order": [
        ok("set", "a", 1, 2, group=1, place=0),
        ok("set", "b", 1, 3, group=1, place=1),
        ok("get", None, 1, 4, "b", group=1, place=2),
    ],
}

BAD = {
    "an old value is read": [
        ok("set", "a", 1, 2),
        ok("set", "b", 3, 4),
        ok("get", None, 5, 6, "a"),
    ],
    "an acknowledged write is lost": [ok("set", "a", 1, 2), ok("get", None, 3, 4, None)],
    "a new value and then the old one": [
        ok("set", "a", 1, 2),
        ok("set", "b", 3, 10),
        ok("get", None, 4, 5, "b"),
        ok("get", None, 6, 7, "a"),
    ],
    "a read before the write": [ok("get", None, 1, 2, "a"), ok("set", "a", 3, 4)],
    "a read before an unknown write": [ok("get", None, 1, 2, "a"), unknown("set", "a", 3)],
    "a write that failed and is seen": [failed("set", "a", 1), ok("get", None, 2, 3, "a")],
    "a value nobody wrote": [ok("set", "a", 1, 2), ok("get", None, 3, 4, "b")],
    "an unknown write twice": [
        unknown("set", "a", 1),
        ok("get", None, 2, 3, "a"),
        ok("set", "b", 4, 5),
        ok("get", None, 6, 7, "a"),
    ],
    "a count given twice": [ok("incr", None, 1, 2, 1), ok("incr", None, 3, 4, 1)],
    "a count too high": [ok("incr", None, 1, 2, 2)],
    "an unknown increment that counts twice": [
        unknown("incr", None, 1),
        ok("incr", None, 2, 3, 3),
    ],
    "counts against the times": [ok("incr", None, 1, 2, 2), ok("incr", None, 3, 4, 1)],
    "an appended piece is missing": [
        ok("append", "<a>", 1, 2, 3),
        ok("append", "<b>", 3, 4, 6),
        ok("get", None, 5, 6, "<b>"),
    ],
    "a piece is there twice": [ok("append", "<a>", 1, 2, 3), ok("get", None, 3, 4, "<a><a>")],
    "a lock given twice": [ok("setnx", "a", 1, 2, 1), ok("setnx", "b", 3, 4, 1)],
    "a lock refused that was free": [
        ok("setnx", "a", 1, 2, 1),
        ok("del", None, 3, 4, 1),
        ok("setnx", "b", 5, 6, 0),
    ],
    "a lock given up twice": [ok("setnx", "a", 1, 2, 1)]
    + [ok("del", None, n, n + 1, 1) for n in (3, 5)],
    "a lock not found to give up": [ok("setnx", "a", 1, 2, 1), ok("del", None, 3, 4, 0)],
    "pieces in the wrong order": [
        ok("append", "<a>", 1, 2, 3),
        ok("append", "<b>", 3, 4, 6),
        ok("get", None, 5, 6, "<b><a>"),
    ],
    "a pipeline in another order": [
        ok("set", "a", 1, 4, group=1, place=0),
        ok("set", "b", 1, 4, group=1, place=1),
        ok("get", None, 5, 6, "a"),
    ],
    "the unknown head of a pipeline behind its tail": [
        unknown("set", "a", 1, group=1, place=0),
        ok("set", "b", 1, 4, group=1, place=1),
        ok("get", None, 5, 6, "b"),
        ok("get", None, 7, 8, "a"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_accepted(name: str) -> None:
    assert judge(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_rejected(name: str) -> None:
    (text,) = judge(BAD[name])
    assert text.startswith("no order explains key k")


def test_keys_are_judged_alone() -> None:
    other = [replace(op, key="other") for op in BAD["an old value is read"]]
    (text,) = judge([*GOOD["counters"], *other])
    assert "key other" in text
    assert "k ->" not in text


def test_the_shortest_beginning_without_an_order_is_shown() -> None:
    more = [ok("get", None, n, n + 0.5, "a") for n in range(20, 40)]
    (text,) = judge([*BAD["an old value is read"], *more])
    assert "5.000000..6.000000" in text
    assert "20.000000" not in text


def by_trying_all(operations: Sequence[Operation]) -> bool:
    """The definition itself: some order of all answered and some unknown operations."""
    sure = [op for op in operations if op.outcome is Outcome.OK]
    maybe = [op for op in operations if op.outcome is Outcome.UNKNOWN and op.kind != "get"]
    for count in range(len(maybe) + 1):
        for chosen in itertools.combinations(maybe, count):
            for order in itertools.permutations([*sure, *chosen]):
                if _is_order(order):
                    return True
    return False


def _is_order(order: Sequence[Operation]) -> bool:
    state = None
    for place, operation in enumerate(order):
        for later in order[place + 1 :]:
            if later.returned < operation.invoked:
                return False
            if operation.group and operation.group == later.group and operation.place > later.place:
                return False
        fits, state = step(state, operation)
        if not fits:
            return False
    return True


def random_history(dice: random.Random) -> list[Operation]:
    """Up to five overlapping operations with plausible answers."""
    kinds = dice.choice([["set", "get"], ["incr", "get"], ["append", "get"]])
    found = []
    for number in range(dice.randint(2, 5)):
        kind = dice.choice(kinds)
        argument = f"<{number}>" if kind in ("set", "append") else None
        begin = dice.randint(0, 8)
        group = dice.choice([0, 0, 1])
        place = number if group else 0
        if dice.random() < 0.3:
            found.append(unknown(kind, argument, begin, group=group, place=place))
            continue
        result: object = None
        if kind == "get" and kinds[0] == "incr":
            result = dice.choice([None, "1", "2"])
        elif kind == "get":
            result = dice.choice([None, "<0>", "<1>", "<0><1>", "<1><0>"])
        elif kind == "incr":
            result = dice.randint(1, 3)
        elif kind == "append":
            result = dice.choice([3, 6, 9])
        end = begin + dice.choice([0.5, 2.5, 5.5])
        found.append(ok(kind, argument, begin, end, result, group=group, place=place))
    return found


def test_the_search_agrees_with_trying_everything() -> None:
    dice = random.Random(20261123)
    accepted = 0
    for _ in range(3000):
        history = random_history(dice)
        told = by_trying_all(history)
        kept = [op for op in history if op.outcome is Outcome.OK or op.kind != "get"]
        assert is_linearizable(kept) == told, history
        assert is_linearizable(settle(kept)) == told, history
        assert (judge(history) == []) == told
        accepted += told
    assert 300 < accepted < 2700


def test_many_unknown_increments_are_judged_quickly() -> None:
    history = [unknown("incr", None, n) for n in range(200)]
    history += [ok("incr", None, 300 + n, 300.5 + n, 101 + n) for n in range(100)]
    assert judge(history) == []
    assert judge([*history, ok("incr", None, 500, 501, 302)]) != []


def test_the_longest_silence_counts_both_ends() -> None:
    history = [ok("set", "a", 1, 3), ok("get", None, 4, 5), ok("set", "b", 4, 6)]
    assert longest_silence(history, 2, 7) == 3
    assert longest_silence(history, 0, 7) == 3
    assert longest_silence([], 2, 7) == 5
