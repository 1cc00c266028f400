"""Chunks of a snapshot's items, judged by the plain twin."""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._entry import Chunks, unpackb
from pyraft_fast.errors import CommandError, InvariantError, SnapshotError
from pyraft_fast.limits import (
    BULK_BYTES_MAX,
    NESTING_MAX,
    RECORD_BYTES_MAX,
    SNAPSHOT_CHUNK_BYTES,
)
from pyraft_fast.storage.parts import Joiner
from tests.fuzz.fuzz_items import Keyed, difference, outcome, taken
from tests.twins import items_twin

ITEM_BYTES_MAX = RECORD_BYTES_MAX - 64 - 5
assert items_twin.ITEM_BYTES_MAX == ITEM_BYTES_MAX

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False),
    st.text(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.just({1, 2}),
    st.sampled_from([31, 32, 255, 256, 65535, 65536]).map(lambda size: "x" * size),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(st.text() | st.integers() | st.floats(allow_nan=False), inner, max_size=3)
    ),
    max_leaves=6,
)
ORDINARY = st.tuples(
    st.text(max_size=20), st.integers(0, 7), st.text(), st.none() | st.integers(0, 2**50)
)
ODD = st.tuples(VALUES, st.integers(0, 9) | VALUES, VALUES, st.none() | VALUES)


def agree(items: Iterable[Any], *bounds: int) -> Any:
    """What both make of `items`: chunks, and the error that they end with."""
    got = outcome(taken, items, *bounds)
    assert got == outcome(items_twin.chunks, items, *bounds)
    return got


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@settings(deadline=None)
@given(st.lists(ORDINARY, max_size=30), st.integers(0, 400))
def test_ordinary_items_agree_with_the_twin(items: list[Any], bytes_max: int) -> None:
    chunks, error = agree(items, bytes_max)
    assert error is None
    read = [item for _, payload in chunks for item in unpackb(payload)]
    assert [(k, c, unpackb(v), d) for k, c, v, d in read] == items


@settings(deadline=None)
@given(st.lists(ORDINARY | ODD, max_size=8), st.integers(0, 400))
def test_any_items_agree_with_the_twin(items: list[Any], bytes_max: int) -> None:
    agree(items, bytes_max)


def test_a_short_run_of_the_fuzzer() -> None:
    dice = Random(3)
    for number in range(500):
        assert difference(dice) == "", number


def test_no_items_make_no_chunk() -> None:
    chunks = Chunks([], SNAPSHOT_CHUNK_BYTES)
    assert [chunks.take() for _ in range(3)] == [(0, b"")] * 3


