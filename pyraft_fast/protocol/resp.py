"""RESP for Python callers, under pyraft's names: bytes in and bytes out.

Thin on purpose: the compiled parser and encoder do the work. A reader takes replies and requests
alike, since both ends of a connection use it; a line that begins with no type byte is an inline
request with Redis' quoting. Bulk strings come as str (UTF-8 with surrogateescape).
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from pyraft_fast._resp import ReplyParser, encode
from pyraft_fast.errors import ProtocolError
from pyraft_fast.protocol.base import base_io

__all__ = ["resp_decoding", "resp_encoding", "resp_io"]


def resp_encoding(obj: Any) -> bytes:
    """The RESP2 form of a value: None is nil, True OK, False 0, an exception an error line."""
    return encode(obj, 2)


def resp_decoding(src: bytes) -> tuple[Any, bytes]:
    """The first value in `src` and the bytes behind it.

    (None, src) when no value is complete, (None, fewer bytes) for a nil. An error line becomes a
    ReplyError, which is returned. Raises ProtocolError for bytes that are no RESP.
    """
    parser = ReplyParser(text=True, inline=True)
    parser.feed(src)
    values = parser.take(1)
    if not values:
        return None, src
    return values[0], src[len(src) - parser.pending :]


class resp_io(base_io):
    """RESP on a blocking socket.

    A peer that breaks the protocol is told so, the connection is closed, and `error` holds the
    ProtocolError.
    """

    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__(sock)
        self.error: ProtocolError | None = None
        self._parser = ReplyParser(text=True, inline=True)
        self._ready: deque[Any] = deque()

    def raw_encode(self, msg: str | bytes) -> bytes:
        """A str becomes a line with CR LF; bytes are sent as they are."""
        if isinstance(msg, str) and not msg.endswith("\r\n"):
            msg += "\r\n"
        return super().raw_encode(msg)

    def encode(self, msg: Any) -> bytes:
        """See `resp_encoding`."""
        return resp_encoding(msg)

    def decode(self, msg: bytes) -> tuple[Any, bytes]:
        """See `resp_decoding`."""
        return resp_decoding(msg)

    def _feed(self, data: bytes) -> None:
        self._parser.feed(data)

    def _next(self) -> tuple[bool, Any]:
        if not self._ready:
            try:
                self._ready.extend(self._parser.take())
            except ProtocolError as error:
                self.error = error
                self.write(error)
                self.close()
        return (True, self._ready.popleft()) if self._ready else (False, None)
