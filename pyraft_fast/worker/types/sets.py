"""A set whose order is decided by the operations on it alone, never by hash randomisation.

Members lie in an array, and a dict knows each one's place. Removing moves the last member into
the gap, so a random member is one index away. The order is part of the state: two nodes that
did the same operations hold the same order, and a snapshot keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet, Set
from typing import Any


def in_order(members: Iterable[Any]) -> list[Any]:
    """The members as a list; those of a built-in set in an order that no hash seed decides."""
    if isinstance(members, (set, frozenset)):
        return sorted(members, key=lambda member: (type(member).__name__, repr(member)))
    return list(members)


class Members(Set[Any]):
    """The members of a set at one moment, as a reply; order is that of `items`, all different."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = tuple(items)

    def __contains__(self, member: object) -> bool:
        return member in self.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    # The operators of `Set` walk the other operand, whose order may be that of its hashes.
    def __or__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        return Members(dict.fromkeys([*self.items, *in_order(other)]))

    __ror__ = __or__

    def __and__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        kept = other if isinstance(other, Set) else set(other)
        return Members(member for member in self.items if member in kept)

    __rand__ = __and__

    def __rsub__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        mine = set(self.items)
        return Members(dict.fromkeys(member for member in in_order(other) if member not in mine))

    def __xor__(self, other: Any) -> Any:
        if not isinstance(other, Iterable):
            return NotImplemented
        theirs = Members(in_order(other))
        return Members([*(self - set(theirs.items)), *self.__rsub__(theirs)])

    __rxor__ = __xor__

    def __repr__(self) -> str:
        return f"Members({list(self.items)!r})"


class RedisSet(MutableSet[Any]):
    """A mutable set with O(1) add, discard, `in` and access to a member by its place."""

    __slots__ = ("_places", "items")

    def __init__(self, members: Iterable[Any] = ()) -> None:
        self.items: list[Any] = list(dict.fromkeys(in_order(members)))
        self._places: dict[Any, int] = dict(zip(self.items, range(len(self.items)), strict=True))

    def add(self, value: Any) -> None:
        """Add a member; nothing happens when it is there."""
        if value not in self._places:
            self._places[value] = len(self.items)
            self.items.append(value)

    def insert(self, value: Any) -> bool:
        """Add a member and tell whether it is new."""
        places = self._places
        if value in places:
            return False
        places[value] = len(self.items)
        self.items.append(value)
        return True

    def has(self, value: Any) -> bool:
        """Whether it is a member; quicker than `in`."""
        return value in self._places

    def has_all(self, values: Iterable[Any]) -> bool:
        """Whether all of them are members."""
        places = self._places
        for value in values:  # noqa: SIM110  # a generator costs more than the look-up
            if value not in places:
                return False
        return True

    def discard(self, value: Any) -> None:
        """Remove a member if it is there."""
        self.take(value)

    def take(self, value: Any) -> bool:
        """Remove a member and tell whether it was there."""
        place = self._places.pop(value, None)
        if place is None:
            return False
        last = self.items.pop()
        if place < len(self.items):
            self.items[place] = last
            self._places[last] = place
        return True

    def take_at(self, place: int) -> Any:
        """Remove and return the member at `place` (0 <= place < length)."""
        items = self.items
        last = items.pop()
        if place == len(items):
            del self._places[last]
            return last
        member = items[place]
        items[place] = last
        self._places[last] = place
        del self._places[member]
        return member

    def pop(self) -> Any:
        """Remove and return the member in the last place; raises KeyError when there is none."""
        if not self.items:
            raise KeyError("pop from an empty set")
        return self.take_at(len(self.items) - 1)

    def clear(self) -> None:
        """Remove every member."""
        self.items.clear()
        self._places.clear()

    def update(self, *others: Iterable[Any]) -> None:
        """Add the members of all `others`."""
        for other in others:
            for member in in_order(other):
                self.add(member)

    def union(self, *others: Iterable[Any]) -> RedisSet:
        """A new set with the members of this and all `others`."""
        result = self.copy()
        result.update(*others)
        return result

    def intersection(self, *others: Iterable[Any]) -> RedisSet:
        """A new set with the members that are in all of them, in this set's order."""
        kept = [other if isinstance(other, (set, Set)) else set(other) for other in others]
        return RedisSet(m for m in self.items if all(m in other for other in kept))

    def difference(self, *others: Iterable[Any]) -> RedisSet:
        """A new set with the members that are in none of `others`, in this set's order."""
        gone = [other if isinstance(other, (set, Set)) else set(other) for other in others]
        return RedisSet(m for m in self.items if not any(m in other for other in gone))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether every member is in `other`."""
        return self <= (other if isinstance(other, Set) else set(other))

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether every element of `other` is a member."""
        return all(member in self for member in other)

    def copy(self) -> RedisSet:
        """A copy with the same order."""
        return RedisSet(self.items)

    __copy__ = copy

    # The operators of `Set` walk the other operand, whose order may be that of its hashes.
    def __or__(self, other: Any) -> Any:
        return self.union(other) if isinstance(other, (Set, set)) else NotImplemented

    __ror__ = __or__

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __and__(self, other: Any) -> Any:
        return self.intersection(other) if isinstance(other, (Set, set)) else NotImplemented

    __rand__ = __and__

    def __rsub__(self, other: Any) -> Any:
        if not isinstance(other, (Set, set)):
            return NotImplemented
        return RedisSet(member for member in in_order(other) if member not in self)

    def __isub__(self, other: Any) -> Any:  # type: ignore[misc]
        for member in in_order(other):
            self.take(member)
        return self

    def __xor__(self, other: Any) -> Any:
        if not isinstance(other, (Set, set)):
            return NotImplemented
        mine = [member for member in self.items if member not in other]
        theirs = [member for member in in_order(other) if member not in self]
        return RedisSet(mine + theirs)

    __rxor__ = __xor__

    def __ixor__(self, other: Any) -> Any:
        for member in in_order(other):
            if not self.take(member):
                self.add(member)
        return self

    def __contains__(self, value: object) -> bool:
        return value in self._places

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"RedisSet({self.items!r})"
