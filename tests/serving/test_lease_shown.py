"""Lease reads that ask nobody: when the lease that shows in the shared memory is good enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.fake import FakeLog, FakeNode, running
from tests.serving.test_read_levels import LEADER, NO_LEADER, Clock, eventually, facts, gate


def show_lease(node: FakeNode, clock: Clock, index: int, ms_left: int, time_ms: int = 0) -> None:
    until_ms = clock.ns // 1_000_000 + ms_left
    node.in_loop(lambda: setattr(node.log, "lease", (index, time_ms, until_ms)))


def test_a_read_by_the_lease_that_shows_asks_nobody(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.ask("SET k 1")
        clock = Clock(node)
        show_lease(node, clock, len(log.records), 100)
        assert client.ask("GET k", "GET k") == ["1", "1"]
        assert log.by_lease == []
        assert facts(node)["reads_lease"] == 2
        clock.pass_ms(99)
        assert client.ask("GET k") == "1"
        assert log.by_lease == []
        clock.pass_ms(1)
        assert client.ask("GET k") == "1"
        assert log.by_lease == [True]  # it has ended


@pytest.mark.parametrize("missing", [1, -1])
def test_a_lease_covers_what_is_applied_and_no_more(tmp_path: Path, missing: int) -> None:
    """Behind it something is not applied; before it nobody knows what else is committed."""
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.ask("SET k 1")
        show_lease(node, Clock(node), len(log.records) + missing, 100)
        assert client.ask("GET k") == "1"
        assert log.by_lease == [True]


def test_no_lease_shows_without_a_leader_or_while_it_changes(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.ask("SET k 1")
        clock = Clock(node)
        show_lease(node, clock, len(log.records), 100)
        node.in_loop(lambda: node.consensus().events.role(NO_LEADER))
        client.send("GET k")
        eventually(lambda: gate(node).lease.open.origins)
        node.in_loop(lambda: setattr(log, "lease", None))
        node.in_loop(lambda: node.consensus().events.role(LEADER))
        assert client.reply() == "1"
        assert log.by_lease == [True]
        assert client.ask("GET k") == "1"
        assert log.by_lease == [True, True]


def test_the_lease_that_shows_ends_with_the_consensus_process(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node:
        show_lease(node, Clock(node), 0, 100)
        assert node.in_loop(gate(node).is_leased)

        def die() -> bool:
            node.consensus().die()
            return gate(node).is_leased()

        assert not node.in_loop(die)


def test_keys_end_by_the_clock_of_the_lease(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.ask("SET k 1 PX 1000")
        clock = Clock(node)
        show_lease(node, clock, len(log.records), 100, log.time_ms + 999)
        assert client.ask("GET k") == "1"
        show_lease(node, clock, len(log.records), 100, log.time_ms + 1000)
        assert client.ask("GET k") is None
        assert log.by_lease == []
