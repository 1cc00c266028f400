"""The running digest of this node: what its handlers changed, entry by entry.

It decides which entries are digested and keeps, for a bounded stretch of the past, the digest of
each, of each of its commands, and the sums up to there. It refuses to know other nodes. Nothing
here changes data or raises into a handler.

A sum is a chain in which order is carried by the index: it adds up mix(index, digest) of every
digested entry, modulo 2**64. So two nodes whose sums began at different places can be compared
too, from the first index on that both know: the difference of their sums must stay what it was.
There is one sum over every 16th entry, kept in both modes, and one over all, in mode `all`.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from pyraft_fast._digest import Noted, mix
from pyraft_fast.errors import ConfigError
from pyraft_fast.serving.rows import Row
from pyraft_fast.worker.store import Store

OFF: Final = "off"
SAMPLED: Final = "sampled"
ALL: Final = "all"
MODES: Final = (OFF, SAMPLED, ALL)
SAMPLE_EVERY: Final = 16  # entries; what costs less than 2 % of the serving side's CPU
ENTRIES_MAX: Final = 4096  # digests that are kept
COMMANDS_MAX: Final = 64 * 1024  # digests of commands that are kept
WORD: Final = (1 << 64) - 1


class Sum(NamedTuple):
    """A running sum over the entries behind `since`; `since` 0 is the beginning of the log."""

    since: int
    total: int


class Digested(NamedTuple):
    """One digested entry, and the sums with it; `every` is None but in mode `all`.

    Of the entry that a snapshot ends with the digest is None: only the sums are known.
    """

    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody calls
    digest: int | None
    sampled: Sum
    every: Sum | None


class Details(NamedTuple):
    """The commands of one digested entry."""

    names: list[str]
    digests: list[int]


def check_mode(mode: str) -> str:
    """The mode; raises ConfigError for an unknown one."""
    if mode not in MODES:
        raise ConfigError(f"digests must be off, sampled or all, not {mode!r}")
    return mode


class Track:
    """Digests of this node's entries. One thread.

    `every` says which indexes are digested: its multiples, none when it is 0. `begin` and `end`
    enclose the application of each.
    """

    def __init__(self, mode: str, store: Store) -> None:
        self.mode = check_mode(mode)
        self.every = {OFF: 0, SAMPLED: SAMPLE_EVERY, ALL: 1}[mode]
        self.count = 0  # entries digested since the start
        self.index = 0  # of the last entry that was applied, digested or not
        self._since = self._total = 0  # the sum over every 16th entry
        self._all_since = self._all_total = 0  # and in mode `all` over all of them
        self.fresh: list[tuple[int, int]] = []  # (index, digest) not yet told to others
        self._store = store
        self._known: dict[int, tuple[int | None, int, int]] = {}  # digest, totals
        self._order: deque[int] = deque()
        self._details: dict[int, list[Any]] = {}  # name, digest, name, digest ...
        self._details_order: deque[int] = deque()
        self._commands = 0  # in `_details`
        self._removed = 0

    def begin(self) -> None:
        """An entry that is digested is about to apply."""
        self._store.notes.take()
        self._removed = self._store.removed

    def noted(self, row: Row) -> Noted:
        """The row to run in place of `row` inside this entry."""
        noted = row.noted
        if noted is None:
            store = self._store
            noted = row.noted = Noted(row, store.notes, store.data, store.deadlines)
        return noted

    def end(self, index: int) -> None:
        """The entry is applied."""
        log = self._store.notes.take()
        digest = mix(index, self._store.removed - self._removed)
        for word in log[1::2]:
            digest = mix(digest, word)
        word = mix(index, digest)
        if index % SAMPLE_EVERY == 0:
            self._total = (self._total + word) & WORD
        self._all_total = (self._all_total + word) & WORD
        self.count += 1
        self.fresh.append((index, digest))
        order = self._order
        self._known[index] = (digest, self._total, self._all_total)
        order.append(index)
        if len(order) > ENTRIES_MAX:
            del self._known[order.popleft()]
        if log:
            self._keep_details(index, log)

    def _keep_details(self, index: int, log: list[Any]) -> None:
        self._details[index] = log
        self._details_order.append(index)
        self._commands += len(log) // 2
        while self._commands > COMMANDS_MAX and len(self._details_order) > 1:
            self._commands -= len(self._details.pop(self._details_order.popleft())) // 2

    @property
    def sampled(self) -> Sum:
        """The sum over every 16th entry."""
        return Sum(self._since, self._total)

    @property
    def all(self) -> Sum | None:
        """The sum over all entries; None but in mode `all`."""
        return Sum(self._all_since, self._all_total) if self.mode == ALL else None

    def take_fresh(self, most: int) -> list[tuple[int, int]]:
        """What others have not been told, the newest `most` of it."""
        fresh, self.fresh = self.fresh, []
        return fresh[-most:]

    def at(self, index: int) -> Digested | None:
        """The newest digested entry up to `index`, with the sums as they were at `index`.

        None where that is not known: not applied yet, or too long ago.
        """
        if index > self.index or not self.every:
            return None
        at = index - index % self.every
        known = self._known.get(at)
        if known is None:
            return None
        digest, total, all_total = known
        every = Sum(self._all_since, all_total) if self.mode == ALL else None
        return Digested(at, digest, Sum(self._since, total), every)

    def digest_of(self, index: int) -> int | None:
        """The digest of this very entry, if it is known."""
        known = self._known.get(index)
        return None if known is None else known[0]

    def between(self, low: int, high: int, most: int) -> list[tuple[int, int]]:
        """(index, digest) of the known entries from `low` to `high`, the first `most` of them."""
        known = self._known
        found = sorted(index for index in known if low <= index <= high)
        pairs = ((index, known[index][0]) for index in found)
        return [(index, digest) for index, digest in pairs if digest is not None][:most]

    def details(self, index: int) -> Details | None:
        """The commands of an entry, if they are still known."""
        log = self._details.get(index)
        return None if log is None else Details(log[::2], log[1::2])

    # Snapshots

    def saved(self) -> tuple[int, ...]:
        """The sums, for the head of a snapshot."""
        if not self.every:
            return ()
        return (*self.sampled, *(self.all or ()))

    def replace(self, index: int, saved: tuple[int, ...]) -> None:
        """The data are those of a snapshot of `index` now; unknown sums begin there."""
        self.index = index
        self._since, self._total = saved[:2] if len(saved) >= 2 else (index, 0)
        self._all_since, self._all_total = saved[2:4] if len(saved) == 4 else (index, 0)
        self.fresh = []
        for kept in (self._known, self._order, self._details, self._details_order):
            kept.clear()
        self._commands = 0
        if self.every:
            at = index - index % self.every
            self._known[at] = (None, self._total, self._all_total)
            self._order.append(at)
