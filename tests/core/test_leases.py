"""Reads by lease: thesis section 6.4.1, and each way in which a lease can lie."""

from __future__ import annotations

import pytest

from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, Role
from tests.core.cluster import Cluster, Faults
from tests.core.lease_chaos import LeaseChaos
from tests.core.single import CONFIG, accept, lead, members, message, obey, raft_of, tick, to

SENT_MS = 5000
LEASE_MS = CONFIG.lease_ms


def ready(raft: Raft) -> Raft:
    """Leading, with an entry of its term committed, and nothing answered yet."""
    raft.steady_ms = SENT_MS
    majority = ("2", "3") if len(raft.membership.voters) > 3 else ("2",)
    obey(lead(raft, majority))
    for nid in majority:
        accept(raft, nid, raft.log.last)
    obey(raft)
    return raft


def beat(raft: Raft, at_ms: int = SENT_MS) -> None:
    """Heartbeats leave."""
    raft.steady_ms = at_ms
    tick(raft, CONFIG.heartbeat_ticks)
    obey(raft)


def answer(raft: Raft, nid: str, sent_ms: int = SENT_MS, received_ms: int = SENT_MS) -> None:
    raft.steady_ms = max(raft.steady_ms, received_ms)
    raft.step(
        message(MessageKind.HEARTBEAT_REPLY, nid, raft.term, hint=sent_ms, index=raft.log.last)
    )


def leased(raft: Raft) -> Raft:
    """As `ready`, and node 2 has answered a heartbeat sent at SENT_MS."""
    ready(raft)
    beat(raft)
    answer(raft, "2")
    obey(raft)
    return raft


def is_answered(raft: Raft, at_ms: int) -> bool:
    """Is a lease read answered in the turn in which it comes?"""
    raft.steady_ms = at_ms
    raft.read(1, by_lease=True)
    return [state.context for state in obey(raft).reads] == [1]


def heartbeat(term: int, given_up: int = 0, sender: str = "2") -> Message:
    return message(MessageKind.HEARTBEAT, sender, term, index=given_up, flag=True, hint=7)


def vote(term: int, sender: str = "3", flag: bool = False, given_up: int = 0) -> Message:
    return message(MessageKind.VOTE, sender, term, index=9, log_term=9, flag=flag, context=given_up)


def is_candidate(raft: Raft) -> bool:
    return raft.role is Role.CANDIDATE


def granted(raft: Raft) -> bool:
    work = obey(raft)
    answers = [*work.send_now, *work.send_after_sync]
    kinds = (MessageKind.VOTE_REPLY, MessageKind.PREVOTE_REPLY)
    return any(m.flag for m in answers if m.kind in kinds)


# The leader's side


def test_6_4_1_a_lease_read_needs_no_round() -> None:
    raft = leased(raft_of())
    raft.read(1, by_lease=True)
    work = obey(raft)
    (state,) = work.reads
    assert (state.context, state.index) == (1, raft.log.commit)
    assert not work.send_now


def test_6_4_1_a_lease_ends_in_time() -> None:
    assert is_answered(leased(raft_of()), SENT_MS + LEASE_MS - 1)
    assert not is_answered(leased(raft_of()), SENT_MS + LEASE_MS)


def test_6_4_1_a_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    raft = ready(raft_of())
    beat(raft)
    answer(raft, "2", SENT_MS, received_ms=SENT_MS + LEASE_MS - 1)
    assert is_answered(raft, SENT_MS + LEASE_MS - 1)
    assert not is_answered(raft, SENT_MS + LEASE_MS)


def test_6_4_1_a_late_answer_to_an_old_heartbeat_counts_from_that_one() -> None:
    raft = ready(raft_of())
    for at_ms in (SENT_MS, SENT_MS + 50):
        beat(raft, at_ms)
    answer(raft, "2", SENT_MS, received_ms=SENT_MS + 60)
    assert not is_answered(raft, SENT_MS + LEASE_MS)
    answer(raft, "2", SENT_MS + 50)
    answer(raft, "2", SENT_MS)  # a copy, or one that was overtaken, takes nothing back
    assert is_answered(raft, SENT_MS + LEASE_MS)


def test_6_4_1_heartbeats_carry_when_they_were_sent_and_answers_give_it_back() -> None:
    raft = ready(raft_of())
    raft.steady_ms = SENT_MS + 123
    tick(raft, CONFIG.heartbeat_ticks)
    assert {m.hint for m in raft.take().send_now} == {SENT_MS + 123}
    follower = raft_of(term=1)
    follower.step(heartbeat(1))
    assert [m.hint for m in follower.take().send_now] == [7]


