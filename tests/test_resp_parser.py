"""Requests and replies read from bytes: cut anywhere, bounded, with the errors of redis-server."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pyraft_fast._resp import Parser, ReplyParser, encode_command
from pyraft_fast.errors import ProtocolError, ReplyError
from pyraft_fast.limits import ARGC_MAX, BULK_BYTES_MAX, INLINE_BYTES_MAX, NESTING_MAX
from pyraft_fast.protocol.replies import Map, Push, Status, Verbatim
from tests.fuzz import fuzz_resp
from tests.twins import resp_twin

CORPUS = sorted((Path(__file__).parent / "corpus" / "resp").glob("*.bin"))
TAIL = b"*1\r\n$4\r\nTAIL\r\n"

COMMANDS: list[tuple[bytes, list[list[str]]]] = [
    (b"", []),
    (b"*1\r\n$4\r\nPING\r\n", [["PING"]]),
    (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", [["GET", ""]]),
    (b"*1\r\n$4\r\n\r\n\r\n\r\n", [["\r\n\r\n"]]),
    (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$1\r\nc\r\n", [["a", "b"], ["c"]]),
    (b"*0\r\n*-1\r\n*-7\r\n*1\r\n$1\r\na\r\n", [["a"]]),
    (b"*2\r\n$2\r\n\xc3\xa9\r\n$3\r\n\xe6\x97\xa5\r\n", [["é", "日"]]),
    (b"*2\r\n$1\r\n\xff\r\n$3\r\n\xed\xb0\x80\r\n", [["\udcff", "\udced\udcb0\udc80"]]),
    (b"*2\r\n$16\r\nsixteen.letters.\r\n$17\r\nseventeen.letters\r\n",
     [["sixteen.letters.", "seventeen.letters"]]),
    (b"*1\r\n$10\r\n0123456789\r\n", [["0123456789"]]),
    (b"PING\r\n", [["PING"]]),
    (b"PING\n", [["PING"]]),
    (b"\r\n\n \t \r\nPING a\r\n", [["PING", "a"]]),
    (b"  set\tk \x0b v  \n", [["set", "k", "v"]]),
    (b"PING\r\r\n", [["PING"]]),
    (b"a\rb\n", [["a", "b"]]),
    (b"a\x0bb a\x00b\n", [["a\x0bb", "a\x00b"]]),
    (b'set "a b" \'c d\' ""\r\n', [["set", "a b", "c d", ""]]),
    (b'"\\x41\\xff\\x4\\n\\r\\t\\b\\a\\q\\"\\\\"\n', [["A\udcffx4\n\r\t\b\aq\"\\"]]),
    (b"'\\n\\'\\x41'\n", [["\\n'\\x41"]]),
    (b'foo"bar" x\'y z\'\n', [["foobar", "xy z"]]),
    (b'"a"\x0b"b"\n', [["a", "b"]]),
    (b"p" * 600 + b"\n", [["p" * 600]]),
]  # fmt: skip

BROKEN: list[tuple[bytes, str]] = [
    (b"*x\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*-\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*9223372036854775808\r\n", "invalid multibulk length"),
    (b"*-9223372036854775809\r\n", "invalid multibulk length"),
    (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
    (b"*1\r\n\r\n", "expected '$', got ' '"),
    (b"*1\r\n:4\r\nPING\r\n", "expected '$', got ':'"),
    (b"*1\r\n\xff4\r\n", "expected '$', got '\udcff'"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$4 \r\nPING\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*" + b"1" * 70_000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
    (b"a" * 70_000, "too big inline request"),
    (b'set "a\r\n', "unbalanced quotes in request"),
    (b"get a'b\r\n", "unbalanced quotes in request"),
    (b'set "a"b c\r\n', "unbalanced quotes in request"),
    (b"set 'a'b\r\n", "unbalanced quotes in request"),
    (b'echo "abc\\\r\n', "unbalanced quotes in request"),
    (b"*1\n$4\nPING\n\r\n", "invalid multibulk length"),
]

# Where this parser is stricter than redis-server: a length that is a lie is found out at once.
STRICTER: list[tuple[bytes, str]] = [
    (b"*1\rx$4\r\nPING\r\n", "invalid multibulk length"),
    (b"*1\r\n$4\rxPING\r\n", "invalid bulk length"),
    (b"*1\r\n$4\r\nPING!\r\n", "expected CR LF after bulk"),
    (b"*1\r\n$4\r\nPINGxx", "expected CR LF after bulk"),
    (b"*%d\r\n" % (ARGC_MAX + 1), "invalid multibulk length"),
    (b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1), "invalid bulk length"),
]


def pieces_of(data: bytes) -> list[list[bytes]]:
    """The same bytes whole, one by one, and in two at every place (or some places)."""
    places = range(1, len(data)) if len(data) < 200 else range(1, len(data), len(data) // 50)
    ways = [[data], *([data[:at], data[at:]] for at in places)]
    if len(data) < 1000:
        ways.append([data[i : i + 1] for i in range(len(data))])
    return ways


def played(parser: Any, pieces: list[bytes]) -> list[Any]:
    out: list[Any] = []
    for piece in pieces:
        parser.feed(piece)
        if not fuzz_resp.drain(parser, out):
            return out
    fuzz_resp.drain(parser, out)
    return out


@pytest.mark.parametrize("make", [Parser, resp_twin.Parser])
@pytest.mark.parametrize(("data", "commands"), COMMANDS)
def test_commands_come_out_however_they_were_cut(
    make: Any, data: bytes, commands: list[list[str]]
) -> None:
    for pieces in pieces_of(data):
        assert played(make(), pieces) == commands
    for pieces in pieces_of(data + TAIL):
        assert played(make(), pieces) == [*commands, ["TAIL"]]


@pytest.mark.parametrize("make", [Parser, resp_twin.Parser])
@pytest.mark.parametrize(("data", "error"), BROKEN + STRICTER)
def test_what_cannot_be_right_is_refused_after_the_commands_before_it(
    make: Any, data: bytes, error: str
) -> None:
    for pieces in pieces_of(TAIL + data + TAIL):
        assert played(make(), pieces) == [["TAIL"], f"Protocol error: {error}"]


def test_an_error_stays() -> None:
    parser = Parser()
    parser.feed(b"PING\r\n*x\r\n")
    assert parser.take() == [["PING"]]
    for _ in range(2):
        with pytest.raises(ProtocolError, match=r"^Protocol error: invalid multibulk length$"):
            parser.take()
        parser.feed(b"PING\r\n")


def test_take_gives_no_more_than_asked_for() -> None:
    parser = Parser()
    parser.feed(b"a\r\nb\r\nc\r\n*x\r\n")
    assert parser.take(0) == []
    assert parser.take(2) == [["a"], ["b"]]
    assert parser.take(1) == [["c"]]
    with pytest.raises(ProtocolError):
        parser.take(1)


def test_pending_counts_what_is_not_parsed() -> None:
    parser = Parser()
    parser.feed(b"PING\r\n*1\r\n$4\r\nPI")
    assert parser.pending == 16
    assert parser.take() == [["PING"]]
    assert parser.pending == 2
    parser.feed(b"NG\r\n")
    assert parser.take() == [["PING"]]
    assert parser.pending == 0


def test_bounds_are_arguments() -> None:
    with pytest.raises(ValueError, match="inline_bytes_max"):
        Parser(inline_bytes_max=31)
    with pytest.raises(ValueError, match="line_bytes_max"):
        ReplyParser(line_bytes_max=31)
    limits = {"bulk_bytes_max": 5, "argc_max": 2, "command_bytes_max": 8, "inline_bytes_max": 32}
    good = [encode_command(["12345", "123"]), b"a" * 31 + b"\r\n", b"a" * 32 + b"\n"]
    assert len(played(Parser(**limits), good)) == 3
    for data, error in [
        (encode_command(["123456"]), "invalid bulk length"),
        (encode_command(["1", "2", "3"]), "invalid multibulk length"),
        (encode_command(["12345", "1234"]), "too big command"),
        (b"a" * 33 + b"\n", "too big inline request"),
        (b"*" + b"1" * 31 + b"\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 32 + b"\r\n", "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 32 + b"\r\n", "too big bulk count string"),
    ]:
        for pieces in pieces_of(data):
            assert played(Parser(**limits), pieces) == [f"Protocol error: {error}"]


def test_a_line_of_the_greatest_length_is_taken_whole_or_cut() -> None:
    line = b"a" * (INLINE_BYTES_MAX - 1) + b"\r\n"
    for pieces in ([line], [line[:-1], line[-1:]], [line[:-2], line[-2:]]):
        assert [len(words[0]) for words in played(Parser(), pieces)] == [INLINE_BYTES_MAX - 1]


def test_what_is_announced_takes_no_memory_before_it_arrives() -> None:
    heads = b"*%d\r\n$%d\r\n" % (ARGC_MAX, BULK_BYTES_MAX)
    replies = b"*%d\r\n" % ARGC_MAX * NESTING_MAX + b"$%d\r\n" % BULK_BYTES_MAX
    tracemalloc.start()
    try:
        for parser, data in ((Parser(), heads), (ReplyParser(), replies)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            parser.feed(data)
            assert parser.take() == []
            assert len(parser.get_buffer(-1)) < 65536
            assert tracemalloc.get_traced_memory()[1] - before < 65536
    finally:
        tracemalloc.stop()


def test_memory_for_a_large_word_is_given_back() -> None:
    parser = Parser()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        parser.feed(encode_command(["x" * 5_000_000]))
        assert tracemalloc.get_traced_memory()[0] - before > 5_000_000
        assert len(parser.take()[0][0]) == 5_000_000
        assert tracemalloc.get_traced_memory()[0] - before < 65536
    finally:
        tracemalloc.stop()


def test_reads_land_in_the_parser() -> None:
    """asyncio.BufferedProtocol's turn: get_buffer, fill, buffer_updated."""
    parser = Parser()
    stream = b"".join(encode_command(["SET", f"key{i}", "v" * (i * 37 % 9000)]) for i in range(300))
    dice, at, words = Random(1), 0, []
    while at < len(stream):
        room = parser.get_buffer(65536)
        assert isinstance(room, memoryview) and not room.readonly and len(room) >= 4096
        part = stream[at : at + dice.randrange(1, min(len(room), 5000) + 1)]
        room[: len(part)] = part
        parser.buffer_updated(len(part))  # `room` is still alive here, as it is in asyncio
        at += len(part)
        if dice.random() < 0.5:
            words += parser.take(dice.randrange(1, 9))
    words += parser.take()
    assert [command[1] for command in words] == [f"key{i}" for i in range(300)]
    assert all(len(command[2]) == i * 37 % 9000 for i, command in enumerate(words))


