"""Where replies end: enough of RESP2 and HTTP to count answers and see errors, no more."""

from __future__ import annotations

import socket
from typing import Protocol

RESP_SIMPLE = b"+-:"


def end_of_reply(data: bytes, start: int) -> int:
    """Where the RESP2 reply at `start` ends, -1 when it is not complete.

    Raises ValueError for a byte that no reply begins with.
    """
    line = data.find(b"\r\n", start)
    if line < 0:
        return -1
    kind = data[start]
    if kind in RESP_SIMPLE:
        return line + 2
    if kind == 36:  # $
        length = int(data[start + 1 : line])
        end = line + 2 if length < 0 else line + length + 4
        return end if end <= len(data) else -1
    if kind != 42:  # *
        raise ValueError(f"no reply starts with {data[start : start + 20]!r}")
    position = line + 2
    for _ in range(int(data[start + 1 : line])):
        position = end_of_reply(data, position) if position < len(data) else -1
        if position < 0:
            return -1
    return position


def end_of_response(data: bytes, start: int) -> int:
    """Where the HTTP/1.1 response at `start` ends, -1 when it is not complete.

    Raises ValueError when it does not say how long it is.
    """
    head = data.find(b"\r\n\r\n", start)
    if head < 0:
        return -1
    lines = data[start:head].lower().split(b"\r\n")
    for line in lines[1:]:
        name, _, text = line.partition(b":")
        if name == b"content-length":
            end = head + 4 + int(text)
            return end if end <= len(data) else -1
        if name == b"transfer-encoding" and text.strip() == b"chunked":
            end = data.find(b"\r\n0\r\n\r\n", head + 2)
            return end + 7 if end >= 0 else -1
    raise ValueError(f"a response without its length: {lines[0]!r}")


class Replies(Protocol):
    """What comes back over one connection."""

    errors: int
    first_error: bytes

    def feed(self, data: bytes) -> int:
        """Take what was received; returns how many answers are complete now."""


class RespReplies:
    """Counts RESP2 replies of one connection."""

    def __init__(self) -> None:
        self.errors = 0
        self.first_error = b""
        self._rest = b""

    def feed(self, data: bytes) -> int:
        """See `Replies`."""
        if self._rest:
            data = self._rest + data
        count = start = 0
        while start < len(data):
            end = end_of_reply(data, start)
            if end < 0:
                break
            if data[start] == 45:  # -
                self.errors += 1
                self.first_error = self.first_error or data[start + 1 : end - 2]
            count += 1
            start = end
        self._rest = data[start:]
        return count


class HttpReplies:
    """Counts HTTP responses of one connection; any status but 200 is an error."""

    def __init__(self) -> None:
        self.errors = 0
        self.first_error = b""
        self._rest = b""

    def feed(self, data: bytes) -> int:
        """See `Replies`."""
        data = self._rest + data
        count = start = 0
        while start < len(data):
            end = end_of_response(data, start)
            if end < 0:
                break
            if data[start + 8 : start + 13] != b" 200 ":
                self.errors += 1
                self.first_error = self.first_error or data[start:end][:200]
            count += 1
            start = end
        self._rest = data[start:]
        return count


def encode(*words: str | bytes) -> bytes:
    """A command as RESP clients send it."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    parts = [b"*%d\r\n" % len(raw)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in raw]
    return b"".join(parts)


class Client:
    """One blocking RESP connection, for what is not measured."""

    def __init__(self, port: int, seconds: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send bytes that were encoded before."""
        self._socket.sendall(data)

    def reply(self) -> bytes:
        """The next whole reply, as it came. Raises OSError when the connection ends."""
        while (end := end_of_reply(self._data, 0) if self._data else -1) < 0:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._data += data
        reply, self._data = self._data[:end], self._data[end:]
        return reply

    def ask(self, *words: str) -> str:
        """One command, its reply as text: bulk strings without their length.

        Raises RuntimeError with the text of an error reply.
        """
        self.send(encode(*words))
        text = self.reply().decode(errors="replace")
        if text[0] == "-":
            raise RuntimeError(f"{words[0]}: {text[1:].strip()}")
        if text[0] == "$":
            return text.partition("\r\n")[2][:-2]
        return text[1:].rstrip("\r\n")

    def info(self) -> dict[str, str]:
        """All fields of INFO."""
        rows = (line.split(":", 1) for line in self.ask("INFO").splitlines() if ":" in line)
        return {name: text.strip() for name, text in rows}

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