def test_6_4_1_an_answer_from_the_future_is_not_believed() -> None:
    raft = ready(raft_of())
    beat(raft)
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, hint=SENT_MS + 10**6))
    assert not is_answered(raft, SENT_MS)


def test_6_4_1_a_node_that_does_not_know_of_leases_gives_none() -> None:
    raft = ready(raft_of())
    beat(raft)
    answer(raft, "2", sent_ms=0)
    assert not is_answered(raft, SENT_MS)


def test_6_4_1_a_lease_is_less_than_the_promise_by_a_fifth_and_the_grain_of_ticks() -> None:
    assert Config("1", 1).lease_ms == 216
    assert Config("1", 1, 1, 10, 20).lease_ms == 56
    assert Config("1", 1, 1, 3, 6).lease_ms == 0


def test_6_4_1_a_majority_is_needed() -> None:
    raft = ready(raft_of(membership=members(5)))
    beat(raft)
    answer(raft, "2")
    assert not is_answered(raft, SENT_MS)
    answer(raft, "3", SENT_MS - LEASE_MS)
    assert not is_answered(raft, SENT_MS)
    answer(raft, "4")
    assert is_answered(raft, SENT_MS + 1)


def test_6_4_1_learners_do_not_count() -> None:
    raft = ready(raft_of(membership=members(3, 2)))
    beat(raft)
    answer(raft, "4")
    answer(raft, "5")
    assert not is_answered(raft, SENT_MS)
    answer(raft, "2")
    assert is_answered(raft, SENT_MS)


def test_6_4_1_the_majority_is_that_of_the_membership_in_force() -> None:
    """Two changes in the time of one lease, and no majority of the new voters has promised."""
    raft = leased(raft_of(membership=members(3, 1)))
    tick(raft, CONFIG.heartbeat_ticks)  # node 4 has not caught up: nobody promotes it
    for nid in ("3", "4"):
        accept(raft, nid, raft.log.last)
    assert is_answered(raft, SENT_MS + 1)
    raft.propose_change("remove", "2", "", 0, 1000)
    obey(raft)
    assert not is_answered(raft, SENT_MS + 2), "node 2 has promised, and votes no more"
    answer(raft, "3")
    assert is_answered(raft, SENT_MS + 3)


def test_6_4_1_a_leader_without_a_vote_holds_no_lease() -> None:
    """The last voter of its membership elects itself without waiting for anybody."""
    raft = leased(raft_of(membership=members(2)))
    assert is_answered(raft, SENT_MS + 1)
    raft.propose_change("demote", "1", "", 0, 1000)
    obey(raft)
    answer(raft, "2")
    assert raft.is_leader
    assert not is_answered(raft, SENT_MS + 2)


def test_6_4_1_a_sole_voter_has_its_lease_once_its_term_is_on_disk() -> None:
    raft = raft_of(membership=members(1, 1))
    tick(raft)
    raft.read(1, by_lease=True)
    work = raft.take()
    assert raft.is_leader
    assert not work.reads
    raft.persisted(work.entries[-1].index, work.entries[-1].term)
    assert [state.context for state in raft.take().reads] == [1]
    assert is_answered(raft, 10**9)


def test_6_4_1_no_lease_before_an_entry_of_the_own_term_is_committed() -> None:
    raft = lead(raft_of((1,), commit=1))
    raft.steady_ms = SENT_MS
    obey(raft)
    beat(raft)
    answer(raft, "2")
    assert not is_answered(raft, SENT_MS)


def test_6_4_1_a_leader_that_stood_still_has_lost_its_lease() -> None:
    raft = leased(raft_of())
    before = raft.ticks
    assert not is_answered(raft, SENT_MS + 10_000)
    assert raft.ticks == before
    assert raft.is_leader


def test_6_4_1_a_deposed_leader_answers_nothing_by_lease() -> None:
    raft = leased(raft_of())
    raft.read(1, by_lease=True)
    raft.step(message(MessageKind.READ, "3", raft.term, context=9, flag=True))
    raft.step(message(MessageKind.HEARTBEAT, "2", raft.term + 1))
    work = obey(raft)
    assert not work.reads
    assert [(m.to, m.flag) for m in work.send_now if m.kind == MessageKind.READ] == [("2", True)]
    refusals = [m for m in work.send_now if m.kind == MessageKind.READ_REPLY]
    assert [(m.to, m.context, m.flag) for m in refusals] == [("3", 9, False)]


