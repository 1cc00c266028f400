"""Sorted lists by score against their plain twin, their bounds, and what they do without memory."""

from __future__ import annotations

import copy
import gc
import sys
import tracemalloc
from collections.abc import Callable
from math import inf, nan
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._ranks import Ranks
from pyraft_fast.worker.types import SortedSet
from tests.fuzz.fuzz_ranks import SCORES, TAILS, difference, outcome
from tests.twins import ranks_twin

ENTRIES = st.tuples(st.sampled_from(TAILS), st.sampled_from(SCORES) | st.floats(allow_nan=False))


def many(count: int) -> list[tuple[str, float]]:
    """Members that nobody else refers to, their scores in steps of one."""
    return [(f"member:{number:06d}", float(number)) for number in range(count)]


@given(st.lists(ENTRIES, max_size=30), st.lists(ENTRIES, max_size=30))
def test_entries_go_in_and_out_as_in_the_twin(
    first: list[tuple[str, float]], later: list[tuple[str, float]]
) -> None:
    ours, twin = Ranks(first), ranks_twin.Ranks(first)
    for name, pairs in (("add", later), ("remove", later[::2]), ("remove", first[::-1] + later)):
        for pair in pairs:
            assert outcome(getattr(ours, name), *pair) == outcome(getattr(twin, name), *pair)
            assert repr(list(ours)) == repr(list(twin))
    assert len(ours) == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32))
def test_a_short_run_of_the_fuzzer(seed: int) -> None:
    assert difference(Random(seed)) == ""


def test_zeros_are_alike_and_keep_their_sign() -> None:
    ranks = Ranks([("b", -0.0), ("a", 0.0)])
    assert repr(ranks.pairs(0, 2)) == "[('a', 0.0), ('b', -0.0)]"
    assert ranks.place("b", 0.0) == 1
    assert ranks.place_of_score(-0.0, False) == ranks.place_of_score(0.0, False) == 0
    assert ranks.place_of_score(-0.0, True) == 2
    ranks.move("b", 0.0, -0.0)
    assert repr(ranks[-1]) == "(-0.0, 'b')"
    ranks.remove("b", 0.0)
    assert list(ranks) == [(0.0, "a")]


def test_members_sort_by_their_bytes_and_come_back_as_words() -> None:
    words = ["\U0001f600", "\uffee", "\udcff", "é", "z", ""]  # the last by UTF-16 is not so here
    ranks = Ranks((word, 1) for word in words)
    order = sorted(words, key=ranks_twin.raw)
    assert ranks.members(0, 9) == order
    assert [key for _, key in ranks] == [ranks_twin.raw(w).decode("latin-1") for w in order]
    assert [ranks.place(word, 1) for word in order] == list(range(6))
    assert [ranks.pop_at(-1) for _ in words] == [(word, 1.0) for word in order[::-1]]


@pytest.mark.parametrize("member", [1, None, b"a", type("Text", (str,), {})("a")])
def test_what_is_no_plain_str_is_refused(member: Any) -> None:
    ranks = Ranks([("a", 1)])
    for call in (ranks.add, ranks.remove, ranks.place):
        with pytest.raises(TypeError):
            call(member, 1)
    with pytest.raises(TypeError):
        ranks.move(member, 1, 2)
    with pytest.raises(TypeError):
        ranks.place_of_key(member, False)
    with pytest.raises(TypeError):
        Ranks([(member, 1)])
    assert list(ranks) == [(1, "a")]


