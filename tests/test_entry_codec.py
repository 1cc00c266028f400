"""Values to bytes and back, judged by the plain twin and by the msgpack library."""

from __future__ import annotations

import math
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._entry import HEADER_SIZE, Batch, decode_commands, packb, unpackb
from pyraft_fast.errors import CommandError, InvariantError, ProtocolError
from pyraft_fast.limits import BATCH_COMMANDS_MAX, NESTING_MAX, RECORD_BYTES_MAX
from tests.fuzz.fuzz_entry import Edge, judge_records, judge_values, one_input, random_value
from tests.twins import entry_twin

CORPUS = sorted((Path(__file__).parent / "corpus" / "entry").glob("*.bin"))
BYTES_AS_TEXT = st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape"))
INTS = st.integers(min_value=-(2**63), max_value=2**64 - 1)
LEAVES = (
    st.none()
    | st.booleans()
    | INTS
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs",)))
    | BYTES_AS_TEXT
    | st.binary()
)
KEYS = st.text(st.characters(exclude_categories=("Cs",))) | INTS | st.binary()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20
)


class Shelf:
    """A list-like class, known by its mark."""

    __raft_list__: ClassVar[bool] = True

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Numbered(IntEnum):
    SEVEN = 7


def from_msgpack(data: bytes) -> Any:
    return msgpack.unpackb(data, unicode_errors="surrogateescape", strict_map_key=False)


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge()


@settings(deadline=None, max_examples=400)
@given(VALUES)
def test_values_come_back_and_every_judge_agrees(value: Any) -> None:
    data = packb(value)
    assert data == entry_twin.packb(value)
    assert data == msgpack.packb(value, unicode_errors="surrogateescape")
    assert repr(unpackb(data)) == repr(value)
    assert repr(from_msgpack(data)) == repr(value)


@settings(deadline=None)
@given(VALUES)
def test_values_cut_at_every_byte_or_with_a_tail_are_refused(value: Any) -> None:
    data = packb(value)
    for cut in range(len(data)):
        with pytest.raises(ProtocolError):
            unpackb(data[:cut])
        with pytest.raises(ProtocolError):
            entry_twin.unpackb(data[:cut])
    for tail in (b"\x00", b"\xc1", data):
        with pytest.raises(ProtocolError, match="behind the value"):
            unpackb(data + tail)


@settings(deadline=None, max_examples=300)
@given(st.binary())
def test_any_bytes_have_the_same_outcome_as_in_the_twin(data: bytes) -> None:
    judge_values(data, Edge())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus_whole_cut_and_with_a_tail(path: Path, edge: Edge) -> None:
    data = path.read_bytes()
    judge = judge_records if path.stem.startswith("record") else judge_values
    for cut in range(len(data) + 1):
        judge(data[:cut], edge)
    for tail in (b"\x00", b"\xff", bytes(80), data):
        judge(data + tail, edge)


def test_corpus_is_there() -> None:
    assert len(CORPUS) >= 12


def test_a_short_run_of_the_fuzzer(edge: Edge) -> None:
    dice = Random(20240229)
    for _ in range(4000):
        one_input(dice, edge)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65535, 65536, 100_000])
