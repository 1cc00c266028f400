"""Sealed records: header, checksum, commands, and the walk over many of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast import _entry
from pyraft_fast._entry import HEADER_SIZE, KIND_COMMANDS, Batch, crc32c, header, seal, verify
from pyraft_fast.errors import InvariantError, ProtocolError
from pyraft_fast.limits import RECORD_BYTES_MAX
from tests.fuzz.fuzz_entry import Edge, fields, judge_records
from tests.twins import entry_twin

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
ARGS = st.tuples(st.integers(1, 255), U64, U64, U64, U64, U64, U64, U32, st.binary(max_size=200))

# RFC 3720, appendix B.4, and the usual check value
KNOWN_CHECKSUMS = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
]


def payload_of(*commands: list[Any]) -> bytes:
    batch = Batch()
    for words in commands:
        batch.add(words)
    return batch.take()


def record_of(*commands: list[Any], index: int = 1) -> bytes:
    return seal(KIND_COMMANDS, index, 2, 3, 4, 5, 6, len(commands), payload_of(*commands))


# Checksums


@pytest.mark.parametrize(("data", "want"), KNOWN_CHECKSUMS, ids=lambda value: str(value)[:12])
def test_known_checksums_each_way(data: bytes, want: int) -> None:
    assert crc32c(data) == entry_twin.crc32c(data) == want
    assert _entry._crc32c_by("table", data) == want
    if _entry.CRC32C_HARDWARE:
        assert _entry._crc32c_by("hardware", data) == want


@settings(deadline=None)
@given(st.binary(max_size=300), U32, st.integers(0, 9))
def test_checksums_agree_each_way(data: bytes, seed: int, skip: int) -> None:
    view = memoryview(data)[skip:]  # at any alignment
    want = entry_twin.crc32c(view.tobytes(), seed)
    assert crc32c(view, seed) == want
    assert _entry._crc32c_by("table", view, seed) == want
    if _entry.CRC32C_HARDWARE:
        assert _entry._crc32c_by("hardware", view, seed) == want


@settings(deadline=None)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_checksum_goes_on_behind_another(first: bytes, second: bytes) -> None:
    assert crc32c(second, crc32c(first)) == crc32c(first + second)


def test_checksums_of_long_data() -> None:
    data = Random(1).randbytes(200_003)
    want = _entry._crc32c_by("table", data)
    assert crc32c(data) == crc32c(bytearray(data)) == want
    assert crc32c(data[65_536:], crc32c(data[:65_536])) == want
    with pytest.raises(OverflowError):
        crc32c(b"", 2**32)


# Records


@settings(deadline=None)
@given(ARGS)
def test_sealed_records_are_the_twins(args: tuple[Any, ...]) -> None:
    record = seal(*args)
    assert record == entry_twin.seal(*args)
    assert verify(record) and entry_twin.verify(record)
    assert fields(header(record)) == entry_twin.header(record)
    names = ("kind", "index", "term", "time_ms", "origin", "start", "batch", "count")
    assert tuple(getattr(header(record), name) for name in names) == args[:8]
    assert header(record).length == len(record) == HEADER_SIZE + len(args[8])


def test_the_format_on_disk_stays_as_it_is() -> None:
    record = seal(2, 1, 2, 3, 4, 5, 6, 1, b"\x93\x00\xa3SET\xa1k")
    assert record.hex() == (
        "48000000" + entry_twin.crc32c(record[8:]).to_bytes(4, "little").hex() + ""
        "0100000000000000" "0200000000000000" "0300000000000000" "0400000000000000"
        "0500000000000000" "0600000000000000" "01000000" "02" "01" "0000" "9300a3534554a16b"
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(ARGS)
def test_records_cut_at_every_byte_are_no_records(args: tuple[Any, ...]) -> None:
    record = seal(*args)
    for cut in range(len(record)):
        assert not verify(record[:cut])
        if cut < HEADER_SIZE:
            with pytest.raises(ProtocolError, match="no record header"):
                header(record[:cut])
    for tail in (b"\x00", b"\xff" * 9, record):
        assert verify(record + tail)
        assert header(record + tail) == header(record)
        assert verify(tail + record, len(tail))


def test_every_changed_bit_is_seen() -> None:
    record = record_of(["SET", "key", "value"])
    edge = Edge()
    for bit in range(8 * len(record)):
        bad = bytearray(record)
        bad[bit // 8] ^= 1 << bit % 8
        assert not verify(bad), bit
        judge_records(bytes(bad), edge)


def test_versions_kinds_and_lengths_that_are_not_ours() -> None:
    record = bytearray(record_of(["a"]))

    def resealed(at: int, value: int) -> bytearray:
        bad = bytearray(record)
        bad[at] = value
        bad[4:8] = crc32c(bad[8:]).to_bytes(4, "little")
        return bad

    assert verify(resealed(60, 99))
    for at, value in ((60, 0), (61, 0), (61, 2), (62, 1), (63, 1)):
        assert not verify(resealed(at, value))
    for length in (0, 8, HEADER_SIZE - 1, len(record) + 1, RECORD_BYTES_MAX + 1, 2**32 - 1):
        assert not verify(length.to_bytes(4, "little") + record[4:])
    assert not verify(bytes(HEADER_SIZE))
    for offset in (-1, -(2**63), len(record) - HEADER_SIZE + 1, len(record), 2**63 - 1):
        assert not verify(record, offset)
        with pytest.raises(ProtocolError):
            header(record, offset)


def test_seal_refuses_what_does_not_fit() -> None:
    for position in range(8):
        args = [1, 1, 1, 1, 1, 1, 1, 1]
        for value in (-1, 2**64):
            args[position] = value
            with pytest.raises(OverflowError):
                seal(*args, b"")
    with pytest.raises(InvariantError, match="has a kind"):
        seal(0, 1, 1, 1, 1, 1, 1, 1, b"")
    with pytest.raises(InvariantError, match="is no record"):
        seal(1, 1, 1, 1, 1, 1, 1, 1, bytes(RECORD_BYTES_MAX - HEADER_SIZE + 1))
    with pytest.raises(TypeError):
        seal(1, 1, 1, 1, 1, 1, 1, 1, "text")


def test_records_come_from_any_buffer() -> None:
    record = record_of(["a"])
    for buffer in (record, bytearray(record), memoryview(record)):
        assert verify(buffer) and header(buffer).index == 1
        assert _entry.decode_record(buffer) == [(0, ["a"])]
    for function in (verify, header, _entry.decode_record, _entry.unpackb, crc32c):
        with pytest.raises(TypeError):
            function("text")
    growing = bytearray(padded(record))
    iterator = _entry.records(growing)
    verify(growing)
    growing.extend(record_of(["b"]))  # nothing holds the buffer between calls
    assert list(iterator) == [record, record_of(["b"])]


def test_headers_are_values() -> None:
    one, other = record_of(["a"]), record_of(["b"])
    assert header(one) == header(bytearray(one))
    assert header(one) != header(other)
    assert len({header(one), header(one), header(other)}) == 2
    assert "index=1, term=2, time_ms=3, origin=4, start=5, batch=6" in repr(header(one))
    assert header(one) != entry_twin.header(one)
    with pytest.raises(AttributeError):
        header(one).index = 7  # type: ignore[misc]
    with pytest.raises(TypeError):
        type(header(one))()


# Commands of a record


def test_commands_of_a_record() -> None:
    record = record_of(["SET", "k", "\udcff"], ["x", [1, {"a": None}], b"b"])
    want = [(0, ["SET", "k", "\udcff"]), (0, ["x", [1, {"a": None}], b"b"])]
    assert _entry.decode_record(record) == want
    assert _entry.decode_record(record + b"tail") == want
    assert _entry.decode_commands(record, HEADER_SIZE, 2) == want
    assert _entry.decode_commands(record, start=HEADER_SIZE) == want
    assert _entry.decode_record(seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, 0, b"")) == []


def test_records_that_do_not_hold_what_they_say() -> None:
    payload = payload_of(["a", "b"], ["c"])
    for count in (0, 1, 3, 2**32 - 1):
        with pytest.raises(ProtocolError, match="announced"):
            _entry.decode_record(seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, count, payload))
    for kind in (1, 3, 16, 255):
        with pytest.raises(ProtocolError, match=f"kind {kind} has no commands"):
            _entry.decode_record(seal(kind, 1, 1, 1, 0, 0, 0, 2, payload))
    record = seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, 2, payload)
    for cut in range(len(record)):
        with pytest.raises(ProtocolError):
            _entry.decode_record(record[:cut])
    empty = seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, 0, b"")
    for length in (0, HEADER_SIZE - 1, HEADER_SIZE + 1):
        with pytest.raises(ProtocolError, match=f"a record of {length} bytes in {HEADER_SIZE}"):
            _entry.decode_record(length.to_bytes(4, "little") + empty[4:])
    for start in (-1, len(payload) + 1):
        with pytest.raises(ProtocolError, match="no commands at byte"):
            _entry.decode_commands(payload, start)


def in_pieces(record: bytes, count_max: int) -> list[tuple[int, list[Any]]]:
    """All commands, as `Commands` gives them."""
    source = _entry.Commands(record)
    found: list[tuple[int, list[Any]]] = []
    while piece := source.take(count_max):
        assert len(piece) == count_max or not source.take(1)
        found += piece
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 64])
def test_commands_in_pieces_are_those_of_the_record(count: int) -> None:
    words = [["SET", f"k{number}", [number, {"a": None}]] for number in range(count)]
    record = record_of(*words)
    for count_max in (1, 2, 3, 16, 100):
        assert in_pieces(record, count_max) == _entry.decode_record(record)
        assert in_pieces(record + b"tail", count_max) == _entry.decode_record(record)
    assert _entry.Commands(record).take(0) == []
    assert _entry.Commands(record).take(-1) == []


def test_commands_in_pieces_of_records_that_do_not_hold_what_they_say() -> None:
    payload = payload_of(["a", "b"], ["c"])
    for count in (0, 1, 3, 2**32 - 1):
        wrong = seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, count, payload)
        for count_max in (1, 2, 16):
            with pytest.raises(ProtocolError, match="announced"):
                in_pieces(wrong, count_max)
    with pytest.raises(ProtocolError, match="kind 3 has no commands"):
        _entry.Commands(seal(3, 1, 1, 1, 0, 0, 0, 2, payload))
    record = seal(KIND_COMMANDS, 1, 1, 1, 0, 0, 0, 2, payload)
    for cut in range(len(record)):
        with pytest.raises(ProtocolError):
            _entry.Commands(record[:cut])
    for wrong in ("text", None):
        with pytest.raises(TypeError):
            _entry.Commands(wrong)  # type: ignore[arg-type]
    growing = bytearray(record)
    held = _entry.Commands(growing)
    with pytest.raises(BufferError):
        growing.extend(b"more")
    del held
    growing.extend(b"more")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"\x05", "byte 0 is not a command"),
        (b"\x92\x00\xa1a\xa1a", "byte 4 is not a command"),
        (b"\x80", "is not a command"),
        (b"\x90", "has no name"),
        (b"\x91\x00", "has no name"),
        (b"\x92\xa1a\xa1a", "has no worker offset"),
        (b"\x92\xc3\xa1a", "has no worker offset"),
        (b"\x92\xcb" + bytes(8) + b"\xa1a", "has no worker offset"),
        (b"\xdd\xff\xff\xff\xff\x00", "cut short"),
        (b"\x92\x00" + b"\x91" * 33 + b"\x01", "nested deeper"),
    ],
)
def test_payloads_that_are_no_commands(payload: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        _entry.decode_commands(payload)
    with pytest.raises(ProtocolError):
        entry_twin.decode_commands(payload)


# Many records


def padded(record: bytes, align: int = 8) -> bytes:
    return record + bytes(-len(record) % align)


@pytest.mark.parametrize("align", [1, 8, 64])
def test_records_one_behind_the_other(align: int) -> None:
    all_of_them = [record_of(["a" * size], index=size + 1) for size in range(40)]
    data = b"".join(padded(record, align) for record in all_of_them)
    for tail in (b"", bytes(7), bytes(64), bytes(1000)):
        found = _entry.records(data + tail, align=align)
        assert list(found) == all_of_them == entry_twin.records(data + tail, 0, align)
        assert found.offset == len(data)
    assert list(_entry.records(data, len(padded(all_of_them[0], align)), align)) == all_of_them[1:]


def test_the_last_record_needs_no_padding() -> None:
    record = record_of(["abc"])
    assert len(record) % 8
    assert list(_entry.records(padded(record) + record)) == [record, record]


def test_a_bad_record_ends_the_walk_at_its_place() -> None:
    first, second = padded(record_of(["first"])), record_of(["second"])
    for cut in range(5, len(second)):
        found = _entry.records(first + second[:cut])
        assert next(found) == record_of(["first"])
        for _ in range(2):
            with pytest.raises(ProtocolError, match=f"no whole record at byte {len(first)}"):
                next(found)
        assert found.offset == len(first)
    with pytest.raises(ProtocolError):
        list(_entry.records(first + bytes(63) + b"\x01"))
    for start, align in ((-1, 8), (0, 0), (0, -8)):
        with pytest.raises(InvariantError, match="records from"):
            _entry.records(first, start, align)
    assert list(_entry.records(first, 2**40)) == []