def test_other_wrong_arguments() -> None:
    ranks = Ranks([("a", 1)])
    calls: list[Callable[[], Any]] = [
        lambda: ranks.add("a", nan), lambda: ranks.remove("a", nan), lambda: ranks.place("a", nan),
        lambda: ranks.move("a", 1, nan), lambda: ranks.move("a", nan, 1),
        lambda: ranks.place_of_score(nan, True), lambda: Ranks([("a", nan)]),
        lambda: ranks.place_of_key("\u0100", True), lambda: ranks.add("\ud800", 1),
        lambda: ranks.remove("a", 2), lambda: ranks.remove("b", 1), lambda: ranks.place("", 1),
        lambda: ranks.move("a", 2, 1), lambda: Ranks().remove("a", 1), lambda: Ranks([("a",)]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError):
            call()
    for place in (1, -2, sys.maxsize, -sys.maxsize - 1):
        with pytest.raises(IndexError):
            ranks[place]
        with pytest.raises(IndexError):
            ranks.pop_at(place)
    for call in (lambda: Ranks().pop_at(0), lambda: Ranks().pop_at(-1), lambda: Ranks()[0]):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(OverflowError):
        ranks.add("b", 10**400)
    with pytest.raises(TypeError):
        ranks.add("b", "1")  # type: ignore[arg-type]
    assert ranks.pairs(-sys.maxsize - 1, sys.maxsize) == [("a", 1.0)]
    assert ranks.members(sys.maxsize, -sys.maxsize - 1) == Ranks().members(-1, 1) == []
    assert ranks.delete(5, 9) == Ranks().delete(0, 1) == Ranks().place_of_key("", True) == 0
    assert list(ranks) == [(1, "a")]


def test_infinite_scores_have_places() -> None:
    ranks = Ranks([("a", -inf), ("b", 0), ("c", inf)])
    assert [ranks.place_of_score(score, False) for score in (-inf, inf)] == [0, 2]
    assert [ranks.place_of_score(score, True) for score in (-inf, inf)] == [1, 3]


def test_ascending_and_descending_entries_fill_their_runs() -> None:
    for step in (1, -1):
        ranks = Ranks()
        for member, score in many(20_000)[::step]:
            ranks.add(member, score)
        assert sys.getsizeof(ranks) < 20_000 * 19
        assert ranks.members(0, 20_000) == [member for member, _ in many(20_000)]


@pytest.mark.parametrize("way", ["random", "spread", "ranges", "low", "high", "all"])
def test_memory_goes_back_with_the_entries(way: str) -> None:
    pairs = many(50_000)
    ranks = Ranks(pairs)
    full = sys.getsizeof(ranks)
    kept = pairs[::100]
    gone = [pair for number, pair in enumerate(pairs) if number % 100]
    if way == "random":
        Random(5).shuffle(gone)
    if way in ("random", "spread"):
        for pair in gone:
            ranks.remove(*pair)
    elif way == "ranges":
        for place in range(500):
            ranks.delete(place + 1, place + 100)
    else:
        count = 49_500 if way != "all" else 50_000
        for _ in range(count):
            ranks.pop_at(0 if way == "low" else -1)
        kept = pairs[count:] if way == "low" else pairs[: 50_000 - count]
    assert ranks.pairs(0, 50_000) == kept
    assert sys.getsizeof(ranks) < full / 25  # lists of Python 3.13 keep room for all the runs


def test_a_run_gives_back_what_it_no_longer_needs() -> None:
    ranks = Ranks(many(192))
    for _ in range(189):
        ranks.pop_at(-1)
    assert ranks.members(0, 9) == [member for member, _ in many(3)]
    assert sys.getsizeof(ranks) < sys.getsizeof(Ranks(many(3))) + 150


def test_what_is_left_at_the_end_joins_a_small_neighbour() -> None:
    """The run before takes it in, and then is the last."""
    for first in (1, 30, 60):
        for left in (1, 20, 64):
            ranks, pairs = Ranks(many(600)), many(600)
            for start, stop in ((first, 192), (first + left, 600)):
                assert ranks.delete(start, stop) == len(pairs[start:stop])
                del pairs[start:stop]
                assert ranks.pairs(0, 600) == pairs
            ranks.add("last", 1e9)
            assert ranks.pop_at(-1) == ("last", 1e9)
            assert len(ranks) == len(ranks.members(0, 600)) == first + left


def test_small_lists_are_small() -> None:
    assert sys.getsizeof(Ranks()) < 200
    assert sys.getsizeof(Ranks([("a", 1.0)])) < 400
    assert sys.getsizeof(Ranks(many(100_000))) < 100_000 * 18


def test_members_are_let_go() -> None:
    """One reference while an entry is there, none after it went on whichever way."""
    members = [member for member, _ in many(2000)]
    before = [sys.getrefcount(member) for member in members]

    def held() -> int:
        now = [sys.getrefcount(member) for member in members]
        assert {b - a for a, b in zip(before, now, strict=True)} <= {0, 1}
        return sum(now) - sum(before)

    ranks = Ranks((member, number) for number, member in enumerate(members))
    assert held() == 2000
    for number in range(0, 2000, 2):
        ranks.move(members[number], number, 1e6 - number)
    assert held() == 2000
    for number in range(1, 2000, 4):
        ranks.remove(members[number], number)
    assert held() == 1500
    for _ in range(300):
        ranks.pop_at(0)
        ranks.pop_at(-1)
    assert held() == 900
    ranks.delete(10, 11)
    ranks.delete(3, 700)
    assert held() == len(ranks) == 202
    assert len(ranks.pairs(0, 300)) == len(ranks.members(0, 300)) == len(list(ranks)) == 202
    for number in range(100):
        with pytest.raises(ValueError):
            ranks.remove(members[number], 0.5)
    assert held() == 202
    del ranks
    assert held() == 0


def test_lists_leave_nothing_behind() -> None:
    def lives() -> None:
        ranks = Ranks(many(3000))
        for number in range(1000):
            ((member, score),) = ranks.pairs(number, number + 1)
            ranks.move(member, score, score + 0.5 + number % 7 * 100)
            ranks.pop_at(number % 100)
            ranks.add("é", number)
        ranks.delete(100, 2000)
        with pytest.raises(ValueError):
            Ranks([*many(1000), ("a", nan)])

    lives()
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            lives()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 8_000
    finally:
        tracemalloc.stop()


def test_a_move_keeps_the_text_that_is_there() -> None:
    (first, _), (again, _) = many(1)[0], many(1)[0]
    ranks = Ranks([(first, 1.0)])
    ranks.move(again, 1.0, 2.0)
    assert first is not again
    assert ranks[0][1] is first


def test_lists_are_copied_by_their_entries() -> None:
    ranks = Ranks([*many(600), ("é", 2.0)])
    assert list(copy.deepcopy(ranks)) == list(copy.copy(ranks)) == list(ranks)
    assert copy.deepcopy(SortedSet(many(600))) == SortedSet(many(600))


def full(size: int) -> Ranks:
    """A list of about `size`, its first run full when there are several."""
    ranks = Ranks(many(size))
    for number in range(64 if size > 192 else 0):
        ranks.add(f"a{number}", number)
    if size >= 0:
        ranks.add("é", 1e9)
    return ranks


CHANGES: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "the second": (0, lambda ranks: ranks.add("a", 1)),
    "the first": (-1, lambda ranks: ranks.add("a", 1)),
    "one more": (7, lambda ranks: ranks.add("a", 1)),
    "beyond ASCII": (4, lambda ranks: ranks.add("é", 1)),
    "split": (193, lambda ranks: ranks.add("a", 7)),
    "split at the start": (193, lambda ranks: ranks.add("a", -7)),
    "moved": (7, lambda ranks: ranks.move("member:000003", 3, 1)),
    "moved and split": (600, lambda ranks: ranks.move("member:000400", 400, 7)),
    "popped": (2000, lambda ranks: ranks.pop_at(-1)),
    "deleted": (193, lambda ranks: ranks.delete(20, 180)),
    "joined": (600, lambda ranks: ranks.delete(300, 500)),
    "spliced": (2000, lambda ranks: ranks.delete(100, 1900)),
    "cleared": (2000, lambda ranks: ranks.delete(0, 3000)),
}


