"""The slow twin of pyraft_fast._wire: frames and messages, written to be read.

It knows the format from the text of that module, and asks the record codec's twin for the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from pyraft_fast.core.messages import MessageKind
from pyraft_fast.errors import ProtocolError
from pyraft_fast.limits import APPEND_BYTES_MAX, PEER_FRAME_BYTES_MAX
from tests.twins import entry_twin

PREFIX = struct.Struct("<IBBHI")
MESSAGE = 4
APPEND = 1
NEVER_SENT = {int(MessageKind.SNAPSHOT)}


class Entry(NamedTuple):
    """What of a record the rules read."""

    index: int
    term: int
    kind: int
    time_ms: int
    record: bytes


class Message(NamedTuple):
    """A message that was received."""

    kind: int
    term: int
    index: int
    log_term: int
    commit: int
    flag: bool
    hint: int
    context: int
    clock_ms: int
    to_incarnation: int
    entries: tuple[Entry, ...]


def crc_of(kind: int, head: bytes) -> int:
    """The checksum of a header."""
    return entry_twin.crc32c(head, (kind << 16) | len(head))


def frame_start(kind: int, header: object, body_bytes: int) -> bytes:
    """A frame up to where its body follows."""
    head = entry_twin.packb(header)
    length = PREFIX.size + len(head) + body_bytes
    if length > PEER_FRAME_BYTES_MAX or len(head) > 0xFFFF:
        raise ProtocolError("too long")
    return PREFIX.pack(length, kind, 1, len(head), crc_of(kind, head)) + head


def encode(numbers: Sequence[int], records: Sequence[bytes]) -> bytes:
    """A message of ten numbers and its entries' records as one frame."""
    start = frame_start(MESSAGE, list(numbers), sum(map(len, records)))
    return start + b"".join(records)


def split(data: bytes, frame_bytes_max: int) -> tuple[list[tuple[int, bytes, bytes]], bool]:
    """(type, header, body) of the frames in `data`, and whether a bad one follows them."""
    frames = []
    while len(data) >= PREFIX.size:
        length, kind, version, head_bytes, crc = PREFIX.unpack_from(data)
        begin = PREFIX.size + head_bytes
        if version != 1 or not begin <= length <= frame_bytes_max:
            return frames, True
        if len(data) < length:
            break
        head = data[PREFIX.size : begin]
        if crc_of(kind, head) != crc:
            return frames, True
        frames.append((kind, head, data[begin:length]))
        data = data[length:]
    return frames, False


def decode(head: bytes, body: bytes) -> Message | None:
    """The message in a frame's header and body; None for what is none."""
    try:
        fields = entry_twin.unpackb(head)
    except ProtocolError:
        return None
    if type(fields) is not list or len(fields) != 10:
        return None
    if any(type(value) is not int or not 0 <= value < 2**64 for value in fields):
        return None
    kind, term, index, log_term, commit, flag, hint, context, clock_ms, to_incarnation = fields
    if kind not in {int(known) for known in MessageKind} - NEVER_SENT:
        return None
    entries = entries_in(body)
    if entries is None or (entries and kind != APPEND):
        return None
    newest = log_term
    for place, entry in enumerate(entries, index + 1):
        if entry.index != place or not newest <= entry.term <= term:
            return None
        newest = entry.term
    return Message(
        kind, term, index, log_term, commit, flag != 0, hint, context, clock_ms, to_incarnation,
        tuple(entries),
    )  # fmt: skip


def entries_in(body: bytes) -> list[Entry] | None:
    """The entries whose records fill `body`; None when they do not."""
    entries: list[Entry] = []
    while body:
        if not entry_twin.verify(body) or len(entries) > APPEND_BYTES_MAX // 64:
            return None
        head = entry_twin.header(body)
        record, body = body[: head["length"]], body[head["length"] :]
        entries.append(Entry(head["index"], head["term"], head["kind"], head["time_ms"], record))
    return entries
