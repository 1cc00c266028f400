"""Values written as RESP2 and RESP3, read back by hiredis and by our own parser."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict, UserDict, UserList, deque, namedtuple
from collections.abc import Iterator, Set
from enum import IntEnum
from random import Random
from typing import Any, ClassVar

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyraft_fast._resp import Parser, ReplyParser, encode, encode_command, encode_into
from pyraft_fast.errors import (
    ClusterDown,
    CommandError,
    ProtocolError,
    RaftException,
    ReplyError,
    Uncertain,
    WrongType,
)
from pyraft_fast.limits import NESTING_MAX, REPLY_BYTES_MAX
from pyraft_fast.protocol.replies import NIL_ARRAY, Map, Push, Status, Verbatim
from tests.fuzz.fuzz_resp import judge_value
from tests.twins import resp_twin

Point = namedtuple("Point", "x y")


class Numbered(IntEnum):
    SEVEN = 7


class Text(str):
    __slots__ = ()


class Shelf:
    """A list-like class, known by its mark."""

    __raft_list__: ClassVar[bool] = True

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Scores(list[Any]):
    """A flat list that RESP3 shows as pairs."""

    __resp_pairs__: ClassVar[bool] = True


class Members(Set[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __contains__(self, item: object) -> bool:
        return item in self.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Monitor:
    """An object of pyraft's kind."""

    json = ""

    def __init__(self) -> None:
        self.name, self.up, self._lock = "a b", True, object()


class Code(RaftException):
    code = ""


