"""Between records that nobody waits for others may have the processor, but not most of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pyraft_fast.serving import apply
from pyraft_fast.serving.apply import RUN_SECONDS, Applier
from pyraft_fast.serving.track import ALL, SAMPLED, Track


class Processor:
    """A clock, and how long whoever gives way is without the processor."""

    def __init__(self) -> None:
        self.now = 100.0
        self.away = 0.0
        self.yields = 0

    def monotonic(self) -> float:
        return self.now

    def sched_yield(self) -> None:
        self.yields += 1
        self.now += self.away


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    made = Processor()
    monkeypatch.setattr(apply, "time", made)
    monkeypatch.setattr(apply, "os", made)
    return made


def applier_of(
    proposer: bool = True, gate: bool = True, mode: str = SAMPLED, answered: bool = False
) -> Applier:
    host: Any = SimpleNamespace(store=SimpleNamespace(notes=None))
    waiting: Any = SimpleNamespace(idle=proposer)
    reading: Any = SimpleNamespace(idle=gate)
    rows: Any = None
    dirty: list[Any] = [object()] if answered else []
    return Applier(host, rows, waiting, reading, dirty, lambda: None, Track(mode, host.store))


def run(applier: Applier, processor: Processor, seconds: float) -> int:
    """How often it gives way while it works for so long."""
    before, worked = processor.yields, 0.0
    while worked < seconds:
        processor.now += RUN_SECONDS / 10
        worked += RUN_SECONDS / 10
        applier.give_way()
    return processor.yields - before


def test_it_gives_way_once_in_a_slice(processor: Processor) -> None:
    assert run(applier_of(), processor, 100 * RUN_SECONDS) in range(80, 102)


def test_who_was_away_for_long_works_for_as_long(processor: Processor) -> None:
    processor.away = 50 * RUN_SECONDS
    assert run(applier_of(), processor, 100 * RUN_SECONDS) in range(2, 4)


@pytest.mark.parametrize(
    "applier",
    [
        applier_of(proposer=False),
        applier_of(gate=False),
        applier_of(mode=ALL),
        applier_of(answered=True),
    ],
    ids=["a write waits", "a read waits", "others wait for its digests", "an answer is to leave"],
)
def test_where_somebody_waits_it_goes_on(applier: Applier, processor: Processor) -> None:
    assert run(applier, processor, 100 * RUN_SECONDS) == 0
