"""The listener of a worker registered besides the node's own: plain threads, bounded.

One thread accepts, each connection has one more. Closing wakes all of them by shutting their
sockets down, so ending does not wait for a poll. Commands go through `node.propose` with the
worker's offset, which knows about the log, the read gate and time-outs.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any, Final

from pyraft_fast.errors import RaftException
from pyraft_fast.worker.table import unknown_command

logger = logging.getLogger("pyraft_fast.worker")

CONNECTIONS_MAX: Final = 1024
_BACKLOG: Final = 128
_READ_SECONDS: Final = 1.0
_CONTROL: Final = ("bypass", "quit", "quit_after_send")


class Listener:
    """Accepts for one worker until closed."""

    def __init__(self, worker: Any, node: Any) -> None:
        self._worker = worker
        self._node = node
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        family = socket.AF_INET6 if ":" in worker.ip else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind((worker.ip, worker.port))
            self._sock.listen(_BACKLOG)
        except OSError:
            self._sock.close()
            raise
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(
            target=worker.worker_listen, args=(node,), name=f"worker:{self.port}", daemon=True
        )

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def accept_loop(self) -> None:
        """Accept until `close`."""
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError as error:
                if self._closed:
                    break
                logger.warning("worker on port %d cannot accept: %s", self.port, error)
                time.sleep(0.1)  # out of descriptors: give connections time to end
                continue
            self._admit(sock)
        self._sock.close()

    def _admit(self, sock: socket.socket) -> None:
        thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
        with self._lock:
            refused = self._closed or len(self._open) >= self._worker.connections_max
            if not refused:
                self._open[sock] = thread
        if refused:
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self._worker.process_work(self._node, sock)
        except OSError as error:
            logger.debug("worker connection ended: %s", error)
        except Exception:
            logger.exception("worker connection failed")
        finally:
            sock.close()
            with self._lock:
                self._open.pop(sock, None)

    def close(self) -> None:
        """Stop accepting and wake every connection; returns at once."""
        with self._lock:
            self._closed = True
            open_now = list(self._open)
        for sock in [self._sock, *open_now]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was not connected, or it is gone

    def join(self, timeout: float | None = None) -> None:
        """Wait for the threads, at most `timeout` seconds together."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            threads = [self._thread, *self._open.values()]
        for thread in threads:
            if thread is threading.current_thread() or not thread.is_alive():
                continue
            thread.join(None if until is None else max(0.0, until - time.monotonic()))


def serve(worker: Any, node: Any, sock: socket.socket) -> None:
    """Read, run and answer the commands of one connection until either side ends it."""
    pio = worker.p.open_io(sock)
    try:
        while not worker.shutdown_flag:
            words = pio.read(timeout=_READ_SECONDS)
            if words is None:
                return
            if isinstance(words, str):  # an inline command of a protocol written for pyraft
                words = words.split()
            if not words or words == [""]:
                continue
            reply = _answer(worker, node, words)
            if not (isinstance(reply, dict) and any(name in reply for name in _CONTROL)):
                pio.write(reply)
                continue
            if "bypass" in reply:
                pio.raw_write(reply["bypass"])
                continue
            if "quit_after_send" in reply:
                pio.write(reply["quit_after_send"])
            return
    finally:
        pio.close()


def _answer(worker: Any, node: Any, words: Any) -> Any:
    """The reply to one command, errors included."""
    row = worker.table.resolve(str(words[0]))
    if row is None:
        return unknown_command(words)
    if not row.fits(len(words) - 1):
        return row.arity_error()
    try:
        return node.propose(words, worker.worker_offset)
    except RaftException as error:
        return error
    except Exception as error:
        logger.exception("handler %s failed", row.name)
        return RaftException(f"{type(error).__name__}: {error}")
