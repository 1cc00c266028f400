"""Bugs of elections and membership that others published, each as the scene in which it showed.

Every test is named after the report. What is told here is what went wrong there, in our words; the
assertions say how it ends here. Those about addresses, ports and starting are in
tests/consensus/test_published_bugs.py and tests/process/test_published_bugs.py.
"""

from __future__ import annotations

import pytest

from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import Role
from tests.core.cluster import Cluster, Node
from tests.core.single import (
    CONFIG,
    config_entry,
    lead,
    members,
    message,
    obey,
    raft_of,
    tick,
    to,
)

AWAY_TICKS = 300  # many election timeouts


def role_of(node: Node, nid: str) -> str:
    member = node.raft.membership.get(nid)
    return member.role if member else "nobody"


# PreVote


def test_etcd_9333_a_rejoining_node_does_not_disturb_the_leader() -> None:
    """A member that flapped had campaigned alone, came back with a higher term, and its answer to
    the leader's heartbeat made that leader step down: no writes until the next election.
    """
    cluster = Cluster(3)
    leader = cluster.elect("1")
    term = leader.raft.term
    for _ in range(5):
        cluster.isolate("3")
        cluster.run(AWAY_TICKS // 5)
        cluster.heal()
        cluster.propose(leader, b"while it comes back")
        cluster.run(5)
        assert cluster.leader() is leader
    assert [node.raft.term for node in cluster.nodes.values()] == [term] * 3
    assert cluster.nodes["3"].applied == leader.applied
    assert set(leader.roles[leader.roles.index("leader") :]) == {"leader"}, "without a break"


def test_etcd_9352_one_way_loss_does_not_cost_a_leader_its_term() -> None:
    """The pull request that answered 9333 names the harder half: a member that hears nobody and is
    heard by all. Its questions arrive all the time, and must not raise a term or end a leadership.
    """
    cluster = Cluster(3)
    leader = cluster.elect("1")
    term = leader.raft.term
    cluster.on_message = lambda message: message.to != "3"
    asked = cluster.sent
    cluster.run(AWAY_TICKS)
    cluster.propose(leader)
    assert cluster.sent > asked
    assert cluster.leader() is leader
    assert leader.raft.term == term
    assert cluster.nodes["3"].raft.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize("is_sole_complete", [False, True])
def test_hashicorp_raft_605_former_leader_is_not_locked_out(is_sole_complete: bool) -> None:
    """A follower refused the pre-vote of the very node it took for its leader, since the check "do
    I have a leader" compared it with an empty name. With one of three nodes down, a leader that had
    stepped down could never be elected again, and nobody else stood: a majority without a leader.
    """
    cluster = Cluster(3)
    leader = cluster.elect("1")
    other = cluster.nodes["2"]
    cluster.nodes["3"].crash()
    if is_sole_complete:
        leader.propose(b"only here")
        cluster.isolate("1")
        leader.turn()
    leader.raft.become_follower(leader.raft.term, "")
    leader.turn()
    assert other.raft.leader == "1", "the other still takes it for its leader"
    cluster.heal()
    leader.raft.election_elapsed = leader.raft.election_timeout
    cluster.run_until(lambda: leader.raft.role is Role.LEADER, 3)  # at once
    assert leader.raft.log.commit >= leader.raft.term_start


def test_hashicorp_raft_609_a_prevote_is_no_contact_with_a_leader() -> None:
    """Granting a pre-vote refreshed the time of the last contact with a leader. A node with a short
    timeout that asked again and again, and could not win, kept all others from ever standing.
    """
    cluster = Cluster(3)
    cluster.elect("1")
    cluster.nodes["1"].crash()
    asker, timer = cluster.nodes["3"].raft, cluster.nodes["2"].raft
    timer.election_timeout = CONFIG.election_ticks_max
    granted: list[int] = []

    def loses_answers(message: Message) -> bool:
        is_answer = message.to == "3" and message.kind == MessageKind.PREVOTE_REPLY
        if is_answer and message.flag:
            granted.append(cluster.now)
        return not is_answer

    cluster.on_message = loses_answers
    while timer.role is Role.FOLLOWER:
        before = timer.election_elapsed
        asker.election_elapsed = asker.election_timeout  # it asks at every tick
        cluster.run(1)
        is_over = before + 1 >= CONFIG.election_ticks_max
        assert is_over or timer.election_elapsed == before + 1, "only time moves the timer"
    assert len(set(granted)) > 3
    cluster.run_until(lambda: timer.role is Role.LEADER, 10)


def test_canonical_raft_203_a_transfer_is_not_undone_by_a_heartbeat() -> None:
    """The successor got the word to go, asked for pre-votes in the old term, and the old leader's
    next heartbeat of that same term made it a follower again. The transfer had no effect.
    """
    cluster = Cluster(4)
    leader = cluster.elect("1")
    leader.raft.transfer("2")
    leader.raft.tick(leader.now_ms)
    leader.raft.tick(leader.now_ms)  # heartbeats right behind TIMEOUT_NOW, all on the wire
    leader.turn()
    kinds = [item[2].kind for item in cluster.wire if item[2].to == "2"]
    assert MessageKind.TIMEOUT_NOW in kinds
    assert MessageKind.HEARTBEAT in kinds
    cluster.settle()
    assert cluster.leader() is cluster.nodes["2"]


@pytest.mark.parametrize("seed", range(5))
def test_canonical_raft_279_an_answer_from_an_older_term_counts(seed: int) -> None:
    """Of four nodes a follower died, then the leader. The two that were left campaigned in vain for
    a while and had a newer term when the follower came back: they ignored its pre-votes, as they
    came with its old term, and it learned no newer one. Three of four stood without a leader.
    """
    cluster = Cluster(4, seed=seed)
    cluster.elect("1")
    cluster.nodes["2"].crash()
    cluster.nodes["1"].crash()
    for nid in ("3", "4"):  # they have tried, and have a newer term
        node = cluster.nodes[nid]
        node.raft.become_follower(node.raft.term + 5, "")
        node.turn()
    cluster.run(50)
    assert cluster.leader() is None, "two of four are no majority"
    cluster.nodes["2"].start()
    leader = cluster.wait_for_leader()
    cluster.run(5)
    assert cluster.nodes["2"].raft.term == leader.raft.term


def test_canonical_raft_279_whoever_asks_in_an_older_term_is_told() -> None:
    """The other side of it: the old node asks first."""
    raft = raft_of(term=8)
    tick(raft, CONFIG.election_ticks_min)
    raft.take()
    raft.step(message(MessageKind.PREVOTE, "2", 4))
    (answer,) = to(raft.take().send_now, "2", MessageKind.PREVOTE_REPLY)
    assert (answer.term, answer.flag) == (8, False)


# Nodes that were removed or demoted


def away_while(op: str) -> tuple[Cluster, Node, Node]:
    """ "3" is cut off while the others take its vote; it comes back with the old membership."""
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    cluster.change(leader, op, "3")
    cluster.run(AWAY_TICKS)
    assert cluster.nodes["3"].raft.is_voter, "it knows nothing of it"
    cluster.heal()
    return cluster, leader, cluster.nodes["3"]


def test_hashicorp_raft_524_a_server_removed_while_away_does_not_disturb() -> None:
    """A server that was removed without knowing it went on to campaign; its growing term made the
    leader step down, again and again, and it could not even be added anew.
    """
    cluster, leader, node = away_while("remove")
    term = leader.raft.term
    cluster.run(AWAY_TICKS)
    assert cluster.leader() is leader
    assert leader.raft.term == term
    assert node.raft.role is Role.REMOVED, "it was told"
    sent = cluster.sent
    node.raft.tick(node.now_ms)
    node.turn()
    assert cluster.sent == sent, "and is silent"


def test_hashicorp_raft_524_a_server_demoted_while_away_does_not_disturb() -> None:
    """The same for one that was only demoted: it is a member, gets the log, and learns from it."""
    cluster, leader, node = away_while("demote")
    term = leader.raft.term
    cluster.run(AWAY_TICKS)
    assert cluster.leader() is leader
    assert leader.raft.term == term
    assert not node.raft.is_voter
    assert node.applied == leader.applied
    leader.crash()
    cluster.run(AWAY_TICKS)
    assert node.raft.role is Role.FOLLOWER, "without a vote it does not stand"


@pytest.mark.parametrize("term", [1, 50])
def test_hashicorp_raft_524_however_high_its_term(term: int) -> None:
    """It had raised its term before anybody could tell it: not even a VOTE of it is listened to."""
    _, leader, node = away_while("remove")
    before = leader.raft.term
    vote = message(
        MessageKind.VOTE, "3", before + term, index=99, log_term=before,
        incarnation=node.incarnation, to_incarnation=leader.incarnation,
    )  # fmt: skip
    leader.raft.step(vote)
    leader.turn()
    assert (leader.raft.role, leader.raft.term) == (Role.LEADER, before)


# Found on the way, in the neighbourhood of those threads


def test_hazelcast_16643_stepping_down_keeps_the_vote() -> None:
    """A leader that stepped down in its own term forgot its vote of that term, and could have given
    it to a second leader of the same term.
    """
    raft = lead(raft_of())
    term = raft.term
    obey(raft)
    tick(raft, 3 * CONFIG.election_ticks_max)
    assert (raft.role, raft.term, raft.vote) != (Role.LEADER, term, "1")
    raft = lead(raft_of())
    obey(raft)
    raft.become_follower(raft.term, "")
    assert raft.vote == "1"
    raft.step(message(MessageKind.VOTE, "3", raft.term, index=9, log_term=raft.term))
    (answer,) = to(raft.take().send_now, "3", MessageKind.VOTE_REPLY)
    assert not answer.flag


def test_canonical_raft_196_asking_before_does_not_reset_the_vote() -> None:
    """Asking for pre-votes cleared the vote of the current term: a second one could be given in it.
    And an answer to a question must not be counted as a vote.
    """
    raft = raft_of((1,), term=1)
    tick(raft, CONFIG.election_ticks_min)
    raft.step(message(MessageKind.VOTE, "2", 2, index=1, log_term=1))
    assert (raft.term, raft.vote) == (2, "2")
    raft.take()
    tick(raft, CONFIG.election_ticks_max)
    assert (raft.role, raft.term, raft.vote) == (Role.PRE_CANDIDATE, 2, "2")
    raft.step(message(MessageKind.VOTE_REPLY, "2", 2, flag=True))
    raft.step(message(MessageKind.VOTE_REPLY, "3", 2, flag=True))
    assert raft.role is Role.PRE_CANDIDATE


def test_hashicorp_raft_476_a_removed_node_does_not_vote_where_nobody_leads() -> None:
    """Without a leader, others gave their votes to a node that was no member any more."""
    raft = raft_of((1,), membership=members(3))
    tick(raft, CONFIG.election_ticks_min)
    change = [config_entry(2, 1, members(3).with_removed("3"))]
    raft.step(message(MessageKind.APPEND, "2", 1, index=1, log_term=1, commit=2, entries=change))
    raft.take()
    tick(raft, CONFIG.election_ticks_min)
    raft.step(message(MessageKind.VOTE, "3", 9, index=9, log_term=9))
    assert (raft.term, raft.vote) == (1, "")
    assert to(raft.take().send_now, "3", MessageKind.REMOVED)