def test_lengths_around_every_form(size: int) -> None:
    for value in (
        "x" * size,
        "é" * size,
        b"\x80" * size,
        [None] * size,
        dict.fromkeys(range(size)),
    ):
        data = packb(value)
        assert data == msgpack.packb(value)
        assert unpackb(data) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xcc\x01", 1),
        (b"\xcd\x00\x01", 1),
        (b"\xce\x00\x00\x00\x01", 1),
        (b"\xcf" + bytes(7) + b"\x01", 1),
        (b"\xd0\x01", 1),
        (b"\xd1\xff\xff", -1),
        (b"\xd2\xff\xff\xff\xff", -1),
        (b"\xd3" + b"\xff" * 8, -1),
        (b"\xca\x3f\xc0\x00\x00", 1.5),
        (b"\xd9\x01a", "a"),
        (b"\xda\x00\x01a", "a"),
        (b"\xdb\x00\x00\x00\x01a", "a"),
        (b"\xc5\x00\x01a", b"a"),
        (b"\xc6\x00\x00\x00\x01a", b"a"),
        (b"\xdc\x00\x01\x05", [5]),
        (b"\xdd\x00\x00\x00\x01\x05", [5]),
        (b"\xde\x00\x01\x05\x06", {5: 6}),
        (b"\xdf\x00\x00\x00\x01\x05\x06", {5: 6}),
        (b"\x82\x05\x06\x05\x07", {5: 7}),
    ],
)
def test_longer_forms_than_needed_are_read(data: bytes, value: Any) -> None:
    assert repr(unpackb(data)) == repr(value) == repr(from_msgpack(data))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "byte 0 is cut short"),
        (b"\xc1", "c1 at 0"),
        (b"\x91\xc1", "c1 at 1"),
        (b"\xd4\x01\x02", "extension"),
        (b"\xc7\x00\x01", "extension"),
        (msgpack.packb(msgpack.Timestamp(1)), "extension"),
        (b"\x81\xc0\x01", "byte 1 cannot be the key"),
        (b"\x81\xc3\x01", "cannot be the key"),
        (b"\x81\xcb" + bytes(8) + b"\x01", "cannot be the key"),
        (b"\x81\x90\x01", "cannot be the key"),
        (b"\x81\x80\x01", "cannot be the key"),
        (b"\x81\xd4\x01\x01\x01", "cannot be the key"),
        (b"\xdb\xff\xff\xff\xffabc", "cut short"),
        (b"\xc6\xff\xff\xff\xffabc", "cut short"),
        (b"\xdd\xff\xff\xff\xff\x01", "cut short"),
        (b"\xdf\xff\xff\xff\xff\x01\x01", "cut short"),
    ],
)
def test_bad_bytes_are_refused_with_the_place(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        unpackb(data)


def test_claimed_sizes_make_nothing_large() -> None:
    """32 arrays inside each other, each claiming as many items as bytes are left."""
    size = 1 << 20
    head = b"".join(b"\xdd" + (size + 5 * left).to_bytes(4, "big") for left in range(31, -1, -1))
    data = head + bytes(size)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="cut short"):
            unpackb(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * len(data)  # the outermost list alone: 8 bytes for each byte


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_depth_is_bounded_both_ways(kind: str) -> None:
    deep = nested(NESTING_MAX, kind)
    assert unpackb(packb(deep)) == deep == entry_twin.unpackb(entry_twin.packb(deep))
    deeper = nested(NESTING_MAX + 1, kind)
    with pytest.raises(CommandError, match=f"nested deeper than {NESTING_MAX}"):
        packb(deeper)
    with pytest.raises(ProtocolError, match=f"nested deeper than {NESTING_MAX}"):
        unpackb(msgpack.packb(deeper))
    with pytest.raises(ProtocolError):
        unpackb(b"\x91" * 1_000_000 + b"\x01")
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(CommandError, match="nested deeper"):
        packb(itself)


def test_lists_in_other_clothes() -> None:
    for value in ((1, "a"), deque([1, "a"]), Shelf(1, "a")):
        assert packb(value) == packb([1, "a"]) == entry_twin.packb(value)
    assert unpackb(packb([(1,), deque(), Shelf()])) == [[1], [], []]


def test_subclasses_are_their_base() -> None:
    moved = OrderedDict(a=1, b=2)
    moved.move_to_end("a")
    assert packb(moved) == packb({"b": 2, "a": 1})
    assert packb(Numbered.SEVEN) == b"\x07"
    assert repr(unpackb(packb([True, 1, 1.0]))) == "[True, 1, 1.0]"
    assert packb({"b": 1, "a": 2}) != packb({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1, 2}, "set cannot be put into the log"),
        ([1, [object()]], "item 1, item 0: object cannot"),
        ({"a": 1, "b": [Ellipsis]}, "entry 1, item 0: ellipsis cannot"),
        ({1.5: 2}, "entry 0: a dict's key must be str, int or bytes, not float"),
        ({True: 2}, "not bool"),
        ({(1,): 2}, "not tuple"),
        ([0, 2**64], "item 1: an int of more than 64 bits"),
        (-(2**63) - 1, "an int of more than 64 bits"),
        (["\ud800"], "item 0: a str with a lone surrogate"),
        (bytearray(b"x"), "bytearray cannot"),
        (memoryview(b"x"), "memoryview cannot"),
        (1j, "complex cannot"),
    ],
)
def test_what_the_log_cannot_hold_is_named(value: Any, why: str) -> None:
    with pytest.raises(CommandError, match=why) as fast:
        packb(value)
    with pytest.raises(CommandError) as slow:
        entry_twin.packb(value)
    assert str(fast.value) == str(slow.value)


