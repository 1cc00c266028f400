"""Messages between the two processes: whole, byte by byte, with a tail; and what is refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast import _entry
from pyraft_fast.errors import CommandError, InvariantError, ProtocolError
from pyraft_fast.limits import PIPE_FRAME_BYTES_MAX
from pyraft_fast.link.pipe import (
    OPS,
    READ_BYTES,
    ROLES,
    Applied,
    Change,
    Decoder,
    Done,
    Fatal,
    Log,
    Message,
    Propose,
    Read,
    Ready,
    Resend,
    Role,
    Shutdown,
    SnapshotTaken,
    Start,
    Status,
    Transfer,
    encode,
    propose_head,
)

MESSAGES: list[Message] = [
    Start({"nid": "1", "ensemble": [["2", "host:5020"]], "fsync": "always", "load": False}),
    Propose(1, 2, 3, b"payload \x00\xff"),
    Propose(2**64 - 1, 2**64 - 1, 2**32 - 1, b""),
    Read(2**64 - 1),
    Read(1, by_lease=True),
    Applied(0),
    SnapshotTaken("/folder/raft_1\udcff.dat", 7, 3),
    *(Change(1, op, "3", "host:5030") for op in OPS),
    Transfer(2, ""),
    Status(3),
    Shutdown(),
    Ready(2**64 - 1, "é", 2**32 - 1, 4, "", 0),
    Ready(1, "1", 2, 3, "/path", 5, 6),
    *(Role(role, 9, "", "", role == "leader") for role in ROLES),
    Resend(),
    Done(3, {"role": "leader", "peers": [{"contact_ms": -1, "lag": 0.5}], "none": None}, "", ""),
    Done(4, None, "TRYAGAIN", "later"),
    Log(30, "a line\nand another"),
    Fatal(1, "why"),
]


def decode(data: bytes) -> list[Message]:
    decoder = Decoder()
    decoder.feed(data)
    return list(decoder.messages())


def frame(number: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload), number) + payload


def packed(number: int, *fields: Any) -> bytes:
    return frame(number, _entry.packb(list(fields)))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    raw = encode(message)
    assert decode(raw) == [message]
    assert decode(raw + encode(Read(1))[:-1]) == [message]


def test_messages_come_byte_by_byte_each_once() -> None:
    decoder, got = Decoder(), []
    for byte in b"".join(map(encode, MESSAGES)):
        decoder.feed(bytes([byte]))
        got += list(decoder.messages())
    assert got == MESSAGES
    assert decoder.pending == 0


def test_all_at_once_and_pending_tells_of_what_was_cut() -> None:
    raw = b"".join(map(encode, MESSAGES))
    assert decode(raw) == MESSAGES
    decoder = Decoder()
    decoder.feed(raw[:-1])
    assert list(decoder.messages()) == MESSAGES[:-1]
    assert decoder.pending == len(encode(MESSAGES[-1])) - 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60))
def test_any_cuts_give_the_same_messages(cuts: list[int]) -> None:
    raw, at = b"".join(map(encode, MESSAGES)), 0
    decoder, got = Decoder(), []
    while at < len(raw):
        for cut in cuts:
            room = decoder.get_buffer()
            data = raw[at : at + min(cut, len(room))]
            room[: len(data)] = data
            decoder.buffer_updated(len(data))
            got += list(decoder.messages())
            at += len(data)
    assert got == MESSAGES


def test_large_batches_pass_and_the_buffer_shrinks_again() -> None:
    sent = [Propose(1, n, 1, bytes([n]) * (n * READ_BYTES // 3)) for n in range(14)]
    decoder, got = Decoder(), []
    for message in sent:
        raw = memoryview(encode(message))
        for at in range(0, len(raw), 70_001):
            decoder.feed(raw[at : at + 70_001])
            got += list(decoder.messages())
    assert got == sent
    assert len(decoder.get_buffer()) == READ_BYTES


def test_the_buffer_grows_with_what_arrived_not_with_what_is_claimed() -> None:
    decoder = Decoder()
    decoder.feed(struct.pack("<IB", PIPE_FRAME_BYTES_MAX, 2))
    assert list(decoder.messages()) == []
    assert len(decoder.get_buffer()) < READ_BYTES


def test_the_head_of_a_proposal_stands_for_the_whole() -> None:
    message = Propose(5, 6, 7, b"batch")
    assert propose_head(5, 6, 7, 5) + b"batch" == encode(message)


def test_what_would_pass_the_bound_is_not_sent() -> None:
    propose_head(1, 1, 1, PIPE_FRAME_BYTES_MAX - 20)
    with pytest.raises(ProtocolError, match="bound"):
        propose_head(1, 1, 1, PIPE_FRAME_BYTES_MAX)


def test_what_cannot_be_encoded_is_not_sent() -> None:
    with pytest.raises(CommandError):
        encode(Start({"folder": object()}))


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<IB", PIPE_FRAME_BYTES_MAX + 1, 2),
        frame(0, b""),
        frame(99, b""),
        frame(2, bytes(19)),
        frame(3, b""),
        frame(3, b"\xc1"),
        frame(3, _entry.packb({"context": 1})),
        frame(3, _entry.packb([1]) + b"\0"),
        packed(1, []),
        packed(3),
        packed(3, 1, 2),
        packed(3, "1"),
        packed(3, True),
        packed(3, -1),
        packed(3, None),
        packed(5, b"/path", 1, 1),
        packed(6, 1, "destroy", "2", ""),
        packed(9, 0),
        packed(34, "king", 1, "", "", True),
        packed(34, "leader", 1, "", "", 1),
        packed(36, 1, None, "", None),
    ],
)
def test_bad_frames_are_refused_and_stay_refused(raw: bytes) -> None:
    decoder = Decoder()
    decoder.feed(encode(Status(1)) + raw)
    messages = decoder.messages()
    assert next(messages) == Status(1)
    with pytest.raises(ProtocolError):
        next(messages)
    with pytest.raises(ProtocolError):
        list(decoder.messages())


def test_the_bound_can_be_narrower() -> None:
    decoder = Decoder(frame_bytes_max=10)
    decoder.feed(encode(Log(1, "a longer line")))
    with pytest.raises(ProtocolError, match="claims 16 bytes"):
        list(decoder.messages())


def test_more_than_the_room_cannot_be_claimed() -> None:
    decoder = Decoder()
    room = len(decoder.get_buffer())
    with pytest.raises(InvariantError):
        decoder.buffer_updated(room + 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 40), st.binary(max_size=60))
def test_noise_is_refused_or_is_a_message(number: int, payload: bytes) -> None:
    try:
        messages = decode(frame(number, payload))
    except ProtocolError:
        return
    assert len(messages) == 1
    assert decode(encode(messages[0])) == messages
