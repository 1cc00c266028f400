"""A connection that carries whole messages: what a protocol of one's own derives from.

It decides how bytes get in and out of a blocking socket: all of a message is written or the
connection is closed, and reading waits until a message is complete or the time is up. It refuses
to know what a message is; that is `encode` and `decode`, with the names pyraft had.
Invariant: after the connection ended, `connected()` is false and every call returns None.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any, Final

RECEIVE_BYTES: Final = 65536


class base_io:
    """Messages on the blocking socket `sock`, which belongs to this object from now on.

    A protocol overrides `encode`, `decode` and `decodable`, and `raw_encode` where it needs to.
    """

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock
        self.buff = b""
        self._seen = -1  # length of `buff` when it last held no whole message

    def connected(self) -> bool:
        """Whether the connection is still open on this side."""
        return self.sock is not None

    def close(self) -> None:
        """Close the socket; calling it again does nothing."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def raw_encode(self, msg: str | bytes) -> bytes:
        """The bytes `raw_write` sends."""
        return msg if isinstance(msg, bytes) else msg.encode("utf-8", "surrogateescape")

    def encode(self, msg: Any) -> str | bytes:
        """The bytes of a message; a str is sent as UTF-8."""
        raise NotImplementedError

    def decode(self, msg: bytes) -> tuple[Any, bytes]:
        """The first message and the bytes behind it; (None, msg) when none is complete."""
        raise NotImplementedError

    def decodable(self, buff: bytes) -> bool:
        """Whether `buff` may hold a whole message; False saves a call of `decode`."""
        return bool(buff)

    def raw_write(self, msg: str | bytes) -> int | None:
        """Send bytes as `raw_encode` gives them; see `write`."""
        return self._send(self.raw_encode(msg))

    def write(self, msg: Any) -> int | None:
        """Send a whole message; the bytes written, or None when the connection ended."""
        data = self.encode(msg)
        return self._send(
            data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        )

    def _send(self, data: bytes) -> int | None:
        if self.sock is None:
            return None
        try:
            self.sock.sendall(data)
        except OSError:
            self.close()
            return None
        return len(data)

    def read(self, timeout: float | None = None) -> Any:
        """The next message; b"" when none is complete after `timeout` seconds (None: as long
        as the socket's own time-out, after which the connection is closed).

        None when the connection ended, or for a message that means None: `connected()` tells
        these apart.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.connected():
            found, value = self._next()
            if found:
                return value
            if not self.connected():
                break
            left = None if until is None else max(0.0, until - time.monotonic())
            if not self._receive(left):
                return b""
        return None

    def read_all(self, timeout: float | None = None) -> list[Any] | None:
        """The next message and all complete ones behind it; [] after `timeout` seconds.

        None when the connection ended before there was one.
        """
        first = self.read(timeout)
        if first is None and not self.connected():
            return None
        if isinstance(first, bytes) and not first:
            return []
        messages = [first]
        while self.sock is not None:
            found, value = self._next()
            if not found:
                break
            messages.append(value)
        return messages

    def _receive(self, timeout: float | None) -> bool:
        """Wait for bytes and take them in; False when the time is up first."""
        sock = self.sock
        if sock is None:
            return True
        try:
            if timeout is not None:
                # poll, since select cannot watch descriptors from 1024 on
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                if not poll.poll(timeout * 1000):
                    return False
            data = sock.recv(RECEIVE_BYTES)
        except (OSError, ValueError):  # ValueError: closed by another thread meanwhile
            data = b""
        if data:
            self._feed(data)
        else:
            self.close()
        return True

    def _feed(self, data: bytes) -> None:
        self.buff += data

    def _next(self) -> tuple[bool, Any]:
        """(True, message) when one is complete."""
        if len(self.buff) == self._seen or not self.decodable(self.buff):
            return False, None
        value, self.buff = self.decode(self.buff)
        self._seen = len(self.buff) if value is None else -1
        return value is not None, value
