"""Random scripts for `turn_world.World`: what clients send, and what a node does meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pyraft_fast._resp import encode_command
from tests.turn_world import OUTCOMES


def words_of(dice: random.Random) -> list[str]:
    draw = dice.random()
    if draw < 0.03:
        return [dice.choice(["nope", "get", "set"])]  # unknown, or too few words
    if draw < 0.05:
        return ["auth", dice.choice(["ok", "raft"])]
    if draw < 0.08:
        name = dice.choice(["level", "level", "hello", "mute"])
        return [name, "ok", str(dice.randrange(3))]
    if draw < 0.14:
        return ["info", dice.choice(["slow", "done", *OUTCOMES])]
    if draw < 0.145:
        return [dice.choice(["set", "get", "info", "ping"]), dice.choice(["bye", "drop"])]
    name = dice.choice(["set", "SET", "add", "once", "once", "get", "get", "Get", "sum", "ping"])
    what = dice.choice(OUTCOMES) if dice.random() < 0.6 else "ok"
    if name.lower() in ("set", "add", "once") and dice.random() < 0.1:
        return [name, what, "unfit"]
    return [name, what]


def bytes_of(dice: random.Random) -> bytes:
    if dice.random() < 0.005:
        return b"*x\r\n"
    words = words_of(dice)
    return " ".join(words).encode() + b"\r\n" if dice.random() < 0.3 else encode_command(words)


def calls_of(dice: random.Random, names: list[str]) -> list[Any]:
    count = dice.randrange(1, 5)
    return [
        (dice.choice([0, 0, 3]), [dice.choice(names), dice.choice(OUTCOMES)]) for _ in range(count)
    ]


def script(dice: random.Random, steps: int) -> Iterator[tuple[Any, ...]]:
    """Steps in random order; most of them let the node get on with its work."""
    for _ in range(steps):
        slot = dice.randrange(3)
        draw = dice.random()
        if draw < 0.4:
            data = b"".join(bytes_of(dice) for _ in range(dice.choice([0, 1, 3, 10, 30])))
            sizes = [dice.choice([1, 7, 40, 200, 1000]) for _ in range(dice.randrange(1, 12))]
            yield "come", slot, data, sizes
        elif draw < 0.5:
            yield dice.choice(
                [("turn_ends",)] * 9 + [("pipe", dice.random() < 0.3, dice.random() < 0.5)]
            )
        elif draw < 0.6:
            yield ("applied",)
        elif draw < 0.66:
            yield "confirm", dice.choice([0, 0, 1]), dice.random() < 0.2
        elif draw < 0.8:
            yield ("settle",)
        elif draw < 0.9:
            yield dice.choice(
                [
                    ("finish",),
                    ("finish",),
                    ("drain", slot),
                    ("drain", slot),
                    ("reap",),
                    ("keep", False),
                ]
            )
        elif draw < 0.95:
            yield "calls", calls_of(dice, ["set", "add", "once", "get", "sum"])
        else:
            yield dice.choice(
                [
                    ("stall", slot), ("stall", slot), ("stall", slot), ("keep", True),
                    ("foreign", calls_of(dice, ["set", "SET", "add"])), ("end", slot),
                    ("lead", dice.random() < 0.7), ("lose", slot), ("load", True, False),
                    ("close", dice.random() < 0.3),
                    ("load", False, False), ("load", False, dice.random() < 0.5),
                ]
            )  # fmt: skip
