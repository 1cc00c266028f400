"""Fixtures for tests that start real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, Node


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
