"""Every fault of network, disk, clock, file and membership once on real nodes under load.

As `test_faults`, where nodes need more than a process each: what clients saw must be linearizable.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.process.kinds import ON_RIGS
from tests.process.partition_faults import PARTITIONS
from tests.process.rig import Rig
from tests.process.scene import one_round

SEED = 20261124
STALL_SECONDS = (0.6, 0.9)
LOG_MAX = "300"  # so that snapshots happen all the time


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Three nodes that take one fault after the other, so each meets what the last one left."""
    made = Rig(tmp_path_factory.mktemp("rig"), 3)
    try:
        made.start("--log-max", LOG_MAX)
        yield made
    finally:
        made.cleanup()


@pytest.mark.parametrize("kind", ON_RIGS)
def test_what_clients_saw_is_linearizable(rig: Rig, kind: str) -> None:
    dice = random.Random(f"{SEED} {kind}")
    timely = kind in PARTITIONS
    verdict = one_round(rig, kind, [ON_RIGS[kind]], dice, STALL_SECONDS, timely)
    print(
        f"{kind}: {verdict.operations} operations, {verdict.unknown} unknown, "
        f"{verdict.silence_seconds:.2f} s without a write, "
        f"{verdict.slowest_seconds:.2f} s until the slowest answer; "
        f"{'; '.join(verdict.notes)}"
    )
    assert not verdict.wrong, "\n".join([*verdict.wrong, rig.tails()])
    assert verdict.operations > 50
