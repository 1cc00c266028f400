"""The clocks that consensus looks at. Not compiled, so that a simulator may play them."""

from __future__ import annotations

import time
from typing import Final

_STEADY_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    """This machine's clock; the core makes a monotone cluster time of it."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Milliseconds of a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime_ns(_STEADY_CLOCK) // 1_000_000


def monotonic() -> float:
    """Seconds of a clock that nobody sets, for what is to happen after a while."""
    return time.monotonic()
