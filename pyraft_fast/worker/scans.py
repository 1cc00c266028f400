"""Cursors of SCAN and its kin that need no memory on any node.

Elements are visited in the order of a hash of their bytes (crc32, the same everywhere), and a
cursor is the hash to go on from, with the version of the data that the scan began with. So a cursor
is good on another node, after a restart and after any change, and an element that stays from the
first call to the last is always visited.

The sorted hashes of a large collection are kept between calls, since sorting them is the cost;
what is kept serves only speed and may be dropped at any time. A scan goes on with what was made
when it began or later, here or on whatever node: an element that stays throughout is in that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final
from zlib import crc32

from pyraft_fast.worker.words import raw

CACHES_MAX: Final = 8
SMALL: Final = 512  # elements of one key that are handed out in one go
HASH_BITS: Final = 32  # of a cursor; those above are of a version
VERSIONS: Final = 1 << 31  # that a cursor tells apart: it fits into 63 bits


def _place(element: Any) -> int:
    return crc32(raw(element if isinstance(element, str) else str(element)))


def _began(cursor: int, version: int) -> int:
    """The version that a scan began with; a later one than `version` where this node is behind."""
    entries = (version - (cursor >> HASH_BITS)) % VERSIONS
    return version - (entries if entries < VERSIONS // 2 else entries - VERSIONS)


class ScanCache:
    """Sorted (hashes, elements) by key name; "" stands for the keyspace, "k" + NAME for a key."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, Any, list[int], list[Any]]] = OrderedDict()

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def step(
        self, name: str, source: Collection[Any], version: int, cursor: int, count: int
    ) -> tuple[int, Sequence[Any]]:
        """Up to about `count` elements from `cursor` on, and the next cursor (0: done).

        `version` grows with every change of `source`, and is the same on all nodes. Elements
        that left `source` meanwhile may be among those returned.
        """
        if cursor == 0 and len(source) <= count:
            return 0, list(source)
        began = _began(cursor, version) if cursor else version
        hashes, elements = self._sorted(name, source, version, min(began, version))
        start = bisect_left(hashes, cursor & ((1 << HASH_BITS) - 1))
        stop = min(start + count, len(hashes))
        while 0 < stop < len(hashes) and hashes[stop] == hashes[stop - 1]:
            stop += 1  # elements with equal hashes go together, a cursor cannot part them
        if stop >= len(hashes):
            self._kept.pop(name, None)
            return 0, elements[start:]
        return (began % VERSIONS) << HASH_BITS | hashes[stop], elements[start:stop]

    def part(
        self, key: str, source: Collection[Any], version: int, cursor: int, count: int
    ) -> tuple[int, Sequence[Any]]:
        """As `step`, for the elements of one key; a small collection goes in one piece."""
        if len(source) <= SMALL:
            return 0, list(source)
        return self.step(f"k{key}", source, version, cursor, count)

    def _sorted(
        self, name: str, source: Collection[Any], version: int, oldest: int
    ) -> tuple[list[int], list[Any]]:
        """What was made of `source` at version `oldest` or later, or is made now."""
        kept = self._kept.get(name)
        if kept is not None and kept[1] is source and kept[0] >= oldest:
            self._kept.move_to_end(name)
            return kept[2], kept[3]
        pairs = sorted(((_place(element), element) for element in source), key=_first)
        hashes = [place for place, _ in pairs]
        elements = [element for _, element in pairs]
        self._kept[name] = (version, source, hashes, elements)
        self._kept.move_to_end(name)
        while len(self._kept) > CACHES_MAX:
            self._kept.popitem(last=False)
        return hashes, elements


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]
