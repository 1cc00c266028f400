"""What the two processes say to each other, and how it looks on the socket between them.

    0 u32 length         of the payload
    4 u8  type
    5 payload            msgpack list of the message's fields;
                         PROPOSE: u64 start, u64 batch, u32 count, then the batch as it is

Little-endian. Each message is a dataclass; this module knows their fields and nothing of what they
cause. Both processes run the same package, yet nothing that arrives is trusted: a length past the
bound, an unknown type, a missing field or one of another kind raises ProtocolError, and the link
has to be cut. The decoder never allocates what a length merely claims.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pyraft_fast import _entry
from pyraft_fast.errors import ProtocolError, check
from pyraft_fast.limits import KIB, PIPE_FRAME_BYTES_MAX

PREFIX: Final = struct.Struct("<IB")
PROPOSE_HEAD: Final = struct.Struct("<QQI")
READ_BYTES: Final = 256 * KIB
KEEP_BYTES: Final = 4 * READ_BYTES  # a buffer grown past this is dropped when it is empty again
ROLES: Final = ("follower", "candidate", "leader", "learner", "joining", "removed")
OPS: Final = ("add", "remove", "promote", "demote", "address")


# Serving process to consensus


@dataclass(slots=True)
class Start:
    """The first message: the node's settings, checked by the receiver."""

    settings: dict[str, Any]


@dataclass(slots=True)
class Propose:
    """Batch number `batch` of serving session `start`: `count` encoded commands."""

    start: int
    batch: int
    count: int
    payload: bytes


@dataclass(slots=True)
class SlotFilled:
    """A batch lies in the slot, and who takes from it had found it empty."""


@dataclass(slots=True)
class Read:
    """A read index is wanted; the answer comes through the ring with the same context.

    `by_lease`: the word of a leader that holds a lease will do.
    """

    context: int
    by_lease: bool = False


@dataclass(slots=True)
class Applied:
    """Once, after READY: the data contain everything up to `index`; publish from there on."""

    index: int


@dataclass(slots=True)
class SnapshotTaken:
    """A snapshot of the state at `index` is durable at `path`; older log may go."""

    path: str
    index: int
    term: int


@dataclass(slots=True)
class Change:
    """A membership change is wanted; `op` is one of OPS, `addr` may be ""."""

    request_id: int
    op: str
    nid: str
    addr: str


@dataclass(slots=True)
class Transfer:
    """The leadership shall move to `nid`, or to the most caught-up voter if ""."""

    request_id: int
    nid: str


@dataclass(slots=True)
class Status:
    """The facts for INFO are wanted."""

    request_id: int


@dataclass(slots=True)
class Digests:
    """A note for the guard of node `nid`, of all other members if ""; it may be lost."""

    nid: str
    note: bytes


@dataclass(slots=True)
class Shutdown:
    """Hand over what is led, finish what is being written, end."""


# Consensus to serving process


@dataclass(slots=True)
class Ready:
    """The log is recovered. Load the snapshot if there is one, then say APPLIED.

    `start` numbers the serving session that begins; `snapshot_path` is "" when there is no
    snapshot; `cluster` and `incarnation` are 0 as long as a joining node has none.
    `applied_hint` is the highest index known to be committed.
    """

    cluster: int
    nid: str
    incarnation: int
    start: int
    snapshot_path: str
    snapshot_index: int
    applied_hint: int = 0


@dataclass(slots=True)
class Role:
    """The node's part in the cluster; `role` is one of ROLES, unknown leaders are ""."""

    role: str
    term: int
    leader_nid: str
    leader_addr: str
    serving_ok: bool


@dataclass(slots=True)
class Resend:
    """Batches on their way may be lost: send the pending ones again, in order."""


@dataclass(slots=True)
class Done:
    """Answer to CHANGE, TRANSFER or STATUS; `error_code` is "" when it went well."""

    request_id: int
    value: Any
    error_code: str
    error_text: str


@dataclass(slots=True)
class DigestsFrom:
    """A note from the guard of member `nid`."""

    nid: str
    note: bytes


@dataclass(slots=True)
class Log:
    """A line for the log of the node, with a level of the logging module."""

    level: int
    text: str


@dataclass(slots=True)
class Fatal:
    """The node cannot go on and shall exit with this status; the text says why."""

    exit_status: int
    text: str


ToConsensus: TypeAlias = (
    Start
    | Propose
    | SlotFilled
    | Read
    | Applied
    | SnapshotTaken
    | Change
    | Transfer
    | Status
    | Digests
    | Shutdown
)
ToServing: TypeAlias = Ready | Role | Resend | Done | Log | Fatal | DigestsFrom
Message: TypeAlias = ToConsensus | ToServing

