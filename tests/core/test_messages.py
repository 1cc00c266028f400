"""Messages on the wire: what goes out comes back, and lies are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pyraft_fast._wire import Frame, FrameReader, decode_message, encode_message
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.errors import ProtocolError
from tests.core.single import entries_of, entry

FIELDS = (
    "kind", "sender", "to", "term", "index", "log_term", "commit", "flag", "hint", "context",
    "clock_ms", "incarnation", "to_incarnation", "membership",
)  # fmt: skip


def received(fields: object, entries: Sequence[Entry] = ()) -> Message:
    body = b"".join(entry.record for entry in entries)
    return decode_message("1", 11, "2", Frame(4, fields, memoryview(body)))


def test_every_field_survives_the_wire() -> None:
    sent = Message(
        MessageKind.APPEND, "1", "2", 9, 4, 3, 2, True, 7, 8, 99, entries_of((3, 9), 5), 11, 12
    )
    reader = FrameReader(1 << 20)
    reader.feed(b"".join(encode_message(sent)))
    (frame,) = reader.frames()
    for got in (
        decode_message("1", 11, "2", frame),
        received(frame.header, sent.entries),
    ):
        for name in FIELDS:
            assert getattr(got, name) == getattr(sent, name), name
        assert [e.record for e in got.entries] == [e.record for e in sent.entries]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        [1] * 9,
        [1] * 11,
        [1, -1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 2**64, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, "1", 0, 0, 0, 0, 0, 0, 0, 0],
        [1, True, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [99, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [int(MessageKind.SNAPSHOT), 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
)
def test_fields_that_no_message_has_are_refused(fields: object) -> None:
    with pytest.raises(ProtocolError):
        received(fields)


@pytest.mark.parametrize(
    "entries",
    [
        entries_of((3,), 6),  # behind a gap
        [entry(5, 3), entry(5, 3)],
        [entry(5, 2)],  # below the term before it
        [entry(5, 10)],  # above the leader's term
        [entry(5, 4), entry(6, 3)],
    ],
)
def test_entries_that_cannot_follow_each_other_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ProtocolError, match="wrong place"):
        received([int(MessageKind.APPEND), 9, 4, 3, 0, 0, 0, 0, 0, 0], entries)


def test_only_an_append_carries_entries() -> None:
    with pytest.raises(ProtocolError, match="carries entries"):
        received([int(MessageKind.HEARTBEAT), 9, 4, 3, 0, 0, 0, 0, 0, 0], entries_of((3,), 5))


def test_a_message_shows_what_it_says() -> None:
    sent = Message(MessageKind.APPEND, "1", "2", 9, 4, 3, entries=entries_of((3, 9), 5))
    assert repr(sent) == "<APPEND 1->2 t9 index=4 log_term=3 entries=5..6>"
