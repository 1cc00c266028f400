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
from tests.process.scene import Judged, one_round

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
def test_what_clients_saw_is_linearizable(rig: Rig, kind: str, judged: Judged) -> None:
    dice = random.Random(f"{SEED} {kind}")
    timely = kind in PARTITIONS
    judged(kind, one_round(rig, kind, [ON_RIGS[kind]], dice, STALL_SECONDS, timely), rig)
