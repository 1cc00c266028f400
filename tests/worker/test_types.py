"""The data types against their Python twins, on random operations."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyraft_fast.worker.dice import Dice
from pyraft_fast.worker.types import Members, Pairs, RedisList, RedisSet, SortedSet

items = st.lists(st.integers(0, 5), max_size=12)
indexes = st.integers(-14, 14)
bounds = st.none() | indexes
steps = st.sampled_from([None, 1, 2, 3, -1, -2])


def outcome(action: Any, target: Any) -> Any:
    """What an action returns or raises, and the list it leaves."""
    try:
        value = action(target)
    except (IndexError, ValueError, TypeError) as error:
        value = type(error)
    if isinstance(value, RedisList):
        value = list(value)
    return value, list(target)


def set_item(at: Any, value: Any) -> Any:
    return lambda x: x.__setitem__(at, value)


actions = st.one_of(
    st.builds(lambda i: lambda x: x[i], indexes),
    st.builds(lambda a, b, c: lambda x: x[a:b:c], bounds, bounds, steps),
    st.builds(set_item, indexes, st.integers()),
    st.builds(lambda a, b, v: set_item(slice(a, b), v), bounds, bounds, items),
    st.builds(lambda a, b, c, v: set_item(slice(a, b, c), v), bounds, bounds, steps, items),
    st.builds(lambda i: lambda x: x.__delitem__(i), indexes),
    st.builds(lambda a, b, c: lambda x: x.__delitem__(slice(a, b, c)), bounds, bounds, steps),
    st.builds(lambda i, v: lambda x: x.insert(i, v), indexes, st.integers()),
    st.builds(lambda v: lambda x: x.append(v), st.integers()),
    st.builds(lambda v: lambda x: x.extend(v), items),
    st.builds(lambda v: lambda x: x.__iadd__(v), items),
    st.builds(lambda v: lambda x: x + v, items),
    st.builds(lambda v: lambda x: v + x, items),
    st.builds(lambda n: lambda x: x * n, st.integers(-1, 3)),
    st.builds(lambda n: lambda x: n * x, st.integers(-1, 3)),
    st.builds(lambda n: lambda x: x.__imul__(n), st.integers(-1, 3)),
    st.builds(lambda i: lambda x: x.pop(i), indexes),
    st.builds(lambda v: lambda x: x.remove(v), st.integers(0, 5)),
    st.builds(lambda v: lambda x: x.count(v), st.integers(0, 5)),
    st.builds(lambda v: lambda x: x.index(v), st.integers(0, 5)),
    st.builds(lambda v: lambda x: v in x, st.integers(0, 5)),
    st.builds(lambda v: lambda x: (x == v, x != v, x < v, x <= v, x > v, x >= v), items),
    st.sampled_from(
        [
            lambda x: x.pop(),
            lambda x: x.sort(),
            lambda x: x.sort(key=lambda v: -v, reverse=True),
            lambda x: x.reverse(),
            lambda x: x.clear(),
            lambda x: x.copy(),
            lambda x: copy.deepcopy(x),
            lambda x: x.extend(x),
            repr,
            len,
            lambda x: list(reversed(x)),
            lambda x: json.dumps(list(x)),
            lambda x: hash(x),
        ]
    ),
)


@given(items, st.lists(actions, max_size=12))
def test_redis_list_does_what_a_list_does(start: list[int], todo: list[Any]) -> None:
    twin, ours = list(start), RedisList(start)
    for action in todo:
        assert outcome(action, ours) == outcome(action, twin)
    assert ours == twin
    assert twin == ours
    assert ours.__raft_list__


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_ranges_of_a_redis_list(size: int, start: int, stop: int) -> None:
    assert RedisList(range(size))[start:stop] == list(range(size))[start:stop]


names = st.sampled_from("abcdefg")
members = st.lists(names, max_size=8)
set_actions = st.one_of(
    st.builds(lambda m: lambda s: s.add(m), names),
    st.builds(lambda m: lambda s: s.discard(m), names),
    st.builds(lambda m: lambda s: m in s, names),
    st.builds(lambda m: lambda s: s.update(m), members),
    st.builds(lambda m: lambda s: sorted(s | set(m)), members),
    st.builds(lambda m: lambda s: sorted(set(m) | s), members),
    st.builds(lambda m: lambda s: sorted(s & set(m)), members),
    st.builds(lambda m: lambda s: sorted(s - set(m)), members),
    st.builds(lambda m: lambda s: sorted(set(m) - s), members),
    st.builds(lambda m: lambda s: sorted(s ^ set(m)), members),
    st.builds(lambda m: lambda s: sorted(s.union(m, "g")), members),
    st.builds(lambda m: lambda s: sorted(s.intersection(m)), members),
    st.builds(lambda m: lambda s: sorted(s.difference(m)), members),
    st.builds(lambda m: lambda s: (s.issubset(m), s.issuperset(m), s == set(m)), members),
    st.builds(lambda m: lambda s: sorted(s.__ior__(set(m))), members),
    st.builds(lambda m: lambda s: sorted(s.__iand__(set(m))), members),
    st.builds(lambda m: lambda s: sorted(s.__isub__(set(m))), members),
    st.builds(lambda m: lambda s: sorted(s.__ixor__(set(m))), members),
    st.sampled_from([len, lambda s: sorted(s.copy()), lambda s: s.clear(), lambda s: s <= s]),
)


@given(members, st.lists(set_actions, max_size=15), st.integers(0, 100))
def test_redis_set_does_what_a_set_does(start: list[str], todo: list[Any], pick: int) -> None:
    twin, ours = set(start), RedisSet(start)
    for action in todo:
        assert action(ours) == action(twin)
        assert set(ours) == twin
        assert [ours.items[place] for place in ours._places.values()] == list(ours._places)
    if twin:
        taken = ours.take_at(pick % len(ours))
        assert set(ours) == twin - {taken}


def test_a_set_without_members_has_nothing_to_pop() -> None:
    with pytest.raises(KeyError):
        RedisSet().pop()


def test_order_of_a_builtin_set_never_gets_in() -> None:
    words = {"b", "a", "c"}
    assert list(RedisSet(words)) == ["a", "b", "c"]
    assert list(RedisSet(["z"]) | words) == ["z", "a", "b", "c"]
    assert list(words - RedisSet(["b"])) == ["a", "c"]


class Shuffled(set[str]):
    """A built-in set under the hash seed `seed`, so to say."""

    seed = 0

    def __iter__(self) -> Iterator[str]:
        items = sorted(super().__iter__())
        random.Random(self.seed).shuffle(items)
        return iter(items)


ORDERLY: list[Callable[[Any, Any], Any]] = [
    lambda s, other: s.__isub__(other),
    lambda s, other: s.__ior__(other),
    lambda s, other: s.__iand__(other),
    lambda s, other: s.__ixor__(other),
    lambda s, other: s | other,
    lambda s, other: s & other,
    lambda s, other: s - other,
    lambda s, other: s ^ other,
    lambda s, other: s.__ror__(other),
    lambda s, other: s.__rand__(other),
    lambda s, other: s.__rsub__(other),
    lambda s, other: s.__rxor__(other),
    lambda s, other: s.update(other) or s,
    lambda s, other: s.union(other),
    lambda s, other: s.intersection(other),
    lambda s, other: s.difference(other),
    lambda s, other: RedisSet(other),
]


def orders(kind: Any, act: Callable[[Any, Any], Any]) -> list[list[str]]:
    """The different orders that `act` leaves, over orders of its operand."""
    found: list[list[str]] = []
    for seed in range(12):
        operand = Shuffled("abcdwxyz")
        operand.seed = seed
        order = list(act(kind("abcdefghij"), operand))
        if order not in found:
            found.append(order)
    return found


@pytest.mark.parametrize("act", ORDERLY)
def test_no_order_of_a_builtin_set_shows_in_a_set(act: Callable[[Any, Any], Any]) -> None:
    assert len(orders(RedisSet, act)) == 1


def test_taking_members_away_in_place_takes_them_in_the_order_of_the_operand() -> None:
    ours = RedisSet("abcdefghij")
    ours -= ["b", "a"]
    assert ours.items == ["i", "j", "c", "d", "e", "f", "g", "h"]
    ours -= ours
    assert ours.items == []


@pytest.mark.parametrize("act", ORDERLY[4:12])
def test_members_as_replied_keep_their_order_and_differ(act: Callable[[Any, Any], Any]) -> None:
    ((order,), operand) = orders(Members, act), set("abcdwxyz")
    assert len(set(order)) == len(order)
    assert set(order) == act(set("abcdefghij"), operand)


def test_members_as_replied_take_any_elements() -> None:
    ours = Members("abc")
    assert list(ours | iter("cd")) == ["a", "b", "c", "d"]
    assert list(ours & iter("xcb")) == ["b", "c"]
    assert list(ours ^ iter("cdd")) == ["a", "b", "d"]
    for act in (lambda: ours | 1, lambda: ours & 1, lambda: ours ^ 1, lambda: 1 - ours):
        with pytest.raises(TypeError):
            act()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "act",
    [
        lambda x, other: x.extend(other) or x,
        lambda x, other: x.extendleft(other) or x,
        lambda x, other: x.__iadd__(other),
        lambda x, other: x.__setitem__(slice(1, 3), other) or x,
        lambda x, other: RedisList(other),
    ],
)
def test_no_order_of_a_builtin_set_shows_in_a_list(act: Callable[[Any, Any], Any]) -> None:
    assert len(orders(RedisList, act)) == 1


scores = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, float("inf"), float("-inf")])
zmembers = st.sampled_from(["", "a", "b", "\u00e9", "\udc80\udcff", "\U0001f600", "\uffee"])


def by_bytes(pair: tuple[str, float]) -> tuple[float, bytes]:
    return pair[1], pair[0].encode("utf-8", "surrogateescape")


@given(st.lists(st.tuples(zmembers, scores | st.none()), max_size=25))
def test_sorted_set_orders_by_score_then_bytes(todo: list[tuple[str, float | None]]) -> None:
    twin: dict[str, float] = {}
    ours = SortedSet()
    for member, score in todo:
        if score is None:
            assert ours.discard(member) == (twin.pop(member, None) is not None)
        else:
            assert ours.add(member, score) == (member not in twin)
            twin[member] = score
    order = sorted(twin.items(), key=by_bytes)
    assert ours.items() == order
    assert [ours.rank(member) for member, _ in order] == list(range(len(order)))
    assert ours.slice(0, len(ours), backwards=True) == order[::-1]
    for limit in (0.0, 1.0, float("inf"), float("-inf")):
        assert ours.place_of_score(limit, above=False) == sum(s < limit for s in twin.values())
        assert ours.place_of_score(limit, above=True) == sum(s <= limit for s in twin.values())
    assert ours.copy() == ours
    if order:
        assert ours.pop_at(0) == order[0]
        assert len(ours) == len(order) - 1


def test_replies_keep_their_shape() -> None:
    assert Pairs([("a", 1.0), ("b", 2.0)]) == ["a", 1.0, "b", 2.0]
    assert list(Members(["b", "a"])) == ["b", "a"]
    assert {"a", "b"} == Members(["b", "a"])


def test_dice_are_those_of_splitmix64() -> None:
    """First values for seed 1234567, as published with the algorithm."""
    dice = Dice(1234567)
    assert [dice.getrandbits(64) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    state = dice.getstate()
    first = [dice.random(), dice.randrange(10), dice.choice("abc")]
    dice.setstate(state)
    assert [dice.random(), dice.randrange(10), dice.choice("abc")] == first
    assert all(0 <= dice.random() < 1 for _ in range(1000))


class PlainDice(random.Random):
    """The same in plain Python."""

    def seed(self, a: Any = 0, version: int = 2) -> None:
        self.word = a

    def draw(self) -> int:
        self.word = word = (self.word + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    def random(self) -> float:
        return (self.draw() >> 11) / 2**53

    def getrandbits(self, k: int, /) -> int:
        words = -(-k // 64)
        return sum(self.draw() << 64 * (words - 1 - i) for i in range(words)) >> (64 * words - k)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, 1234567])
def test_dice_draw_what_plain_arithmetic_draws(seed: int) -> None:
    dice, plain = Dice(seed), PlainDice(seed)
    for k in (*range(200), 1000):
        assert dice.getrandbits(k) == plain.getrandbits(k)
        assert dice.random() == plain.random()
    for draw in (
        lambda d: d.randrange(10**30), lambda d: d.choice("abcdef"), lambda d: d.uniform(-1, 1),
        lambda d: d.sample(range(1000), 20), lambda d: d.gauss(0, 1), lambda d: d.randbytes(13),
    ):  # fmt: skip
        assert draw(dice) == draw(plain)
    items, others = list(range(50)), list(range(50))
    dice.shuffle(items)
    plain.shuffle(others)
    assert items == others
    copied = copy.copy(dice)
    assert [copied.random(), copied.getrandbits(70)] == [dice.random(), dice.getrandbits(70)]
    dice.random()
    assert copied.random() != dice.random()


def test_dice_refuse_what_random_refuses() -> None:
    dice = Dice(1)
    for wrong, error in ((-1, ValueError), (1.5, TypeError), ("3", TypeError)):
        with pytest.raises(error):
            dice.getrandbits(wrong)  # type: ignore[arg-type]
    assert dice.random() == Dice(1).random()
    dice.seed("text")
    assert dice.random() == Dice(0).random()
    dice.seed(-1)
    assert dice.random() == Dice(2**64 - 1).random()