def test_where_a_chunk_ends() -> None:
    one = len(items_twin.encode("k", 1, "v", None))
    items = [("k", 1, "v", None)] * 6
    for bytes_max in range(5 + 3 * one + 2):
        chunks, _ = agree(items, bytes_max)
        counts = [count for count, _ in chunks]
        fit = max(1, (bytes_max - 5) // one)
        assert counts[0] == fit, bytes_max
        assert sum(counts) == 6


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 65535, 65536, 2**20, 3 * 2**20])
def test_values_and_keys_of_every_length(size: int) -> None:
    for text in ("x" * size, "é" * (size // 2), b"x" * size, ["x" * size], ("x" * size, {})):
        items = [("a", 1, "b", None), ("k", 1, text, 5), ("c", 1, "d", None), (text, 1, text, 1)]
        agree([*items, *items], SNAPSHOT_CHUNK_BYTES)


def test_a_value_nests_as_deep_as_in_the_log_whatever_lies_around_it() -> None:
    assert agree([("k", 4, nested(NESTING_MAX), None)], 100)[1] is None
    _, error = agree([("k", 4, nested(NESTING_MAX + 1), None)], 100)
    where = ", ".join(["item 0"] * NESTING_MAX)
    why = f"{where}: values nested deeper than {NESTING_MAX}"
    assert error == (SnapshotError, f"key 'k' cannot be put into a snapshot: {why}")
    assert agree([(nested(NESTING_MAX - 1), 4, 1, nested(NESTING_MAX - 1))], 100)[1] is None
    assert "nested" in agree([(nested(NESTING_MAX), 4, 1, None)], 100)[1][1]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (("k", 1, {1}, None), "set cannot be put into the log"),
        (("k", 1, ["a", {1}], None), "item 1: set cannot be put into the log"),
        (("k", 1, {"a": object}, None), "entry 0: type cannot be put into the log"),
        (("k", 1, 2**64, None), "an int of more than 64 bits cannot be put into the log"),
        (("k", -(2**63) - 1, "", None), "item 1: an int of more than 64 bits cannot be put into"),
        (("k", 1, "", 2**64), "item 3: an int of more than 64 bits cannot be put into the log"),
        (("k", 1, "\ud800", None), "a str with a lone surrogate cannot be put into the log"),
        (("\ud800", 1, "", None), "item 0: a str with a lone surrogate cannot be put into"),
        ((("a", {1}), 1, "", None), "item 0, item 1: set cannot be put into the log"),
        (("k", 1, {1.5: 1}, None), "entry 0: a dict's key must be str, int or bytes, not float"),
        (({1}, {1}, {2: {3}}, {1}), "entry 0: set cannot be put into the log"),  # the value's first
    ],
)
def test_errors_name_the_key_and_the_place(item: Any, why: str) -> None:
    chunks, error = agree([("fine", 1, "x", None), item, ("fine", 1, "x", None)], 0)
    assert error[0] is SnapshotError
    assert error[1].startswith(f"key {item[0]!r} cannot be put into a snapshot: {why}")
    assert len(chunks) == 0


def test_the_cause_is_kept() -> None:
    with pytest.raises(SnapshotError) as raised:
        Chunks([("k", 1, {1}, None)], 100).take()
    assert type(raised.value.__cause__) is CommandError


def test_the_largest_items() -> None:
    around = len(items_twin.encode("k", 1, b"", None)) + 2 * 3  # bin heads of five bytes, not two
    largest = ITEM_BYTES_MAX - around
    tail = ("t", 1, "", None)
    chunks, error = agree([tail, ("k", 1, b"v" * largest, None), tail], SNAPSHOT_CHUNK_BYTES)
    assert ([len(unpackb(payload)[0]) for _, payload in chunks], error) == ([4] * 3, None)
    assert len(chunks[1][1]) == RECORD_BYTES_MAX - 64
    chunks, error = agree([tail, ("k", 1, b"v" * (largest + 1), 9), tail], SNAPSHOT_CHUNK_BYTES)
    assert (sum(count for count, _ in chunks), error) == (82, None)
    assert max(len(payload) for _, payload in chunks) < SNAPSHOT_CHUNK_BYTES + 200


