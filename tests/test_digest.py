"""Value digests and the noting keyspace against their plain twin, and what must not count."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyraft_fast import _entry
from pyraft_fast._digest import Keyspace, Noted, Notes, digest, mix
from pyraft_fast.serving.rows import Row
from pyraft_fast.worker.codes import freeze, thaw
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode
from pyraft_fast.worker.types.sets import Members
from tests.twins import digest_twin

assert Store  # it names the worker's types to the digest
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=())) | st.integers(-(2**70), 2**70)
)  # fmt: skip
KEYS = st.text(max_size=4) | st.integers() | st.binary(max_size=4)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(RedisList)
        | st.dictionaries(KEYS, inner)
        | st.dictionaries(st.text(max_size=4), inner).map(TreeNode)
        | st.frozensets(KEYS)
        | st.sets(KEYS)
        | st.sets(KEYS).map(RedisSet)
        | st.lists(KEYS, unique=True).map(Members)
        | st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False)).map(
            lambda scores: SortedSet(scores.items())
        )
    ),
    max_leaves=60,
)


@given(VALUES)
def test_digest_agrees_with_the_twin(value: Any) -> None:
    assert digest(value) == digest_twin.digest(value)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 1000])
def test_large_containers_agree_with_the_twin(size: int) -> None:
    names = [f"n{number}" for number in range(size)]
    for value in (
        names, tuple(names), RedisList(names), RedisSet(names), set(names),
        dict.fromkeys(names, 1), SortedSet((name, 1.5) for name in names), [[names]],
        {"in": RedisList(names)}, [SortedSet((name, 2) for name in names)],
    ):  # fmt: skip
        assert digest(value) == digest_twin.digest(value), type(value)


@pytest.mark.parametrize("size", [8192, 16383, 16384, 16385, 100_000])
def test_long_texts_agree_with_the_twin(size: int) -> None:
    for value in ("x" * size, b"x" * size, "\u20ac" * (size // 2), "\U0001f600" * (size // 4)):
        assert digest(value) == digest_twin.digest(value)


def test_a_large_container_counts_by_length_and_ends() -> None:
    items = RedisList(str(number) for number in range(1000))
    before = digest(items)
    items[500] = "other"
    assert digest(items) == before, "the middle is out of reach in constant time"
    items[0] = "other"
    assert digest(items) != before
    long = "x" * 100_000
    assert digest(long) != digest(long + "x") != digest("y" + long)


def test_order_counts_where_there_is_one() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a", "b"}) == digest({"b", "a"})
    assert digest(["a", "b"]) != digest(["b", "a"])
    assert digest(RedisSet(["a", "b"])) != digest(RedisSet(["b", "a"])), "SPOP goes by it"


def test_what_a_snapshot_brings_back_has_the_same_digest() -> None:
    for value in (
        "x", 5, 1.5, b"\xff", [1, (2, 3)], {"a": {"b": [None, True]}}, RedisList("abc"),
        RedisSet("abc"), SortedSet([("a", 1), ("b", 2.5)]), TreeNode(a="1", b=TreeNode()),
        {"mixed": RedisSet("xyz")},
    ):  # fmt: skip
        assert digest(thaw(*freeze(value))) == digest(value), value


class Rude(dict[str, int]):
    """A class of a user whose methods must not run."""

    def __iter__(self) -> Any:
        raise AssertionError("run")

    items = keys = values = __repr__ = __len__ = __getitem__ = __iter__  # type: ignore[assignment]


def test_no_method_of_a_class_of_the_user_runs() -> None:
    class Stranger:
        __slots__ = ()
        __repr__ = __hash__ = __eq__ = Rude.__iter__  # type: ignore[assignment]

    assert digest(Rude(a=1)) == digest({"a": 1}) == digest(OrderedDict(a=1))
    assert digest(Stranger()) == digest(Stranger()) == digest_twin.digest(Stranger())
    assert digest(ValueError("at 0x7f01")) == digest(ValueError("at 0x7f02"))
    half_made = SortedSet.__new__(SortedSet)
    assert digest(half_made) == digest(half_made)


def test_a_value_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert digest(loop) == digest(loop)


def test_digests_do_not_depend_on_the_process() -> None:
    code = (
        "from pyraft_fast._digest import digest\n"
        "print(digest({'a': {'x', 'y', 'z'}, 'b': ('c', 1.5, b'd', frozenset('efg'))}))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "random")
    }  # fmt: skip
    assert len(printed) == 1


def test_mix_depends_on_both_words_and_their_order() -> None:
    assert len({mix(a, b) for a in range(100) for b in range(100)}) == 10_000
    assert mix(3, 4) == digest_twin.mix(3, 4)


# The keyspace


STEPS: dict[str, Callable[[dict[Any, Any], str, Random], Any]] = {
    "get": lambda data, key, dice: data.get(key),
    "index": lambda data, key, dice: [data[found] for found in (key,) if found in data],
    "set": lambda data, key, dice: data.__setitem__(key, dice.choice(["x", 1, [1], {"f": 1}])),
    "delete": lambda data, key, dice: data.__delitem__(key) if key in data else None,
    "pop": lambda data, key, dice: data.pop(key, None),
    "setdefault": lambda data, key, dice: data.setdefault(key, []),
    "update": lambda data, key, dice: data.update({key: dice.random()}),
    "or": lambda data, key, dice: data.__ior__({key: dice.randint(0, 9)}),
    "change": lambda data, key, dice: (
        data[key].append(1) if isinstance(data.get(key), list) else None
    ),
    "walk": lambda data, key, dice: list(data.items()),
    "clear": lambda data, key, dice: data.clear() if dice.random() < 0.1 else None,
    "popitem": lambda data, key, dice: data.popitem() if data else None,
}


class Told(dict[Any, Any]):
    """The plain dict that tells a twin's book what is done to it."""

    def __init__(self, book: digest_twin.Book) -> None:
        self.book = book

    def __getitem__(self, key: Any) -> Any:
        self.book.fetch(key, dict.get(self, key))
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        if key in self:
            self.book.fetch(key, dict.get(self, key))
        return dict.get(self, key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        dict.__setitem__(self, key, value)
        self.book.write(key)

    def __delitem__(self, key: Any) -> None:
        dict.__delitem__(self, key)
        self.book.write(key)

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self:
            self.book.write(key)
        return dict.pop(self, key, *default)

    def popitem(self) -> Any:
        item = dict.popitem(self)
        self.book.write(item[0])
        return item

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key in self:
            return self[key]
        self[key] = default
        return default

    def update(self, other: Any) -> None:  # type: ignore[override]
        for key, value in other.items():
            self[key] = value

    def __ior__(self, other: Any) -> Told:  # type: ignore[override,misc]
        self.update(other)
        return self

    def items(self) -> Any:
        for key, value in dict.items(self):
            self.book.fetch(key, value)
        return dict.items(self)

    def clear(self) -> None:
        dict.clear(self)
        self.book.clear()


@pytest.mark.parametrize("seed", range(150))
def test_random_commands_are_noted_as_the_twin_notes_them(seed: int) -> None:
    notes = Notes()
    data, deadlines = Keyspace(notes), Keyspace(notes)
    book = digest_twin.Book()
    told, told_deadlines = Told(book), Told(book)
    dice, twin_dice = Random(seed), Random(seed)
    chooser = Random(-seed)
    for number in range(30):
        book.written.clear()
        book.fetched.clear()
        book.cleared = False
        notes.begin()
        for _ in range(chooser.randint(0, 5)):
            step, key = chooser.choice(sorted(STEPS)), chooser.choice("abcd")
            got = STEPS[step](data, key, dice)
            wanted = STEPS[step](told, key, twin_dice)
            assert got is data or got == wanted, step
            if chooser.random() < 0.2:
                deadlines[key] = told_deadlines[key] = number
        ended = notes.end("name", data, deadlines)
        assert ended == book.end("name", told, told_deadlines)
        assert dict(data) == dict(told)


def command(work: Callable[[Store], Any], name: str = "do") -> int:
    """The digest of one command on a small store."""
    store = Store()
    store.data.update(kept="x", list=[1, 2], big=dict.fromkeys(range(1000)))
    store.deadlines["kept"] = 5
    store.notes.begin()
    work(store)
    given: Any = (store.data, store.deadlines)
    return store.notes.end(name, *given)


NOTHING = command(lambda store: None)


@pytest.mark.parametrize(
    "work",
    [
        lambda store: store.data.get("list"),
        lambda store: [store.data["list"], store.data.get("absent")],
        lambda store: list(store.data.values()),
        lambda store: list(store.data),
        lambda store: store.find("kept"),
    ],
)
def test_looking_changes_nothing(work: Callable[[Store], Any]) -> None:
    assert command(work) == NOTHING


@pytest.mark.parametrize(
    "work",
    [
        lambda store: store.data["list"].append(3),
        lambda store: next(iter(store.data.values())) and store.data.get("list").clear(),
        lambda store: [v.append(3) for v in store.data.values() if isinstance(v, list)],
        lambda store: store.data.pop("list"),
        lambda store: store.set_deadline("kept", 6),
        lambda store: store.clear_ttl("kept"),
        lambda store: store.ttl.__setitem__("kept", 7.0),
        lambda store: store.ttl.pop("kept"),
        lambda store: store.delete("kept"),
        lambda store: store.data.clear(),
        lambda store: store.data.copy()["list"].append(3),
    ],
)
def test_every_change_shows(work: Callable[[Store], Any]) -> None:
    assert command(work) != NOTHING
    assert command(work) == command(work)


def test_the_name_counts_and_the_reply_does_not() -> None:
    assert command(lambda _: 1) == command(lambda _: "1") != command(lambda _: 1, "to")


def test_a_command_that_touches_very_many_keys_counts_by_name() -> None:
    def many(store: Store, value: int) -> None:
        for number in range(2000):
            store.data[f"k{number}"] = value

    assert command(lambda s: many(s, 1)) == command(lambda s: many(s, 2)) != NOTHING


def test_a_keyspace_is_a_dict_for_everybody() -> None:
    data = Store().data
    data["a"] = [1]
    data |= {"b": 2}
    data.update(c=3)
    plain = {"a": [1], "b": 2, "c": 3}
    assert isinstance(data, dict) and data == plain and list(data) == list(plain)
    assert json.loads(json.dumps(data)) == plain == _entry.unpackb(_entry.packb(data))
    assert type(copy.copy(data)) is type(copy.deepcopy(data)) is type(data.copy()) is dict
    assert copy.deepcopy(data)["a"] is not data["a"]
    assert {**data} == dict(data) == data | {} == plain and repr(data) == repr(plain)
    for bad in (lambda: data["absent"], lambda: data.pop("absent"), lambda: data.__delitem__("z")):
        with pytest.raises(KeyError, match=r"absent|z"):
            bad()
    unhashable: Any = []
    for wrong in (
        lambda: data.get(unhashable),
        lambda: data.__setitem__(unhashable, 1),
        lambda: data.pop(unhashable),
    ):
        with pytest.raises(TypeError, match="unhashable"):
            wrong()


def test_a_noted_handler_is_logged_by_name_and_effect() -> None:
    store = Store()

    def put(node: Any, words: list[Any]) -> str:
        store.data["key"] = words[1]
        if words[1] == "bad":
            raise ValueError(f"at {id(words):#x}")
        return "done"

    row = Row("put", put, 0, 9, {})
    noted = Noted(row, store.notes, store.data, store.deadlines)
    assert noted.name == "put" and noted.failure == row.failure
    assert noted.function(None, ["put", "good"]) == "done"
    for _ in range(2):
        with pytest.raises(ValueError, match="at 0x"):
            noted.function(None, ["put", "bad"])
    names, digests = (log := store.notes.take())[::2], log[1::2]
    assert names == ["put"] * 3 and store.notes.take() == []
    assert digests[0] != digests[1] == digests[2], "an error counts by its type"