def test_6_4_1_without_a_lease_a_read_shares_a_round() -> None:
    raft = ready(raft_of())
    raft.read(1, by_lease=True)
    raft.read(2)
    assert {(m.to, m.flag) for m in obey(raft).send_now} == {("2", True), ("3", True)}
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, context=raft.reads.number))
    assert {state.context for state in obey(raft).reads} == {1, 2}


def test_6_4_1_an_idle_leader_keeps_its_lease() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.faults = Faults(delay_ticks_max=1)
    cluster.run(20)
    for _ in range(100):
        cluster.run(1)
        context = leader.read(by_lease=True)
        leader.turn()
        assert leader.done[-1] == context


def test_6_4_1_a_follower_asks_for_each_sort_of_read_apart() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.read(1)
    raft.read(2, by_lease=True)
    raft.read(3)
    asked = to(obey(raft).send_now, "2", MessageKind.READ)
    assert [m.flag for m in asked] == [False, True]
    raft.step(message(MessageKind.READ_REPLY, "2", 1, context=asked[1].context, flag=True))
    assert [state.context for state in obey(raft).reads] == [2]
    raft.step(message(MessageKind.READ_REPLY, "2", 1, context=asked[0].context, flag=True))
    assert [state.context for state in obey(raft).reads] == [1, 3]


def test_6_4_1_a_leader_answers_a_followers_lease_read_at_once() -> None:
    raft = leased(raft_of())
    raft.step(message(MessageKind.READ, "3", raft.term, context=4, flag=True))
    (reply,) = obey(raft).send_now
    assert (reply.kind, reply.context, reply.flag) == (MessageKind.READ_REPLY, 4, True)
    raft.step(message(MessageKind.READ, "3", raft.term, context=5))
    assert {m.kind for m in obey(raft).send_now} == {MessageKind.HEARTBEAT}


# Transfers


def test_3_10_a_lease_is_void_while_the_leadership_is_being_transferred() -> None:
    raft = leased(raft_of())
    raft.transfer("2")
    assert not is_answered(raft, SENT_MS + 1)


def given_up(raft: Raft) -> Raft:
    """A transfer to node 2 has come to nothing; node 3 answers all the time."""
    raft.transfer("2")
    tick(raft, CONFIG.election_ticks_max - 1)
    answer(raft, "3", raft.steady_ms)
    tick(raft)
    obey(raft)
    assert raft.is_leader
    assert not raft.transferee
    return raft


def test_3_10_after_a_transfer_came_to_nothing_only_later_heartbeats_count() -> None:
    raft = given_up(leased(raft_of()))
    answer(raft, "3", SENT_MS)
    assert not is_answered(raft, SENT_MS)
    beat(raft, SENT_MS + 1)
    answer(raft, "3", SENT_MS + 1)
    assert is_answered(raft, SENT_MS + 2)


def test_3_10_heartbeats_and_orders_tell_how_many_transfers_came_to_nothing() -> None:
    raft = given_up(leased(raft_of()))
    tick(raft, CONFIG.heartbeat_ticks)
    beats = [m for m in obey(raft).send_now if m.kind == MessageKind.HEARTBEAT]
    assert {m.index for m in beats} == {1}
    accept(raft, "3", raft.log.last)
    obey(raft)
    raft.transfer("3")
    (order,) = to(obey(raft).send_now, "3", MessageKind.TIMEOUT_NOW)
    assert order.context == 1


def test_3_10_an_order_of_a_transfer_that_was_given_up_is_not_obeyed() -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1, given_up=1))
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1, context=0))
    assert not is_candidate(raft)
    raft.step(heartbeat(1, given_up=0))  # overtaken: takes nothing back
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1, context=0))
    assert not is_candidate(raft)
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1, context=1))
    assert is_candidate(raft)
    asked = [m for m in obey(raft).send_after_sync if m.kind == MessageKind.VOTE]
    assert {(m.flag, m.context) for m in asked} == {(True, 1)}


@pytest.mark.parametrize(("count", "is_honoured"), [(0, False), (1, True)])
def test_3_10_the_candidate_of_a_transfer_that_was_given_up_gets_no_vote(
    count: int, is_honoured: bool
) -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1, given_up=1))
    raft.step(vote(2, flag=True, given_up=count))
    assert granted(raft) is is_honoured


def test_3_10_a_leader_is_not_deposed_by_a_transfer_it_gave_up() -> None:
    raft = given_up(leased(raft_of()))
    raft.step(vote(raft.term + 1, "2", flag=True, given_up=0))
    assert raft.is_leader
    raft.step(vote(raft.term + 1, "2", flag=True, given_up=1))
    assert not raft.is_leader


