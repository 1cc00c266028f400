"""The record codec once more, slow and plain: the judge of `pyraft_fast._entry`.

Written from the description of the format, not from the C code: bits one by one for the checksum,
`struct` for numbers, slices for bytes, and no thought for speed. It knows nothing of buffers and
preallocation, so where both disagree on whether bytes are valid, the fast one has a bug there.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any

from pyraft_fast.errors import CommandError, InvariantError, ProtocolError
from pyraft_fast.limits import BATCH_COMMANDS_MAX, NESTING_MAX, RECORD_BYTES_MAX

HEADER = struct.Struct("<IIQQQQQQIBBH")
INT_FORMS_IN_ORDER = (">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q")
INT_FORMS = {0xCC + number: form for number, form in enumerate(INT_FORMS_IN_ORDER)}
FIELDS = ("length", "crc", "index", "term", "time_ms", "origin", "start", "batch", "count", "kind")


def crc32c(data: bytes, seed: int = 0) -> int:
    """Bit by bit, as in RFC 3720, appendix B.4."""
    crc = seed ^ 0xFFFFFFFF
    for byte in bytes(data):
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# Values to bytes


def packb(value: Any) -> bytes:
    return _bounded(packb_long(value), RECORD_BYTES_MAX)


def packb_long(value: Any) -> bytes:
    return _pack(value, ())


def _bounded(data: bytes, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise CommandError(f"a log record has at most {RECORD_BYTES_MAX} bytes")
    return data


def _pack(value: Any, path: tuple[str, ...], depth: int = 0) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value, path)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        return _pack_text(value, path)
    if isinstance(value, bytes):
        return _head(len(value), (), (0xC4, 0xC5, 0xC6)) + value
    listed = isinstance(value, deque) or getattr(type(value), "__raft_list__", False) is True
    if not (listed or isinstance(value, list | tuple | dict)):
        raise _refused(path, f"{type(value).__name__} cannot be put into the log")
    if depth >= NESTING_MAX:
        raise _refused(path, f"values nested deeper than {NESTING_MAX}")
    if isinstance(value, dict):
        out = _head(len(value), (0x80, 16), (None, 0xDE, 0xDF))
        for number, (key, item) in enumerate(value.items()):
            inner = (*path, f"entry {number}")
            out += _pack_key(key, inner) + _pack(item, inner, depth + 1)
        return out
    items = list(value)
    out = _head(len(items), (0x90, 16), (None, 0xDC, 0xDD))
    for number, item in enumerate(items):
        out += _pack(item, (*path, f"item {number}"), depth + 1)
    return out


def _pack_key(key: Any, path: tuple[str, ...]) -> bytes:
    if isinstance(key, bool) or not isinstance(key, str | int | bytes):
        name = type(key).__name__
        raise _refused(path, f"a dict's key must be str, int or bytes, not {name}")
    return _pack(key, path)


def _pack_text(value: str, path: tuple[str, ...]) -> bytes:
    try:
        data = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _refused(path, "a str with a lone surrogate cannot be put into the log") from None
    return _head(len(data), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + data


def _pack_int(value: int, path: tuple[str, ...]) -> bytes:
    if 0 <= value < 2**7 or -(2**5) <= value < 0:
        return bytes([value & 0xFF])
    for lead, form in INT_FORMS.items():
        if (value < 0) == (lead >= 0xD0):
            try:
                return bytes([lead]) + struct.pack(form, value)
            except struct.error:
                continue
    raise _refused(path, "an int of more than 64 bits cannot be put into the log")


def _head(size: int, fixed: tuple[int, ...], leads: tuple[int | None, ...]) -> bytes:
    if fixed and size < fixed[1]:
        return bytes([fixed[0] | size])
    for lead, form, limit in zip(leads, (">B", ">H", ">I"), (2**8, 2**16, 2**32), strict=True):
        if lead is not None and size < limit:
            return bytes([lead]) + struct.pack(form, size)
    raise CommandError("too long")


def _refused(path: tuple[str, ...], why: str) -> CommandError:
    return CommandError(": ".join((", ".join(path), why)) if path else why)


class Batch:
    """Commands as a list of bytes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    @property
    def count(self) -> int:
        return len(self.parts)

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.parts))

    def add(self, words: Any, offset: int = 0) -> None:
        if self.count >= BATCH_COMMANDS_MAX:
            raise CommandError(f"a batch has at most {BATCH_COMMANDS_MAX} commands")
        listed = isinstance(words, deque) or getattr(type(words), "__raft_list__", False) is True
        if not (listed or isinstance(words, list | tuple)):
            name = type(words).__name__
            raise CommandError(f"the words of a command must be a list, not {name}")
        if not len(words):
            raise CommandError("a command needs a name")
        part = _head(len(words) + 1, (0x90, 16), (None, 0xDC, 0xDD)) + _pack_int(offset, ())
        for number, word in enumerate(words):
            part += _pack(word, (f"word {number}",))
        _bounded(b"".join((*self.parts, part)), RECORD_BYTES_MAX - HEADER.size)
        self.parts.append(part)

    def take(self) -> bytes:
        data = b"".join(self.parts)
        self.parts = []
        return data


