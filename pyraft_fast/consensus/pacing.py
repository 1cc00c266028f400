"""Looks every few milliseconds whether those whom a leader needs keep pace, while it spares others.

The rules count in ticks, and notice only after two of them that a peer or the own disk stands
still. Clients would wait for that; so what is not committed within one look goes to everybody.
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
        self._mark = 0  # the end of the log at the last look
        self._is_closed = False

    def turn(self) -> None:
        """Of the driver, in each turn."""
        if self._timer is None and self._raft.sparing.needed and not self._is_closed:
            self._mark = self._raft.log.last
            self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._raft.log.commit < self._mark:
            hurry(self._raft)
            self._wake()
        self.turn()
