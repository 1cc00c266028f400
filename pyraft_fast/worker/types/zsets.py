"""A sorted set: members by score, then by their bytes.

A sorted list of pairs (score, byte text of the member) answers ranks and ranges; a dict answers
scores. Byte texts sort as bytes do, so the order is that of Redis for binary members too. The
content decides every order a reply shows; the dict's own order decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, nextafter
from typing import Any

from sortedcontainers import SortedList

from pyraft_fast.worker.words import byte_text, from_byte_text


class SortedSet:
    """Members (str) with float scores. Scores are never NaN."""

    __slots__ = ("entries", "scores")

    def __init__(self, items: Iterable[tuple[str, float]] = ()) -> None:
        self.scores: dict[str, float] = dict(items)
        self.entries: Any = SortedList(
            (score, byte_text(member)) for member, score in self.scores.items()
        )

    def add(self, member: str, score: float) -> bool:
        """Set a member's score; True when the member is new."""
        old = self.scores.get(member)
        if old is not None:
            if old == score:
                return False
            self.entries.remove((old, byte_text(member)))
        self.scores[member] = score
        self.entries.add((score, member if member.isascii() else byte_text(member)))
        return old is None

    def discard(self, member: str) -> bool:
        """Remove a member; True when it was there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        self.entries.remove((score, byte_text(member)))
        return True

    def score(self, member: str) -> float | None:
        """The member's score, or None."""
        return self.scores.get(member)

    def rank(self, member: str) -> int | None:
        """The member's place from the lowest score, or None."""
        score = self.scores.get(member)
        if score is None:
            return None
        return int(self.entries.bisect_left((score, byte_text(member))))

    def pop_at(self, place: int) -> tuple[str, float]:
        """Remove and return (member, score) at `place`, 0 lowest or -1 highest."""
        score, key = self.entries.pop(place)
        member = key if key.isascii() else from_byte_text(key)
        del self.scores[member]
        return member, score

    def slice(self, start: int, stop: int, backwards: bool = False) -> list[tuple[str, float]]:
        """(member, score) at places `start` <= i < `stop`, highest first when `backwards`."""
        return [
            (key if key.isascii() else from_byte_text(key), score)
            for score, key in self.entries.islice(start, stop, reverse=backwards)
        ]

    def members(self, start: int, stop: int, backwards: bool = False) -> list[str]:
        """The members at places `start` <= i < `stop`, highest first when `backwards`."""
        return [
            key if key.isascii() else from_byte_text(key)
            for _, key in self.entries.islice(start, stop, reverse=backwards)
        ]

    def delete(self, start: int, stop: int) -> int:
        """Remove the places `start` <= i < `stop`; returns how many."""
        gone = self.members(start, stop)
        for member in gone:
            del self.scores[member]
        del self.entries[start:stop]
        return len(gone)

    def place_of_score(self, score: float, above: bool) -> int:
        """The first place whose score is at least `score`, or greater when `above`."""
        if above:
            if score == inf:
                return len(self.entries)
            score = nextafter(score, inf)
        return int(self.entries.bisect_left((score,)))

    def place_of_key(self, key: str, above: bool) -> int:
        """The first place whose byte text is at least `key`, or greater when `above`.

        Meaningful only where all scores are alike, as for Redis' lexical ranges.
        """
        if not self.entries:
            return 0
        pair = (self.entries[0][0], key)
        found = self.entries.bisect_right(pair) if above else self.entries.bisect_left(pair)
        return int(found)

    def items(self) -> list[tuple[str, float]]:
        """All (member, score), lowest first."""
        return self.slice(0, len(self.entries))

    def copy(self) -> SortedSet:
        """A copy."""
        return SortedSet(self.items())

    __copy__ = copy

    def __contains__(self, member: object) -> bool:
        return member in self.scores

    def __iter__(self) -> Iterator[str]:
        return iter(self.members(0, len(self.entries)))

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        return self.scores == other.scores if isinstance(other, SortedSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SortedSet({self.items()!r})"
