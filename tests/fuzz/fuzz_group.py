"""Random groups of log records, judged by the twin: python -m tests.fuzz.fuzz_group --count N

Records of every size, many of them full of zeros, at every offset of a sector; some records,
numbers and votes are wrong. The seed decides everything; the exit status is 1 at a difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

from pyraft_fast import _entry
from pyraft_fast.errors import InvariantError, RaftException
from tests.fuzz.command import run
from tests.twins import group_twin

EDGES = (0, 1, 254, 255, 256, 257, 447, 448, 511, 512, 513, 1023, 1024)
VOTES = ("", "1", "n_1", "é", "\udc80", "\ud800", "v" * 31, "v" * 300, "v" * 700, "v" * 2000)
NUMBERS = (0, 1, 127, 128, 255, 256, 2**16, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
BAD_NUMBERS = (-1, 2**64, 2**70)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The value, or the class of the error and what a broken rule is told with."""
    try:
        return function(*args)
    except InvariantError as error:
        return str(error)
    except (RaftException, OverflowError) as error:
        return type(error)


def random_size(dice: Random) -> int:
    return dice.choice((dice.randrange(40), dice.choice(EDGES), dice.randrange(3000)))


def random_payload(dice: Random) -> bytes:
    """Noise and zeros in turn, often nearly a sector of the latter, with a few bytes in them."""
    parts = []
    for _ in range(dice.choice((1, 1, 2, 5))):
        zeros = bytearray(random_size(dice))
        for _ in range(dice.choice((0, 0, 1, 2, 9))):
            if zeros:
                zeros[dice.randrange(len(zeros))] = dice.randrange(1, 256)
        parts += [zeros, dice.randbytes(random_size(dice))]
    dice.shuffle(parts)
    return b"".join(parts[: dice.randrange(1, len(parts) + 1)])


def many_blanks(dice: Random) -> bytes:
    """More ranges of blank sectors than a STATE record lists."""
    return b"".join(
        bytes(dice.randrange(900, 1400)) + dice.randbytes(dice.choice((1, 600, 1100)))
        for _ in range(dice.randrange(30, 60))
    )


def random_records(dice: Random, first: int) -> list[bytes]:
    records = []
    for number in range(dice.choice((0, 1, 1, 2, 3, 30))):
        payload = many_blanks(dice) if dice.random() < 0.01 else random_payload(dice)
        index = min(first + number, 2**64 - 1)
        term = dice.choice(NUMBERS)
        records.append(_entry.seal(2, index, term, 3, 4, 5, 6, 1, payload))
    return records


def spoiled(dice: Random, records: list[bytes]) -> list[bytes]:
    """One record too short, too long, with another header, missing, or there twice."""
    bad = list(records)
    if bad and dice.random() < 0.3:
        at = dice.randrange(len(bad))
        cut = dice.choice((0, 63, 64, len(bad[at]) - 1))
        changed = bytearray(bad[at])
        changed[dice.randrange(24)] ^= 1 << dice.randrange(8)
        bad[at : at + 1] = dice.choice(
            ([bad[at][:cut]], [bad[at] + b"\0"], [bytes(changed)], [], [bad[at], bad[at]])
        )
    return bad


def random_number(dice: Random) -> int:
    return dice.choice(BAD_NUMBERS if dice.random() < 0.01 else NUMBERS)


def difference(dice: Random) -> str:
    """Compare one random group; "" when both agree."""
    first = dice.choice(NUMBERS[:-1])
    records = spoiled(dice, random_records(dice, first))
    last = dice.choice((first - 1, first, first + 3, dice.choice(NUMBERS)))
    commit = dice.choice((0, first - 2, first - 1, first, dice.choice(NUMBERS)))
    args = (records, max(0, min(last, 2**64 - 2)), max(0, commit))
    got, wanted = (outcome(module.check_records, *args) for module in (_entry, group_twin))
    if got != wanted:
        return f"check_records{args} is {got}, not {wanted}"
    offset = dice.choice((8 * dice.randrange(1000), dice.randrange(5000), random_number(dice)))
    numbers = (random_number(dice), random_number(dice), offset)
    more = (random_number(dice), random_number(dice), random_number(dice))
    vote = dice.choice(VOTES)
    group = (dice.choice((list, tuple))(records), *numbers, *more, vote, random_number(dice))
    got, wanted = (outcome(module.seal_group, *group) for module in (_entry, group_twin))
    if got != wanted:
        return f"seal_group{group} is {got}, not {wanted}"
    return ""


if __name__ == "__main__":
    sys.exit(run(__doc__, difference, 10_000))
