"""A sorted list of (score, bytes) in its plainest form: the judge of `pyraft_fast._ranks`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable


def raw(member: str) -> bytes:
    return member.encode("utf-8", "surrogateescape")


class Ranks:
    """What `_ranks.Ranks` does, slowly."""

    def __init__(self, items: Iterable[tuple[str, float]] = ()) -> None:
        self.entries = sorted((score, raw(member)) for member, score in items)

    def add(self, member: str, score: float) -> None:
        insort(self.entries, (score, raw(member)))

    def place(self, member: str, score: float) -> int:
        return self.entries.index((score, raw(member)))

    def remove(self, member: str, score: float) -> None:
        del self.entries[self.place(member, score)]

    def move(self, member: str, old: float, score: float) -> None:
        self.remove(member, old)
        self.add(member, score)

    def pop_at(self, place: int) -> tuple[str, float]:
        score, member = self.entries.pop(place)
        return member.decode("utf-8", "surrogateescape"), score

    def delete(self, start: int, stop: int) -> int:
        count = len(self.entries)
        del self.entries[start:stop]
        return count - len(self.entries)

    def pairs(self, start: int, stop: int, backwards: bool = False) -> list[tuple[str, float]]:
        part = self.entries[start:stop]
        found = [(member.decode("utf-8", "surrogateescape"), score) for score, member in part]
        return found[::-1] if backwards else found

    def members(self, start: int, stop: int, backwards: bool = False) -> list[str]:
        return [member for member, _ in self.pairs(start, stop, backwards)]

    def place_of_score(self, score: float, above: bool) -> int:
        return sum(own <= score if above else own < score for own, _ in self.entries)

    def place_of_key(self, key: str, above: bool) -> int:
        members = [member for _, member in self.entries]
        return (bisect_right if above else bisect_left)(members, key.encode("latin-1"))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: int) -> tuple[float, str]:
        score, member = self.entries[place]
        return score, member.decode("latin-1")
