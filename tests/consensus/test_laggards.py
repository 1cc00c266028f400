"""Followers that are away, stopped or slow: what the leader keeps for them, and what it costs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from pyraft_fast.consensus.driver import TAIL_ENTRIES
from pyraft_fast.limits import APPEND_BYTES_MAX, INFLIGHT_BYTES_MAX, MIB
from pyraft_fast.link import pipe
from tests.consensus.fake_serving import FakeServing, leader_of, until
from tests.consensus.nodes import Make, ask, make_cluster, put

pytestmark = pytest.mark.process

SENDING = "sending the snapshot"
PATIENT = {"election_ms_min": 1500, "election_ms_max": 2500}  # one leader all the time
SOME = 600  # batches: fewer than a tail, and twice as many are more


@contextlib.contextmanager
def stopped(node: FakeServing) -> Iterator[None]:
    """Its consensus process stands still; the links to it stay up."""
    assert node.child is not None
    os.kill(node.child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.child.pid, signal.SIGCONT)


def write(node: FakeServing, count: int, size: int, awaited: list[FakeServing]) -> None:
    """So many batches, until all those have them."""
    goal = len(node.data) + count
    for number in range(count):
        node.propose(["SET", str(number), "z" * size])
        node.pump()
    until(lambda: all(len(n.data) == goal for n in awaited), *awaited)


def status(node: FakeServing, nodes: list[FakeServing]) -> dict[str, object]:
    return ask(node, nodes, pipe.Status).value


def compact(nodes: list[FakeServing]) -> None:
    """Snapshots, until no log begins at its beginning any more."""
    for node in nodes:
        node.snapshot()
    until(lambda: all(status(n, nodes)["first"] > 1 for n in nodes), *nodes)


def snapshots_sent(nodes: list[FakeServing]) -> list[str]:
    return [line for node in nodes for line in node.logs if SENDING in line]


def one_away(nodes: list[FakeServing]) -> tuple[FakeServing, list[FakeServing]]:
    """A follower that is killed, and the others, who have a leader."""
    late = next(n for n in nodes if n is not leader_of(nodes))
    late.kill()
    rest = [n for n in nodes if n is not late]
    until(lambda: leader_of(rest), *rest)
    return late, rest


def test_a_node_a_little_behind_catches_up_from_the_log(make: Make) -> None:
    nodes = make_cluster(make)
    write(nodes[0], SOME, 10, nodes)
    late, rest = one_away(nodes)
    had = late.applied
    write(rest[0], SOME, 10, rest)
    compact(rest)
    assert all(1 < status(n, rest)["first"] <= had + 1 for n in rest)
    late.start()
    until(lambda: late.data == rest[0].data, *nodes)
    assert snapshots_sent(nodes) == []
    assert late.snapshots_loaded == []


def test_a_node_far_behind_gets_a_snapshot(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "x", nodes)
    late = next(n for n in nodes if n is not leader_of(nodes))
    late.kill()
    rest = [n for n in nodes if n is not late]
    until(lambda: leader_of(rest), *rest)
    first = rest[0]
    for number in range(1500):
        first.propose(["SET", str(number), "z" * 1000])
        first.pump()
    until(lambda: all(len(n.data) == 1501 for n in rest), *rest)
    for node in rest:
        node.snapshot()
    put(first, "tail", rest)
    late.reset()
    late.start()
    until(lambda: len(late.data) == 1502, *nodes)
    assert late.snapshots_loaded
    assert snapshots_sent(nodes)
    assert late.data == first.data
    late.kill()
    late.reset()
    late.start()
    until(lambda: len(late.data) == 1502, *nodes)


def test_a_node_that_stands_still_is_kept_more_than_the_tail(make: Make) -> None:
    """Its link is up, so it will go on where it stood; who knows when a dead one comes back.

    More is written than a window and a tail hold: between them lies what is kept for its sake.
    """
    nodes = make_cluster(make, **PATIENT)
    leader = leader_of(nodes)
    assert leader is not None
    late = next(n for n in nodes if n is not leader)
    rest = [n for n in nodes if n is not late]
    write(leader, SOME, 10, nodes)
    with stopped(late):
        write(leader, 3 * SOME, 20_000, rest)
        compact([leader])
        (lag,) = (p["lag"] for p in status(leader, rest)["peers"] if p["nid"] == late.nid)
        assert lag > TAIL_ENTRIES
    until(lambda: late.data == leader.data, *nodes)
    assert snapshots_sent(nodes) == []
    assert late.snapshots_loaded == []


def test_a_stopped_follower_does_not_disturb_when_it_wakes(make: Make) -> None:
    nodes = make_cluster(make)
    leader = leader_of(nodes)
    assert leader is not None
    follower = next(n for n in nodes if n is not leader)
    assert follower.child is not None
    os.kill(follower.child.pid, signal.SIGSTOP)
    for number in range(200):
        put(leader, str(number), [n for n in nodes if n is not follower])
    term = leader.role.term
    os.kill(follower.child.pid, signal.SIGCONT)
    until(lambda: len(follower.data) == 200, *nodes)
    put(follower, "awake", nodes)
    assert leader.role.term == term


def test_a_stopped_follower_costs_the_leader_a_window_and_no_more(make: Make) -> None:
    """Far more is acknowledged meanwhile than is sent ahead to one that does not answer."""
    nodes = make_cluster(make, **PATIENT)
    leader = leader_of(nodes)
    assert leader is not None
    follower = next(n for n in nodes if n is not leader)
    rest = [n for n in nodes if n is not follower]
    size, count = MIB // 2, 6 * INFLIGHT_BYTES_MAX // MIB
    with stopped(follower):
        for _ in range(count):
            write(leader, 1, size, rest)
        peers = {peer["nid"]: peer for peer in status(leader, rest)["peers"]}
        mine = peers[follower.nid]
        assert mine["lag"] >= count
        assert INFLIGHT_BYTES_MAX <= mine["inflight_bytes"] < INFLIGHT_BYTES_MAX + APPEND_BYTES_MAX
        assert mine["queued_bytes"] < INFLIGHT_BYTES_MAX + APPEND_BYTES_MAX + MIB
        other = next(peer for nid, peer in peers.items() if nid != follower.nid)
        assert other["lag"] == other["inflight_bytes"] == other["queued_bytes"] == 0
    until(lambda: follower.data == leader.data, *nodes)
    assert snapshots_sent(nodes) == []
