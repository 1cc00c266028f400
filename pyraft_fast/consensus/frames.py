"""Frames between nodes: how bytes on the peer port become typed frames, and nothing else.

    0 u32 length         of the whole frame
    4 u8  type
    5 u8  version        = 1
    6 u16 header_bytes   of the msgpack header
    8 u32 crc32c         of the header, seeded with type and header_bytes
   12 header             msgpack
      body               raw bytes: log records (each carries its own checksum), a batch, a chunk

Little-endian. The reader trusts nothing: a length outside the bound, a wrong version or a checksum
that does not match raises ProtocolError, and the connection it came on is closed. It never
allocates what a length merely claims: the buffer grows with the bytes that have arrived. What a
frame means is not known here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

from pyraft_fast import _entry
from pyraft_fast.errors import ProtocolError, check
from pyraft_fast.limits import KIB, PEER_FRAME_BYTES_MAX

MAGIC: Final = "pyraft-fast peer"
VERSION: Final = 1
PREFIX: Final = struct.Struct("<IBBHI")
FIRST_FRAME_BYTES_MAX: Final = 64 * KIB + PREFIX.size  # before the other side said who it is
READ_BYTES: Final = 256 * KIB
KEEP_BYTES: Final = 4 * READ_BYTES  # a buffer grown past this is dropped when it is empty again


class FrameType(IntEnum):
    """What a frame is; the number is on the wire."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    MESSAGE = 4
    FORWARD = 5
    FORWARD_REFUSED = 6
    SNAPSHOT_OFFER = 7
    SNAPSHOT_ACK = 8
    SNAPSHOT_CHUNK = 9
    REQUEST = 10
    RESPONSE = 11
    DIGESTS = 12


class Frame(NamedTuple):
    """One received frame. `body` lies in the reader's buffer: copy what must outlive the turn."""

    type: int
    header: object
    body: memoryview


def encode_frame(kind: int, header: object, body_bytes: int = 0) -> bytes:
    """The start of a frame, up to where its body of `body_bytes` follows.

    Raises ProtocolError when the whole would pass PEER_FRAME_BYTES_MAX.
    """
    head = _entry.packb(header)
    length = PREFIX.size + len(head) + body_bytes
    if length > PEER_FRAME_BYTES_MAX or len(head) > 0xFFFF:
        raise ProtocolError(f"a peer frame of {length} bytes passes the bound")
    return PREFIX.pack(length, kind, VERSION, len(head), _header_crc(kind, head)) + head


def _header_crc(kind: int, head: bytes | memoryview) -> int:
    return _entry.crc32c(head, (kind << 16) | len(head))


class FrameReader:
    """Turns received bytes into frames, in the shape of asyncio.BufferedProtocol."""

    def __init__(self, frame_bytes_max: int = FIRST_FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray(min(READ_BYTES, FIRST_FRAME_BYTES_MAX))
        self._start = 0  # first byte not yet handed out
        self._end = 0  # first free byte

    def get_buffer(self) -> memoryview:
        """Room for the next read; call buffer_updated with how much of it was filled."""
        size = len(self._buffer)
        if self._start == self._end:
            self._start = self._end = 0
            if size > KEEP_BYTES:
                self._buffer = bytearray(READ_BYTES)
        elif self._end == size or self._end - self._start < self._start:
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def _make_room(self) -> None:
        used = self._end - self._start
        size = len(self._buffer)
        fresh = bytearray(max(READ_BYTES, size * 2 if used > size // 2 else size))
        fresh[:used] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = fresh, 0, used

    def buffer_updated(self, count: int) -> None:
        """`count` bytes arrived in the view that get_buffer gave."""
        self._end += count
        check(self._end <= len(self._buffer), "read past the frame buffer", count)

    def feed(self, data: bytes) -> None:
        """Take bytes from elsewhere (tests, files)."""
        at = 0
        while at < len(data):
            room = self.get_buffer()
            count = min(len(room), len(data) - at)
            room[:count] = data[at : at + count]
            self.buffer_updated(count)
            at += count

    def frames(self) -> Iterator[Frame]:
        """Complete frames received so far. Raises ProtocolError at the first bad byte."""
        while True:
            frame = self._next()
            if frame is None:
                return
            yield frame

    def _next(self) -> Frame | None:
        have = self._end - self._start
        if have < PREFIX.size:
            return None
        length, kind, version, head_bytes, crc = PREFIX.unpack_from(self._buffer, self._start)
        if version != VERSION:
            raise ProtocolError(f"the peer speaks frame version {version}, this node {VERSION}")
        if not PREFIX.size + head_bytes <= length <= self.frame_bytes_max:
            raise ProtocolError(f"a peer frame claims {length} bytes")
        if have < length:
            return None
        view = memoryview(self._buffer)[self._start : self._start + length].toreadonly()
        head = view[PREFIX.size : PREFIX.size + head_bytes]
        if _header_crc(kind, head) != crc:
            raise ProtocolError("a peer frame's header does not match its checksum")
        header = _entry.unpackb(head)
        self._start += length
        return Frame(kind, header, view[PREFIX.size + head_bytes :])


def split_records(body: memoryview, count_max: int) -> list[bytes]:
    """The log records of a frame body, each verified and copied out.

    Raises ProtocolError when one is cut short, fails its checksum, or there are too many.
    """
    records: list[bytes] = []
    offset = 0
    end = len(body)
    while offset < end:
        if end - offset < _entry.HEADER_SIZE or not _entry.verify(body, offset):
            raise ProtocolError("a log record from a peer does not match its checksum")
        length = _entry.header(body, offset).length
        if length > end - offset or len(records) >= count_max:
            raise ProtocolError("log records from a peer do not fill their frame")
        records.append(bytes(body[offset : offset + length]))
        offset += length
    return records


class Fields:
    """Reads a received header by position or name, each value checked for type and range.

    Headers come from another machine: whatever does not fit raises ProtocolError naming the field.
    """

    def __init__(self, header: object, what: str) -> None:
        if not isinstance(header, dict):
            raise ProtocolError(f"{what} from a peer has no fields")
        self._values = header
        self._what = what

    def _take(self, name: str, fits: Callable[[Any], bool]) -> Any:
        value = self._values.get(name)
        if not fits(value):
            raise ProtocolError(f"{self._what} from a peer has a bad {name}: {value!r:.80}")
        return value

    def number(self, name: str, maximum: int = 2**64 - 1) -> int:
        """An integer from 0 to `maximum`."""
        value: int = self._take(name, lambda v: type(v) is int and 0 <= v <= maximum)
        return value

    def text(self, name: str, length_max: int = 4096) -> str:
        """A string of at most `length_max` characters."""
        value: str = self._take(name, lambda v: isinstance(v, str) and len(v) <= length_max)
        return value

    def flag(self, name: str) -> bool:
        """A boolean."""
        value: bool = self._take(name, lambda v: isinstance(v, bool))
        return value

    def blob(self, name: str, length_max: int = 64 * KIB) -> bytes:
        """A byte string of at most `length_max` bytes."""
        value: bytes = self._take(name, lambda v: isinstance(v, bytes) and len(v) <= length_max)
        return value

    def texts(self, name: str, count_max: int = 256) -> list[str]:
        """A list of strings."""
        value: list[str] = self._take(
            name,
            lambda v: (
                isinstance(v, list) and len(v) <= count_max and all(isinstance(t, str) for t in v)
            ),
        )
        return value

    def table(self, name: str) -> dict[str, object]:
        """A map with string keys."""
        value: dict[str, object] = self._take(
            name, lambda v: isinstance(v, dict) and all(isinstance(key, str) for key in v)
        )
        return value
