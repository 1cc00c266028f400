"""Random bytes and values against the record codec, judged by its twin and by msgpack.

    python -m tests.fuzz.fuzz_entry --count 2000000 --seed 1

Each input goes to every function that reads bytes, lying right before a page that may not be
touched: one byte read too many ends the process. The seed decides everything; a difference is
shown with the input that made it, and the exit status is 1.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import msgpack

from pyraft_fast import _entry
from pyraft_fast.errors import RaftException
from tests.fuzz.command import Difference, run
from tests.twins import entry_twin

ARENA_BYTES = 1 << 20
KEYS_AND_TEXTS = ("", "SET", "key:000000012345", "x" * 31, "x" * 32, "é", "\udc80", "y" * 300)
NUMBERS = tuple(
    sign * (1 << power) + more
    for power in (0, 5, 7, 8, 15, 16, 31, 32, 63)
    for sign in (1, -1)
    for more in (-1, 0, 1)
    if -(2**63) <= sign * (1 << power) + more < 2**64
)
LEADS = (0x80, 0x81, 0x90, 0x91, 0x92, 0x9F, 0xA1, 0xBF, *range(0xC0, 0xE0), 0xFF)


class Edge:
    """Memory whose end is the end of what may be read."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, ARENA_BYTES + page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(start + ARENA_BYTES, page, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        self._view = memoryview(self._map)

    def place(self, data: bytes) -> memoryview:
        """A copy of `data` that ends where reading ends."""
        view = self._view[ARENA_BYTES - len(data) : ARENA_BYTES]
        view[:] = data
        return view


def outcome(function: Callable[..., Any], *args: Any) -> str:
    """The value with its types, or the class of the error; equal texts are equal outcomes."""
    try:
        return repr(function(*args))
    except RaftException as error:
        return type(error).__name__


def fields(head: _entry.Header) -> dict[str, int]:
    return {name: getattr(head, name) for name in entry_twin.FIELDS}


def same(what: str, data: Any, got: str, want: str) -> None:
    if got != want:
        raise Difference(f"{what}: {got[:500]} where the twin has {want[:500]}\ninput: {data!r}")


def judge_values(data: bytes, edge: Edge) -> None:
    """One value, or commands, at the start of a buffer."""
    view = edge.place(data)
    got = outcome(_entry.unpackb, view)
    same("unpackb", data, got, outcome(entry_twin.unpackb, data))
    if got != "ProtocolError":
        options = {"unicode_errors": "surrogateescape", "strict_map_key": False}
        same("msgpack", data, got, repr(msgpack.unpackb(data, **options)))
    want = outcome(entry_twin.decode_commands, data)
    same("decode_commands", data, outcome(_entry.decode_commands, view), want)


def judge_records(data: bytes, edge: Edge) -> None:
    """Records, whole or not, at the start of a buffer and inside it."""
    view = edge.place(data)
    for offset in (0, 1, 8, len(data) - 64, len(data), -1):
        same("verify", data, str(_entry.verify(view, offset)), str(entry_twin.verify(data, offset)))
        got = outcome(lambda at: fields(_entry.header(view, at)), offset)
        same("header", data, got, outcome(entry_twin.header, data, offset))
    want = outcome(entry_twin.decode_record, data)
    same("decode_record", data, outcome(_entry.decode_record, view), want)
    for count_max in (1, 3, 16):
        same("commands in pieces", data, outcome(in_pieces, view, count_max), want)
    got = outcome(lambda: list(_entry.records(view)))
    same("records", data, got, outcome(entry_twin.records, data))
    same("crc32c", data, str(_entry.crc32c(view, 7)), str(entry_twin.crc32c(data, 7)))


def in_pieces(view: memoryview, count_max: int) -> list[Any]:
    """All commands of a record, a few at a time."""
    source = _entry.Commands(view)
    found: list[Any] = []
    while piece := source.take(count_max):
        found += piece
    return found


