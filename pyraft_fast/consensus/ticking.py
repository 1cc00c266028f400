"""When the core's clock ticks: from elapsed time, but never in a burst after a stall.

A process that was stopped for a second must not find that a hundred ticks have passed and call an
election: the leader's heartbeats wait unread in its sockets. So a late timer yields no tick at all
the first time, which lets the loop read its sockets, and never more than TICKS_AT_ONCE_MAX.
"""

from __future__ import annotations

from typing import Final

TICKS_AT_ONCE_MAX: Final = 2
STALL_TICKS: Final = 5  # a timer this late means the process, not the cluster, stood still


class TickCounter:
    """Turns times at which a timer fired into numbers of ticks. Times in seconds, monotone."""

    def __init__(self, tick_seconds: float, now: float) -> None:
        self._tick_seconds = tick_seconds
        self._counted_to = now
        self._was_stalled = False

    def due(self, now: float) -> int:
        """How many ticks to count at a timer that fired at `now`."""
        elapsed = int((now - self._counted_to) / self._tick_seconds)
        if elapsed < STALL_TICKS:
            self._counted_to += elapsed * self._tick_seconds
            self._was_stalled = False
            return min(elapsed, TICKS_AT_ONCE_MAX)
        self._counted_to = now
        self._was_stalled = not self._was_stalled
        return 0 if self._was_stalled else 1
