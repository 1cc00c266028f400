"""Messages as bytes: the codec and its slow twin agree, and nothing received is believed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pyraft_fast._wire import (
    Entry,
    FrameReader,
    Message,
    decode_message,
    encode_frame,
    encode_message,
)
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.errors import ProtocolError
from pyraft_fast.limits import PEER_FRAME_BYTES_MAX
from tests.fuzz.fuzz_wire import one_input
from tests.twins import wire_twin


def test_the_codec_and_its_twin_agree() -> None:
    dice = Random(11)
    for _ in range(4000):
        one_input(dice)


def framed(head: bytes) -> FrameReader:
    """A reader that has got a message with these bytes as its header."""
    start = wire_twin.PREFIX.pack(
        wire_twin.PREFIX.size + len(head),
        wire_twin.MESSAGE,
        1,
        len(head),
        wire_twin.crc_of(4, head),
    )
    reader = FrameReader()
    reader.feed(start + head)
    return reader


FORMS = [
    b"\x03", b"\xcc\x03", b"\xcd\0\x03", b"\xce\0\0\0\x03", b"\xcf" + bytes(7) + b"\x03",
    b"\xd0\x03", b"\xd1\0\x03",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_numbers_may_be_written_longer_than_needed(form: bytes) -> None:
    (frame,) = framed(b"\x9a\x03" + form * 9).frames()
    assert decode_message("1", 1, "2", frame).term == 3


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_header_that_ends_early_is_no_message(cut: int) -> None:
    (frame,) = framed((b"\x9a\x03" + b"\x01" * 9)[:-cut]).frames()
    with pytest.raises(ProtocolError):
        decode_message("1", 1, "2", frame)


def test_a_header_with_more_behind_it_is_no_message() -> None:
    (frame,) = framed(b"\x9a\x03" + b"\x01" * 10).frames()
    with pytest.raises(ProtocolError, match="behind the value"):
        decode_message("1", 1, "2", frame)


def test_an_index_cannot_wrap_around() -> None:
    last = 2**64 - 1
    sent = Message(MessageKind.APPEND, "1", "2", 9, last, 3, entries=[Entry.make(2, 0, 3, 5, b"x")])
    reader = FrameReader()
    reader.feed(b"".join(encode_message(sent)))
    (frame,) = reader.frames()
    with pytest.raises(ProtocolError, match="wrong place"):
        decode_message("1", 1, "2", frame)


def test_a_frame_past_the_bound_is_not_made() -> None:
    with pytest.raises(ProtocolError, match="passes the bound"):
        encode_frame(9, {}, PEER_FRAME_BYTES_MAX)
    with pytest.raises(ProtocolError, match="passes the bound"):
        encode_frame(9, "x" * 70_000)


@pytest.mark.parametrize("field", ["term", "index", "commit", "hint", "clock_ms"])
def test_a_number_that_no_message_can_carry_is_refused(field: str) -> None:
    for value in (-1, 2**64):
        fields: dict[str, Any] = {"term": 1, field: value}
        with pytest.raises(OverflowError):
            Message(MessageKind.VOTE, "1", "2", **fields)


def test_an_entry_is_never_changed() -> None:
    entry = Entry.make(1, 7, 3, 5, b"")
    with pytest.raises(AttributeError):
        entry.index = 8  # type: ignore[misc]


def test_a_reader_does_not_grow_past_what_came() -> None:
    reader = FrameReader(PEER_FRAME_BYTES_MAX)
    reader.feed(wire_twin.PREFIX.pack(PEER_FRAME_BYTES_MAX, 9, 1, 10, 0))
    assert list(reader.frames()) == []
    assert len(reader.get_buffer()) < 1 << 19
