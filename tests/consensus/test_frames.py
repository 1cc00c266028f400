"""Peer frames: whole, cut anywhere, followed by more; and garbage that must never pass."""

from __future__ import annotations

import random

import pytest

from pyraft_fast import _entry
from pyraft_fast._wire import FIRST_FRAME_BYTES_MAX, FrameReader, encode_frame, read_entries
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.errors import ProtocolError
from tests.twins.wire_twin import PREFIX

HEADER = {"nid": "n1", "term": 7, "raw": b"\x00\xff", "list": [1, "two", None]}


def make_frame(body: bytes = b"", kind: int = FrameType.MESSAGE) -> bytes:
    return encode_frame(kind, HEADER, len(body)) + body


def drain(reader: FrameReader) -> list[tuple[int, object, bytes]]:
    return [(frame.type, frame.header, bytes(frame.body)) for frame in reader.frames()]


def make_record(index: int, payload: bytes = b"\x92\x00\xa1x") -> bytes:
    return _entry.seal(_entry.KIND_COMMANDS, index, 3, 1000, 9, 1, index, 1, payload)


def test_a_frame_survives_every_cut() -> None:
    raw = make_frame(b"body bytes") + make_frame(b"", FrameType.HELLO)
    want = [(FrameType.MESSAGE, HEADER, b"body bytes"), (FrameType.HELLO, HEADER, b"")]
    for cut in range(len(raw) + 1):
        reader = FrameReader()
        reader.feed(raw[:cut])
        got = drain(reader)
        reader.feed(raw[cut:])
        assert got + drain(reader) == want


def test_bytes_one_by_one() -> None:
    reader = FrameReader()
    got = []
    for byte in make_frame(b"abc"):
        reader.feed(bytes([byte]))
        got += drain(reader)
    assert got == [(FrameType.MESSAGE, HEADER, b"abc")]


def test_frames_larger_than_the_buffer() -> None:
    body = random.Random(1).randbytes(3_000_000)
    reader = FrameReader(frame_bytes_max=8_000_000)
    stream = make_frame(body) + make_frame(b"small") + make_frame(body[:999_999])
    got = []
    for at in range(0, len(stream), 70_001):
        reader.feed(stream[at : at + 70_001])
        got += drain(reader)
    assert [len(item[2]) for item in got] == [3_000_000, 5, 999_999]
    assert got[0][2] == body


def test_a_claimed_length_beyond_the_bound_is_refused() -> None:
    reader = FrameReader()
    reader.feed(PREFIX.pack(FIRST_FRAME_BYTES_MAX + 1, 1, 1, 10, 0))
    with pytest.raises(ProtocolError, match="claims"):
        drain(reader)


def test_another_version_is_named() -> None:
    reader = FrameReader()
    reader.feed(PREFIX.pack(100, 1, 2, 10, 0))
    with pytest.raises(ProtocolError, match="version 2"):
        drain(reader)


def test_every_flipped_bit_in_prefix_and_header_is_noticed() -> None:
    raw = make_frame()
    for position in range(len(raw)):
        for bit in range(8):
            bad = bytearray(raw)
            bad[position] ^= 1 << bit
            reader = FrameReader()
            reader.feed(bytes(bad))
            try:
                assert drain(reader) == []  # a longer length only waits for more
                assert position < 4
            except ProtocolError:
                continue


def test_noise_raises_protocol_error_or_waits() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        reader = FrameReader()
        reader.feed(rng.randbytes(rng.randrange(200)))
        try:
            assert drain(reader) == []
        except ProtocolError:
            continue


def test_records_come_out_as_they_went_in() -> None:
    records = [make_record(index) for index in (5, 6, 7)]
    entries = read_entries(memoryview(b"".join(records)), 10)
    assert [entry.record for entry in entries] == records
    assert [(entry.index, entry.term, entry.time_ms) for entry in entries] == [
        (5, 3, 1000), (6, 3, 1000), (7, 3, 1000),
    ]  # fmt: skip


@pytest.mark.parametrize("cut", [1, 63, 64, 70])
def test_a_cut_record_is_refused(cut: int) -> None:
    raw = make_record(5) + make_record(6)[:-1] if cut == 70 else make_record(5)[:cut]
    with pytest.raises(ProtocolError):
        read_entries(raw, 10)


def test_a_damaged_record_is_refused() -> None:
    raw = bytearray(make_record(5))
    raw[-1] ^= 1
    with pytest.raises(ProtocolError, match="checksum"):
        read_entries(raw, 10)


def test_too_many_records_are_refused() -> None:
    with pytest.raises(ProtocolError):
        read_entries(make_record(5) * 3, 2)


@pytest.mark.parametrize("value", [-1, True, "7", None, 2**64, 1.0])
def test_numbers_are_checked(value: object) -> None:
    with pytest.raises(ProtocolError, match="bad term"):
        Fields({"term": value}, "a test").number("term")


def test_header_must_be_a_map() -> None:
    with pytest.raises(ProtocolError):
        Fields([1, 2], "a test")