def test_a_busy_connection_gets_more_room() -> None:
    parser = Parser()
    room = parser.get_buffer(-1)
    assert len(room) == 16384
    room[:] = b"\n" * len(room)
    parser.buffer_updated(len(room))
    assert parser.take() == []
    assert len(parser.get_buffer(-1)) == 65536


def test_a_view_that_somebody_kept_stays_valid() -> None:
    parser = Parser()
    kept = parser.get_buffer(-1)
    kept[:6] = b"PING\r\n"
    parser.buffer_updated(6)
    parser.feed(b"*1\r\n$100000\r\n" + b"y" * 100_000 + b"\r\n")  # moves to a larger block
    kept[:6] = b"xxxxxx"
    assert [len(words[0]) for words in parser.take()] == [4, 100_000]
    del parser
    assert bytes(kept[:6]) == b"xxxxxx"


def test_an_update_without_room_is_refused() -> None:
    parser = Parser()
    with pytest.raises(ValueError, match="no buffer"):
        parser.buffer_updated(1)
    size = len(parser.get_buffer(-1))
    for wrong in (size + 1, -1):
        with pytest.raises(ValueError, match="more bytes"):
            parser.buffer_updated(wrong)
    parser.buffer_updated(0)
    parser.feed(b"PING\r\n")
    with pytest.raises(ValueError, match="no buffer"):
        parser.buffer_updated(1)


