"""Elections: thesis sections 3.4, 3.6.1, 3.8 and 6.2."""

from __future__ import annotations

from random import Random

import pytest

from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.work import Role
from pyraft_fast.errors import InvariantError
from tests.core.cluster import Cluster
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
)


def test_3_4_election_timeouts_are_drawn_anew_from_the_whole_range() -> None:
    raft = raft_of()
    drawn = set()
    for _ in range(500):
        raft.restart_election_timer()
        drawn.add(raft.election_timeout)
    assert drawn == set(range(CONFIG.election_ticks_min, CONFIG.election_ticks_max + 1))


def test_3_4_a_follower_that_hears_its_leader_does_not_campaign() -> None:
    raft = raft_of(term=1)
    for _ in range(20):
        raft.step(message(MessageKind.HEARTBEAT, "2", 1))
        tick(raft, CONFIG.election_ticks_min - 1)
        assert raft.role is Role.FOLLOWER
    tick(raft, CONFIG.election_ticks_max)
    assert raft.role is Role.PRE_CANDIDATE


def test_3_4_a_majority_of_votes_makes_a_leader() -> None:
    raft = raft_of(membership=members(5))
    raft.election_elapsed = 99
    tick(raft)
    for nid in ("2", "3"):
        raft.step(message(MessageKind.PREVOTE_REPLY, nid, 1, flag=True))
    assert (raft.role, raft.term, raft.vote) == (Role.CANDIDATE, 1, "1")
    raft.step(message(MessageKind.VOTE_REPLY, "2", 1, flag=True))
    raft.step(message(MessageKind.VOTE_REPLY, "2", 1, flag=True))
    assert raft.role is Role.CANDIDATE, "one voter counts once"
    raft.step(message(MessageKind.VOTE_REPLY, "4", 1, flag=True))
    assert raft.role is Role.LEADER


def test_3_4_a_majority_of_refusals_ends_a_candidacy() -> None:
    raft = raft_of()
    raft.election_elapsed = 99
    tick(raft)
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 1, flag=True))
    for nid in ("2", "3"):
        raft.step(message(MessageKind.VOTE_REPLY, nid, 1))
    assert raft.role is Role.FOLLOWER


def test_3_4_a_candidate_follows_a_leader_of_its_own_term() -> None:
    raft = raft_of()
    raft.election_elapsed = 99
    tick(raft)
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 1, flag=True))
    raft.step(message(MessageKind.HEARTBEAT, "3", 1))
    assert (raft.role, raft.leader, raft.term) == (Role.FOLLOWER, "3", 1)


def test_3_4_one_vote_in_a_term_first_come_first_served() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.VOTE, "2", 2))
    raft.step(message(MessageKind.VOTE, "3", 2))
    raft.step(message(MessageKind.VOTE, "2", 2))
    work = raft.take()
    assert [(m.to, m.flag) for m in work.send_after_sync] == [("2", True), ("2", True)]
    assert [(m.to, m.flag) for m in work.send_now] == [("3", False)]


@pytest.mark.parametrize(
    ("own", "log_term", "index", "granted"),
    [
        ((1, 1), 1, 2, True),
        ((1, 1), 1, 3, True),
        ((1, 1), 1, 1, False),
        ((1, 2), 1, 9, False),
        ((1, 2), 3, 1, True),
        ((), 0, 0, True),
        ((1,), 0, 0, False),
    ],
)
def test_3_6_1_votes_go_to_logs_at_least_as_complete(
    own: tuple[int, ...], log_term: int, index: int, granted: bool
) -> None:
    for kind in (MessageKind.VOTE, MessageKind.PREVOTE):
        raft = raft_of(own, term=3)
        raft.step(message(kind, "2", 4, index=index, log_term=log_term))
        work = raft.take()
        answers = [*work.send_now, *work.send_after_sync]
        assert [m.flag for m in answers] == [granted]


def test_3_8_a_vote_is_on_disk_before_it_is_sent() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.VOTE, "2", 2))
    work = raft.take()
    assert work.state is not None
    assert (work.state.term, work.state.vote) == (2, "2")
    assert kinds(work.send_after_sync) == ["VOTE_REPLY"]
    assert not work.send_now


def test_3_8_a_candidate_asks_only_when_its_own_vote_is_on_disk() -> None:
    raft = raft_of()
    raft.election_elapsed = 99
    tick(raft)
    raft.take()
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 1, flag=True))
    work = raft.take()
    assert work.state is not None
    assert (work.state.term, work.state.vote) == (1, "1")
    assert kinds(work.send_after_sync) == ["VOTE", "VOTE"]
    assert not work.send_now


def test_3_8_a_restarted_node_keeps_its_vote() -> None:
    raft = raft_of(term=5, vote="3")
    raft.step(message(MessageKind.VOTE, "2", 5))
    raft.step(message(MessageKind.VOTE, "3", 5))
    work = raft.take()
    assert [(m.to, m.flag) for m in work.send_now] == [("2", False)]
    assert [(m.to, m.flag) for m in work.send_after_sync] == [("3", True)]


def test_3_8_nothing_committed_is_lost_when_all_restart() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    indexes = [cluster.propose(leader, b"%d" % n) for n in range(10)]
    for node in list(cluster.nodes.values()):
        node.crash()
    for node in cluster.nodes.values():
        node.start()
    leader = cluster.wait_for_leader()
    assert leader.raft.log.commit > indexes[-1]
    assert leader.raft.term > 1


def test_3_8_only_the_state_that_changed_is_saved() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1, flag=True))
    assert raft.take().state is None


