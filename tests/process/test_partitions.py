"""Every partition once on real nodes under load; what clients saw must be linearizable.

Of the same sort as `test_faults`, with a network between the nodes that can be cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.process.partition_faults import PARTITIONS
from tests.process.rig import Rig
from tests.process.scene import one_round

SEED = 20261124
STALL_SECONDS = (0.6, 0.9)
LOG_MAX = "300"  # so that snapshots happen all the time


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Three nodes that take one partition after the other, so each meets what the last one left."""
    made = Rig(tmp_path_factory.mktemp("partitions"), 3)
    try:
        made.start("--log-max", LOG_MAX)
        yield made
    finally:
        made.cleanup()


@pytest.mark.parametrize("kind", PARTITIONS)
def test_what_clients_saw_is_linearizable(rig: Rig, kind: str) -> None:
    dice = random.Random(f"{SEED} {kind}")
    verdict = one_round(rig, kind, [PARTITIONS[kind]], dice, STALL_SECONDS, timely=True)
    print(
        f"{kind}: {verdict.operations} operations, {verdict.unknown} unknown, "
        f"{verdict.silence_seconds:.2f} s without a write, "
        f"{verdict.slowest_seconds:.2f} s until the slowest answer"
    )
    assert not verdict.wrong, "\n".join([*verdict.wrong, rig.tails()])
    assert verdict.operations > 50
    if kind != "cut_everybody":
        assert verdict.silence_seconds < 10