def test_feed_takes_anything_with_the_buffer_protocol() -> None:
    parser = Parser()
    for data in (b"PI", bytearray(b"NG"), memoryview(b"\r\n")):
        parser.feed(data)
    assert parser.take() == [["PING"]]
    with pytest.raises(TypeError):
        parser.feed("PING\r\n")


def test_the_same_name_is_the_same_object() -> None:
    """A word that knows its hash makes the lookup of its handler cheaper."""
    parser = Parser()
    parser.feed(b"*1\r\n$12\r\nsome.command\r\nsome.command\r\n")
    (first,), (second,) = parser.take()
    assert first is second


REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", Status("OK")),
    (b"+\r\n", Status("")),
    (b":0\r\n", 0),
    (b":-9223372036854775808\r\n", -(2**63)),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b",-inf\r\n", float("-inf")),
    (b"(123456789012345678901234\r\n", 123456789012345678901234),
    (b"=7\r\ntxt:a\nb\r\n", Verbatim("a\nb")),
    (b"*0\r\n", []),
    (b"*2\r\n*1\r\n:1\r\n$-1\r\n", [[1], None]),
    (b"%2\r\n+a\r\n:1\r\n*1\r\n:2\r\n%0\r\n", Map({"a": 1, (2,): Map()})),
    (b"~3\r\n:1\r\n:1\r\n*1\r\n~1\r\n:2\r\n", {1, (frozenset({2}),)}),
    (b">2\r\n$7\r\nmessage\r\n:1\r\n", Push([b"message", 1])),
    (b"|1\r\n+ttl\r\n:9\r\n*1\r\n|0\r\n:5\r\n", [5]),
]