def test_a_sole_voter_leads_at_once_but_sends_nothing_before_its_term_is_on_disk() -> None:
    raft = raft_of(membership=members(1, 1))
    tick(raft)
    assert raft.is_leader
    work = raft.take()
    assert work.state is not None
    assert work.state.vote == "1"
    assert not work.send_now
    tick(raft, 20)
    assert not raft.take().send_now
    raft.persisted(work.entries[-1].index, work.entries[-1].term)
    work = raft.take()
    assert kinds(work.send_now)[0] == "APPEND"
    assert work.commit == 1


def test_a_node_without_membership_neither_campaigns_nor_votes() -> None:
    raft = raft_of(membership=Membership(0))
    tick(raft, 100)
    assert raft.role is Role.FOLLOWER
    raft.step(message(MessageKind.PREVOTE, "2", 2, index=9, log_term=1))
    raft.step(message(MessageKind.VOTE, "2", 2, index=9, log_term=1))
    work = raft.take()
    assert [m.flag for m in work.send_now] == [False, False]
    assert not work.send_after_sync


def test_4_2_1_a_learner_never_campaigns_but_votes_when_asked() -> None:
    raft = raft_of(membership=Membership(7, members(3).members[1:]).with_added("1", "h:1", 1))
    tick(raft, 100)
    assert raft.role is Role.FOLLOWER
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1))
    assert raft.role is Role.FOLLOWER
    tick(raft, CONFIG.election_ticks_min)
    raft.step(message(MessageKind.VOTE, "3", 2))
    assert kinds(raft.take().send_after_sync) == ["VOTE_REPLY"]


def test_a_question_meant_for_another_incarnation_is_not_answered() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.VOTE, "2", 2, to_incarnation=99))
    work = raft.take()
    assert not work.send_now
    assert not work.send_after_sync
    assert raft.term == 1


def test_an_answer_of_another_incarnation_is_not_counted() -> None:
    raft = raft_of()
    raft.election_elapsed = 99
    tick(raft)
    raft.step(message(MessageKind.PREVOTE_REPLY, "2", 1, flag=True, incarnation=77))
    assert raft.role is Role.PRE_CANDIDATE


def test_two_leaders_in_a_term_stop_the_node() -> None:
    raft = lead(raft_of())
    with pytest.raises(InvariantError, match="one leader in a term"):
        raft.step(message(MessageKind.APPEND, "2", raft.term))
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    with pytest.raises(InvariantError, match="one leader in a term"):
        raft.step(message(MessageKind.HEARTBEAT, "3", 1))


def test_roles_move_only_along_the_table() -> None:
    raft = raft_of()
    with pytest.raises(InvariantError, match="legal change of role"):
        raft.move(Role.LEADER)
    with pytest.raises(InvariantError, match="one vote"):
        raft.set_vote(0, "2")
        raft.set_vote(0, "3")


def test_6_2_a_leader_that_hears_no_majority_steps_down() -> None:
    raft = lead(raft_of())
    tick(raft, CONFIG.election_ticks_max + CONFIG.heartbeat_ticks)
    assert raft.role is Role.FOLLOWER
    assert raft.leader == ""


def test_6_2_a_leader_that_hears_a_majority_stays() -> None:
    raft = lead(raft_of())
    for _ in range(30):
        tick(raft, CONFIG.heartbeat_ticks)
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term))
    assert raft.is_leader


def test_6_2_learners_do_not_keep_a_leader_alive() -> None:
    raft = lead(raft_of(membership=members(3, 1)))
    for _ in range(CONFIG.election_ticks_max // CONFIG.heartbeat_ticks + 1):
        tick(raft, CONFIG.heartbeat_ticks)
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "4", raft.term))
    assert raft.role is Role.FOLLOWER


def test_4_2_3_votes_are_refused_while_a_leader_is_heard() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    tick(raft, CONFIG.election_ticks_min - 1)
    raft.step(message(MessageKind.VOTE, "3", 9))
    assert raft.term == 1
    tick(raft)
    raft.step(message(MessageKind.VOTE, "3", 9))
    assert (raft.term, raft.vote) == (9, "3")


def test_4_2_3_a_leader_is_not_deposed_by_a_vote_request() -> None:
    raft = lead(raft_of())
    raft.step(message(MessageKind.VOTE, "3", 9))
    assert raft.is_leader


def test_a_stale_leader_steps_down_when_it_learns_a_newer_term() -> None:
    raft = lead(raft_of())
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", 9))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 9)


def test_a_newer_term_alone_does_not_put_off_an_election() -> None:
    raft = raft_of((1,), term=1)
    raft.election_elapsed = 5
    raft.step(message(MessageKind.VOTE, "2", 2))  # its log is too short
    assert raft.term == 2
    assert raft.election_elapsed == 5


def test_elections_end_for_any_seed() -> None:
    for seed in range(30):
        cluster = Cluster(5, seed=seed)
        cluster.wait_for_leader()
        assert cluster.now < 500


def test_a_role_change_is_told_once() -> None:
    raft = raft_of()
    lead(raft)
    work = obey(raft)
    assert work.role_change is not None
    assert (work.role_change.role, work.role_change.leader) == ("leader", "1")
    assert work.role_change.accepts
    assert obey(raft).role_change is None
    accept(raft, "2", raft.log.last)
    assert obey(raft).role_change is None


def test_the_same_dice_give_the_same_node() -> None:
    first, second = raft_of(seed=5), raft_of(seed=5)
    assert first.election_timeout == second.election_timeout == _drawn(5)


def _drawn(seed: int) -> int:
    rng = Random(seed)
    rng.getrandbits(62)
    return rng.randint(CONFIG.election_ticks_min, CONFIG.election_ticks_max)
