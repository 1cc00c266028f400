"""The consensus process: started by the serving process with descriptors, never by hand.

    python -m pyraft_fast.consensus --pipe FD --ring FD --to-serving FD --to-consensus FD
        --listen FD --lock FD

It ignores SIGINT and SIGTERM: the serving process decides when to end, tells this one, and its end
is this one's end. It imports nothing of the user's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

from pyraft_fast.consensus.node import Node
from pyraft_fast.consensus.parent import ParentPipe, watch_parent
from pyraft_fast.consensus.settings import read_settings
from pyraft_fast.link.loop import new_loop
from pyraft_fast.link.policy import run_as_batch
from pyraft_fast.link.ring import clear, wake
from pyraft_fast.link.spawn import Ends, take_ends

GC_THRESHOLDS: Final = (100_000, 20, 100)  # rare: hardly anything here forms cycles


class Process:
    """The consensus process: pipe, ring, bells and the node between them."""

    def __init__(self, ends: Ends, parent_pid: int) -> None:
        self._ends = ends
        self._parent_pid = parent_pid
        self._node: Node | None = None
        self._parent = ParentPipe(self._start, self._shut_down, self._describe, ends.ring.hear)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Live until the serving side says otherwise or is gone."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        await loop.create_connection(lambda: self._parent, sock=self._ends.pipe)
        loop.add_reader(self._ends.to_consensus, self._bell)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await watch_parent(self._parent_pid)

    def _start(self, settings: dict[str, object]) -> Node:
        bell = self._ends.to_serving
        node = Node(
            read_settings(settings),
            self._parent,
            self._ends.ring,
            self._ends.slot,
            lambda: wake(bell),
            random.Random(int.from_bytes(os.urandom(16), "little")),
        )
        self._node = node
        self._spawn(self._serve(node))
        return node

    async def _serve(self, node: Node) -> None:
        await node.server.start(self._ends.listener)
        node.begin()

    def _bell(self) -> None:
        clear(self._ends.to_consensus)
        if self._node is not None:
            self._node.room()

    def _shut_down(self) -> None:
        self._spawn(self._end())

    async def _end(self) -> None:
        if self._node is not None:
            await self._node.shut_down()
        os._exit(0)

    def _describe(self) -> str:
        return "no node yet" if self._node is None else self._node.describe()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._parent.fatal(error)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback let through. A socket's trouble is that socket's alone."""
        error = context.get("exception")
        if isinstance(error, OSError | asyncio.CancelledError):
            return
        self._parent.fatal(error or RuntimeError(str(context.get("message", "unknown"))))


def main() -> None:
    """Entry of the process."""
    # With an ordinary policy the kernel interrupts the serving process for every frame and every
    # finished sync, and turns take one event each instead of all that have come.
    run_as_batch()
    parent_pid = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    process = Process(take_ends(sys.argv[1:]), parent_pid)
    loop = new_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(process.run())


if __name__ == "__main__":
    main()
