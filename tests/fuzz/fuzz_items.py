"""Random items of snapshots, judged by the twin: python -m tests.fuzz.fuzz_items --count N

Most items can be encoded, some nearly, and chunks are so small that every end of one is met. The
seed decides everything; the exit status is 1 at a difference.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from pyraft_fast._entry import Chunks
from pyraft_fast.errors import CommandError, RaftException
from tests.fuzz.command import run
from tests.fuzz.fuzz_entry import NUMBERS, random_value
from tests.twins import items_twin

ODD = ({1}, 2**64, -(2**63) - 1, "\ud800", {1.5: 1}, {"a": [{2}]}, object, deque([1, "a"]))
SIZES = (31, 32, 255, 256, 65535, 65536)


class Keyed:
    """Items that lie in two dicts, as a store has them; the twin iterates."""

    def __init__(self, data: dict[Any, Any], deadlines: dict[Any, Any]) -> None:
        self.data = data
        self.deadlines = deadlines

    def freeze(self, key: Any, value: Any) -> tuple[int, Any]:
        if value == b"cannot":
            raise CommandError(f"key {key!r}: no form")
        return (1, value) if type(value) is str else (7, [1, value])

    def rest(self) -> list[Any]:
        return [(key, 0, None, due) for key, due in self.deadlines.items() if key not in self.data]

    def __iter__(self) -> Iterator[Any]:
        for key, value in self.data.items():
            yield key, *self.freeze(key, value), self.deadlines.get(key)
        yield from self.rest()

    def __repr__(self) -> str:
        return f"Keyed({self.data}, {self.deadlines})"


def taken(
    items: Iterable[Any], bytes_max: int, item_bytes_max: int = items_twin.ITEM_BYTES_MAX
) -> Iterator[tuple[int, bytes]]:
    """Chunks one by one, as a snapshot takes them."""
    if isinstance(items, Keyed):
        dicts = (items.data, items.deadlines, items.freeze)
        chunks = Chunks(items.rest(), bytes_max, *dicts, item_bytes_max=item_bytes_max)
    else:
        chunks = Chunks(items, bytes_max, item_bytes_max=item_bytes_max)
    count, payload = chunks.take()
    while count:
        yield count, payload
        count, payload = chunks.take()


def outcome(
    function: Callable[..., Iterator[tuple[int, bytes]]], items: Iterable[Any], *bounds: int
) -> tuple[list[tuple[int, bytes]], tuple[type, str] | None]:
    """The chunks that come, and the error behind them."""
    found: list[tuple[int, bytes]] = []
    try:
        for chunk in function(items, *bounds):
            found.append(chunk)
    except RaftException as error:
        return found, (type(error), str(error))
    return found, None


def random_part(dice: Random) -> Any:
    kind = dice.random()
    if kind < 0.02:
        return dice.choice(ODD)
    if kind < 0.1:
        return dice.choice(("x", "é", b"\0")) * dice.choice(SIZES)
    if kind < 0.12:
        return deep(dice)
    return random_value(dice)


def deep(dice: Random) -> Any:
    value: Any = 1
    for _ in range(dice.randrange(29, 35)):
        value = [value]
    return value


def random_item(dice: Random) -> tuple[Any, Any, Any, Any]:
    key = random_part(dice) if dice.random() < 0.1 else f"key:{dice.randrange(1000)}"
    code = random_part(dice) if dice.random() < 0.05 else dice.randrange(8)
    value = random_part(dice) if dice.random() < 0.5 else "v" * dice.randrange(80)
    deadline = random_part(dice) if dice.random() < 0.05 else dice.choice((None, 1 << 40))
    return key, code, value, deadline


def random_keyed(dice: Random, items: list[Any]) -> Keyed:
    """The same items in dicts, mostly texts under texts."""
    data: dict[Any, Any] = {}
    deadlines: dict[Any, Any] = {}
    for key, _, value, deadline in items:
        try:
            hash(key)
        except TypeError:
            continue
        if dice.random() < 0.95:
            data[key] = b"cannot" if dice.random() < 0.01 else value
        if dice.random() < 0.2:
            deadlines[key] = deadline if dice.random() < 0.2 else dice.choice(NUMBERS)
    return Keyed(data, deadlines)


def difference(dice: Random) -> str:
    """Compare the chunks of one random list; "" when both agree."""
    items: Any = [random_item(dice) for _ in range(dice.choice((0, 1, 2, 5, 20)))]
    if dice.random() < 0.5:
        items = random_keyed(dice, items)
    bytes_max = dice.choice((0, 5, dice.randrange(100), dice.randrange(2000), 1 << 20))
    bounds = [bytes_max]
    if dice.random() < 0.5:
        bounds.append(dice.choice((dice.randrange(400), dice.randrange(5000))))
    got, wanted = (outcome(make, items, *bounds) for make in (taken, items_twin.chunks))
    return "" if alike(got, wanted) else f"Chunks({items}, {bounds}) are {got}, not {wanted}"


def alike(got: Any, wanted: Any) -> bool:
    """Whether both are the same, but for what comes before an error.

    Parts of a value may be out before the element that has no form is met. The twin meets it first,
    and in a bad value under a bad key another of both.
    """
    (chunks, error), (others, other) = got, wanted
    if error is None or other is None:
        return bool(got == wanted)
    shorter = min(len(chunks), len(others))
    return bool(chunks[:shorter] == others[:shorter] and error[0] is other[0])


if __name__ == "__main__":
    sys.exit(run(__doc__, difference, 100_000))
