"""Ticks follow time while the loop runs, and do not burst after it stood still."""

from __future__ import annotations

import pytest

from pyraft_fast.consensus.ticking import STALL_TICKS, TickCounter
from pyraft_fast.core.work import Config


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


@pytest.mark.parametrize("ticks", [5, 10, 15, 20, 30, 100])
def test_a_lease_ends_before_the_shortest_promise_of_a_clock_that_is_a_fifth_faster(
    ticks: int,
) -> None:
    """A follower that was busy hears a heartbeat, then finds its timer late, and counts on."""
    heard = STALL_TICKS * 0.01 - 0.0001
    counter = TickCounter(0.01, 0.0)
    now, counted = heard, counter.due(heard)
    while counted < ticks:
        now += 0.0001
        counted += counter.due(now)
    lease_ms = Config("1", 1, 1, ticks, 2 * ticks).lease_ms
    assert lease_ms <= (now - heard) * 1000 / 1.2
    assert lease_ms > 0
