"""RESP once more, slow and plain: the judge of `pyraft_fast._resp`.

Written from the protocol's description and from what redis-server does, not from the C code. The
parsers keep every byte that is not part of a complete message and read it again from its beginning
each time; so they cannot forget anything between two feeds, and whatever the fast ones remember
must lead to the same end.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar

from pyraft_fast.errors import CommandError, ProtocolError, RaftException, ReplyError
from pyraft_fast.limits import (
    ARGC_MAX,
    BULK_BYTES_MAX,
    COMMAND_BYTES_MAX,
    INLINE_BYTES_MAX,
    NESTING_MAX,
    REPLY_BYTES_MAX,
)
from pyraft_fast.protocol.replies import NIL_ARRAY, Map, Push, Status, Verbatim

SPACES = b" \t\n\v\f\r"
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
INTEGER = re.compile(rb"0|-?[1-9][0-9]*")
SKIPPED = object()  # an attribute, an empty line


class Incomplete(Exception):
    """The message is not all there."""


def word(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def bad(text: str) -> ProtocolError:
    return ProtocolError(f"Protocol error: {text}")


def integer(data: bytes) -> int | None:
    if not INTEGER.fullmatch(data):
        return None
    value = int(data[:30]) if len(data) < 30 else 2**99
    return value if -(2**63) <= value < 2**63 else None


def length_at(data: bytes, at: int, what: str, too_big: str, line_max: int) -> tuple[int, int]:
    """The number behind the byte at `at`, and where its line ends."""
    stop = data.find(b"\r", at)
    if (len(data) if stop < 0 else stop) - at > line_max:
        raise bad(too_big)
    if stop < 0 or stop + 1 == len(data):
        raise Incomplete
    value = integer(data[at + 1 : stop])
    if data[stop + 1 : stop + 2] != b"\n" or value is None:
        raise bad(what)
    return value, stop + 2


def line_at(data: bytes, at: int, too_big: str, line_max: int) -> tuple[bytes, int]:
    stop = data.find(b"\n", at)
    if (len(data) if stop < 0 else stop) - at > line_max:
        raise bad(too_big)
    if stop < 0:
        raise Incomplete
    return data[at:stop], stop + 1


def bulk_at(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if len(data) < at + size + 2:
        raise Incomplete
    if data[at + size : at + size + 2] != b"\r\n":
        raise bad("expected CR LF after bulk")
    return data[at : at + size], at + size + 2


def split_line(line: bytes) -> list[str]:
    """Words as redis-cli quotes them. Raises ProtocolError for unbalanced quotes."""
    units = [line[i : i + 1] for i in range(len(line))]
    words: list[str] = []
    while True:
        while units and units[0] in SPACES:
            units.pop(0)
        if not units:
            return words
        words.append(word(_one_word(units)))


def _one_word(units: list[bytes]) -> bytes:
    out = b""
    while units:
        unit = units.pop(0)
        if unit in b" \n\r\t":
            units.insert(0, unit)
            break
        if unit not in b"\"'":
            out += unit
            continue
        out += _quoted(unit, units)
        if units and units[0] not in SPACES:
            raise bad("unbalanced quotes in request")
        break
    return out


def _quoted(quote: bytes, units: list[bytes]) -> bytes:
    out = b""
    while units:
        unit = units.pop(0)
        if unit == quote:
            return out
        if unit == b"\\" and units and quote == b"'" and units[0] == b"'":
            unit = units.pop(0)
        elif unit == b"\\" and units and quote == b'"':
            coded = b"".join(units[:3])
            if re.fullmatch(rb"x[0-9a-fA-F]{2}", coded):
                unit = bytes.fromhex(coded[1:].decode())
                del units[:3]
            else:
                unit = units.pop(0)
                unit = ESCAPES.get(unit, unit)
        out += unit
    raise bad("unbalanced quotes in request")


class Twin:
    """Feeds and takes; `read(data, at)` of a subclass gives one message and where it ends."""

    def __init__(self) -> None:
        self.data = b""
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> None:
        self.data += data

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        raise NotImplementedError

    def take(self, count_max: int = 2**62) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < count_max and self.error is None and self.data:
            try:
                value, at = self.read(self.data, 0)
            except Incomplete:
                break
            except ProtocolError as error:
                self.error = error
                break
            self.data = self.data[at:]
            if value is not SKIPPED:
                taken.append(value)
        if self.error is not None and not taken:
            raise self.error
        return taken


class Parser(Twin):
    """The twin of `_resp.Parser`."""

    def __init__(
        self,
        *,
        bulk_bytes_max: int = BULK_BYTES_MAX,
        argc_max: int = ARGC_MAX,
        inline_bytes_max: int = INLINE_BYTES_MAX,
        command_bytes_max: int = COMMAND_BYTES_MAX,
    ) -> None:
        super().__init__()
        self.bulk_max, self.argc_max = bulk_bytes_max, argc_max
        self.line_max, self.command_max = inline_bytes_max, command_bytes_max

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        if data[at : at + 1] != b"*":
            line, at = line_at(data, at, "too big inline request", self.line_max)
            words = split_line(line[:-1] if line.endswith(b"\r") else line)
            return words or SKIPPED, at
        wrong = "invalid multibulk length"
        argc, at = length_at(data, at, wrong, "too big mbulk count string", self.line_max)
        if argc > self.argc_max:
            raise bad(wrong)
        words, total = [], 0
        for _ in range(argc):
            if at == len(data):
                raise Incomplete
            got = data[at : at + 1]
            if got != b"$":
                shown = " " if got in b"\r\n" else word(got)
                raise bad(f"expected '$', got '{shown}'")
            wrong = "invalid bulk length"
            size, at = length_at(data, at, wrong, "too big bulk count string", self.line_max)
            if not 0 <= size <= self.bulk_max:
                raise bad(wrong)
            total += size
            if total > self.command_max:
                raise bad("too big command")
            text, at = bulk_at(data, at, size)
            words.append(word(text))
        return words or SKIPPED, at


class ReplyParser(Twin):
    """The twin of `_resp.ReplyParser`."""

    NAMES: ClassVar = {":": "integer", "_": "nil", "#": "boolean", ",": "double", "(": "big number"}

    def __init__(
        self,
        *,
        text: bool = False,
        inline: bool = False,
        bulk_bytes_max: int = BULK_BYTES_MAX,
        items_max: int = ARGC_MAX,
        line_bytes_max: int = INLINE_BYTES_MAX,
    ) -> None:
        super().__init__()
        self.text, self.inline = text, inline
        self.bulk_max, self.items_max, self.line_max = bulk_bytes_max, items_max, line_bytes_max

    def read(self, data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
        kind = data[at : at + 1].decode("latin-1")
        if not kind:
            raise Incomplete
        if kind in "$=!":
            return self._bulk(kind, data, at)
        if kind in "*~>%|":
            return self._container(kind, data, at, depth)
        if kind in "+-:_#,(":
            line, end = line_at(data, at, "too big reply line", self.line_max)
            if not line.endswith(b"\r"):
                raise bad("reply line without CR LF")
            return self._simple(kind, line[1:-1]), end
        if self.inline and not depth:
            line, end = line_at(data, at, "too big inline request", self.line_max)
            words = split_line(line[:-1] if line.endswith(b"\r") else line)
            return words or SKIPPED, end
        raise bad(f"invalid reply type {word(data[at : at + 1])!a}")

    def _bulk(self, kind: str, data: bytes, at: int) -> tuple[Any, int]:
        wrong = "invalid bulk length"
        size, at = length_at(data, at, wrong, "too big bulk count string", self.line_max)
        if kind == "$" and size == -1:
            return None, at
        if not 0 <= size <= self.bulk_max:
            raise bad(wrong)
        text, at = bulk_at(data, at, size)
        if kind == "!":
            return ReplyError(word(text)), at
        if kind == "=":
            if text[3:4] != b":":
                raise bad("invalid verbatim string")
            return Verbatim(word(text[4:])), at
        return word(text) if self.text else text, at

    def _container(self, kind: str, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        wrong = "invalid multibulk length"
        count, at = length_at(data, at, wrong, "too big mbulk count string", self.line_max)
        if kind == "*" and count == -1:
            return None, at
        if not 0 <= count <= self.items_max:
            raise bad(wrong)
        if depth == NESTING_MAX:
            raise bad(f"replies nested deeper than {NESTING_MAX}")
        items: list[Any] = []
        while len(items) < count * (2 if kind in "%|" else 1):
            value, at = self.read(data, at, depth + 1)
            if value is not SKIPPED:
                items.append(value)
        if kind == "*":
            return items, at
        if kind == ">":
            return Push(items), at
        if kind == "~":
            return {frozen(item) for item in items}, at
        if kind == "%":
            return Map((frozen(items[i]), items[i + 1]) for i in range(0, len(items), 2)), at
        return SKIPPED, at

    def _simple(self, kind: str, line: bytes) -> Any:
        if kind == "+":
            return Status(word(line))
        if kind == "-":
            return ReplyError(word(line))
        if kind == ":" and integer(line) is not None:
            return integer(line)
        if kind == "_" and not line:
            return None
        if kind == "#" and line in (b"t", b"f"):
            return line == b"t"
        if kind == "," and re.fullmatch(
            rb"-?inf|nan|[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", line
        ):
            return float(line)
        if kind == "(" and re.fullmatch(rb"[+-]?[0-9]{1,4300}", line):
            return int(line)
        raise bad(f"invalid {self.NAMES[kind]} {word(line)[:40]!a}")


def frozen(value: Any) -> Any:
    if isinstance(value, Map):
        return tuple((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value


# Values to bytes


def encode(value: Any, proto: int = 2) -> bytes:
    try:
        data = _encode(value, proto == 3, 0)
        too_long = f"-ERR a reply has at most {REPLY_BYTES_MAX} bytes\r\n".encode()
        return data if len(data) <= REPLY_BYTES_MAX else too_long
    except Exception as error:
        why = str(error) if isinstance(error, CommandError) else type(error).__name__
        text = f"-ERR handler returned a {type(value).__name__} that cannot be sent: {why}\r\n"
        return text.encode("utf-8", "backslashreplace")


def _bulk(data: bytes | str, lead: str = "$") -> bytes:
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return f"{lead}{len(data)}\r\n".encode() + data + b"\r\n"


def _line(lead: str, text: str) -> bytes:
    return f"{lead}{text}\r\n".encode("utf-8", "surrogateescape")


def _float(value: float) -> str:
    if math.isfinite(value) and value == int(value) and abs(value) < 1e16:
        return "-0" if math.copysign(1, value) < 0 and value == 0 else str(int(value))
    return re.sub("e-0", "e-", float.__repr__(value))


def _items(lead: str, items: Iterable[Any], v3: bool, depth: int) -> bytes:
    if depth >= NESTING_MAX:
        raise CommandError(f"reply is nested deeper than {NESTING_MAX}")
    parts = [_encode(item, v3, depth + 1) for item in items]
    count = len(parts) // 2 if lead == "%" else len(parts)
    return f"{lead}{count}\r\n".encode() + b"".join(parts)


def _encode(value: Any, v3: bool, depth: int) -> bytes:
    if value is None:
        return b"_\r\n" if v3 else b"$-1\r\n"
    if value is NIL_ARRAY:
        return b"_\r\n" if v3 else b"*-1\r\n"
    if isinstance(value, Exception):
        text = f"ERR {str(value) or type(value).__name__}"
        text = value.wire() if isinstance(value, RaftException) else text
        return _line("-", text.replace("\r", " ").replace("\n", " "))
    if isinstance(value, bool):
        return b"+OK\r\n" if value else b":0\r\n"
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return _line(":", str(int(value)))
        return _line("(", str(int(value))) if v3 else _bulk(str(int(value)))
    if isinstance(value, float):
        return _line(",", _float(value)) if v3 else _bulk(_float(value))
    if isinstance(value, str):
        if isinstance(value, Status) and not set(value) & {"\r", "\n"}:
            return _line("+", value)
        if isinstance(value, Verbatim) and v3:
            return _bulk("txt:" + value, "=")
        return _bulk(str(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bulk(bytes(value))
    return _encode_container(value, v3, depth)


def _encode_container(value: Any, v3: bool, depth: int) -> bytes:
    if isinstance(value, Push):
        return _items(">" if v3 else "*", value, v3, depth)
    if getattr(type(value), "__resp_pairs__", False) is True and v3:
        pairs = [tuple(value[i : i + 2]) for i in range(0, len(value), 2)]
        return _items("*", pairs, v3, depth)
    if getattr(type(value), "__resp_map__", False) is True:
        return _items("%" if v3 else "*", value, v3, depth)
    if isinstance(value, Mapping):
        flat = [part for pair in value.items() for part in pair]
        return _items("%" if v3 else "*", flat, v3, depth)
    if isinstance(value, (Set, set, frozenset)):
        return _items("~" if v3 else "*", value, v3, depth)
    marked = getattr(type(value), "__raft_list__", False) is True
    if isinstance(value, (Sequence, deque)) or marked:
        return _items("*", value, v3, depth)
    if hasattr(value, "json") and not isinstance(value, type):
        shown = {k: v for k, v in value.__dict__.items() if not k.startswith("_")}
        return _bulk(json.dumps(shown))
    return _line("-", f"ERR handler returned a {type(value).__name__}, which has no RESP form")
