"""Random changes of sorted lists, judged by the twin: python -m tests.fuzz.fuzz_ranks --count N

Lists of up to some thousand entries, few or many scores, in bursts that split runs and join them.
The seed decides everything; the exit status is 1 at a difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from pyraft_fast._ranks import Ranks
from tests.fuzz.command import run
from tests.twins import ranks_twin

SIZES = (0, 1, 2, 3, 5, 191, 192, 193, 255, 256, 257, 384, 385, 1000, 3000)
SCORES = (0.0, -0.0, 1.0, 1.5, -1.0, 5e-324, -5e-324, 1e308, inf, -inf)
TAILS = ("", "é", "e", "\udc80", "\udcff", "\U0001f600", "\uffee", "\0", "ü" * 9)
BURSTS = (1, 1, 2, 30, 300, 700)

Call = tuple[Any, ...]


def random_score(dice: Random, few: bool) -> float:
    if few or dice.random() < 0.1:
        return dice.choice(SCORES)
    return dice.choice((dice.randrange(-3, 50), dice.uniform(-9, 9), dice.randrange(10**6))) * 1.0


def random_member(dice: Random) -> str:
    return f"{dice.choice(('', 'm', 'é'))}{dice.randrange(3000)}{dice.choice(TAILS)}"


def random_place(dice: Random, size: int) -> int:
    return dice.choice((0, -1, size - 1, size, -size, -size - 1, dice.randint(-size, size)))


def burst(dice: Random, pairs: list[tuple[str, float]], few: bool) -> list[Call]:
    """Calls of one kind in a row; `pairs` is what the list holds."""
    size, count = len(pairs), dice.choice(BURSTS)
    kind = dice.choice(("add", "up", "down", "remove", "move", "low", "high", "pop", "delete"))
    if kind == "add":
        return [("add", random_member(dice), random_score(dice, few)) for _ in range(count)]
    if kind in ("up", "down"):
        sign = 1 if kind == "up" else -1
        return [("add", random_member(dice), sign * 1e7 + sign * step) for step in range(count)]
    if kind == "remove":
        start = dice.randint(0, max(0, size - count))
        gone = dice.choice((dice.sample(pairs, min(size, count)), pairs[start : start + count]))
        return [("remove", *pair) for pair in gone]
    if kind == "move":
        moved = dice.sample(pairs, min(size, count))
        return [("move", *pair, random_score(dice, few)) for pair in moved]
    if kind == "pop":
        return [("pop_at", random_place(dice, size)) for _ in range(min(count, 9))]
    if kind == "delete":
        edges = (dice.randrange(70), 192, size, random_place(dice, size))
        ends = [sorted(dice.choices(edges, k=2)) for _ in range(dice.randrange(1, 6))]
        return [("delete", dice.choice((start, dice.randrange(70))), stop) for start, stop in ends]
    return [("pop_at", 0 if kind == "low" else -1)] * count


def questions(dice: Random, pairs: list[tuple[str, float]], few: bool) -> list[Call]:
    """What changes nothing."""
    size, above = len(pairs), dice.random() < 0.5
    member, score = dice.choice(pairs) if pairs else ("none", 0.0)
    start, stop = random_place(dice, size), random_place(dice, size)
    asked: list[Call] = [
        ("place", member, score),
        ("place", random_member(dice), score),
        ("place_of_score", dice.choice((score, random_score(dice, few))), above),
        ("pairs", start, stop, above),
        ("members", start, stop, above),
        ("__getitem__", start),
        ("__len__",),
        ("remove", random_member(dice), score),
        ("move", member + "?", score, 1.0),
    ]
    if len({own for _, own in pairs}) < 2:
        key = dice.choice((member, random_member(dice)))
        text = key.encode("utf-8", "surrogateescape").decode("latin-1")
        asked.append(("place_of_key", text, above))
    return asked


def outcome(function: Callable[..., Any], *args: Any) -> str:
    """The value, zeros with their sign, or the class of the error."""
    try:
        return repr(function(*args))
    except (ValueError, IndexError) as error:
        return type(error).__name__


def compare(ours: Ranks, twin: ranks_twin.Ranks, calls: list[Call]) -> str:
    for name, *args in calls:
        got, wanted = (outcome(getattr(one, name), *args) for one in (ours, twin))
        if got != wanted:
            return f"{name}{args} is {got[:300]}, not {wanted[:300]}"
    return ""


def difference(dice: Random) -> str:
    """Compare one random life of a list; "" when both agree."""
    few = dice.random() < 0.4
    alike = few and dice.random() < 0.3
    items = [(random_member(dice), random_score(dice, few)) for _ in range(dice.choice(SIZES))]
    if alike:
        items = [(member, 7.0) for member, _ in items]
    ours, twin = Ranks(items), ranks_twin.Ranks(items)
    for _ in range(dice.randrange(1, 12)):
        calls = burst(dice, twin.pairs(0, len(twin)), few)
        if alike:
            calls = [call if call[0] != "add" else (*call[:2], 7.0) for call in calls]
        found = compare(ours, twin, calls)
        found = found or compare(ours, twin, questions(dice, twin.pairs(0, len(twin)), few))
        if found:
            return found
        if repr(list(ours)) != repr(list(twin)):
            return f"after {calls[-1:]} the lists differ"
    return ""


if __name__ == "__main__":
    sys.exit(run(__doc__, difference, 1_000))
