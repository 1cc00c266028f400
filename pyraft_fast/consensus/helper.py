"""A thread that runs calls in order and tells the loop how each ended. Not compiled, as the
simulator has its own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable


def tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], argument: object) -> bool:
    """Let the loop call `function` for another thread; False when it is closed: the end."""
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:
        return False
    return True


class Helper:
    """A thread that runs calls in order; `told` hears on the loop how each ended."""

    def __init__(self, told: Callable[[BaseException | None], None]) -> None:
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log helper", daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], None]) -> None:
        """Run `call` behind those before it."""
        self._calls.put(call)

    def stop(self, seconds_max: float) -> bool:
        """Finish what is queued and end; False when that took too long."""
        self._calls.put(None)
        self._thread.join(seconds_max)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            error: BaseException | None = None
            try:
                call()
            except BaseException as caught:
                error = caught
            if not tell(self._loop, self._told, error):
                return
