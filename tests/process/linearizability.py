"""Is a recorded history linearizable? Wing and Gong's search with Lowe's memory, one key at a time.

Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for
Linearizability" (2017): try every order that the times allow, and never visit the same (set of
operations done, state) twice. A history is linearizable when each of its keys is, so keys are
judged alone, which keeps the search small.

An operation that was answered took effect between its invocation and its answer. One whose outcome
is unknown may take effect at any time after its invocation, or never. One that certainly failed is
left out: if its effect shows, nothing explains it. Commands that were sent together on one
connection (a pipeline) must take effect in the order they were sent.

Nothing here knows of nodes or sockets; the states are plain strings.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

FOREVER: Final = float("inf")
HELD: Final = "held"  # the value of a lock; with one for all, unknown tries are alike


class Outcome(enum.Enum):
    """What the client may conclude."""

    OK = "ok"
    FAILED = "failed"  # it did not happen
    UNKNOWN = "unknown"  # it may have happened, or may happen later


@dataclass(frozen=True)
class Operation:
    """One command: when it was sent, when its answer came, and what that was.

    `group` names the pipeline it was sent with, 0 for none; `place` is its place in there.
    """

    key: str
    kind: str  # set get append incr setnx del
    argument: str | None
    invoked: float
    returned: float
    outcome: Outcome
    result: Any = None
    client: str = ""
    group: int = 0
    place: int = 0

    def __str__(self) -> str:
        end = "never" if self.returned == FOREVER else f"{self.returned:.6f}"
        words = " ".join(word for word in (self.kind, self.key, self.argument) if word is not None)
        said = repr(self.result) if self.outcome is Outcome.OK else self.outcome.value
        pipe = f" (pipeline {self.group}, {self.place})" if self.group else ""
        return f"{self.invoked:.6f}..{end} {self.client}: {words} -> {said}{pipe}"


def step(state: str | None, operation: Operation) -> tuple[bool, str | None]:
    """Could the operation have its result in this state, and which state follows?"""
    kind, argument = operation.kind, operation.argument
    known = operation.outcome is Outcome.OK
    if kind == "get":
        return not known or operation.result == state, state
    if kind == "set":
        return True, argument
    if kind == "append":
        follows = (state or "") + (argument or "")
        return not known or operation.result == len(follows), follows
    if kind == "incr":
        number = int(state or "0") + 1
        return not known or operation.result == number, str(number)
    if kind == "setnx":
        is_free = state is None
        return not known or operation.result == is_free, argument if is_free else state
    if kind == "del":
        return not known or operation.result == (state is not None), None
    raise ValueError(f"no model for {kind}")


def counted(history: Iterable[Operation]) -> list[Operation]:
    """What can have had an effect or shown one: reads without an answer say nothing."""
    return [
        operation
        for operation in history
        if operation.outcome is Outcome.OK
        or (operation.outcome is Outcome.UNKNOWN and operation.kind != "get")
    ]


def settle(operations: Sequence[Operation]) -> list[Operation]:
    """Narrow down what is unknown by what was read; of one key, whose written values are unique.

    A value that somebody read was written before that read's answer. A `set` whose value nobody
    read may as well not have happened; so may an `append` that the last read of all does not show,
    where nothing but appends touches the key. This only makes the search shorter.
    """
    reads = sorted((op for op in operations if op.kind == "get"), key=lambda op: op.returned)
    kinds = {op.kind for op in operations}
    if not kinds <= {"get", "set"} and not kinds <= {"get", "append"}:
        return list(operations)
    last = max((op.invoked for op in reads), default=0.0)
    kept = []
    for operation in operations:
        if operation.outcome is Outcome.OK:
            kept.append(operation)
            continue
        shows = [op for op in reads if _shows(op, operation)]
        if shows:
            kept.append(replace(operation, returned=min(op.returned for op in shows)))
        elif operation.kind == "append" and any(
            op.returned > last and op.outcome is Outcome.OK and op.kind != "get"
            for op in operations
        ):
            kept.append(operation)  # an answered append, which counts, may have seen it
    return kept


def _shows(read: Operation, write: Operation) -> bool:
    if write.kind == "set":
        return bool(read.result == write.argument)
    return (write.argument or "") in (read.result or "")


class _Entry:
    """An end of an operation in the doubly linked list of what is still to be placed."""

    __slots__ = ("match", "next", "number", "previous")

    def __init__(self, number: int) -> None:
        self.number = number
        self.match: _Entry | None = None  # of an invocation: the answer, if any
        self.next: _Entry | None = None
        self.previous: _Entry | None = None

    def lift(self) -> None:
        """Take invocation and answer out of the list."""
        for entry in (self, self.match):
            if entry is not None:
                if entry.previous is not None:
                    entry.previous.next = entry.next
                if entry.next is not None:
                    entry.next.previous = entry.previous

    def unlift(self) -> None:
        """Put them back, in the opposite order."""
        for entry in (self.match, self):
            if entry is not None:
                if entry.previous is not None:
                    entry.previous.next = entry
                if entry.next is not None:
                    entry.next.previous = entry


def _entries(operations: Sequence[Operation]) -> _Entry:
    ends: list[tuple[float, int, int, _Entry]] = []
    for number, operation in enumerate(operations):
        call = _Entry(number)
        ends.append((operation.invoked, 0, number, call))
        if operation.returned != FOREVER:
            call.match = _Entry(~number)  # negative: an answer
            ends.append((operation.returned, 1, number, call.match))
    ends.sort(key=lambda end: end[:3])  # at one moment, invocations first: that forbids less
    head = before = _Entry(-1)
    for *_, entry in ends:
        before.next, entry.previous = entry, before
        before = entry
    return head


def _successors(operations: Sequence[Operation]) -> list[int]:
    """For each operation the later ones of its pipeline, as a set of bits."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, operation in enumerate(operations):
        if operation.group:
            groups[operation.client, operation.group].append(number)
    masks = [0] * len(operations)
    for numbers in groups.values():
        behind = 0
        for number in sorted(numbers, key=lambda n: -operations[n].place):
            masks[number] = behind
            behind |= 1 << number
    return masks


