"""Looks every few milliseconds whether those whom a leader needs keep pace, while it spares others.

The rules count in ticks, and notice only after two of them that a peer or the own disk stands
still. Clients would wait for that; so where nothing is committed from one look to the next, though
something was under way, it goes to everybody. Who is slow and gets on has one look more: on a busy
machine a round may take that long, and the others' work would make it longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pyraft_fast.core.raft import Raft
from pyraft_fast.core.sparing import hurry

LOOK_SECONDS: Final = 0.004


class PaceWatch:
    """Looks on from a turn in which peers are spared, until nobody is."""

    def __init__(self, raft: Raft, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]):
        self._raft = raft
        self._loop = loop
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._mark = 0  # what is to be committed by the next look
        self._commit = 0  # what was at the last one
        self._is_late = False  # that look gave the mark a second chance
        self._is_closed = False

    def turn(self) -> None:
        """Of the driver, in each turn."""
        if self._timer is None and self._raft.sparing.needed and not self._is_closed:
            log = self._raft.log
            self._mark, self._commit, self._is_late = log.last, log.commit, False
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        commit = self._raft.log.commit
        if commit < self._mark:
            if commit > self._commit and not self._is_late and self._raft.sparing.needed:
                self._is_late = True
                self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
                return
            hurry(self._raft)
            self._wake()
        self.turn()
