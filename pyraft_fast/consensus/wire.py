"""Messages of the core and forwarded batches as peer frames, and back.

The records of entries go out as they are, the same bytes as on disk, and are verified as they come
in. Who sent a message is what the link knows, not what the bytes say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyraft_fast import _entry
from pyraft_fast.consensus.frames import Fields, Frame, FrameType, encode_frame, split_records
from pyraft_fast.consensus.identity import INCARNATION_MAX, Identity
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.messages import Message, read_message
from pyraft_fast.errors import ProtocolError
from pyraft_fast.limits import APPEND_BYTES_MAX

ENTRIES_MAX: Final = APPEND_BYTES_MAX // _entry.HEADER_SIZE + 1
START_MAX: Final = 2**40 - 1
BATCH_MAX: Final = 2**48 - 1


def encode_message(message: Message) -> list[bytes]:
    """A message as the pieces of one frame."""
    records = [entry.record for entry in message.entries]
    head = encode_frame(FrameType.MESSAGE, message.wire(), sum(map(len, records)))
    return [head, *records]


def decode_message(caller: Identity, me: Identity, frame: Frame) -> Message:
    """The message in a frame on the link of `caller`. Raises ProtocolError."""
    entries = [Entry.from_record(record) for record in split_records(frame.body, ENTRIES_MAX)]
    return read_message(frame.header, caller.nid, caller.incarnation, me.nid, entries)


@dataclass(frozen=True)
class Proposal:
    """One batch of a serving process, to become an entry. See the log record's header."""

    origin: int
    start: int
    batch: int
    count: int
    payload: bytes


def encode_forward(proposal: Proposal) -> list[bytes]:
    """A proposal as it goes to the leader."""
    header = {
        "origin": proposal.origin,
        "start": proposal.start,
        "batch": proposal.batch,
        "count": proposal.count,
        "crc": _entry.crc32c(proposal.payload),
    }
    return [encode_frame(FrameType.FORWARD, header, len(proposal.payload)), proposal.payload]


def decode_forward(frame: Frame) -> Proposal:
    """The proposal in a FORWARD frame. Raises ProtocolError."""
    fields = Fields(frame.header, "a forwarded batch")
    payload = bytes(frame.body)
    if _entry.crc32c(payload) != fields.number("crc"):
        raise ProtocolError("a forwarded batch does not match its checksum")
    return Proposal(
        fields.number("origin", INCARNATION_MAX),
        fields.number("start", START_MAX),
        fields.number("batch", BATCH_MAX),
        fields.number("count", 2**32 - 1),
        payload,
    )
