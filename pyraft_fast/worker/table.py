"""Handler tables: what a user writes into them, and the quick form that serving looks up.

A table maps a lower case name to `[function, flags, min, max]`, as in pyraft. Flags: `e` or `w`
goes through the log, `r` is a linearizable read, `a` runs at once on this node, without log or
read gate. `min` and `max` count the words behind the name; a `max` of 0 or less sets no limit.

Callbacks (`on_leader` ...) live in the same table, as a function or a list, and no client can
reach them. A malformed entry is refused where it is written, not when a client hits it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.worker.words import Words, arity_error

CALLBACKS: Final = frozenset(
    {
        "on_start",
        "on_shutdown",
        "on_leader",
        "on_follower",
        "on_candidate",
        "on_leader_lost",
        "on_ready",
        "on_snapshot",
        "on_membership",
    }
)
_FLAGS: Final = frozenset("rwea")
_ROWS_MAX: Final = 8192  # spellings of names kept for quick lookup


class Row:
    """One command, ready to run: flags as booleans, limits as counts of words."""

    __slots__ = ("flags", "function", "local", "logged", "max", "min", "name", "write")

    def __init__(self, name: str, entry: Any) -> None:
        self.name = name
        self.function: Callable[[Any, Words], Any] = entry[0]
        self.flags: str = entry[1]
        self.min: int = entry[2]
        self.max: int = entry[3]
        self.local = "a" in self.flags
        self.write = "w" in self.flags
        self.logged = not self.local and ("e" in self.flags or self.write)

    def fits(self, params: int) -> bool:
        """Whether a command with `params` words behind its name may run."""
        return params >= self.min and (self.max <= 0 or params <= self.max)

    def arity_error(self) -> CommandError:
        """The error for a count that does not fit."""
        return arity_error(self.name)

    @property
    def arity(self) -> int:
        """Redis' arity: words with the name, negative for "at least"."""
        return self.min + 1 if self.max == self.min > 0 else -(self.min + 1)


class Entry(list[Any]):
    """A table entry that tells its table when a user changes it in place."""

    __slots__ = ("_changed",)

    def __init__(self, items: Iterable[Any], changed: Callable[[], None]) -> None:
        super().__init__(items)
        self._changed = changed

    def __setitem__(self, index: Any, value: Any) -> None:
        changed = list(self)
        changed[index] = value
        check_entry("entry", changed)
        super().__setitem__(index, value)
        self._changed()


def check_entry(name: str, entry: Any) -> None:
    """Raise TypeError, saying what is expected, unless `entry` is a handler or callback entry."""
    if name in CALLBACKS:
        items = entry if isinstance(entry, (list, tuple)) else [entry]
        if not any(callable(item) for item in items):
            raise TypeError(f"callback {name!r} must be a function or a list of functions")
        return
    shaped = isinstance(entry, (list, tuple)) and len(entry) == 4
    if not (
        shaped
        and callable(entry[0])
        and isinstance(entry[1], str)
        and set(entry[1]) <= _FLAGS
        and all(type(limit) is int for limit in entry[2:])
    ):
        raise TypeError(
            f"handler {name!r} must be [function, flags, min, max] with flags of 'r', 'w', 'e', "
            f"'a', not {entry!r}"
        )


class HandlerDict(dict[str, Any]):
    """A worker's `handler` table; every change is checked and announced."""

    __slots__ = ("_changed",)

    def __init__(self, entries: Mapping[str, Any], changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self.update(entries)

    def __setitem__(self, name: str, entry: Any) -> None:
        check_entry(name, entry)
        if name not in CALLBACKS:
            entry = Entry(entry, self._changed)
        super().__setitem__(name, entry)
        self._changed()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As `dict.update`."""
        for name, entry in dict(*args, **kwargs).items():
            self[name] = entry

    def __ior__(self, other: Any) -> HandlerDict:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, entry: Any = None) -> Any:
        """As `dict.setdefault`."""
        if name not in self:
            self[name] = entry
        return self[name]

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._changed()

    def pop(self, name: str, *default: Any) -> Any:
        """As `dict.pop`."""
        entry = super().pop(name, *default)
        self._changed()
        return entry

    def popitem(self) -> tuple[str, Any]:
        """As `dict.popitem`."""
        item = super().popitem()
        self._changed()
        return item

    def clear(self) -> None:
        """As `dict.clear`."""
        super().clear()
        self._changed()


class Table:
    """Looks names up in a worker's tables and keeps what it found until a table changes.

    `rows` maps a name as clients typed it to its Row; a miss there means calling `resolve`.
    """

    __slots__ = ("_find", "_lock", "_names", "rows")

    def __init__(self, find: Callable[[str], Any], names: Callable[[], Iterable[str]]) -> None:
        self.rows: dict[str, Row] = {}
        self._find = find
        self._names = names
        self._lock = threading.Lock()

    def resolve(self, name: str) -> Row | None:
        """The row for `name` in any case, or None for unknown names and callbacks."""
        row = self.rows.get(name)
        return row if row is not None else self._resolve(name)

    def _resolve(self, name: str) -> Row | None:
        low = name.lower()
        if low in CALLBACKS:
            return None
        with self._lock:  # so that a change in another thread cannot leave an old row behind
            entry = self._find(low)
            if entry is None:
                return None
            if len(self.rows) >= _ROWS_MAX:
                self.rows.clear()
            row = self.rows[name] = Row(low, entry)
            return row

    def forget(self) -> None:
        """Look everything up anew, since a table changed."""
        with self._lock:
            self.rows.clear()

    def all_rows(self) -> list[Row]:
        """Every command, sorted by name."""
        names = sorted(set(self._names()) - CALLBACKS)
        rows = (self.resolve(name) for name in names)
        return [row for row in rows if row is not None]


def unknown_command(words: Words) -> CommandError:
    """Redis' error for a name that no table knows."""
    shown = "".join(f"'{str(word)[:128]}' " for word in words[1:21])
    return CommandError(
        f"unknown command '{str(words[0])[:128]}', with args beginning with: {shown[:128]}"
    )
