"""Random messages and damaged frames against the peer codec, judged by its twin.

    python -m tests.fuzz.fuzz_wire --count 1000000 --seed 1

Each input is a stream of frames, most of them damaged somewhere, read in pieces cut at random. The
seed decides everything; a difference is shown with the input that made it, and the exit status is
1.
"""

from __future__ import annotations

import sys
from random import Random

from pyraft_fast import _entry
from pyraft_fast._wire import (
    Entry,
    Frame,
    FrameReader,
    Message,
    decode_message,
    encode_frame,
    encode_message,
)
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.errors import ProtocolError
from tests.fuzz.command import Difference, run
from tests.twins import wire_twin

FRAME_BYTES_MAX = 4096
EDGES = (0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1)
OTHERS = (1, 5, 7, 10, 255)  # types of frames that are no messages
HEADERS = ({}, {"nid": "n1", "raw": b"\xff"}, [1, "2"], None, [3] * 10)


def same(what: str, ours: object, theirs: object, data: bytes) -> None:
    """Raise Difference with the input unless both are equal."""
    if ours != theirs:
        raise Difference(f"{what} of {data.hex()}: ours {ours!r}, twin {theirs!r}")


def number(dice: Random) -> int:
    return dice.choice(EDGES) if dice.random() < 0.5 else dice.randrange(1000)


def random_entries(dice: Random, index: int, term: int) -> list[Entry]:
    """Entries behind `index`, now and then out of order or of a term too high."""
    entries = []
    for place in range(index + 1, index + 1 + dice.choice((0, 0, 1, 1, 2, 5))):
        at = place if dice.random() < 0.97 else number(dice)
        of = term if dice.random() < 0.9 else dice.randrange(term + 2)
        entries.append(Entry.make(2, at % 2**64, of % 2**64, 5, dice.randbytes(dice.randrange(40))))
    return entries


def random_message(dice: Random) -> Message:
    kind = dice.choice(tuple(MessageKind)) if dice.random() < 0.6 else MessageKind.APPEND
    term, index = number(dice), number(dice)
    log_term = min(term, number(dice)) if dice.random() < 0.8 else number(dice)
    entries = random_entries(dice, index, term)
    if kind != MessageKind.APPEND and dice.random() < 0.9:
        entries = []
    rest = [number(dice) for _ in range(4)]
    return Message(
        kind, "1", "2", term, index, log_term, rest[0], dice.random() < 0.5, rest[1], rest[2],
        rest[3], entries, 7, number(dice),
    )  # fmt: skip


def numbers_of(message: Message) -> list[int]:
    return [
        int(message.kind), message.term, message.index, message.log_term, message.commit,
        int(message.flag), message.hint, message.context, message.clock_ms,
        message.to_incarnation,
    ]  # fmt: skip


def random_frame(dice: Random) -> bytes:
    """A frame as one side or the other makes it; both must make the same."""
    if dice.random() < 0.2:
        kind, header = dice.choice(OTHERS), dice.choice(HEADERS)
        body = dice.randbytes(dice.randrange(30))
        data = encode_frame(kind, header, len(body))
        same("start", data, wire_twin.frame_start(kind, header, len(body)), data)
        return data + body
    message = random_message(dice)
    data = b"".join(encode_message(message))
    records = [entry.record for entry in message.entries]
    same("frame", data, wire_twin.encode(numbers_of(message), records), data)
    return data


def damaged(dice: Random, data: bytes) -> bytes:
    """`data` with a fault or two, or none; some with their checksum made right again."""
    raw = bytearray(data)
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        if raw:
            raw[dice.randrange(len(raw))] = dice.randrange(256)
    if dice.random() < 0.4 and len(raw) >= 12:
        head_bytes = int.from_bytes(raw[6:8], "little")
        crc = _entry.crc32c(bytes(raw[12 : 12 + head_bytes]), (raw[4] << 16) | head_bytes)
        raw[8:12] = crc.to_bytes(4, "little")
    return bytes(raw) if dice.random() < 0.9 else bytes(raw[: dice.randrange(len(raw) + 1)])


def shown(frame: Frame) -> object:
    """What a frame of ours says: as a message, or as header and body."""
    if frame.type != wire_twin.MESSAGE:
        return frame.type, frame.header, bytes(frame.body)
    try:
        message = decode_message("1", 7, "2", frame)
    except ProtocolError:
        return None
    same("names", (message.sender, message.incarnation, message.to), ("1", 7, "2"), b"")
    entries = tuple(
        wire_twin.Entry(e.index, e.term, e.kind, e.time_ms, e.record) for e in message.entries
    )
    numbers = numbers_of(message)
    numbers[5] = bool(numbers[5])
    return wire_twin.Message(*numbers, entries)


def read(dice: Random, data: bytes) -> tuple[list[object], bool]:
    """What our reader makes of `data`, given in pieces; whether it ended at a bad frame."""
    reader = FrameReader(FRAME_BYTES_MAX)
    found: list[object] = []
    at = 0
    while at < len(data):
        size = dice.choice((1, 3, 12, 50, 1000))
        reader.feed(data[at : at + size])
        at += size
        try:
            for frame in reader.frames():
                found.append(shown(frame))
        except ProtocolError:
            return found, True
    return found, False


def twin_read(data: bytes) -> tuple[list[object], bool]:
    """What the twin makes of it."""
    found: list[object] = []
    frames, is_bad = wire_twin.split(data, FRAME_BYTES_MAX)
    for kind, head, body in frames:
        if kind == wire_twin.MESSAGE:
            found.append(wire_twin.decode(head, body))
            continue
        try:
            found.append((kind, wire_twin.entry_twin.unpackb(head), body))
        except ProtocolError:
            return found, True
    return found, is_bad


def one_input(dice: Random) -> None:
    """Make one stream and judge it."""
    data = b"".join(damaged(dice, random_frame(dice)) for _ in range(dice.randrange(1, 4)))
    same("stream", repr(read(dice, data)), repr(twin_read(data)), data)


if __name__ == "__main__":
    sys.exit(run(__doc__, one_input, 100_000))