_PROPOSE: Final = 2
_TYPES: Final[dict[int, tuple[type[Message], tuple[type, ...]]]] = {
    1: (Start, (dict,)),
    _PROPOSE: (Propose, (int, int, int, bytes)),
    3: (Read, (int, bool)),
    4: (Applied, (int,)),
    5: (SnapshotTaken, (str, int, int)),
    6: (Change, (int, str, str, str)),
    7: (Transfer, (int, str)),
    8: (Status, (int,)),
    9: (Shutdown, ()),
    10: (Digests, (str, bytes)),
    11: (SlotFilled, ()),
    33: (Ready, (int, str, int, int, str, int, int)),
    34: (Role, (str, int, str, str, bool)),
    35: (Resend, ()),
    36: (Done, (int, object, str, str)),
    37: (Log, (int, str)),
    38: (Fatal, (int, str)),
    39: (DigestsFrom, (str, bytes)),
}
_NUMBERS: Final[dict[type, int]] = {kind: number for number, (kind, _) in _TYPES.items()}


def encode(message: Message) -> bytes:
    """One message as a frame.

    Raises ProtocolError when it would pass PIPE_FRAME_BYTES_MAX, CommandError when a field holds
    what cannot be encoded.
    """
    if isinstance(message, Propose):
        payload = message.payload
        return propose_head(message.start, message.batch, message.count, len(payload)) + payload
    kind = type(message)
    payload = _entry.packb([getattr(message, name) for name in kind.__match_args__])
    return _prefix(_NUMBERS[kind], len(payload)) + payload


def propose_head(start: int, batch: int, count: int, payload_bytes: int) -> bytes:
    """The start of a PROPOSE frame, for a payload that is written behind it without a copy."""
    prefix = _prefix(_PROPOSE, PROPOSE_HEAD.size + payload_bytes)
    return prefix + PROPOSE_HEAD.pack(start, batch, count)


def _prefix(number: int, length: int) -> bytes:
    if length > PIPE_FRAME_BYTES_MAX:
        raise ProtocolError(f"a message of {length} bytes passes the bound of the pipe")
    return PREFIX.pack(length, number)


class Decoder:
    """Turns received bytes into messages, in the shape of asyncio.BufferedProtocol."""

    def __init__(self, frame_bytes_max: int = PIPE_FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray(READ_BYTES)
        self._start = 0  # first byte not yet handed out
        self._end = 0  # first free byte

    @property
    def pending(self) -> int:
        """Bytes received that are not yet a message; not 0 at the end of the stream: cut short."""
        return self._end - self._start

    def get_buffer(self, size_hint: int = -1) -> memoryview:
        """Room for the next read; call buffer_updated with how much of it was filled."""
        size = len(self._buffer)
        used = self._end - self._start
        if used == 0:
            self._start = self._end = 0
            if size > KEEP_BYTES:
                self._buffer = bytearray(READ_BYTES)
        elif size - self._end < READ_BYTES // 4:
            fresh = bytearray(size * 2 if used > size // 2 else size)
            fresh[:used] = memoryview(self._buffer)[self._start : self._end]
            self._buffer, self._start, self._end = fresh, 0, used
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, count: int) -> None:
        """`count` bytes arrived in the view that get_buffer gave."""
        self._end += count
        check(self._end <= len(self._buffer), "read past the pipe's buffer", count)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that were received elsewhere."""
        view, at = memoryview(data), 0
        while at < len(view):
            room = self.get_buffer()
            count = min(len(room), len(view) - at)
            room[:count] = view[at : at + count]
            self.buffer_updated(count)
            at += count

    def messages(self) -> Iterator[Message]:
        """Complete messages received so far, each once. Raises ProtocolError at a bad frame."""
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if self._end - self._start < PREFIX.size:
            return None
        length, number = PREFIX.unpack_from(self._buffer, self._start)
        if length > self._frame_bytes_max or number not in _TYPES:
            raise ProtocolError(f"a pipe frame of type {number} claims {length} bytes")
        begin = self._start + PREFIX.size
        if self._end - begin < length:
            return None
        with memoryview(self._buffer) as whole, whole[begin : begin + length] as payload:
            message = _decode(number, payload)
        self._start = begin + length
        return message


def _decode(number: int, payload: memoryview) -> Message:
    if number == _PROPOSE:
        if len(payload) < PROPOSE_HEAD.size:
            raise ProtocolError(f"a proposal of {len(payload)} bytes")
        start, batch, count = PROPOSE_HEAD.unpack_from(payload)
        return Propose(start, batch, count, bytes(payload[PROPOSE_HEAD.size :]))
    kind, wanted = _TYPES[number]
    fields = _entry.unpackb(payload)
    if type(fields) is not list or len(fields) != len(wanted):
        raise ProtocolError(f"a {kind.__name__} message without its {len(wanted)} fields")
    for field, want in zip(fields, wanted, strict=True):
        if want is not object and type(field) is not want:
            raise ProtocolError(f"a {kind.__name__} message with a {type(field).__name__} field")
        if want is int and not 0 <= field < 2**64:
            raise ProtocolError(f"a {kind.__name__} message with the number {field}")
    message = kind(*fields)
    if isinstance(message, Role) and message.role not in ROLES:
        raise ProtocolError(f"unknown role {message.role!r:.40}")
    if isinstance(message, Change) and message.op not in OPS:
        raise ProtocolError(f"unknown membership change {message.op!r:.40}")
    return message
