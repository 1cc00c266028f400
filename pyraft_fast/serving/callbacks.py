"""One thread that runs user callbacks, one after the other, in the order events happened.

A callback may be slow, block or raise: it costs later callbacks their punctuality and nothing
else, since neither the serving loop nor consensus ever waits here. What it raises is logged.
Events are told after the node's state has changed, so a callback sees what it was called for.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any, Final

from pyraft_fast.serving.host import Host

logger = logging.getLogger(__name__)

EVENTS: Final = (
    "on_start",
    "on_ready",
    "on_leader",
    "on_leader_lost",
    "on_follower",
    "on_candidate",
    "on_snapshot",
    "on_membership",
    "on_shutdown",
)


class Callbacks:
    """The queue and its thread; `tell` may be called from any thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failures = 0

    def start(self) -> None:
        """Start the thread; events told before are run now, in order."""
        thread = threading.Thread(
            target=self._run, name=f"pyraft-callbacks-{self._host.nid}", daemon=True
        )
        self._thread = thread
        thread.start()

    def tell(self, event: str) -> None:
        """Run the node's method of that name, after all that was told before."""
        self._events.put(event)

    def stop(self, timeout: float | None) -> bool:
        """Run what is queued, then end; False when a callback is still busy after `timeout` s."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._events.put(None)
        if thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            method: Any = getattr(self._host, event, None)
            if method is None:
                continue
            try:
                method()
            except BaseException:  # sys.exit() would end the thread, and all later callbacks
                self.failures += 1
                logger.exception("callback %s failed", event)
