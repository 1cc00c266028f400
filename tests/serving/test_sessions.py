"""The session rule: a batch takes effect once, in order, and never across a gap."""

from __future__ import annotations

import random

from pyraft_fast.serving.sessions import DUPLICATE, FRESH, GAP, STALE, Sessions


def test_a_session_is_taken_in_order_and_once() -> None:
    sessions = Sessions()
    assert sessions.judge(7, 1, 1) == FRESH
    assert sessions.judge(7, 1, 1) == DUPLICATE
    assert sessions.judge(7, 1, 3) == GAP
    assert sessions.judge(7, 1, 2) == FRESH
    assert sessions.judge(7, 1, 3) == FRESH
    assert sessions.last(7, 1) == 3
    assert sessions.last(7, 2) == 0


def test_a_new_start_begins_at_one_and_ends_the_old_session() -> None:
    sessions = Sessions()
    assert sessions.judge(7, 5, 2) == GAP
    assert sessions.judge(7, 5, 1) == FRESH
    assert sessions.judge(7, 6, 2) == GAP
    assert sessions.judge(7, 5, 2) == FRESH
    assert sessions.judge(7, 6, 1) == FRESH
    assert sessions.judge(7, 5, 3) == STALE
    assert sessions.judge(8, 1, 1) == FRESH


def test_entries_without_an_origin_always_take_effect() -> None:
    sessions = Sessions()
    assert [sessions.judge(0, 0, 0) for _ in range(3)] == [FRESH] * 3
    assert sessions.copy() == {}


def test_sessions_of_members_that_left_are_forgotten() -> None:
    sessions = Sessions()
    sessions.judge(1, 1, 1)
    sessions.judge(2, 1, 1)
    sessions.keep([2, 3])
    sessions.bar([1])
    assert sessions.copy() == {2: (1, 1)}
    assert sessions.judge(1, 1, 1) == STALE
    assert sessions.judge(1, 9, 1) == STALE
    other = Sessions()
    other.replace(sessions.copy())
    assert other.judge(2, 1, 2) == FRESH
    assert other.judge(1, 1, 1) == FRESH


def test_any_shuffle_with_duplicates_applies_a_prefix_in_order() -> None:
    dice = random.Random(5)
    for _ in range(300):
        stream = [number for number in range(1, 9) for _ in range(dice.randint(1, 3))]
        dice.shuffle(stream)
        sessions, taken = Sessions(), []
        for number in stream:
            if sessions.judge(1, 1, number) == FRESH:
                taken.append(number)
        assert taken == list(range(1, len(taken) + 1))
        assert sessions.last(1, 1) == len(taken)
