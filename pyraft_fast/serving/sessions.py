"""Which batches of which serving process the log has taken: exactly-once for batches.

Every serving process has a session, named by the node's incarnation (origin) and a start number
that grows; its batches are numbered from 1. An entry takes effect iff it continues its session
without a gap, or begins a newer one. The rule reads nothing but the log, so every node skips the
same entries, and a node may re-send its unapplied batches in order as often as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

FRESH: Final = 0  # takes effect
DUPLICATE: Final = 1  # was applied before
GAP: Final = 2  # an earlier batch of its session is missing
STALE: Final = 3  # of a session that a newer one replaced, or of a removed member


class Sessions:
    """{origin: (start, last applied batch)}; part of every snapshot."""

    __slots__ = ("_known", "_removed")

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._removed: frozenset[int] = frozenset()

    def judge(self, origin: int, start: int, batch: int) -> int:
        """Say what an entry is, and count it in when it is FRESH. Origin 0 has no session."""
        if origin == 0:
            return FRESH
        if origin in self._removed:
            return STALE
        known_start, last = self._known.get(origin, (-1, 0))
        if start == known_start:
            if batch == last + 1:
                self._known[origin] = (start, batch)
                return FRESH
            return DUPLICATE if batch <= last else GAP
        if start > known_start:
            if batch == 1:
                self._known[origin] = (start, 1)
                return FRESH
            return GAP
        return STALE

    def last(self, origin: int, start: int) -> int:
        """The last batch applied of this very session (0: none)."""
        known_start, last = self._known.get(origin, (-1, 0))
        return last if start == known_start else 0

    def bar(self, removed: Iterable[int]) -> None:
        """From now on nothing of these incarnations takes effect: they were removed."""
        self._removed = frozenset(removed)

    def keep(self, incarnations: Iterable[int]) -> None:
        """Forget the sessions of who is no member."""
        stay = set(incarnations)
        self._known = {origin: pair for origin, pair in self._known.items() if origin in stay}

    def replace(self, known: Mapping[int, tuple[int, int]]) -> None:
        """Take over the sessions of a snapshot."""
        self._known = {origin: (pair[0], pair[1]) for origin, pair in known.items()}

    def copy(self) -> dict[int, tuple[int, int]]:
        """A copy for a snapshot."""
        return dict(self._known)
