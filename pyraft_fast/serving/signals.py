"""How a thread waits for the end of a node while signals may ask for it.

Python runs a signal's handler in the main thread only, between two steps of it. A signal that came
just before that thread began to sleep, or that the kernel gave to another thread, does not wake it.
So it sleeps in slices.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

LOOK_SECONDS: Final = 0.2


def wait_for_end(ended: threading.Event, stop: Callable[[], None], timeout: float | None) -> bool:
    """Wait until `ended` is set; False when it is not within `timeout` seconds.

    In the main thread SIGINT and SIGTERM call `stop` meanwhile, unless the program handles them.
    """
    until = math.inf if timeout is None else time.monotonic() + timeout
    with on_signals(stop):
        while not ended.wait(min(LOOK_SECONDS, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                return False
        return True


@contextlib.contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within it SIGINT and SIGTERM call `stop`, unless the program handles them.

    Only in the main thread, which alone may say what a signal does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_told = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        # The next signal may come within `stop`, which holds locks that it would wait for.
        nonlocal is_told
        if not is_told:
            is_told = True
            stop()

    defaults: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    taken = [n for n, default in defaults.items() if signal.getsignal(n) is default]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, defaults[number])