def starved(change: Callable[[Any], Any], value: Any, start: int, stop: int) -> bool:
    """Make a change while allocations fail, from the one numbered `start` on; True if it did."""
    testcapi = pytest.importorskip("_testcapi")
    testcapi.set_nomemory(start, stop)
    try:
        change(value)
    except MemoryError:
        return False
    finally:
        testcapi.remove_mem_hooks()
    return True


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_without_memory_is_whole_or_none(name: str) -> None:
    size, change = CHANGES[name]
    before, after = list(full(size)), full(size)
    change(after)
    failures = 0
    for start in range(40):
        for stop in (start + 1, 0):
            ranks = full(size)
            done = starved(change, ranks, start, stop)
            failures += not done
            assert list(ranks) == (list(after) if done else before), (start, stop)
            ranks.add("~", 5)
            ranks.remove("~", 5)
            assert ranks.delete(0, 3000) == (len(after) if done else len(before))
    assert failures, "some step must want memory"


@pytest.mark.parametrize("member", ["member:000003", "new"])
@pytest.mark.parametrize("size", [5, 10, 85, 170, 341, 600])  # the dict must grow, or need not
def test_a_sorted_set_without_memory_keeps_both_halves_alike(member: str, size: int) -> None:
    for start in range(60):
        value = SortedSet(many(size))
        starved(lambda value: value.add(member, 17.5), value, start, 0)
        assert dict(value.entries.pairs(0, 999)) == value.scores
        starved(lambda value: value.discard(member), value, start, 0)
        assert dict(value.entries.pairs(0, 999)) == value.scores


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collects between instructions only")
@pytest.mark.parametrize("name", ["split", "spliced", "moved and split", "popped"])
def test_a_finalizer_in_the_middle_of_a_change_may_look_but_not_change(name: str) -> None:
    size, change = CHANGES[name]
    ranks, after, seen = full(size), full(size), []
    change(after)

    class Ghost:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append(ranks.pairs(0, 9999) == list(zip(ranks.members(0, 9999), *[
                [score for score, _ in ranks]], strict=True)))  # fmt: skip
            for forbidden in (lambda: ranks.delete(0, 99), lambda: ranks.add("b", 1)):
                with pytest.raises(RuntimeError, match="being changed"):
                    forbidden()

    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        gc.set_threshold(1)
        spares = [([], (number, number)) for number in range(9000)]  # none are left to reuse
        Ghost()
        gc.enable()
        change(ranks)
        gc.disable()
    finally:
        gc.enable()
        gc.set_threshold(*thresholds)
    assert spares
    assert list(ranks) == list(after)
    assert seen and all(seen)
