"""Bugs of joining and of membership changes that others published; see test_published_bugs.py."""

from __future__ import annotations

import pytest

from pyraft_fast.core.membership import LEARNER
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import Role
from pyraft_fast.errors import MembershipError, TryAgain
from tests.core.cluster import Cluster, Node
from tests.core.single import (
    CONFIG,
    accept,
    config_entry,
    entry,
    lead,
    members,
    message,
    obey,
    raft_of,
    tick,
)

AWAY_TICKS = 300  # many election timeouts


def role_of(node: Node, nid: str) -> str:
    member = node.raft.membership.get(nid)
    return member.role if member else "nobody"


# Joining


def test_pysyncobj_50_a_newcomer_is_read_only_until_it_has_the_log() -> None:
    """A node had to be announced by an explicit command and was a full member from then on. What
    was asked for: it connects without a vote, gets the journal, and only then becomes a member that
    counts, all by itself.
    """
    cluster = Cluster(1)
    leader = cluster.elect("1")
    for number in range(40):
        cluster.propose(leader, b"%d" % number)
    node = cluster.join(leader, "2")
    assert role_of(leader, "2") == LEARNER
    assert not node.raft.is_voter
    promoted_at: list[int] = []

    def is_promoted() -> bool:
        if role_of(leader, "2") == "voter" and not promoted_at:
            promoted_at.append(node.raft.log.last)
        return node.raft.is_voter

    cluster.run_until(is_promoted, 60)
    assert promoted_at[0] >= 40, "it had the log before it got the vote"


def test_pysyncobj_51_a_cluster_of_one_grows_to_two() -> None:
    """Adding a second node to a cluster of one stood still: the change waited for a majority of
    two, one of which was not there yet. A learner does not count.
    """
    cluster = Cluster(1)
    leader = cluster.elect("1")
    node = cluster.new_node("2")  # not even started
    index = cluster.change(leader, "add", "2", node.incarnation)
    assert leader.raft.log.commit >= index
    index = cluster.propose(leader, b"goes on alone")
    assert leader.raft.log.commit == index
    node.start()
    cluster.run_until(lambda: node.raft.is_voter, 60)
    index = cluster.propose(leader, b"both")
    cluster.run(5)
    assert node.applied == index


def test_valkey_3866_learners_do_not_count() -> None:
    """Every node that met a cluster counted in its majority at once, so that nodes which were only
    looking in could stop it.
    """
    cluster = Cluster(1)
    leader = cluster.elect("1")
    cluster.on_message = lambda message: message.sender == "1"  # nobody ever answers
    for nid in ("2", "3", "4"):
        cluster.join(leader, nid)
        index = cluster.propose(leader, b"alone")
        assert leader.raft.log.commit == index
    cluster.run(AWAY_TICKS)
    assert leader.raft.role is Role.LEADER
    assert [member.nid for member in leader.raft.membership.voters] == ["1"]


def test_valkey_4094_a_learner_has_no_vote_and_does_not_stand() -> None:
    """Non-voting members: applied log, no vote, no candidacy, and no promotion of one that lags."""
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.change(leader, "demote", "3")
    for nid in ("1", "2"):
        cluster.nodes[nid].crash()
    cluster.run(AWAY_TICKS)
    assert cluster.nodes["3"].raft.role is Role.FOLLOWER
    cluster.nodes["2"].start()
    cluster.run(AWAY_TICKS)
    assert cluster.leader() is None, "one of two voters is no majority, whatever the learner says"
    cluster.nodes["1"].start()
    leader = cluster.wait_for_leader()
    cluster.isolate("3")
    cluster.propose(leader, b"missed")
    cluster.run(30)
    with pytest.raises(TryAgain, match="caught up"):
        leader.raft.propose_change("promote", "3", "", 0, leader.now_ms)


def test_valkey_4456_one_voting_change_in_flight_also_where_promotion_is_automatic() -> None:
    """Automatic promotion must wait its turn like a command: at most one change of the voters may
    be uncommitted, however many learners are ready and whatever else is asked.
    """
    cluster = Cluster(3)
    leader = cluster.elect("1")
    joined = [cluster.join(leader, nid) for nid in ("4", "5")]
    for nid in ("2", "3"):
        cluster.nodes[nid].is_stopped = True  # so nothing is committed for a while
    cluster.run(12)
    log = leader.raft.log
    assert len([at for at, _ in log.configs if at > log.commit]) == 1
    assert sorted(role_of(leader, nid) for nid in ("4", "5")) == [LEARNER, "voter"]
    for nid in ("2", "3"):
        cluster.nodes[nid].is_stopped = False
    cluster.run(10)
    assert all(node.raft.is_voter for node in joined)
    leader.raft.propose_change("demote", "5", "", 0, leader.now_ms)
    with pytest.raises(TryAgain, match="under way"):
        leader.raft.propose_change("demote", "4", "", 0, leader.now_ms)


# Changes of one server at a time