def test_the_longest_key_leaves_room_for_the_longest_value() -> None:
    key, value = "k" * BULK_BYTES_MAX, "v" * BULK_BYTES_MAX
    chunks = list(taken([(key, 1, value, 9)], SNAPSHOT_CHUNK_BYTES))
    assert max(len(payload) for _, payload in chunks) <= RECORD_BYTES_MAX - 64
    assert joined(chunks) == [(key, 1, value, 9)]
    with pytest.raises(SnapshotError, match=r"^key 'k{199} .* leaves no room for its value"):
        Chunks([("k" * (RECORD_BYTES_MAX // 16 * 15), 1, value, None)], 0).take()


# Items that are written in parts


def joined(chunks: list[tuple[int, bytes]]) -> list[Any]:
    """The items again, whole."""
    joiner, found = Joiner(), []
    for count, payload in chunks:
        items = unpackb(payload)
        assert len(items) == count
        for item in items:
            whole = joiner.add(item) if len(item) == 6 else (*item[:2], unpackb(item[2]), item[3])
            found += [] if whole is None else [whole]
    joiner.end()
    return found


@settings(deadline=None)
@given(st.lists(ORDINARY, max_size=20), st.integers(0, 400), st.integers(120, 400))
def test_long_texts_agree_with_the_twin(items: list[Any], bytes_max: int, most: int) -> None:
    items = [(key[:5], code, value * 9, due) for key, code, value, due in items]
    chunks, error = agree(items, bytes_max, most)
    assert error is None
    assert all(len(payload) <= max(bytes_max, most + 5) for _, payload in chunks)
    assert joined(chunks) == items


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
)


@settings(deadline=None)
@given(PLAIN, st.none() | st.integers(0, 2**50), st.integers(0, 400), st.integers(100, 400))
def test_long_values_agree_with_the_twin(value: Any, due: Any, bytes_max: int, most: int) -> None:
    items = [("k", 3, value, due), ("other", 1, [value] * 9, due)]
    chunks, error = agree(items, bytes_max, most)
    assert (joined(chunks), error) == (items, None)
    data = {key: value for key, _, value, _ in items} | {"text": "x" * most, "short": ""}
    agree(Keyed(data, {"k": 5, "text": 6}), bytes_max, most)


@pytest.mark.parametrize("most", range(200, 260))
def test_an_item_is_cut_where_it_is_one_byte_too_long(most: int) -> None:
    around = len(items_twin.encode("k", 1, "", None))
    for value in ("x" * most, ["x"] * most, {f"{i:03}": "x" * 10 for i in range(most // 16)}):
        cuts = [0, 0]
        for size in range(len(value)):
            part = {} if isinstance(value, dict) else value[:size]
            if isinstance(value, dict):
                part = dict(list(value.items())[:size])
            chunks, _ = agree([("k", 1, part, None)], 0, most)
            whole = len(items_twin.encode("k", 1, part, None)) <= most
            assert joined(chunks) == [("k", 1, part, None)]
            assert (len(unpackb(chunks[0][1])[0]) == 4) == whole
            cuts[whole] += 1
        assert around < most
        assert cuts[1]


def test_an_element_that_has_no_form_is_named_in_any_part() -> None:
    for at in (0, 1, 50, 99):
        items = [("k", 1, [*["x" * 9] * at, {1}, *["x" * 9] * (99 - at)], None)]
        with pytest.raises(SnapshotError, match=rf"^key 'k' .*: item {at}: set cannot"):
            list(taken(items, 0, 300))
        entries = dict.fromkeys(range(1000, 1100), "x" * 9) | {1000 + at: {1}}
        with pytest.raises(SnapshotError, match=rf"^key 'k' .*: entry {at}: set cannot"):
            list(taken([("k", 1, entries, None)], 0, 300))


def test_a_container_that_changes_between_its_parts_is_noticed() -> None:
    for value, what in (["x" * 9] * 99, "list"), (dict.fromkeys(range(99), "x" * 9), "dict"):
        chunks = Chunks([("k", 1, value, None)], 0, item_bytes_max=300)
        assert chunks.take()[0] == 1
        value.popitem() if isinstance(value, dict) else value.pop()
        with pytest.raises(SnapshotError, match=f"a {what} changed while it was encoded"):
            for _ in range(20):
                chunks.take()


def test_nothing_of_a_long_value_is_kept() -> None:
    key, element, due = "a key " + str(id(gc)), "element " + str(id(gc)), 10**9 + id(gc)
    watched = [key, element, due]
    before = [sys.getrefcount(one) for one in watched]
    for turns in (1, 3, 99):
        items = [(key, 1, [element] * 50, due), (key, 1, {"f": element, "g": element * 20}, due)]
        chunks = Chunks(iter(items), 0, item_bytes_max=200)
        for _ in range(turns):
            chunks.take()
        del chunks, items
    gc.collect()
    assert [sys.getrefcount(one) for one in watched] == before


def test_memory_is_bounded_by_a_part_and_an_element() -> None:
    """Not asked of the system: a part is made of so many elements, and no more were looked at."""
    seen: list[int] = []

    class Looked:
        __raft_list__ = True

        def __iter__(self) -> Iterator[Any]:
            seen.append(0)
            return iter(["x" * 90])

    chunks = Chunks([("k", 1, [Looked() for _ in range(1000)], None)], 0, item_bytes_max=1000)
    chunks.take()
    seen.clear()
    counts = []
    while chunks.take()[0]:
        counts.append(len(seen))
        seen.clear()
    assert max(counts) < 12


def test_what_the_iterable_raises_comes_through() -> None:
    def items(error: BaseException) -> Iterator[Any]:
        yield "k", 1, "v", None
        raise error

    for error in (CommandError("key 'x': why"), KeyboardInterrupt(), OSError(5, "io")):
        chunks = Chunks(items(error), 0)
        with pytest.raises(type(error)) as raised:
            chunks.take()
        assert raised.value is error
        with pytest.raises(InvariantError, match="none after an error"):
            chunks.take()


def test_a_stop_inside_an_item_is_not_the_end() -> None:
    """Or half a snapshot would pass for a whole one."""

    class Odd:
        __raft_list__ = True

        def __iter__(self) -> Iterator[Any]:
            raise StopIteration

    with pytest.raises(StopIteration):
        Chunks([("k", 1, "v", None), ("k", 1, Odd(), None)], 100).take()


def test_items_that_are_none_are_refused() -> None:
    for bad in (5, None, (), ("k", 1, "v"), ("k", 1, "v", None, 5)):
        with pytest.raises((TypeError, ValueError)):
            Chunks([bad], 100).take()  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Chunks(5, 100)  # type: ignore[arg-type]
    for bytes_max in (-1, RECORD_BYTES_MAX + 1):
        with pytest.raises(InvariantError):
            Chunks([], bytes_max)
    for bytes_max in (-1, ITEM_BYTES_MAX + 1):
        with pytest.raises(InvariantError):
            Chunks([], 0, item_bytes_max=bytes_max)


def test_chunks_are_not_taken_while_one_is_made() -> None:
    class Again:
        __raft_list__ = True

        def __iter__(self) -> Iterator[Any]:
            chunks.take()
            return iter(())

    chunks = Chunks([("k", 1, Again(), None)], 100)
    with pytest.raises(InvariantError, match="one by one"):
        chunks.take()


def test_items_are_taken_as_they_are_needed() -> None:
    drawn: list[int] = []

    def items() -> Iterator[Any]:
        for number in range(10):
            drawn.append(number)
            yield number, 1, "", None

    chunks = Chunks(items(), 0)
    for number in range(10):
        assert chunks.take()[0] == 1
        assert len(drawn) == min(number + 2, 10)


def test_nothing_is_kept() -> None:
    key, value = "some key " + str(id(gc)), ["some", "value"]
    before = sys.getrefcount(key), sys.getrefcount(value)
    for _ in range(50):
        chunks = Chunks(iter([(key, 1, value, 5)] * 3 + [(key, 1, {1}, 5)]), 0)
        with pytest.raises(SnapshotError):
            for _ in range(9):
                chunks.take()
        del chunks
    gc.collect()
    assert (sys.getrefcount(key), sys.getrefcount(value)) == before


# Items that lie in dicts

KEYS = st.text(max_size=5) | st.integers(-3, 3) | st.binary(max_size=2)
SMALL = st.text() | st.integers() | st.lists(st.text(), max_size=2) | st.just(b"cannot")
DUE = st.integers(0, 2**50) | st.none() | st.floats() | st.just(2**64) | st.just({1})


@settings(deadline=None)
@given(
    st.dictionaries(KEYS, SMALL, max_size=20),
    st.dictionaries(KEYS, DUE, max_size=5),
    st.integers(0, 400),
)
def test_dicts_agree_with_the_twin(
    data: dict[Any, Any], deadlines: dict[Any, Any], bytes_max: int
) -> None:
    agree(Keyed(data, deadlines), bytes_max)
    texts = {key: str(value) for key, value in data.items()}
    agree(Keyed(texts, dict.fromkeys(list(texts)[1:-1], 1 << 40)), bytes_max)


def test_texts_of_every_length_in_dicts() -> None:
    sizes = (0, 31, 32, 255, 256, 65535, 65536, 2**20, 2**20 + 1, 3 * 2**20)
    data = {"first": "x"} | {f"{size}": "x" * size for size in sizes}
    data |= {"x" * size: "x" for size in sizes} | {"é": "é", "\udcff": "\udcff", "last": ""}
    assert agree(Keyed(data, {}), SNAPSHOT_CHUNK_BYTES)[1] is None
    assert agree(Keyed(data, dict.fromkeys(data, 5)), SNAPSHOT_CHUNK_BYTES)[1] is None
    _, error = agree(Keyed({"a": "b", "k": "v"}, {"k": 2**64}), 0)
    why = "item 3: an int of more than 64 bits cannot be put into the log"
    assert error == (SnapshotError, f"key 'k' cannot be put into a snapshot: {why}")


def test_texts_are_frozen_once() -> None:
    asked: list[Any] = []

    def freeze(key: Any, value: Any) -> tuple[int, Any]:
        asked.append(key)
        return 5, value

    data = {1: [1], "a": "x", "b": "x", "c": "x", "é": "x", "d": Text("x"), "e": 1, "f": "x"}
    chunks = Chunks((), 1000, data, {"b": 9}, freeze)
    payload = chunks.take()[1]
    assert [item[0] for item in unpackb(payload)] == list(data)
    assert [item[1] for item in unpackb(payload)] == [5] * len(data)
    assert asked == [1, "a", "é", "d", "e"]


class Text(str):
    """Not a plain one."""


def test_dicts_that_change_are_noticed() -> None:
    data: dict[Any, Any] = {"a": "x", "b": 1, "c": "x"}

    def freeze(key: Any, value: Any) -> tuple[int, Any]:
        data.pop("c", None)
        return 1, value

    chunks = Chunks((), 1000, data, {}, freeze)
    with pytest.raises(RuntimeError, match="changed size"):
        chunks.take()


def test_dicts_of_another_kind_are_refused() -> None:
    for data, deadlines in (([], {}), ({}, None), ({}, [])):
        with pytest.raises(TypeError, match="must be dicts"):
            Chunks((), 100, data, deadlines, Keyed({}, {}).freeze)  # type: ignore[arg-type]


def test_nothing_of_dicts_is_kept() -> None:
    key, text, value, due = "a key " + str(id(gc)), "text " + str(id(gc)), ["a"], 10**9 + id(gc)
    watched = [key, text, value, due]
    data = {"first": "x", key: text, "value": value, "bad": {1}}
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(50):
        chunks = Chunks((), 0, data, {key: due}, lambda _, value: (1, value))
        with pytest.raises(SnapshotError):
            for _ in range(9):
                chunks.take()
        del chunks
    gc.collect()
    assert [sys.getrefcount(one) for one in watched] == before


def test_an_entry_that_goes_while_it_is_frozen_is_encoded_as_it_was() -> None:
    """Its key and value are held: the memory of others must not come in their place."""
    data: dict[Any, Any] = {}
    held: list[str] = []

    def freeze(key: Any, value: Any) -> tuple[int, Any]:
        plain = list(value)
        data.clear()
        data["other"] = "x"  # as many as before
        held.extend(f"{number}-" + "q" * 30 for number in range(1000))
        return 2, plain

    data["victim-" + str(len(data)) + "-" + "v" * 22] = [1]
    count, payload = Chunks((), 1000, data, {}, freeze).take()
    items = unpackb(payload)
    assert count == len(items)
    assert items[0][0] == "victim-0-" + "v" * 22
    assert unpackb(items[0][2]) == [1]
