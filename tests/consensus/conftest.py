"""Fixtures for tests of real consensus processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consensus.fake_serving import FakeServing
from tests.consensus.nodes import Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make any number of nodes; all are ended with the test."""
    made: list[FakeServing] = []

    def make_node(nid: str, **settings: object) -> FakeServing:
        made.append(FakeServing(tmp_path / nid, nid, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make_node
    for node in made:
        node.close()