def test_raft_dev_2015_a_new_leader_changes_nothing_before_an_entry_of_its_term() -> None:
    """The bug in single-server changes (Ongaro, raft-dev, July 2015): of four nodes, leader 1 adds
    a fifth and tells only that one; 2 wins with 3 and 4 and removes 1, which 2 and 3 commit; 1
    comes back, wins with 4, 5 and its own entry, and undoes it. Two disjoint majorities decided.
    """
    cluster = Cluster(4)
    first = cluster.elect("1")
    fifth = cluster.new_node("5")
    fifth.start()
    cluster.isolate("1", "5")
    first.raft.propose_change("add", "5", "host5:1", fifth.incarnation, first.now_ms)
    first.turn()
    rest = [cluster.nodes[nid] for nid in ("2", "3", "4")]
    refused: list[str] = []

    def remove_at_once(_: Message) -> bool:
        """At every message: whoever leads the rest is asked to remove "1"."""
        for node in rest:
            if node.raft.role is Role.LEADER and role_of(node, "1") == "voter":
                try:
                    node.raft.propose_change("remove", "1", "", 0, node.now_ms)
                except TryAgain as error:
                    refused.append(str(error))
        return True

    cluster.on_message = remove_at_once
    cluster.run_until(lambda: any(role_of(node, "1") == "nobody" for node in rest), 100)
    assert "the leader has not committed anything in its term yet" in refused
    cluster.on_message = None
    cluster.run(3)
    second = next(node for node in rest if node.raft.is_leader)
    assert second.raft.committed_membership.get("1") is None
    cluster.heal()
    cluster.run(AWAY_TICKS)
    assert first.raft.role is Role.REMOVED
    assert first.raft.log.commit <= second.raft.log.commit
    assert role_of(second, "5") == "nobody", "the entry of 1 is gone"


def test_raft_dev_2015_a_vote_bound_to_an_old_membership_cannot_commit_a_new_one() -> None:
    """The rule by itself, on one node: won, and nothing of the own term committed yet."""
    raft = lead(raft_of((1, 1), commit=1))
    for op, nid in (("remove", "3"), ("demote", "3")):
        with pytest.raises(TryAgain, match="not committed anything"):
            raft.propose_change(op, nid, "", 0, 1000)
    obey(raft)
    accept(raft, "2", raft.term_start)
    assert raft.propose_change("demote", "3", "", 0, 1000) == raft.term_start + 1


def test_thesis_4_1_adding_two_at_once_has_disjoint_majorities() -> None:
    """Figure 4.1 and 4.3: two at once let an old and a new majority decide apart. A log that would
    bring it about stops the node that gets it, rather than being obeyed.
    """
    raft = raft_of((1,), membership=members(3))
    with pytest.raises(Exception, match="one voter changes at a time"):
        raft.step(
            message(
                MessageKind.APPEND,
                "2",
                2,
                index=1,
                log_term=1,
                entries=[config_entry(2, 2, members(5))],
            )
        )


def test_thesis_4_2_1_a_server_that_is_slow_or_gone_is_never_made_a_voter() -> None:
    """Figure 4.4: a fourth voter with an empty log, or none at all, leaves no room for one failure.
    It is promoted after a round of catching up shorter than an election timeout, not before.
    """
    raft = lead(raft_of(membership=members(3, 1)))
    obey(raft)
    accept(raft, "2", 1)
    for _ in range(5 * CONFIG.election_ticks_max):  # it answers, and gets no further
        tick(raft)
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term))
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "4", raft.term))
        obey(raft)
    assert not raft.membership.get("4").is_voter  # type: ignore[union-attr]


def test_thesis_4_2_2_a_removed_leader_leads_until_the_removal_is_certain() -> None:
    """It does not count itself meanwhile, and does not stand again afterwards, which logcabin#205
    reported: there a leader that had removed itself won election after election and stepped down.
    """
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.cut.add(frozenset(("1", "3")))
    index = cluster.change(leader, "remove", "1")
    assert leader.raft.progress["2"].match == index, "it has one of two voters, and itself"
    assert leader.raft.is_leader
    assert leader.raft.log.commit < index
    cluster.heal()
    cluster.run(4)
    assert leader.raft.role is Role.REMOVED
    cluster.run(AWAY_TICKS)
    assert leader.roles[-1] == "removed"
    assert cluster.wait_for_leader().nid != "1"


def test_thesis_4_2_3_a_server_that_hears_a_leader_ignores_questions() -> None:
    """A removed server that gets no heartbeats asks for votes in ever newer terms. PreVote alone
    does not help: its log may be as complete as the others'. Who hears a leader is deaf to it.
    """
    raft = raft_of((1,), term=1, membership=members(3))
    tick(raft, CONFIG.election_ticks_min)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.take()
    for kind, term in ((MessageKind.PREVOTE, 2), (MessageKind.VOTE, 2), (MessageKind.VOTE, 90)):
        raft.step(message(kind, "3", term, index=1, log_term=1))
        work = raft.take()
        assert not [*work.send_now, *work.send_after_sync]
        assert (raft.term, raft.vote, raft.leader) == (1, "", "2")


def test_copycat_23_and_goraft_27_what_an_old_leader_left_is_not_taken_for_committed() -> None:
    """Entries of earlier terms were committed by counting, and joins were accepted before the first
    entry of the own term.
    """
    raft = lead(raft_of((1, 1), commit=0))
    accept(raft, "2", 2)
    assert raft.log.commit == 0
    with pytest.raises(TryAgain):
        raft.propose_change("add", "9", "h:1", 99, 1000)
    raft.log.append(entry(raft.log.last + 1, raft.term))
    obey(raft)
    accept(raft, "2", raft.term_start)
    assert raft.log.commit == raft.term_start


def test_the_only_voter_cannot_be_removed() -> None:
    """A cluster must not be talked out of existence (PySyncObj#77 asks that one node suffices)."""
    cluster = Cluster(1)
    leader = cluster.elect("1")
    for op in ("remove", "demote"):
        with pytest.raises(MembershipError, match="only voter"):
            leader.raft.propose_change(op, "1", "", 0, leader.now_ms)
    index = cluster.propose(leader)
    assert leader.raft.log.commit == index
