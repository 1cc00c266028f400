"""Random bytes and values against the RESP parsers and the encoder, judged by their twin.

    python -m tests.fuzz.fuzz_resp --count 2000000 --seed 1

Each input goes into a parser whole and cut at random places, through `feed` and through the
buffer a reader would fill; the messages and the error must be those of the twin. What the encoder
writes must be what the twin writes, and hiredis must read one reply from it. The seed decides
everything; a difference is shown with the input that made it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from random import Random
from typing import Any

import hiredis

from pyraft_fast import _resp
from pyraft_fast.errors import ProtocolError, ReplyError, WrongType
from pyraft_fast.protocol.replies import NIL_ARRAY, Map, Push, Status, Verbatim
from tests.twins import resp_twin

# Small bounds, so that random numbers lie on both sides of them.
REQUEST_LIMITS = {
    "bulk_bytes_max": 40, "argc_max": 12, "inline_bytes_max": 48, "command_bytes_max": 60,
}  # fmt: skip
REPLY_LIMITS = {"bulk_bytes_max": 40, "items_max": 12, "line_bytes_max": 48}
PIECES = (
    b"*", b"$", b"\r\n", b"\n", b"\r", b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"$-1\r\n",
    b"$0\r\n\r\n", b"$4\r\nPING\r\n", b"$1\r\n", b"$12\r\n", b"-", b"0", b"1", b"12", b"13", b"41",
    b"99999999999999999999", b'"', b"'", b"\\", b"\\x41", b"\\x4", b"\\n", b"get ", b"PING\r\n",
    b" ", b"\t", b"\v", b"\0", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"a" * 20, b"x" * 49,
    b"+OK\r\n", b"-ERR x\r\n", b":1\r\n", b":-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n",
    b",inf\r\n", b",nan\r\n", b",1e9\r\n", b"(12345678901234567890123\r\n", b"=5\r\ntxt:a\r\n",
    b"!3\r\nERR\r\n", b"%1\r\n", b"~2\r\n", b">1\r\n", b"|1\r\n", b"%", b"~", b",", b"(", b"#",
)  # fmt: skip
TEXTS = (
    "",
    "a",
    "OK",
    "key:000000000001",
    "x" * 100,
    "é",
    "\udcff",
    "two\r\nlines",
    "\ud800",
    "日本",
)
INTS = (0, 1, -1, 9, 10, 99, 1023, 1024, 2**31, 2**63 - 1, -(2**63), 2**63, 2**200)
FLOATS = (0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 1e17, 1e-4, 1e-5, 1e-12, 1e300, float("inf"), -2.5)


class Difference(AssertionError):
    """Two judges of the same bytes disagree."""


def drain(parser: Any, out: list[Any], count_max: int = 1 << 40) -> bool:
    """Take what is there; False when the parser failed, its text then being the last of `out`."""
    try:
        out.extend(parser.take(count_max))
        return True
    except ProtocolError as error:
        out.append(str(error))
        return False


def read_into(parser: Any, data: bytes) -> None:
    """What an event loop does with bytes that arrive."""
    while data:
        room = parser.get_buffer(-1)
        part, data = data[: len(room)], data[len(room) :]
        room[: len(part)] = part
        parser.buffer_updated(len(part))


def play(parser: Any, pieces: list[bytes], dice: Random) -> list[Any]:
    """Feed pieces one way or the other, taking now and then; all messages, then the error."""
    out: list[Any] = []
    by_buffer = dice.random() < 0.5 and hasattr(parser, "get_buffer")
    for piece in pieces:
        if by_buffer:
            read_into(parser, piece)
        else:
            parser.feed(piece)
        how = dice.randrange(4)
        if how and not drain(parser, out, 1 if how == 1 else 1 << 40):
            return out
    # Twice, since an error comes after the messages before it.
    if drain(parser, out):
        drain(parser, out)
    return out


def cut(dice: Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    how = dice.randrange(4)
    if how == 0:
        return [data]
    if how == 1:
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(1, 5)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def shown(value: Any) -> str:
    """Value and types as text; sets in an order of their own."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(shown, value))}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{type(value).__name__}[{', '.join(map(shown, value.items()))}]"
    return f"{type(value).__name__} {value!r}"


def judge(make: Any, make_twin: Any, data: bytes, dice: Random, options: dict[str, Any]) -> None:
    twin = make_twin(**options)
    twin.feed(data)
    want = play(twin, [], Random(0))
    for pieces in ([data], cut(dice, data), cut(dice, data)):
        got = play(make(**options), pieces, dice)
        if shown(got) != shown(want):
            raise Difference(f"{got!r:.1000} where the twin has {want!r:.1000}\ninput: {pieces!r}")


def random_stream(dice: Random) -> bytes:
    """Pieces of the protocol in no order, or noise."""
    if dice.random() < 0.05:
        return dice.randbytes(dice.randrange(60))
    return b"".join(dice.choices(PIECES, k=dice.randrange(1, 12)))


def random_request(dice: Random) -> bytes:
    """Commands, mostly right."""
    out = b""
    for _ in range(dice.randrange(1, 5)):
        words = [
            dice.choice((b"", b"GET", b"k", b"\xc3\xa9", b"'a b'", b'"\\x00"', dice.randbytes(9)))
            for _ in range(dice.randrange(5))
        ]
        if dice.random() < 0.3:
            out += b" ".join(words) + dice.choice((b"\n", b"\r\n"))
        else:
            out += _resp.encode_command(words)
    return out


