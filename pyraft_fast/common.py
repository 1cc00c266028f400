"""What pyraft's `common` module offered, under the same names.

`Future` is the one handle for "an answer will come": the serving thread sets it, any other
thread waits, polls, registers a callback or awaits it. "No answer yet" and "the answer is nil"
are different states here. The `ERROR_*` names are ready-made errors a handler may *return*;
raise a fresh `RaftException` instead of raising one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from pyraft_fast.errors import CommandError, RaftException, WrongType

__all__ = [
    "CONF_LOG_FILE_MAX",
    "CONF_LOG_MAX",
    "CONF_PING_TIMEOUT",
    "CONF_VOTING_TIME",
    "ERROR_APPEND_ENTRY",
    "ERROR_CAST",
    "ERROR_INVALID_PARAM",
    "ERROR_NOT_EXISTS",
    "ERROR_TYPE",
    "Future",
    "RaftException",
    "bytes_to_str",
    "intcast",
]

LOG_MAX_DEFAULT: Final = 100_000
CONF_LOG_MAX: int = LOG_MAX_DEFAULT  # commands applied between two automatic snapshots
CONF_LOG_FILE_MAX: int = 10_000  # kept for its name; log files are bounded in bytes
CONF_VOTING_TIME: float = 1.0  # kept for its name; see --election-ms
CONF_PING_TIMEOUT: float = 5  # kept for its name; see --election-ms

ERROR_CAST: Final = CommandError("number format error")
ERROR_APPEND_ENTRY: Final = RaftException("append entry failed")
ERROR_TYPE: Final = WrongType("invalid data type")
ERROR_NOT_EXISTS: Final = CommandError("not exists")
ERROR_INVALID_PARAM: Final = CommandError("invalid parameter")

logger = logging.getLogger("pyraft_fast")


def intcast(src: int | str) -> int | None:
    """Read a decimal integer, negative ones too; None when `src` is none."""
    if isinstance(src, int):
        return src
    try:
        return int(src) if src == src.strip() and "_" not in src else None
    except ValueError:
        return None


def bytes_to_str(b: bytes) -> str:
    """Bytes as two-digit hexadecimal words, for log lines."""
    return b.hex(" ")


class Future:
    """An answer that another thread gives, once.

    `cmd` holds the words that were sent and `worker_offset` their handler table (pyraft's
    names). An answer that is an exception is raised by `get()` and `await`, and is what `value`
    shows; `value` is None as long as there is no answer, which `done()` tells from a nil answer.
    """

    __slots__ = (
        "_callbacks", "_done", "_lock", "_waiters", "cmd", "giver", "value", "worker_offset",
    )  # fmt: skip

    def __init__(self, cmd: Sequence[Any] = (), worker_offset: int = 0) -> None:
        self.cmd = cmd
        self.worker_offset = worker_offset
        self.value: Any = None
        self.giver = 0  # the thread that will give the answer, where known: it must not wait
        self._done = False
        self._lock = threading.Lock()
        self._waiters: list[threading.Lock] = []
        self._callbacks: list[Callable[[Future], object]] = []

    def done(self) -> bool:
        """Whether the answer is there."""
        return self._done

    def set(self, value: Any) -> bool:
        """Give the answer and wake who waits; False when there was one already (it stays)."""
        with self._lock:
            if self._done:
                return False
            self.value = value
            self._done = True
            waiters, self._waiters = self._waiters, []
            callbacks, self._callbacks = self._callbacks, []
        for waiter in waiters:
            waiter.release()
        for callback in callbacks:
            self._call(callback)
        return True

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the answer, at most `timeout` seconds (None: for ever).

        Raises TimeoutError when there is none by then (it may still come), and the answer
        itself when it is an exception. Raises RaftException in the one thread that must not
        wait, since it is the one that gives the answer (a handler of this node).
        """
        if not self._done:
            if self.giver and self.giver == threading.get_ident():
                raise RaftException(
                    "a handler must not wait for a command of its own node; return the future, "
                    "or call the other handler's function directly"
                )
            self._wait(timeout)
        if isinstance(self.value, BaseException):
            raise self.value.with_traceback(None)
        return self.value

    def _wait(self, timeout: float | None) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        with self._lock:
            if self._done:
                return
            self._waiters.append(waiter)
        if waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return
        with self._lock:
            if waiter not in self._waiters:  # the answer came at the last moment
                return
            self._waiters.remove(waiter)
        shown = " ".join(str(word) for word in self.cmd[:2])
        raise TimeoutError(f"no answer within {timeout} s: {shown}".rstrip(": "))

    def add_done_callback(self, callback: Callable[[Future], object]) -> None:
        """Call `callback(self)` when the answer is there, at once if it already is.

        It runs in the thread that gives the answer and must not block; what it raises is logged.
        """
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        self._call(callback)

    def _call(self, callback: Callable[[Future], object]) -> None:
        try:
            callback(self)
        except Exception:
            logger.exception("callback of a future failed: %r", callback)

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait inside a coroutine, in any event loop."""
        if not self._done:
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not waiter.done():
                    waiter.set_result(None)

            def tell(_: Future) -> None:
                with contextlib.suppress(RuntimeError):  # the waiting loop is closed
                    loop.call_soon_threadsafe(wake)

            self.add_done_callback(tell)
            yield from waiter
        return self.get(0)

    def __repr__(self) -> str:
        shown = f"done, {self.value!r}" if self._done else "open"
        return f"Future({self.cmd!r}: {shown})"
