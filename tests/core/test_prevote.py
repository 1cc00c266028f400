"""PreVote: thesis section 9.6, and the ways in which others got it wrong."""

from __future__ import annotations

from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import Role
from tests.core.cluster import Cluster
from tests.core.single import CONFIG, kinds, message, raft_of, tick


def test_9_6_a_cut_off_node_does_not_raise_its_term() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    cluster.run(300)
    assert cluster.nodes["3"].raft.term == leader.raft.term


def test_9_6_a_returning_node_does_not_disturb_the_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    cluster.run(300)
    cluster.propose(leader)
    cluster.heal()
    cluster.run(100)
    assert cluster.leader() is leader
    assert leader.raft.term == 1 + 1
    assert cluster.nodes["3"].applied == leader.applied


def test_9_6_being_asked_changes_nothing() -> None:
    raft = raft_of((1,), term=3)
    raft.election_elapsed = 7
    timeout = raft.election_timeout
    raft.step(message(MessageKind.PREVOTE, "2", 4, index=1, log_term=1))
    work = raft.take()
    assert [m.flag for m in work.send_now] == [True]
    assert (raft.term, raft.vote) == (3, "")
    assert work.state is None
    assert (raft.election_elapsed, raft.election_timeout) == (7, timeout), (
        "granting a question must not count as hearing of a leader"
    )


def test_9_6_a_node_that_hears_a_leader_does_not_encourage_others() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.step(message(MessageKind.PREVOTE, "3", 2))
    assert not raft.take().send_now


def test_9_6_a_former_leader_is_not_locked_out() -> None:
    """Its followers may still take it for their leader when it asks."""
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.step(message(MessageKind.PREVOTE, "2", 2))
    assert [m.flag for m in raft.take().send_now] == [True]


def test_9_6_a_former_leader_with_the_only_complete_log_returns() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    cluster.propose(leader, b"3 does not have this")
    cluster.nodes["2"].crash()
    cluster.run(60)
    assert leader.raft.role is not Role.LEADER
    cluster.heal()
    cluster.run_until(lambda: cluster.leader() is leader, 200)


def test_9_6_whoever_asks_in_an_old_term_learns_the_new_one() -> None:
    """Even from a node that hears a leader: or it would ask in the old term for ever."""
    raft = raft_of(term=5)
    raft.step(message(MessageKind.HEARTBEAT, "2", 5))
    raft.take()
    for term in (3, 5):
        raft.step(message(MessageKind.PREVOTE, "3", term))
        (answer,) = raft.take().send_now
        assert (answer.term, answer.flag) == (5, False)
    asking = raft_of(term=2)
    asking.election_elapsed = 99
    tick(asking)
    asking.step(message(MessageKind.PREVOTE_REPLY, "2", 5))
    assert (asking.role, asking.term) == (Role.FOLLOWER, 5)


def test_9_6_a_node_stuck_in_a_newer_term_gets_back_in() -> None:
    """A leader that hears of a newer term steps down, or that node would never be reached."""
    cluster = Cluster(3)
    cluster.elect("1")
    node = cluster.nodes["3"]
    cluster.isolate("3")
    node.raft.become_follower(50, "")
    node.turn()
    cluster.heal()
    cluster.run(100)
    leader = cluster.wait_for_leader()
    assert leader.raft.term > 50
    index = cluster.propose(leader)
    cluster.run(10)
    assert node.applied >= index


def test_9_6_answers_to_an_earlier_question_do_not_count() -> None:
    raft = raft_of(term=1)
    raft.election_elapsed = 99
    tick(raft)
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 1, flag=True))
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 9, flag=True))
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 1)


def test_9_6_two_nodes_that_ask_at_once_do_not_block_each_other() -> None:
    for seed in range(20):
        cluster = Cluster(2, seed=seed)
        for node in cluster.nodes.values():
            node.raft.election_elapsed = 99
        cluster.wait_for_leader()
        assert cluster.now < 200


def test_3_10_a_transfer_is_not_undone_by_a_heartbeat_on_its_way() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1))
    raft.step(message(MessageKind.HEARTBEAT, "2", 1, flag=True))
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)
    work = raft.take()
    assert kinds(work.send_now) == ["HEARTBEAT_REPLY"]
    assert work.send_now[0].term == 2


def test_9_6_a_question_comes_before_every_election() -> None:
    cluster = Cluster(3, seed=3)
    seen: list[Message] = []
    cluster.on_message = lambda m: seen.append(m) is None
    cluster.wait_for_leader()
    first = [m.kind for m in seen]
    assert first.index(MessageKind.PREVOTE) < first.index(MessageKind.VOTE)


def test_9_6_an_unheard_leader_is_forgotten_by_its_asker() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    tick(raft, CONFIG.election_ticks_max)
    assert (raft.role, raft.leader) == (Role.PRE_CANDIDATE, "")
    raft.step(message(MessageKind.PREVOTE, "3", 2))
    assert [m.flag for m in raft.take().send_now if m.kind == MessageKind.PREVOTE_REPLY] == [True]
