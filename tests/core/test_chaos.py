"""Chaos: every seed is a different history, and all invariants hold in each."""

from __future__ import annotations

import pytest

from tests.core.chaos import Chaos


@pytest.mark.parametrize("first", range(1, 101, 10))
def test_invariants_hold_whatever_happens(first: int) -> None:
    for seed in range(first, first + 10):
        try:
            Chaos(seed).run()
        except Exception as error:
            raise AssertionError(f"replay: python -m tests.core.chaos --first {seed}") from error


def test_a_seed_decides_everything() -> None:
    runs = [Chaos(7).run() for _ in range(2)]
    first, second = ([e.record for e in run.invariants.committed.values()] for run in runs)
    assert first == second
    assert runs[0].sent == runs[1].sent
    assert first