@pytest.mark.parametrize("make", [ReplyParser, resp_twin.ReplyParser])
@pytest.mark.parametrize(("data", "value"), REPLIES)
def test_replies_come_out_however_they_were_cut(make: Any, data: bytes, value: Any) -> None:
    for pieces in pieces_of(data):
        (got,) = played(make(), pieces)
        assert got == value and type(got) is type(value)
    for pieces in pieces_of(data + b":77\r\n"):
        assert played(make(), pieces) == [value, 77]


@pytest.mark.parametrize("make", [ReplyParser, resp_twin.ReplyParser])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x\r\n", "invalid reply type 'x'"),
        (b":1x\r\n", "invalid integer '1x'"),
        (b":9223372036854775808\r\n", "invalid integer '9223372036854775808'"),
        (b"_x\r\n", "invalid nil 'x'"),
        (b"#x\r\n", "invalid boolean 'x'"),
        (b",1_0\r\n", "invalid double '1_0'"),
        (b"(1x\r\n", "invalid big number '1x'"),
        (b"+OK\n", "reply line without CR LF"),
        (b"$-2\r\n", "invalid bulk length"),
        (b"$1\r\nxyz", "expected CR LF after bulk"),
        (b"=3\r\ntxt\r\n", "invalid verbatim string"),
        (b"*-2\r\n", "invalid multibulk length"),
        (b"%-1\r\n", "invalid multibulk length"),
        (b"*1\r\n" * NESTING_MAX + b"*0\r\n", f"replies nested deeper than {NESTING_MAX}"),
        (b"+" + b"x" * 70_000, "too big reply line"),
    ],
)
def test_replies_that_cannot_be_right(make: Any, data: bytes, error: str) -> None:
    for pieces in pieces_of(b":1\r\n" + data + b":1\r\n"):
        assert played(make(), pieces) == [1, f"Protocol error: {error}"]


def test_errors_in_replies_are_values() -> None:
    parser = ReplyParser()
    parser.feed(b"-WRONGTYPE Operation\r\n!11\r\nERR a\r\nline\r\n-\r\n")
    errors = parser.take()
    assert [type(error) for error in errors] == [ReplyError] * 3
    assert [error.code for error in errors] == ["WRONGTYPE", "ERR", ""]
    assert [error.wire() for error in errors] == ["WRONGTYPE Operation", "ERR a  line", ""]


def test_a_reader_of_both_sides_takes_text_and_inline_requests() -> None:
    parser = ReplyParser(text=True, inline=True)
    parser.feed(b"\r\n$2\r\n\xc3\xa9\r\nset k 'a b'\r\n*1\r\n$1\r\n\xff\r\n")
    assert parser.take() == ["é", ["set", "k", "a b"], ["\udcff"]]
    parser.feed(b"*1\r\nset k v\r\n")
    with pytest.raises(ProtocolError, match="invalid reply type 's'"):
        parser.take()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_twin_agrees_on_the_corpus(path: Path) -> None:
    data, dice = path.read_bytes(), Random(path.name)
    for options in ({}, fuzz_resp.REQUEST_LIMITS):
        fuzz_resp.judge(Parser, resp_twin.Parser, data, dice, options)
    for options in ({}, {"text": True, "inline": True}, fuzz_resp.REPLY_LIMITS):
        fuzz_resp.judge(ReplyParser, resp_twin.ReplyParser, data, dice, options)


@pytest.mark.parametrize("seed", range(4))
def test_the_twin_agrees_on_random_input(seed: int) -> None:
    for number in range(1000):
        fuzz_resp.one_input(Random(f"{seed}/{number}"))