def test_packb_stops_at_the_size_of_a_record() -> None:
    assert len(packb(b"x" * (RECORD_BYTES_MAX - 5))) == RECORD_BYTES_MAX
    for value in (b"x" * (RECORD_BYTES_MAX - 4), ["x" * (RECORD_BYTES_MAX // 2)] * 2):
        with pytest.raises(CommandError, match=f"at most {RECORD_BYTES_MAX} bytes"):
            packb(value)


# Batches


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(VALUES, min_size=1, max_size=6), st.integers(0, 2**63 - 1))))
def test_batches_agree_with_the_twin(commands: list[tuple[list[Any], int]]) -> None:
    fast, slow = Batch(), entry_twin.Batch()
    for words, offset in commands:
        fast.add(words, offset)
        slow.add(words, offset)
        assert (fast.count, fast.nbytes) == (slow.count, slow.nbytes)
    payload = fast.take()
    assert payload == slow.take()
    assert (fast.count, fast.nbytes, fast.take()) == (0, 0, b"")
    want = [(offset, words) for words, offset in commands]
    assert repr(decode_commands(payload, count=len(commands))) == repr(want)
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False)
    unpacker.feed(payload)
    assert repr([(array[0], array[1:]) for array in unpacker]) == repr(want)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "a command needs a name"),
        ("SET", "must be a list, not str"),
        (None, "must be a list, not NoneType"),
        ({"SET": 1}, "must be a list, not dict"),
        (["SET", "k", {1}], "word 2: set cannot"),
        (["SET", ["k", {"a": object()}]], "word 1, item 1, entry 0: object cannot"),
        (["SET", nested(NESTING_MAX + 1)], "word 1, item 0, .*nested deeper"),
        (["SET", "x" * 1000, "\udfff"], "word 2: a str with a lone surrogate"),
    ],
)
def test_a_refused_command_leaves_the_batch_as_it_was(words: Any, why: str) -> None:
    batch, twin = Batch(), entry_twin.Batch()
    batch.add(["a"])
    twin.add(["a"])
    with pytest.raises(CommandError, match=why) as fast:
        batch.add(words)
    with pytest.raises(CommandError) as slow:
        twin.add(words)
    assert str(fast.value) == str(slow.value)
    batch.add(("b", nested(NESTING_MAX)), 3)
    assert batch.count == len(batch) == 2
    assert decode_commands(batch.take()) == [(0, ["a"]), (3, ["b", nested(NESTING_MAX)])]


def test_words_may_be_any_list() -> None:
    batch = Batch()
    for words in (["a", "b"], ("a", "b"), deque(["a", "b"]), Shelf("a", "b")):
        batch.add(words)  # type: ignore[arg-type]
    assert decode_commands(batch.take()) == [(0, ["a", "b"])] * 4
    with pytest.raises(OverflowError):
        batch.add(["a"], 2**63)


def test_a_batch_has_a_bound_on_commands() -> None:
    batch = Batch()
    for _ in range(BATCH_COMMANDS_MAX):
        batch.add(["a"])
    with pytest.raises(CommandError, match=f"at most {BATCH_COMMANDS_MAX} commands"):
        batch.add(["a"])
    assert batch.count == BATCH_COMMANDS_MAX
    assert len(decode_commands(batch.take(), 0, BATCH_COMMANDS_MAX)) == BATCH_COMMANDS_MAX


def test_a_batch_has_a_bound_on_bytes() -> None:
    batch = Batch()
    # array head, offset, and a text of five bytes' head
    batch.add(["x" * (RECORD_BYTES_MAX - HEADER_SIZE - 7 - 4)])
    with pytest.raises(CommandError, match=f"at most {RECORD_BYTES_MAX} bytes"):
        batch.add(["xxx"])
    batch.add(["x"])
    with pytest.raises(CommandError, match="at most"):
        batch.add([""])
    assert batch.nbytes == len(batch.take()) == RECORD_BYTES_MAX - HEADER_SIZE
    batch.add(["again"])
    assert batch.count == 1


class Meddler(Shelf):
    """Runs something while it is encoded."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def __iter__(self) -> Iterator[Any]:
        self.what()
        return iter(())


def test_code_that_runs_while_encoding_cannot_harm() -> None:
    batch = Batch()
    batch.add(["first"])
    words: list[Any] = ["a", "b"]
    cases: list[tuple[Any, type[Exception]]] = [
        (words.clear, CommandError),
        (lambda: words.append(1), CommandError),
        (lambda: batch.add(["x"]), InvariantError),
        (batch.take, InvariantError),
        (lambda: math.sqrt(-1), ValueError),
    ]
    for meddle, error in cases:
        words[:] = ["a", Meddler(meddle), *["b"] * 100]
        with pytest.raises(error):
            batch.add(words)
        assert batch.count == 1
    inner: dict[Any, Any] = {}
    inner.update(a=Meddler(lambda: inner.pop("b", None)), b=1, c=2)
    with pytest.raises((CommandError, RuntimeError)):
        batch.add(["a", inner])
    assert decode_commands(batch.take()) == [(0, ["first"])]


def test_random_values_are_encoded_alike_as_words() -> None:
    dice = Random(7)
    for _ in range(500):
        words = [random_value(dice), random_value(dice)]
        fast, slow = Batch(), entry_twin.Batch()
        fast.add(words, 5)
        slow.add(words, 5)
        assert fast.take() == slow.take()
