"""A sorted set: members by score, then by their bytes.

A compiled sorted list (`_ranks`) answers ranks and ranges; a dict answers scores. The content
decides every order a reply shows; the dict's own order decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyraft_fast._ranks import Ranks


class SortedSet:
    """Members (str) with float scores. Scores are never NaN."""

    __slots__ = ("entries", "scores")

    def __init__(self, items: Iterable[tuple[str, float]] = ()) -> None:
        self.scores: dict[str, float] = dict(items)
        self.entries = Ranks(self.scores.items())

    def add(self, member: str, score: float) -> bool:
        """Set a member's score; True when the member is new."""
        scores = self.scores
        old = scores.get(member)
        if old is None:
            scores[member] = score
            try:
                self.entries.add(member, score)
            except BaseException:
                del scores[member]
                raise
            return True
        if old != score:
            self.entries.move(member, old, score)
            scores[member] = score
        return False

    def discard(self, member: str) -> bool:
        """Remove a member; True when it was there."""
        score = self.scores.get(member)
        if score is None:
            return False
        self.entries.remove(member, score)
        del self.scores[member]
        return True

    def score(self, member: str) -> float | None:
        """The member's score, or None."""
        return self.scores.get(member)

    def rank(self, member: str) -> int | None:
        """The member's place from the lowest score, or None."""
        score = self.scores.get(member)
        return None if score is None else self.entries.place(member, score)

    def pop_at(self, place: int) -> tuple[str, float]:
        """Remove and return (member, score) at `place`, 0 lowest or -1 highest."""
        pair = self.entries.pop_at(place)
        del self.scores[pair[0]]
        return pair

    def slice(self, start: int, stop: int, backwards: bool = False) -> list[tuple[str, float]]:
        """(member, score) at places `start` <= i < `stop`, highest first when `backwards`."""
        return self.entries.pairs(start, stop, backwards)

    def members(self, start: int, stop: int, backwards: bool = False) -> list[str]:
        """The members at places `start` <= i < `stop`, highest first when `backwards`."""
        return self.entries.members(start, stop, backwards)

    def delete(self, start: int, stop: int) -> int:
        """Remove the places `start` <= i < `stop`; returns how many."""
        gone = self.entries.members(start, stop)
        self.entries.delete(start, stop)
        for member in gone:
            del self.scores[member]
        return len(gone)

    def place_of_score(self, score: float, above: bool) -> int:
        """The first place whose score is at least `score`, or greater when `above`."""
        return self.entries.place_of_score(score, above)

    def place_of_key(self, key: str, above: bool) -> int:
        """The first place whose byte text is at least `key`, or greater when `above`.

        Meaningful only where all scores are alike, as for Redis' lexical ranges.
        """
        return self.entries.place_of_key(key, above)

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
