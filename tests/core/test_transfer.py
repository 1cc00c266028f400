"""Leadership transfer: thesis section 3.10."""

from __future__ import annotations

import pytest

from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.work import Role
from pyraft_fast.errors import MembershipError, TryAgain
from tests.core.cluster import Cluster
from tests.core.single import CONFIG, accept, lead, members, message, obey, raft_of, tick, to


def test_3_10_the_leadership_moves_to_the_chosen_voter_at_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    leader.raft.transfer("3")
    leader.turn()
    cluster.settle()
    successor = cluster.leader()
    assert successor is not None
    assert successor.nid == "3"
    assert leader.raft.role is Role.FOLLOWER
    assert leader.roles[-1] == "follower"


@pytest.mark.parametrize("nid", [None, ""])
def test_3_10_without_a_name_the_most_caught_up_voter_is_chosen(nid: str | None) -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("3")
    cluster.propose(leader)
    cluster.heal()
    leader.raft.transfer(nid)
    assert leader.raft.transferee == "2"


def test_3_10_the_successor_is_brought_up_to_date_first() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    obey(raft)
    raft.transfer("3")
    assert not to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)
    accept(raft, "3", 1)
    tick(raft, CONFIG.heartbeat_ticks)
    assert to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)


def test_3_10_no_proposals_meanwhile_and_users_are_told() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    obey(raft)
    raft.transfer("2")
    work = obey(raft)
    assert work.role_change is not None
    assert (work.role_change.role, work.role_change.accepts) == ("leader", False)
    assert not raft.propose(2, b"", 1, 0, 0, 0, 1000)
    with pytest.raises(TryAgain, match="being transferred"):
        raft.propose_change("remove", "3", "", 0, 1000)


def test_3_10_given_up_after_an_election_timeout() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    obey(raft)
    raft.transfer("2")
    obey(raft)
    for _ in range(CONFIG.election_ticks_max):
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term))
        tick(raft)
    work = obey(raft)
    assert work.role_change is not None
    assert work.role_change.accepts
    assert raft.propose(2, b"", 1, 0, 0, 0, 1000)


def test_3_10_the_word_to_go_is_repeated_if_it_may_be_lost() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    obey(raft)
    raft.transfer("2")
    assert to(obey(raft).send_now, "2", MessageKind.TIMEOUT_NOW)
    tick(raft, CONFIG.heartbeat_ticks)
    assert to(obey(raft).send_now, "2", MessageKind.TIMEOUT_NOW)


def test_3_10_others_vote_for_the_successor_although_they_hear_the_leader() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.step(message(MessageKind.VOTE, "3", 2, flag=True))
    assert raft.vote == "3"
    leading = lead(raft_of())
    leading.step(message(MessageKind.VOTE, "3", leading.term + 1, index=1, log_term=1, flag=True))
    assert (leading.role, leading.vote) == (Role.FOLLOWER, "3")


def test_3_10_a_successor_asks_nobody_before_it_campaigns() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1))
    work = raft.take()
    assert not work.send_now
    assert [(m.kind, m.flag) for m in work.send_after_sync] == [(MessageKind.VOTE, True)] * 2


def test_3_10_who_cannot_lead_is_refused() -> None:
    raft = lead(raft_of(membership=members(3, 1)))
    with pytest.raises(TryAgain, match="not committed anything"):
        raft.transfer("2")
    obey(raft)
    accept(raft, "2", 1)
    for nid in ("1", "4", "nobody"):
        with pytest.raises(MembershipError):
            raft.transfer(nid)
    with pytest.raises(TryAgain, match="does not lead"):
        raft_of().transfer("2")
    tick(raft, CONFIG.election_ticks_max - 1)
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term))
    tick(raft, 2)
    with pytest.raises(TryAgain, match="does not answer"):
        raft.transfer("3")


def test_3_10_one_transfer_at_a_time() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    raft.transfer("2")
    raft.transfer("2")
    with pytest.raises(TryAgain, match="already"):
        raft.transfer("3")


def test_3_10_nothing_written_during_a_transfer_is_lost() -> None:
    for seed in range(20):
        cluster = Cluster(3, seed=seed)
        leader = cluster.wait_for_leader()
        indexes = []
        for n in range(30):
            if leader.propose(b"%d" % n):
                indexes.append(leader.raft.log.last)
            if n == 15:
                leader.raft.transfer(None)
                leader.turn()
        cluster.run(5)
        assert len(indexes) == 16
        assert cluster.wait_for_leader() is not leader
        assert cluster.invariants.commit > indexes[-1]


def test_3_10_the_successor_goes_with_the_answer_that_completes_it() -> None:
    """Under load something is on its way whenever a transfer begins: no heartbeat is awaited."""
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    accept(raft, "3", 1)
    obey(raft)
    assert raft.propose(2, b"", 1, 0, 0, 0, 1000)
    obey(raft)
    raft.transfer("3")
    assert not to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)
    accept(raft, "2", 2)
    assert not to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)
    accept(raft, "3", 2)
    assert to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)
