"""A list that is quick at both ends, and a `list` in the eyes of a handler.

It is a deque with the rest of `list` added: slices, slice assignment and deletion, `+`, `sort`,
`pop(i)`. Reaching into the middle costs time in proportion to the distance from the nearer end.
Elements that come out of a built-in set come in an order that no hash seed decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, ClassVar, SupportsIndex

from pyraft_fast.worker.types.sets import in_order

_get = deque.__getitem__
_set = deque.__setitem__
_del = deque.__delitem__
_pop = deque.pop


class RedisList(deque):  # type: ignore[type-arg]
    """A mutable sequence with O(1) ends; compares equal to a `list` of the same elements."""

    __slots__ = ()
    __raft_list__: ClassVar[bool] = True

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(in_order(items) if isinstance(items, (set, frozenset)) else items)

    def extend(self, iterable: Iterable[Any]) -> None:
        """Append the elements of `iterable`."""
        is_set = isinstance(iterable, (set, frozenset))
        super().extend(in_order(iterable) if is_set else iterable)

    def extendleft(self, iterable: Iterable[Any]) -> None:
        """Put the elements of `iterable` in front one by one, as a deque does."""
        is_set = isinstance(iterable, (set, frozenset))
        super().extendleft(in_order(iterable) if is_set else iterable)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return _get(self, index)
        start, stop, step = index.indices(len(self))
        if step == 1:
            return self.between(start, stop)
        return list(self)[index]

    def between(self, start: int, stop: int) -> list[Any]:
        """The elements at `start` <= i < `stop` (0 <= both <= length), from the nearer end."""
        if start >= stop:
            return []
        after = len(self) - stop
        if start <= after:
            return list(islice(self, start, stop))
        taken = list(islice(reversed(self), after, len(self) - start))
        taken.reverse()
        return taken

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, slice):
            _set(self, index, value)
            return
        items = list(self)
        items[index] = in_order(value)
        self._refill(items)

    def __delitem__(self, index: Any) -> None:
        if not isinstance(index, slice):
            _del(self, index)
            return
        items = list(self)
        del items[index]
        self._refill(items)

    def _refill(self, items: list[Any]) -> None:
        self.clear()
        self.extend(items)

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove and return the element at `index`; raises IndexError as a list does."""
        at = index.__index__()
        if at == -1:
            return _pop(self)
        if at == 0:
            return self.popleft()
        value = _get(self, at)
        _del(self, at)
        return value

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort in place; stable, as `list.sort`."""
        self._refill(sorted(self, key=key, reverse=reverse))

    def copy(self) -> RedisList:
        """A shallow copy."""
        return RedisList(self)

    __copy__ = copy

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, (list, deque)):
            return NotImplemented
        joined = RedisList(self)
        joined.extend(other)
        return joined

    def __radd__(self, other: Any) -> Any:
        return other + list(self) if isinstance(other, list) else NotImplemented

    def __iadd__(self, other: Iterable[Any]) -> RedisList:  # type: ignore[misc]
        self.extend(in_order(other))
        return self

    def __mul__(self, times: Any) -> Any:
        try:
            return RedisList(list(self) * times)
        except TypeError:
            return NotImplemented

    __rmul__ = __mul__

    def __imul__(self, times: Any) -> RedisList:
        self._refill(list(self) * times)
        return self

    def _other(self, other: Any) -> list[Any] | None:
        return list(other) if isinstance(other, (list, RedisList)) else None

    def __eq__(self, other: object) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) == twin

    def __ne__(self, other: object) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) != twin

    def __lt__(self, other: Any) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) < twin

    def __le__(self, other: Any) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) <= twin

    def __gt__(self, other: Any) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) > twin

    def __ge__(self, other: Any) -> bool:
        twin = self._other(other)
        return NotImplemented if twin is None else list(self) >= twin

    __hash__ = None

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> Any:
        return RedisList, (list(self),)