def random_key(dice: Random) -> str | int | bytes:
    return dice.choice((dice.choice(KEYS_AND_TEXTS), dice.choice(NUMBERS), dice.randbytes(2)))


def random_value(dice: Random, depth: int = 0) -> Any:
    """A value that the log can hold."""
    kind = dice.randrange(12 if depth < 4 else 9)
    if kind < 3:
        return dice.choice(KEYS_AND_TEXTS)
    if kind == 3:
        return dice.choice((None, True, False))
    if kind < 6:
        return dice.choice(NUMBERS)
    if kind == 6:
        return dice.choice((0.0, -0.0, 1.5, 1e300, float("inf"), float("nan")))
    if kind == 7:
        return dice.randbytes(dice.randrange(40))
    if kind == 8:
        return dice.randbytes(dice.randrange(12)).decode("utf-8", "surrogateescape")
    if kind == 9:
        return {random_key(dice): random_value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return [random_value(dice, depth + 1) for _ in range(dice.randrange(4))]


def random_payload(dice: Random) -> tuple[int, bytes]:
    """Commands that both encoders agree on: how many, and the bytes."""
    fast, slow = _entry.Batch(), entry_twin.Batch()
    for _ in range(dice.randrange(4)):
        words = [random_value(dice) for _ in range(dice.randrange(1, 5))]
        offset = dice.choice(NUMBERS[:40])
        if -(2**63) <= offset < 2**63:
            fast.add(words, offset)
            slow.add(words, offset)
    data = slow.take()
    same("Batch.nbytes", data, str(fast.nbytes), str(len(data)))
    count = fast.count
    same("Batch.take", data, repr(fast.take()), repr(data))
    return count, data


def random_record(dice: Random) -> bytes:
    count, payload = random_payload(dice)
    if dice.random() < 0.05:
        count += 1
    kind = 2 if dice.random() < 0.8 else dice.randrange(1, 256)
    numbers = (dice.getrandbits(dice.choice((8, 64))) for _ in range(6))
    args = (kind, *numbers, count, payload)
    record = entry_twin.seal(*args)
    same("seal", args, repr(_entry.seal(*args)), repr(record))
    return record


def damaged(dice: Random, data: bytes) -> bytes:
    """The same bytes, or a cut, a tail, a changed bit, byte or lead, or a part twice."""
    out = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 5))):
        at = dice.randrange(len(out) + 1)
        what = dice.randrange(6)
        if what == 0:
            del out[at:]
        elif what == 1:
            out += dice.randbytes(dice.randrange(1, 9))
        elif what == 2:
            out[at:at] = out[at : at + dice.randrange(9)]
        elif what == 3:
            out[at:at] = bytes([dice.choice(LEADS)])
        elif at < len(out):
            out[at] = dice.choice(LEADS) if what == 4 else out[at] ^ 1 << dice.randrange(8)
    return bytes(out)


def one_input(dice: Random, edge: Edge) -> None:
    """Make one input and judge it."""
    kind = dice.randrange(8)
    if kind == 0:
        judge_values(bytes(dice.choices(LEADS, k=dice.randrange(24))), edge)
    elif kind == 1:
        judge_values(dice.randbytes(dice.randrange(24)), edge)
    elif kind < 5:
        value = random_value(dice)
        data = entry_twin.packb(value)
        same("packb", value, repr(_entry.packb(value)), repr(data))
        judge_values(damaged(dice, data), edge)
    elif kind < 7:
        judge_values(damaged(dice, random_payload(dice)[1]), edge)
    else:
        record = random_record(dice)
        if dice.random() < 0.5:
            record += bytes(-len(record) % 8) + random_record(dice)
        if dice.random() < 0.3:
            record += bytes(dice.choice((3, 8, 64, 80)))
        judge_records(damaged(dice, record), edge)


if __name__ == "__main__":
    edge = Edge()
    sys.exit(run(__doc__, lambda dice: one_input(dice, edge), 100_000))
