"""Lets keys end through the log: the leader proposes an empty batch when a deadline is due.

A key is removed by the time stamp of an entry, on every node at the same place. While writes
flow their stamps do it; on an idle cluster somebody must propose, and only the leader does, one
empty batch at a time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from pyraft_fast.serving.propose import Proposer
from pyraft_fast.worker.store import Store

CHECK_SECONDS: Final = 0.1
GIVE_UP_SECONDS: Final = 5.0  # after which a tick that was never applied counts as lost


class Expiry:
    """A timer that runs while this node leads. Loop thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, proposer: Proposer) -> None:
        self._loop = loop
        self._store = store
        self._proposer = proposer
        self._timer: asyncio.TimerHandle | None = None
        self._asked_for = 0  # the deadline the newest tick was proposed for
        self._asked_at = 0.0

    def lead(self, leading: bool) -> None:
        """This node leads now, or no longer."""
        if leading and self._timer is None:
            self._check()
        elif not leading and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(CHECK_SECONDS, self._check)
        deadline = self._store.next_deadline_ms()
        if deadline is None or deadline > time.time() * 1000:
            return
        if deadline <= self._asked_for and now - self._asked_at < GIVE_UP_SECONDS:
            return
        self._asked_for = max(deadline, int(time.time() * 1000))
        self._asked_at = now
        self._proposer.tick()