# Bytes to values


class Source:
    """Bytes that are read from the front."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        if size > len(self.rest):
            raise ProtocolError("cut short")
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]


LENGTHS = {1: ">B", 2: ">H", 4: ">I"}
NUMBERS = {0xCA: ">f", 0xCB: ">d"} | INT_FORMS
TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
LISTS = {0xDC: ">H", 0xDD: ">I"}
DICTS = {0xDE: ">H", 0xDF: ">I"}
ATOMS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpackb(data: bytes) -> Any:
    source = Source(bytes(data))
    value = _take(source, 0)
    if source.rest:
        raise ProtocolError("bytes behind the value")
    return value


def _take(source: Source, depth: int) -> Any:
    lead = source.take(1)[0]
    if lead < 0x80:
        return lead
    if lead >= 0xE0:
        return lead - 256
    if lead in ATOMS:
        return ATOMS[lead]
    if lead in NUMBERS:
        return source.number(NUMBERS[lead])
    if lead in BYTES:
        return source.take(source.number(BYTES[lead]))
    if 0xA0 <= lead < 0xC0 or lead in TEXTS:
        size = source.number(TEXTS[lead]) if lead in TEXTS else lead & 31
        return source.take(size).decode("utf-8", "surrogateescape")
    if 0x80 <= lead < 0xA0 or lead in LISTS or lead in DICTS:
        return _take_container(source, lead, depth)
    raise ProtocolError("not a value of the log")


def _take_container(source: Source, lead: int, depth: int) -> Any:
    forms = LISTS | DICTS
    count = source.number(forms[lead]) if lead in forms else lead & 15
    if depth >= NESTING_MAX:
        raise ProtocolError("nested too deep")
    if 0x90 <= lead < 0xA0 or lead in LISTS:
        return [_take(source, depth + 1) for _ in range(count)]
    entries: dict[Any, Any] = {}
    for _ in range(count):
        key = _take(source, depth + 1)
        if isinstance(key, bool) or not isinstance(key, str | int | bytes):
            raise ProtocolError("not a key")
        entries[key] = _take(source, depth + 1)
    return entries


def decode_commands(
    data: bytes, start: int = 0, count: int | None = None
) -> list[tuple[int, list[Any]]]:
    if not 0 <= start <= len(data):
        raise ProtocolError("no commands there")
    source = Source(bytes(data)[start:])
    commands = []
    while source.rest:
        lead = source.take(1)[0]
        if not (0x90 <= lead < 0xA0 or lead in LISTS):
            raise ProtocolError("not a command")
        size = source.number(LISTS[lead]) if lead in LISTS else lead & 15
        values = [_take(source, 0) for _ in range(size)]
        if len(values) < 2 or type(values[0]) is not int:
            raise ProtocolError("not a command")
        commands.append((values[0], values[1:]))
    if count is not None and len(commands) != count:
        raise ProtocolError("another number of commands")
    return commands


# Records


def seal(
    kind: int,
    index: int,
    term: int,
    time_ms: int,
    origin: int,
    start: int,
    batch: int,
    count: int,
    payload: bytes,
) -> bytes:
    length = HEADER.size + len(payload)
    if kind == 0 or length > RECORD_BYTES_MAX:
        raise InvariantError("not a record")
    fields = (index, term, time_ms, origin, start, batch, count, kind, 1, 0)
    record = HEADER.pack(length, 0, *fields) + bytes(payload)
    return HEADER.pack(length, crc32c(record[8:]), *fields) + bytes(payload)


def header(data: bytes, offset: int = 0) -> dict[str, int]:
    if offset < 0 or len(data) - offset < HEADER.size:
        raise ProtocolError("no header there")
    return dict(zip(FIELDS, HEADER.unpack(data[offset : offset + HEADER.size]), strict=False))


def verify(data: bytes, offset: int = 0) -> bool:
    if offset < 0 or len(data) - offset < HEADER.size:
        return False
    rest = bytes(data)[offset:]
    length, crc, *_, kind, version, reserved = HEADER.unpack(rest[: HEADER.size])
    if not HEADER.size <= length <= min(len(rest), RECORD_BYTES_MAX):
        return False
    return kind != 0 and version == 1 and reserved == 0 and crc == crc32c(rest[8:length])


def decode_record(record: bytes) -> list[tuple[int, list[Any]]]:
    found = header(record)
    if not HEADER.size <= found["length"] <= len(record) or found["kind"] != 2:
        raise ProtocolError("not a record of commands")
    return decode_commands(record[: found["length"]], HEADER.size, found["count"])


def records(data: bytes, start: int = 0, align: int = 8) -> list[bytes]:
    found = []
    while start < len(data) and any(data[start : start + HEADER.size]):
        if not verify(data, start):
            raise ProtocolError("not a record")
        length = header(data, start)["length"]
        found.append(bytes(data[start : start + length]))
        start += -(-length // align) * align
    return found