def _twins(operations: Sequence[Operation], successors: Sequence[int]) -> list[int]:
    """For each unknown operation the one just like it that was invoked before, or -1.

    Either could stand for the other, so only the earlier one is tried first.
    """
    twins = [-1] * len(operations)
    newest: dict[tuple[str, str | None], int] = {}
    for number in sorted(range(len(operations)), key=lambda n: operations[n].invoked):
        operation = operations[number]
        if operation.returned == FOREVER and not successors[number]:
            what = (operation.kind, operation.argument)
            twins[number] = newest.get(what, -1)
            newest[what] = number
    return twins


def is_linearizable(operations: Sequence[Operation], start: str | None = None) -> bool:
    """Does one order explain the operations of one key, which begins as `start`?"""
    successors = _successors(operations)
    twins = _twins(operations, successors)
    left = sum(1 for op in operations if op.outcome is Outcome.OK)
    head = _entries(operations)
    state, done = start, 0
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[_Entry, str | None]] = []
    entry = head.next
    while left:
        if entry is not None and entry.number >= 0:
            number = entry.number
            bit = 1 << number
            twin = twins[number]
            if not done & successors[number] and (twin < 0 or done >> twin & 1):
                fits, follows = step(state, operations[number])
                if fits and (done | bit, follows) not in seen:
                    seen.add((done | bit, follows))
                    stack.append((entry, state))
                    state, done = follows, done | bit
                    left -= operations[number].outcome is Outcome.OK
                    entry.lift()
                    entry = head.next
                    continue
            entry = entry.next
            continue
        if not stack:  # an answer whose operation found no place, and nothing left to take back
            return False
        entry, state = stack.pop()
        done ^= 1 << entry.number
        left += operations[entry.number].outcome is Outcome.OK
        entry.unlift()
        entry = entry.next
    return True


def judge(history: Iterable[Operation]) -> list[str]:
    """What is wrong: for each key without an order, the shortest beginning of it that has none."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in counted(history):
        keys[operation.key].append(operation)
    return [
        explain(key, operations)
        for key, operations in sorted(keys.items())
        if not is_linearizable(settle(operations))
    ]


def explain(key: str, operations: Sequence[Operation]) -> str:
    """The operations around the first answer that no order explains."""
    answered = sorted((op for op in operations if op.outcome is Outcome.OK), key=_answer)
    low, high = 0, len(answered)
    while high - low > 1:  # the first `high` answers have no order, the first `low` have one
        middle = (low + high) // 2
        if is_linearizable(settle(_until(operations, answered[middle - 1].returned))):
            low = middle
        else:
            high = middle
    end = answered[high - 1].returned
    shown = sorted((op for op in operations if op.invoked <= end), key=lambda op: op.invoked)
    lines = "\n  ".join(str(op) for op in shown[-40:])
    return (
        f"no order explains key {key} up to {answered[high - 1]}; the operations before:\n  {lines}"
    )


def _answer(operation: Operation) -> float:
    return operation.returned


def _until(operations: Sequence[Operation], end: float) -> list[Operation]:
    """The history as it was at `end`: what was not answered by then is unknown."""
    return [
        op if op.returned <= end else replace(op, returned=FOREVER, outcome=Outcome.UNKNOWN)
        for op in operations
        if op.invoked <= end and (op.returned <= end or op.kind != "get")
    ]
