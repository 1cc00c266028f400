"""Digests and noted keys in their plainest form: the judge of `pyraft_fast._digest`."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode
from pyraft_fast.worker.types.sets import Members

WORD = (1 << 64) - 1
LIMITS = (128, 16, 8, 4)
ENDS = (8, 1, 1, 1)


def fold(a: int, b: int) -> int:
    product = (a & WORD) * (b & WORD)
    return (product & WORD) ^ (product >> 64)


def mix(a: int, b: int) -> int:
    return fold(a ^ 0x8EBC6AF09C88C6E3, b ^ 0x589965CC75374CC3)


def run_of_bytes(data: bytes, state: int) -> int:
    for at in range(0, len(data), 8):
        word = data[at : at + 8]
        key = 0xA0761D6478BD642F if len(word) == 8 else 0xE7037ED1A0B428DB
        state = fold(state ^ int.from_bytes(word, "little"), key)
    return state


def stretch(data: bytes, tag: int) -> int:
    state = mix(tag, len(data))
    if len(data) <= 16384:
        return run_of_bytes(data, state)
    return run_of_bytes(data[-8192:], run_of_bytes(data[:8192], state))


def bits(value: float) -> int:
    if math.isnan(value):
        return 0x7FF8000000000000
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def text(value: str) -> int:
    top = max(map(ord, value), default=0)
    if top < 256:
        return stretch(value.encode("latin-1"), 6 * 8 + 1)
    if top < 65536:
        return stretch(value.encode("utf-16-le", "surrogatepass"), 6 * 8 + 2)
    return stretch(value.encode("utf-32-le", "surrogatepass"), 6 * 8 + 4)


def in_order(items: Sequence[Any], tag: int, level: int) -> int:
    state = mix(tag, len(items))
    if level >= len(LIMITS):
        return state
    chosen = list(items)
    if len(chosen) > LIMITS[level]:
        chosen = chosen[: ENDS[level]] + chosen[-ENDS[level] :]
    for item in chosen:
        state = mix(state, digest(item, level + 1))
    return state


def summed(words: list[int], tag: int, size: int, level: int) -> int:
    counts = level < len(LIMITS) and size <= LIMITS[level]
    return mix(mix(tag, size), sum(words) & WORD if counts else 0)


def mapping(items: dict[Any, Any], tag: int, level: int) -> int:
    words = [mix(digest(k, level + 1), digest(v, level + 1)) for k, v in items.items()]
    return summed(words, tag, len(items), level)


def scored(value: SortedSet, level: int) -> int:
    def word(member: str, score: float) -> int:
        return mix(digest(member, level + 1), bits(score))

    size = len(value)
    if level < len(LIMITS) and size > LIMITS[level]:
        total = 0
        for score, key in (value.entries[0], value.entries[-1]):
            total = mix(total, word(key, score))
        return mix(mix(34, size), total)
    return summed([word(m, s) for m, s in value.scores.items()], 34, size, level)


def digest(value: Any, level: int = 0) -> int:
    """The digest of a value."""
    if isinstance(value, str):
        return text(value)
    if value is None:
        return mix(1, 0)
    if isinstance(value, bool):
        return mix(2, int(value))
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return mix(3, value & WORD)
        size = (int(value).bit_length() + 8) // 8
        return stretch(int(value).to_bytes(size, "little", signed=True), 4)
    if isinstance(value, float):
        return mix(5, bits(value))
    if isinstance(value, bytes):
        return stretch(value, 7)
    return container(value, level)


def container(value: Any, level: int) -> int:
    if type(value) is RedisList:
        return in_order(deque(value), 32, level)
    if type(value) in (RedisSet, Members):
        return in_order(value.items, 33, level)
    if type(value) is SortedSet:
        return scored(value, level)
    if isinstance(value, dict):
        return mapping(value, 35 if type(value) is TreeNode else 10, level)
    if isinstance(value, list):
        return in_order(value, 8, level)
    if isinstance(value, tuple):
        return in_order(value, 9, level)
    if isinstance(value, (set, frozenset)):
        words = [mix(digest(v, level + 1), 0x8EBC6AF09C88C6E3) for v in value]
        return summed(words, 11, len(value), level)
    return stretch(type(value).__name__.encode(), 12)


class Book:
    """Notes of one command, kept by telling it every step."""

    def __init__(self) -> None:
        self.written: set[Any] = set()
        self.fetched: dict[Any, int] = {}
        self.cleared = False

    def write(self, key: Any) -> None:
        self.written.add(key)

    def fetch(self, key: Any, value: Any) -> None:
        if key not in self.written and key not in self.fetched:
            self.fetched[key] = digest(value)

    def clear(self) -> None:
        self.cleared = True
        self.written.clear()
        self.fetched.clear()

    def end(self, name: str, data: dict[Any, Any], deadlines: dict[Any, int]) -> int:
        changed = set(self.written)
        changed.update(k for k, before in self.fetched.items() if digest(data.get(k)) != before)
        total = 0
        for key in changed:
            now = digest(data[key]) if key in data else 1
            due = digest(deadlines[key]) if key in deadlines else 2
            total += mix(digest(key), mix(now, due))
        total = mix(total & WORD, mix(0, int(self.cleared)))
        return mix(mix(13, digest(name)), total)