def damaged(dice: Random, data: bytes) -> bytes:
    """The same bytes, or a part of them lost, doubled or changed."""
    out = bytearray(data)
    for _ in range(dice.choice((0, 0, 1, 1, 2))):
        at = dice.randrange(len(out) + 1)
        what = dice.randrange(4)
        if what == 0:
            del out[at : at + dice.randrange(4)]
        elif what == 1:
            out[at:at] = dice.choice(PIECES)
        elif what == 2:
            out[at:at] = out[at : at + dice.randrange(9)]
        elif at < len(out):
            out[at] ^= 1 << dice.randrange(8)
    return bytes(out)


class Jsonable:
    """An object of pyraft's kind: it shows its public fields."""

    json = True

    def __init__(self, field: Any) -> None:
        self.field = field
        self._hidden = 1


def random_scalar(dice: Random) -> Any:
    kind = dice.randrange(9)
    if kind < 3:
        return dice.choice(TEXTS)
    if kind == 3:
        return dice.choice(INTS) + dice.choice((-1, 0, 1))
    if kind == 4:
        return dice.choice(FLOATS)
    if kind == 5:
        return dice.choice((None, True, False, NIL_ARRAY))
    if kind == 6:
        return dice.randbytes(dice.randrange(30))
    if kind == 7:
        return dice.choice((Status, Verbatim))(dice.choice(TEXTS))
    return (dice.random() - 0.5) * 10.0 ** dice.randrange(-20, 20)


def random_value(dice: Random, depth: int = 0) -> Any:
    """Anything a handler might return."""
    kind = dice.randrange(24)
    if kind < 14 or depth > 3:
        return random_scalar(dice)
    items = [random_value(dice, depth + 1) for _ in range(dice.randrange(5))]
    if kind < 17:
        return dice.choice((list, tuple, deque, Push))(items)
    if kind < 19:
        return dice.choice((dict, Map))((random_scalar(dice), item) for item in items)
    if kind == 19:
        return {random_scalar(dice)}
    if kind == 20:
        return dice.choice((ValueError, WrongType, ReplyError))(dice.choice(TEXTS[:8]))
    if kind == 21:
        return Jsonable(dice.choice((1, "x", [1.5], object())))
    if kind == 22:
        return dice.choice((object(), range(3), bytearray(b"x"), memoryview(b"y"), frozenset("a")))
    for _ in range(dice.choice((1, 2, 31, 32, 33))):
        items = [items]
    return items


def judge_value(value: Any, dice: Random) -> bytes:
    """Encode both ways; the bytes of either version of the protocol, chosen by the dice."""
    encoded = b""
    for proto in (2, 3):
        want = resp_twin.encode(value, proto)
        out = bytearray(b"before")
        _resp.encode_into(out, value, proto)
        if _resp.encode(value, proto) != want or bytes(out) != b"before" + want:
            raise Difference(f"{bytes(out)!r:.1000} where the twin has {want!r:.1000}\n{value!r}")
        twin = resp_twin.ReplyParser()
        twin.feed(want)
        read = twin.take()
        if len(read) != 1 or twin.data:
            raise Difference(f"{want!r:.1000} is not one reply\n{value!r}")
        # hiredis nests nine levels, and a container in a set or as a key is beyond it
        reader = hiredis.Reader(notEnoughData=Ellipsis)
        reader.feed(want)
        try:
            reader.gets()
        except (hiredis.ProtocolError, TypeError) as error:
            if "unhashable" not in str(error) and "depth" not in str(error):
                raise Difference(f"hiredis: {error}: {want!r:.1000}") from error
        else:
            if reader.has_data():
                raise Difference(f"hiredis reads more than one reply: {want!r:.1000}")
        if not encoded or dice.random() < 0.5:
            encoded = want
    return encoded


def one_input(dice: Random) -> None:
    """Make one input and judge it."""
    kind = dice.randrange(8)
    requests = REQUEST_LIMITS if dice.random() < 0.7 else {}
    replies: dict[str, Any] = dict(REPLY_LIMITS) if dice.random() < 0.5 else {}
    replies |= {"text": dice.random() < 0.5, "inline": dice.random() < 0.3}
    if kind < 2:
        data = random_stream(dice)
        judge(_resp.Parser, resp_twin.Parser, data, dice, requests)
        judge(_resp.ReplyParser, resp_twin.ReplyParser, data, dice, replies)
    elif kind < 5:
        data = damaged(dice, random_request(dice))
        judge(_resp.Parser, resp_twin.Parser, data, dice, requests)
    elif kind < 6:
        data = damaged(dice, judge_value(random_value(dice), dice))
        judge(_resp.ReplyParser, resp_twin.ReplyParser, data, dice, replies)
    else:
        judge_value(random_value(dice), dice)


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz the RESP parsers and the encoder")
    parser.add_argument("--count", type=int, default=100_000, help="inputs to judge")
    parser.add_argument("--seed", type=int, default=0, help="decides every input")
    args = parser.parse_args()
    for number in range(args.count):
        # Each input has a seed of its own, so that one can be repeated alone.
        try:
            one_input(Random(f"{args.seed}/{number}"))
        except Exception as error:
            sys.stdout.write(f"input {number} of seed {args.seed}: {error!r}\n{error}\n")
            return 1
    sys.stdout.write(f"{args.count} inputs of seed {args.seed}: no difference\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
