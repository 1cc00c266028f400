"""Batches on their way to the leader, as peer frames and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyraft_fast import _entry
from pyraft_fast._wire import Frame, encode_frame
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.identity import INCARNATION_MAX
from pyraft_fast.errors import ProtocolError

START_MAX: Final = 2**40 - 1
BATCH_MAX: Final = 2**48 - 1


@dataclass(slots=True)
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
