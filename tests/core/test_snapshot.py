"""Snapshots and compaction: thesis chapter 5."""

from __future__ import annotations

import pytest

from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.progress import PROBE, REPLICATE, SNAPSHOT
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Role
from pyraft_fast.errors import InvariantError
from tests.core.cluster import Cluster, Faults
from tests.core.single import (
    CONFIG,
    accept,
    kinds,
    lead,
    members,
    message,
    obey,
    raft_of,
    tick,
    to,
)


def laggard() -> Cluster:
    """A cluster whose leader no longer has what node "3" lacks."""
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    for n in range(30):
        cluster.propose(leader, b"%d" % n)
    leader.take_snapshot(3)
    cluster.heal()
    return cluster


def test_5_3_a_peer_behind_the_log_gets_a_snapshot_and_then_the_log() -> None:
    cluster = laggard()
    leader, node = cluster.nodes["1"], cluster.nodes["3"]
    assert leader.raft.log.first > node.raft.log.last + 1
    cluster.run_until(lambda: node.applied == leader.applied, 50)
    assert node.raft.log.first == leader.disk.snapshot.index + 1
    assert node.raft.membership == leader.raft.membership
    assert leader.raft.progress["3"].state == REPLICATE


def test_5_3_a_lost_snapshot_is_sent_again() -> None:
    cluster = laggard()
    leader, node = cluster.nodes["1"], cluster.nodes["3"]
    cluster.faults = Faults(snapshot_loss=1.0)
    cluster.run(20)
    assert leader.raft.progress["3"].match < 30
    cluster.faults = Faults()
    cluster.run_until(lambda: node.applied == leader.applied, 50)


def behind() -> Raft:
    raft = lead(raft_of((1,) * 20, commit=20))
    obey(raft)
    accept(raft, "2", raft.log.last)
    raft.compact(15)
    raft.step(message(MessageKind.APPEND_REPLY, "3", raft.term, index=20, hint=4, log_term=1))
    return raft


def test_5_3_a_snapshot_is_asked_for_once_and_only_heartbeats_go_meanwhile() -> None:
    raft = behind()
    work = obey(raft)
    assert work.wants_snapshot == ["3"]
    assert raft.progress["3"].state == SNAPSHOT
    for _ in range(30):
        raft.propose(2, b"", 1, 0, 0, 0, 1000)
        tick(raft)
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term))
        work = obey(raft)
        assert not work.wants_snapshot
        assert set(kinds([m for m in work.send_now if m.to == "3"])) <= {"HEARTBEAT"}


def test_5_3_after_a_snapshot_the_leader_asks_where_the_peer_stands() -> None:
    raft = behind()
    obey(raft)
    raft.snapshot_sent("3", True)
    (sent,) = to(obey(raft).send_now, "3", MessageKind.APPEND)
    assert sent.index == raft.log.last
    assert raft.progress["3"].state == PROBE
    raft.snapshot_sent("3", False)
    assert raft.progress["3"].state == PROBE, "told twice, or late"


def test_5_3_after_a_failure_the_leader_waits_until_the_peer_answers() -> None:
    raft = behind()
    obey(raft)
    raft.snapshot_sent("3", False)
    assert not obey(raft).wants_snapshot
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term))
    assert obey(raft).wants_snapshot == ["3"]


def test_5_3_a_peer_that_has_the_snapshot_says_so_itself() -> None:
    raft = behind()
    obey(raft)
    accept(raft, "3", 18)
    peer = raft.progress["3"]
    assert (peer.state, peer.match) == (REPLICATE, 18)
    accept(raft, "9", 18)  # nobody


def install(raft: Raft, index: int, term: int, sender: str = "2") -> None:
    raft.step(
        message(
            MessageKind.SNAPSHOT,
            sender,
            0,
            index=index,
            log_term=term,
            membership=members(4),
            clock_ms=7777,
        )
    )


def test_5_3_a_received_snapshot_replaces_the_log() -> None:
    raft = raft_of((1, 1), term=3)
    raft.step(message(MessageKind.HEARTBEAT, "2", 3))
    raft.take()
    install(raft, 50, 2)
    work = raft.take()
    assert work.snapshot is not None
    assert (work.snapshot.index, work.snapshot.term) == (50, 2)
    assert work.state is not None
    assert (work.commit, work.membership) == (50, members(4))
    (answer,) = work.send_after_sync
    assert (answer.kind, answer.to, answer.index) == (MessageKind.APPEND_REPLY, "2", 50)
    assert raft.clock_ms == 7777
    assert raft.take().snapshot is None


def test_5_3_a_snapshot_of_what_the_log_has_only_commits_it() -> None:
    raft = raft_of((1, 1, 2, 2), term=2)
    install(raft, 3, 2)
    work = raft.take()
    assert work.snapshot is None
    assert (work.commit, raft.log.last) == (3, 4)


def test_5_3_a_snapshot_of_the_past_is_ignored() -> None:
    raft = raft_of((1, 1, 2), term=2, commit=3)
    raft.step(message(MessageKind.HEARTBEAT, "2", 2))
    install(raft, 2, 1)
    work = raft.take()
    assert work.snapshot is None
    assert [(m.flag, m.index) for m in work.send_after_sync] == [(True, 3)]


def test_5_3_a_snapshot_drops_entries_that_contradict_it() -> None:
    raft = raft_of((1, 1, 1, 1), term=3)
    install(raft, 3, 2)
    assert (raft.log.first, raft.log.last) == (4, 3)


def test_5_3_a_candidate_that_gets_a_snapshot_follows() -> None:
    raft = raft_of(term=1)
    raft.election_elapsed = 99
    tick(raft)
    install(raft, 9, 5)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 5)


def test_5_3_a_snapshot_without_membership_is_a_bug() -> None:
    with pytest.raises(InvariantError, match="holds the membership"):
        raft_of().step(message(MessageKind.SNAPSHOT, "2", 0, index=9, log_term=1))


def test_5_3_writes_before_the_snapshot_prove_nothing_after_it() -> None:
    raft = raft_of()
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.propose(2, b"", 1, 0, 0, 0, 0)
    install(raft, 50, 1)
    raft.take()
    raft.persisted(50, 1)
    assert raft.log.stable == 50


def test_5_1_the_log_is_not_compacted_past_what_is_certain() -> None:
    raft = raft_of((1, 1, 1, 1), commit=2)
    raft.compact(4)
    assert raft.log.first == 3


def test_5_1_a_restarted_node_goes_on_behind_its_snapshot() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    for n in range(20):
        cluster.propose(leader, b"%d" % n)
    for node in cluster.nodes.values():
        node.take_snapshot(0)
    for node in cluster.nodes.values():
        node.crash()
    for node in cluster.nodes.values():
        node.start()
        assert node.raft.log.first > 20
    leader = cluster.wait_for_leader()
    index = cluster.propose(leader)
    cluster.run(CONFIG.heartbeat_ticks)
    assert all(node.applied == index for node in cluster.nodes.values())


def test_a_snapshot_from_a_newer_term_survives_a_crash_before_the_log_knew() -> None:
    cluster = Cluster(3)
    node = cluster.nodes["3"]
    node.crash()
    node.disk.save_snapshot(cluster.nodes["1"].disk.snapshot, 0)
    node.disk.snapshot.index, node.disk.snapshot.term = 9, 4
    node.disk.snapshot.membership = cluster.nodes["1"].raft.membership
    node.start()
    assert node.raft.term == 4
    assert node.disk.jobs[0].state is not None
    assert node.disk.jobs[0].state.term == 4
