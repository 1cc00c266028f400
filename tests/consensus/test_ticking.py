"""Ticks follow time while the loop runs, and do not burst after it stood still."""

from __future__ import annotations

from pyraft_fast.consensus.ticking import TickCounter


def test_regular_timers_count_every_tick() -> None:
    counter = TickCounter(0.01, 0.0)
    assert 100 <= sum(counter.due(i * 0.0101) for i in range(1, 101)) <= 101


def test_slightly_late_timers_lose_nothing_they_may_count() -> None:
    counter = TickCounter(0.01, 0.0)
    assert [counter.due(t) for t in (0.021, 0.0299, 0.031)] == [2, 0, 1]


def test_a_stall_counts_as_nothing_first() -> None:
    counter = TickCounter(0.01, 0.0)
    assert counter.due(10.0) == 0
    assert counter.due(10.011) == 1
    assert counter.due(10.021) == 1


def test_a_process_that_is_always_late_still_ticks() -> None:
    counter = TickCounter(0.01, 0.0)
    assert sum(counter.due(float(t)) for t in range(1, 21)) >= 10
