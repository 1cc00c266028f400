"""Fixtures for tests that start real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROUND
from tests.process.cluster import Cluster, Node
from tests.process.scene import SILENCE_SECONDS_MAX, Judged, Verdict


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """One node, not started yet."""
    made = Node("1", tmp_path / "n1")
    yield made
    made.cleanup()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Make any number of nodes: `nodes("2")`; all are ended with the test."""
    made: list[Node] = []

    def make(nid: str, **options: Any) -> Node:
        made.append(Node(nid, tmp_path / f"n{nid}-{len(made)}", **options))
        return made[-1]

    yield make
    for item in made:
        item.cleanup()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that serve."""
    made = Cluster(tmp_path, 3)
    try:
        yield made.start()
    finally:
        made.cleanup()


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Judged:
    """Count a round with one fault in for the table at the end, and ask that all was well.

    Every fault heals, most by themselves, so writes must go on long before clients give up.
    """

    def judge(fault: str, verdict: Verdict, cluster: Cluster) -> None:
        request.node.user_properties.append((ROUND, verdict.row(fault)))
        assert not verdict.wrong, "\n".join([*verdict.wrong, cluster.tails()])
        assert verdict.operations > 50
        assert verdict.silence_seconds < SILENCE_SECONDS_MAX, cluster.tails()

    return judge
