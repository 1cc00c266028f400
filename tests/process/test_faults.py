"""Every fault once on three real nodes under load; what clients saw must be linearizable.

The short form of `python -m tests.process.hunt`, which draws faults at random for as long as asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.process.cluster import Cluster
from tests.process.faults import FAULTS
from tests.process.scene import Judged, one_round

SEED = 20261123
STALL_SECONDS = (0.8, 1.2)
LOG_MAX = "300"  # so that snapshots happen all the time


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that take one fault after the other, so each meets what the last one left."""
    made = Cluster(tmp_path_factory.mktemp("faults"), 3)
    try:
        yield made.start("--log-max", LOG_MAX)
    finally:
        made.cleanup()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_clients_saw_is_linearizable(cluster: Cluster, fault: str, judged: Judged) -> None:
    dice = random.Random(f"{SEED} {fault}")
    judged(fault, one_round(cluster, fault, [FAULTS[fault]], dice, STALL_SECONDS), cluster)