CASES: list[tuple[Any, bytes, bytes]] = [
    (None, b"$-1\r\n", b"_\r\n"),
    (NIL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (True, b"+OK\r\n", b"+OK\r\n"),
    (False, b":0\r\n", b":0\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (1023, b":1023\r\n", b":1023\r\n"),
    (1024, b":1024\r\n", b":1024\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (2**63, b"$19\r\n9223372036854775808\r\n", b"(9223372036854775808\r\n"),
    (Numbered.SEVEN, b":7\r\n", b":7\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (-0.0, b"$2\r\n-0\r\n", b",-0\r\n"),
    (0.1, b"$3\r\n0.1\r\n", b",0.1\r\n"),
    (1e20, b"$5\r\n1e+20\r\n", b",1e+20\r\n"),
    (1e-7, b"$4\r\n1e-7\r\n", b",1e-7\r\n"),
    (1.5e-10, b"$7\r\n1.5e-10\r\n", b",1.5e-10\r\n"),
    (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
    (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (float("nan"), b"$3\r\nnan\r\n", b",nan\r\n"),
    ("", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    ("two\r\nlines", b"$10\r\ntwo\r\nlines\r\n", b"$10\r\ntwo\r\nlines\r\n"),
    ("é\udcff", b"$3\r\n\xc3\xa9\xff\r\n", b"$3\r\n\xc3\xa9\xff\r\n"),
    (Text("abc"), b"$3\r\nabc\r\n", b"$3\r\nabc\r\n"),
    (b"\x00\xff", b"$2\r\n\x00\xff\r\n", b"$2\r\n\x00\xff\r\n"),
    (bytearray(b"a"), b"$1\r\na\r\n", b"$1\r\na\r\n"),
    (memoryview(b"abc")[::2], b"$2\r\nac\r\n", b"$2\r\nac\r\n"),
    (Status("PONG"), b"+PONG\r\n", b"+PONG\r\n"),
    (Status("a\nb"), b"$3\r\na\nb\r\n", b"$3\r\na\nb\r\n"),
    (Verbatim("a\r\n"), b"$3\r\na\r\n\r\n", b"=7\r\ntxt:a\r\n\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([1, ["a", None]], b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n",
     b"*2\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n"),
    ((1,), b"*1\r\n:1\r\n", b"*1\r\n:1\r\n"),
    (Point(1, 2), b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
    (deque([1]), b"*1\r\n:1\r\n", b"*1\r\n:1\r\n"),
    (UserList([1]), b"*1\r\n:1\r\n", b"*1\r\n:1\r\n"),
    (Shelf(1, 2), b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
    (range(2), b"*2\r\n:0\r\n:1\r\n", b"*2\r\n:0\r\n:1\r\n"),
    ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    (Map(a=None), b"*2\r\n$1\r\na\r\n$-1\r\n", b"%1\r\n$1\r\na\r\n_\r\n"),
    (OrderedDict(a=1), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    (UserDict(a=1), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    ({}, b"*0\r\n", b"%0\r\n"),
    ({1}, b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
    (frozenset([1]), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
    (Members("b", "a"), b"*2\r\n$1\r\nb\r\n$1\r\na\r\n", b"~2\r\n$1\r\nb\r\n$1\r\na\r\n"),
    (Push(["a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"),
    (Scores(["a", 1.5]), b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n", b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"),
    (CommandError("no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (Uncertain("maybe"), b"-UNCERTAIN maybe\r\n", b"-UNCERTAIN maybe\r\n"),
    (ClusterDown("a\r\nb"), b"-CLUSTERDOWN a  b\r\n", b"-CLUSTERDOWN a  b\r\n"),
    (ReplyError("MOVED 1 a:1"), b"-MOVED 1 a:1\r\n", b"-MOVED 1 a:1\r\n"),
    (Code("bare"), b"-bare\r\n", b"-bare\r\n"),
    (ProtocolError("got '\udcff'"), b"-ERR got '\xff'\r\n", b"-ERR got '\xff'\r\n"),
    (ValueError("two\nlines"), b"-ERR two lines\r\n", b"-ERR two lines\r\n"),
    (KeyError(), b"-ERR KeyError\r\n", b"-ERR KeyError\r\n"),
    ([WrongType("no")], b"*1\r\n-WRONGTYPE no\r\n", b"*1\r\n-WRONGTYPE no\r\n"),
    (Monitor(),
     b'$27\r\n{"name": "a b", "up": true}\r\n',
     b'$27\r\n{"name": "a b", "up": true}\r\n'),
]  # fmt: skip

NO_FORM = [object(), 1j, len, Ellipsis, (i for i in ()), Monitor]


def shown(case: object) -> str:
    """The name of a case, the same in every process."""
    return "memoryview" if isinstance(case, memoryview) else repr(case)[:30]


@pytest.mark.parametrize("of", [encode, resp_twin.encode])
@pytest.mark.parametrize(("value", "two", "three"), CASES, ids=shown)
def test_every_type_has_its_form(of: Any, value: Any, two: bytes, three: bytes) -> None:
    assert of(value, 2) == two
    assert of(value, 3) == three
    assert of([value], 2) == b"*1\r\n" + two


@pytest.mark.parametrize(("value", "two", "three"), CASES, ids=shown)
def test_hiredis_reads_one_reply(value: Any, two: bytes, three: bytes) -> None:
    judge_value(value, Random(0))


@pytest.mark.parametrize("value", NO_FORM, ids=lambda value: type(value).__name__)
def test_a_value_without_form_is_an_error_that_names_its_type(value: Any) -> None:
    name = type(value).__name__.encode()
    want = b"-ERR handler returned a %s, which has no RESP form\r\n" % name
    assert encode(value) == encode(value, 3) == want
    assert encode([1, value, 2])[:8] == b"*3\r\n:1\r\n"


def test_encode_into_appends() -> None:
    out = bytearray(b"+OK\r\n")
    encode_into(out, "x")
    encode_into(out, None, 3)
    encode_into(out, None, proto=2)
    encode_into(out, ["y" * 5000] * 3, 2)
    encode_into(out, "z" * 100_000)
    encode_into(out, b"b" * 100_000)
    reader = ReplyParser(text=True)
    reader.feed(out)
    assert reader.take() == [
        "OK", "x", None, None, ["y" * 5000] * 3, "z" * 100_000, "b" * 100_000,
    ]  # fmt: skip
    assert reader.pending == 0


def test_only_a_bytearray_that_may_grow_is_written_to() -> None:
    with pytest.raises(TypeError):
        encode_into(b"", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        encode_into(None, 1)  # type: ignore[arg-type]
    out = bytearray(b"seen")
    with memoryview(out):
        for value in (1, "x" * 100_000):
            with pytest.raises(BufferError):
                encode_into(out, value)
    assert out == b"seen"


def nested(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = ([value], (value,), {"k": value})[level % 3]
    return value


def test_values_nest_as_deep_as_the_bound() -> None:
    assert encode(nested(NESTING_MAX)).endswith(b"$1\r\nx\r\n")
    endless: list[Any] = []
    endless.append(endless)
    for value in (nested(NESTING_MAX + 1), endless):
        name = type(value).__name__
        why = f"reply is nested deeper than {NESTING_MAX}"
        line = f"-ERR handler returned a {name} that cannot be sent: {why}\r\n"
        assert encode(value) == encode(value, 3) == line.encode()


class Failing(UserList[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield 1
        raise RuntimeError("half-way")


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "value", ["\ud800", Failing(), Unsayable(), {"k": Failing()}, [1, 2, Verbatim("\ud800")]]
)
def test_what_fails_half_way_leaves_an_error_and_nothing_else(value: Any) -> None:
    for proto in (2, 3):
        out = bytearray(b":1\r\n")
        encode_into(out, value, proto)
        reader = ReplyParser()
        reader.feed(out)
        one, error = reader.take()
        assert one == 1 and isinstance(error, ReplyError) and "cannot be sent" in str(error)


class Meddler(UserList[Any]):
    """Its elements appear while somebody else is changed."""

    def __init__(self, change: Any) -> None:
        super().__init__([1])
        self.change = change

    def __iter__(self) -> Iterator[Any]:
        self.change()
        return iter([1])


def test_a_container_that_changes_meanwhile_is_no_danger() -> None:
    items: list[Any] = [1, 2, 3]
    items[0] = Meddler(items.clear)
    table: dict[Any, Any] = {i: i for i in range(50)}
    table[0] = Meddler(table.clear)
    grows: dict[Any, Any] = {"a": 1}
    grows["a"] = Meddler(lambda: grows.update({i: i for i in range(1000)}))
    for value in (items, table, grows):
        name = type(value).__name__
        why = "reply changed while it was written"
        line = f"-ERR handler returned a {name} that cannot be sent: {why}\r\n"
        assert encode(value).decode() == line


TOO_LONG = f"-ERR a reply has at most {REPLY_BYTES_MAX} bytes\r\n".encode()


@pytest.mark.parametrize("of", [encode, resp_twin.encode])
def test_a_string_that_is_too_long_for_a_reply_is_an_error(of: Any) -> None:
    assert of(bytes(REPLY_BYTES_MAX)) == TOO_LONG


def test_a_reply_is_given_up_when_it_gets_too_long() -> None:
    part = "x" * (REPLY_BYTES_MAX // 3)
    for value in ([part] * 4, {"a": [part] * 3, "b": part}, deque([part, 1, [part, part]])):
        for proto in (2, 3):
            assert encode(value, proto) == TOO_LONG
    out = bytearray(b"+OK\r\n")
    for value in ([part] * 4, part * 3, part.encode() * 3):
        encode_into(out, value)
    assert bytes(out) == b"+OK\r\n" + 3 * TOO_LONG
    assert encode_command(["a"]) == b"*1\r\n$1\r\na\r\n"


def test_interrupts_are_not_swallowed() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    out = bytearray()
    with pytest.raises(KeyboardInterrupt):
        encode_into(out, [1, Meddler(stop)])
    assert not out


def test_nothing_is_kept() -> None:
    """Neither values nor words gain references that stay."""
    word, value = "some word of a command", ["element", 1.5, {"k": Status("v")}]
    watched = [word, value, value[0], None, True]

    def work() -> None:
        for _ in range(50):
            encode(value, 2), encode(value, 3), encode(object()), encode(nested(40))
            encode_command([word, b"x", 5])
            for parser in (Parser(), ReplyParser(text=True)):
                parser.feed(encode_command([word, "", "é"]) + b"*2\r\n$1\r\na\r\n$5\r\nb")
                parser.take()
                parser.get_buffer(-1)

    work()
    gc.collect()
    before = [sys.getrefcount(one) for one in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(5):
        work()
    gc.collect()
    grown = [sys.getrefcount(one) - was for one, was in zip(watched, before, strict=True)]
    assert max(grown) < 50, grown  # a leak shows as 250 or more
    assert sys.getallocatedblocks() - blocks < 200


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
    | st.text(st.characters(codec="ascii")).map(Status)
    | st.text(st.characters(codec="utf-8")).map(Verbatim)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_the_twin_and_hiredis_agree(value: Any) -> None:
    judge_value(value, Random(0))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_any_bytes_survive_the_way_in_and_out(words: list[bytes]) -> None:
    parser, reader = Parser(), hiredis.Reader()
    parser.feed(encode_command(words))
    (command,) = parser.take()
    reader.feed(encode(command))
    assert reader.gets() == words
    assert encode_command(command) == encode_command(words)


def test_commands_are_arrays_of_bulk_strings() -> None:
    words = ["SET", b"k", 5, -(2**70), 1.0, 0.5, Text("t"), bytearray(b"b"), memoryview(b"m"), "é"]
    reader = hiredis.Reader()
    reader.feed(encode_command(iter(words)))
    assert reader.gets() == [
        b"SET", b"k", b"5", b"-1180591620717411303424", b"1", b"0.5", b"t", b"b", b"m",
        "é".encode(),
    ]  # fmt: skip
    assert encode_command([]) == b"*0\r\n"
    assert encode_command(["SET", "k", "v"]) == hiredis.pack_command(("SET", "k", "v"))


@pytest.mark.parametrize("word", [None, True, [], object()])
def test_other_types_are_no_words(word: Any) -> None:
    with pytest.raises(CommandError, match=r"^word 1: a"):
        encode_command(["GET", word])