def test_3_10_a_successor_that_stood_still_does_not_break_the_lease() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.nodes["2"].is_stopped = True
    leader.raft.transfer("2")
    leader.turn()
    cluster.run(CONFIG.election_ticks_max + 5)
    cluster.cut.add(frozenset(("1", "3")))  # it has answered, and will hear of nothing
    cluster.nodes["2"].is_stopped = False
    assert leader.read(by_lease=True)
    leader.turn()
    cluster.run(1)
    assert leader.done
    assert cluster.nodes["3"].raft.vote != "2"


# The followers' side


def test_6_4_1_a_restarted_node_votes_for_nobody_at_first() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.run(5)
    node = cluster.nodes["3"]
    node.crash()
    node.start()
    term = leader.raft.term
    for kind, flag in (
        (MessageKind.PREVOTE, False),
        (MessageKind.VOTE, False),
        (MessageKind.VOTE, True),
    ):
        node.raft.step(
            Message(kind, "2", "3", term + 1, 99, 99, flag=flag, incarnation=2, to_incarnation=3)
        )
        assert not granted(node.raft)
    assert node.raft.term == term
    for _ in range(CONFIG.election_ticks_min):
        node.raft.tick(0)
    node.raft.step(Message(MessageKind.VOTE, "2", "3", term + 1, 99, 99, incarnation=2))
    assert granted(node.raft)


def test_6_4_1_a_restarted_node_does_not_obey_a_transfer_at_first() -> None:
    """It does not know whether it has promised its own vote since."""
    raft = raft_of(term=1)
    raft.lease.vote_hold = CONFIG.election_ticks_min
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1))
    assert not is_candidate(raft)
    for _ in range(CONFIG.election_ticks_min):
        raft.step(heartbeat(1))
        tick(raft)
    raft.step(message(MessageKind.TIMEOUT_NOW, "2", 1))
    assert is_candidate(raft)


def test_6_4_1_news_of_a_newer_term_do_not_end_the_promise() -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1))
    raft.step(message(MessageKind.PREVOTE_REPLY, "3", 6))  # late, refused
    assert (raft.term, raft.leader) == (6, "")
    obey(raft)
    raft.step(message(MessageKind.PREVOTE, "3", 7, index=9, log_term=9))
    raft.step(vote(7))
    assert not granted(raft)
    assert raft.term == 6
    tick(raft, CONFIG.election_ticks_min)
    raft.step(vote(7))
    assert granted(raft)


def test_6_4_1_nor_does_a_candidate_of_that_very_term_get_the_vote() -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1))
    raft.step(message(MessageKind.PREVOTE_REPLY, "3", 6))
    raft.step(vote(6))
    assert not granted(raft)
    assert raft.vote == ""


def test_6_4_1_a_node_that_had_asked_for_itself_promises_when_it_hears_the_leader() -> None:
    raft = raft_of(term=1)
    raft.election_elapsed = raft.election_timeout
    tick(raft)
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(heartbeat(1))
    raft.step(message(MessageKind.PREVOTE_REPLY, "3", 2, flag=True))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)
    raft.step(vote(2))
    assert not granted(raft)


def test_6_4_1_the_leader_itself_may_ask_and_ends_the_promise() -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1))
    raft.step(vote(2, sender="2"))
    assert granted(raft)
    raft.step(vote(3, sender="3"))
    assert granted(raft)


def test_6_4_1_another_node_of_the_leaders_name_is_not_the_leader() -> None:
    raft = raft_of(term=1)
    raft.step(heartbeat(1))
    stranger = Message(MessageKind.VOTE, "2", "1", 2, 9, 9, incarnation=77, to_incarnation=1)
    raft.step(stranger)
    assert not granted(raft)


def test_a_new_candidate_waits_out_the_promise_of_the_others() -> None:
    """An election takes as long as it did: who heard the leader last is free before it matters."""
    cluster = Cluster(3, seed=5)
    cluster.elect("1").crash()
    crashed_at = cluster.now
    cluster.wait_for_leader()
    assert cluster.now - crashed_at <= 3 * CONFIG.election_ticks_max


@pytest.mark.parametrize("first", range(1, 21, 5))
def test_no_lease_lies_whatever_happens(first: int) -> None:
    for seed in range(first, first + 5):
        try:
            LeaseChaos(seed).run()
        except Exception as error:
            raise AssertionError(f"python -m tests.core.lease_chaos --first {seed}") from error
