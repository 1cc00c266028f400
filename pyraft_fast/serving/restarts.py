"""When a consensus process that died is started again, and when that is given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

DEATHS_MAX: Final = 5
WINDOW_SECONDS: Final = 10.0
DELAYS_SECONDS: Final = (0.0, 0.05, 0.2, 0.5)


class Restarts:
    """Starts again at once, then with growing delays; too many deaths in a row are final."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Callable[[], None]) -> None:
        self._loop = loop
        self._start = start
        self._deaths: deque[float] = deque()
        self._timer: asyncio.Handle | None = None
        self.total = 0

    def ended(self, how: str) -> str | None:
        """The process ended; returns None when it will be started again, else why not."""
        now = self._loop.time()
        self.total += 1
        deaths = self._deaths
        deaths.append(now)
        while deaths[0] < now - WINDOW_SECONDS:
            deaths.popleft()
        if len(deaths) >= DEATHS_MAX:
            return (
                f"the consensus process ended {len(deaths)} times within {WINDOW_SECONDS:g} s, "
                f"last: {how}"
            )
        self._timer = self._loop.call_later(DELAYS_SECONDS[len(deaths) - 1], self._start)
        return None

    def cancel(self) -> None:
        """The node stops: do not start it again."""
        if self._timer is not None:
            self._timer.cancel()
