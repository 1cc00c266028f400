"""Membership changes: thesis chapter 4."""

from __future__ import annotations

import pytest

from pyraft_fast._entry import packb
from pyraft_fast.core.change import founding_entry
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import LEARNER, OBSERVER, Member, Membership
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.work import Role
from pyraft_fast.errors import InvariantError, MembershipError, ProtocolError, TryAgain
from pyraft_fast.limits import MEMBERS_MAX, TOMBSTONES_MAX
from tests.core.cluster import Cluster, Node
from tests.core.single import (
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

# The value


def test_a_membership_survives_encoding() -> None:
    value = members(2, 1).with_removed("2")._replace(bootstrap=3)
    assert Membership.decode(value.encode()) == value
    assert Membership.decode(Membership(0).encode()) == Membership(0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1, [], [], 0, 0],
        [-1, [], [], 0],
        [1, {}, [], 0],
        [1, [], ["x"], 0],
        [1, [["1", "a:1", 1]], [], 0],
        [1, [["1", "a:1", 1, "king"]], [], 0],
        [1, [[1, "a:1", 1, "voter"]], [], 0],
        [1, [["1", "a:1", -1, "voter"]], [], 0],
        [1, [["2", "a:1", 2, "voter"], ["1", "a:1", 1, "voter"]], [], 0],
        [1, [["1", "a:1", 1, "voter"], ["1", "a:2", 2, "voter"]], [], 0],
    ],
)
def test_what_is_no_membership_is_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        Membership.decode(packb(value))


def test_voters_learners_and_observers() -> None:
    value = members(2, 1).with_role("2", "observer")
    assert [m.nid for m in value.voters] == ["1"]
    assert [m.nid for m in value.learners] == ["2", "3"]
    assert value.get("9") is None


def test_a_name_and_an_incarnation_belong_to_one_member() -> None:
    with pytest.raises(MembershipError, match="ids must differ"):
        members().with_added("2", "h:1", 50)
    with pytest.raises(MembershipError, match="copy of another member's files"):
        members().with_added("9", "h:1", 2)


def test_removed_incarnations_stay_out() -> None:
    value = members().with_removed("3")
    assert value.removed == (3,)
    with pytest.raises(MembershipError, match="was removed"):
        value.with_added("3", "h:1", 3)
    assert value.with_added("3", "h:1", 33).get("3") == Member("3", "h:1", 33, "learner")


def test_a_rejoined_voter_is_a_learner_and_its_old_self_is_removed() -> None:
    value = members().with_rejoined("3", "new:1", 33)
    assert value.get("3") == Member("3", "new:1", 33, "learner")
    assert value.removed == (3,)
    value.check_follows(members())


def test_the_last_voter_stays() -> None:
    alone = members(1, 1)
    for change in (
        lambda: alone.with_removed("1"),
        lambda: alone.with_role("1", "observer"),
        lambda: alone.with_rejoined("1", "h:1", 11),
    ):
        with pytest.raises(MembershipError, match="only voter"):
            change()


def test_members_and_tombstones_are_bounded() -> None:
    value = members(1)
    for number in range(2, MEMBERS_MAX + 1):
        value = value.with_added(str(number), "h:1", number)
    with pytest.raises(MembershipError, match="the most"):
        value.with_added("new", "h:1", 1000)
    for number in range(1000, 1000 + TOMBSTONES_MAX + 5):
        value = value.with_rejoined("2", "h:1", number)
    assert len(value.removed) == TOMBSTONES_MAX
    assert value.removed[-1] == 1000 + TOMBSTONES_MAX + 3


def test_the_oldest_removal_is_forgotten_for_one_too_many() -> None:
    value = members().with_removed("3")
    for number in range(1000, 1000 + TOMBSTONES_MAX - 1):
        value = value.with_rejoined("2", "h:1", number)
    assert value.removed[0] == 3
    with pytest.raises(MembershipError, match="was removed"):
        value.with_added("3", "h:1", 3)
    value = value.with_removed("2")
    assert value.removed[0] == 2
    assert value.with_added("3", "h:1", 3).get("3") == Member("3", "h:1", 3, LEARNER)


def test_4_1_one_voter_at_a_time_is_held_on_both_sides() -> None:
    with pytest.raises(InvariantError, match="one voter"):
        members(5).check_follows(members(3))
    with pytest.raises(InvariantError, match="keeps its id"):
        Membership(8, members().members).check_follows(members())
    members(4).check_follows(members(3))


# Changes


def ready(voters: int = 3, learners: int = 0) -> tuple[Cluster, Node]:
    cluster = Cluster(voters, learners)
    return cluster, cluster.elect("1")


def test_a_new_cluster_begins_with_one_entry_and_its_founder_leads() -> None:
    entry = founding_entry(members(1)._replace(bootstrap=3), 1234)
    assert (entry.index, entry.term, entry.time_ms) == (1, 1, 1234)
    cluster = Cluster(1)
    cluster.run(2)
    leader = cluster.leader()
    assert leader is not None
    assert leader.applied == 2


def test_4_2_1_a_newcomer_is_a_learner_and_is_promoted_when_it_has_caught_up() -> None:
    cluster, leader = ready(1)
    for n in range(30):
        cluster.propose(leader, b"%d" % n)
    node = cluster.new_node("9")
    node.start()
    leader.raft.propose_change("add", "9", "h9:1", node.incarnation, 0)
    member = leader.raft.membership.get("9")
    assert member is not None
    assert not member.is_voter
    leader.turn()
    cluster.run_until(lambda: node.raft.is_voter, 50)
    assert node.applied >= 30
    assert node.roles[0] == "joining"
    assert "learner" in node.roles


def test_4_2_1_a_learner_that_does_not_answer_is_not_promoted() -> None:
    cluster, leader = ready(3)
    node = cluster.join(leader, "9")
    node.crash()
    cluster.run(200)
    member = leader.raft.membership.get("9")
    assert member is not None
    assert not member.is_voter


def test_an_observer_stays_one_until_it_is_promoted_by_hand() -> None:
    cluster, leader = ready(3)
    cluster.change(leader, "demote", "3")
    cluster.run(200)
    assert [m.nid for m in leader.raft.membership.voters] == ["1", "2"]
    assert cluster.nodes["3"].roles[-1] == "learner"
    index = cluster.propose(leader)
    cluster.run(5)
    assert cluster.nodes["3"].applied == index
    cluster.change(leader, "promote", "3")
    assert cluster.nodes["3"].raft.is_voter


def test_4_1_a_membership_is_in_force_when_it_is_appended() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    index = raft.propose_change("add", "9", "h:1", 9, 1000)
    assert raft.log.commit < index
    assert "9" in raft.progress
    assert raft.committed_membership == members()
    work = raft.take()
    assert work.membership is not None
    assert work.membership.get("9") is not None


def test_4_1_a_truncated_membership_is_taken_back() -> None:
    raft = raft_of((1,), membership=members())
    without = members().with_removed("1")
    change = [config_entry(2, 2, without)]
    raft.step(message(MessageKind.APPEND, "2", 2, index=1, log_term=1, entries=change))
    assert not raft.is_voter
    raft.take()
    raft.step(message(MessageKind.APPEND, "3", 3, index=1, log_term=1, entries=[_noop(2, 3)]))
    assert raft.is_voter
    assert raft.membership == members()
    assert raft.take().membership == members()


def test_4_1_a_membership_replaced_at_its_own_index_is_noticed() -> None:
    raft = raft_of((1,), membership=members())
    for term, gone in ((2, "1"), (3, "3")):
        change = [config_entry(2, term, members().with_removed(gone))]
        raft.step(message(MessageKind.APPEND, "2", term, index=1, log_term=1, entries=change))
    assert raft.is_voter
    assert sorted(raft.known) == ["1", "2"]


def _noop(index: int, term: int) -> Entry:
    return Entry.make(1, index, term, 0, b"")


def test_4_1_a_truncated_membership_is_replaced_by_another_at_the_same_place() -> None:
    raft = raft_of((1,))
    fourth = members(3).with_added("4", "host4:1", 4)
    other = members(3).with_role("1", OBSERVER)
    raft.step(message(MessageKind.APPEND, "2", 2, index=1, log_term=1, entries=[entry(2, 2)]))
    old = [config_entry(3, 2, fourth)]
    raft.step(message(MessageKind.APPEND, "2", 2, index=2, log_term=2, entries=old))
    assert set(raft.known) == {"1", "2", "3", "4"} and raft.is_voter
    new = [entry(2, 3), config_entry(3, 3, other)]
    raft.step(message(MessageKind.APPEND, "3", 3, index=1, log_term=1, entries=new))
    assert raft.membership == other
    assert set(raft.known) == {"1", "2", "3"} and not raft.is_voter


def test_4_1_one_change_at_a_time() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    raft.propose_change("add", "9", "h:1", 9, 1000)
    with pytest.raises(TryAgain, match="under way"):
        raft.propose_change("add", "8", "h:1", 8, 1000)
    obey(raft)
    accept(raft, "2", raft.log.last)
    raft.propose_change("add", "8", "h:1", 8, 1000)


def test_4_1_no_change_before_the_leader_has_committed_in_its_term() -> None:
    """The bug in the thesis as first published, found in 2015."""
    raft = lead(raft_of((1,), commit=1))
    with pytest.raises(TryAgain, match="not committed anything"):
        raft.propose_change("add", "9", "h:1", 9, 1000)


def test_what_is_so_already_changes_nothing() -> None:
    cluster, leader = ready()
    last = leader.raft.log.last
    raft = leader.raft
    node = cluster.nodes["2"]
    for op in ("add", "rejoin", "address"):
        assert raft.propose_change(op, "2", "host2:1", node.incarnation, 0) <= last
    assert raft.propose_change("promote", "2", "", 0, 0) <= last
    assert raft.log.last == last


def test_changes_that_make_no_sense_are_refused() -> None:
    cluster, leader = ready()
    for op, nid, incarnation in (
        ("remove", "9", 0),
        ("remove", "2", 999),
        ("crown", "2", 0),
        ("add", "2", 999),
    ):
        with pytest.raises(MembershipError):
            leader.raft.propose_change(op, nid, "h:1", incarnation, 0)
    with pytest.raises(TryAgain, match="does not lead"):
        cluster.nodes["2"].raft.propose_change("remove", "3", "", 0, 0)


def test_an_address_changes_without_touching_the_voters() -> None:
    cluster, leader = ready()
    leader.raft.propose_change("address", "2", "elsewhere:9", 0, 0)
    leader.turn()
    cluster.settle()
    for node in cluster.nodes.values():
        member = node.raft.membership.get("2")
        assert member is not None
        assert (member.addr, member.role) == ("elsewhere:9", "voter")


def test_a_change_that_would_leave_no_living_majority_is_refused() -> None:
    cluster, leader = ready(3)
    cluster.nodes["3"].crash()
    cluster.run(30)
    with pytest.raises(MembershipError, match="1 of 2 voters would answer"):
        cluster.change(leader, "remove", "2")
    cluster.change(leader, "remove", "3")
    assert [m.nid for m in leader.raft.membership.voters] == ["1", "2"]


def test_promotion_by_hand_waits_for_the_log() -> None:
    raft = lead(raft_of(membership=members(3, 1)))
    obey(raft)
    accept(raft, "2", 1)
    with pytest.raises(TryAgain, match="caught up"):
        raft.propose_change("promote", "4", "", 0, 1000)


# Leaving


def test_4_2_2_a_removed_leader_leads_until_that_is_committed_and_hands_over() -> None:
    cluster, leader = ready(3)
    cluster.change(leader, "remove", "1")
    assert leader.raft.role is Role.REMOVED
    assert leader.roles[-1] == "removed"
    cluster.run(2)
    successor = cluster.leader()
    assert successor is not None, "the successor was told, and did not wait for a timeout"
    assert [m.nid for m in successor.raft.membership.voters] == ["2", "3"]


def test_4_2_2_a_leader_that_removes_itself_does_not_count_itself() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    index = raft.propose_change("remove", "1", "", 0, 1000)
    obey(raft)
    accept(raft, "2", index)
    assert raft.log.commit < index, "two of the two that stay are needed"
    assert raft.is_leader
    accept(raft, "3", index)
    assert raft.log.commit == index
    assert raft.role is Role.REMOVED


def test_4_2_2_a_leader_demoted_by_itself_follows_on() -> None:
    cluster, leader = ready(3)
    cluster.change(leader, "demote", "1")
    cluster.run(40)
    assert leader.raft.role is Role.FOLLOWER
    assert leader.roles[-1] == "learner"
    successor = cluster.wait_for_leader()
    index = cluster.propose(successor)
    cluster.run(5)
    assert leader.applied == index


def test_4_2_2_a_node_whose_removal_is_uncertain_may_be_needed_to_make_it_certain() -> None:
    """It alone may hold the entry that everybody waits for."""
    cluster, leader = ready(2)
    cluster.isolate("1")
    cluster.propose(leader, b"only here")
    leader.raft.propose_change("demote", "1", "", 0, 0)
    leader.turn()
    cluster.settle()
    cluster.run(60)
    assert leader.raft.role is not Role.LEADER
    cluster.heal()
    cluster.run(100)
    assert cluster.wait_for_leader().nid == "2"
    assert cluster.nodes["2"].applied == leader.applied


def test_4_2_3_a_removed_node_is_told_and_stays_quiet() -> None:
    cluster, leader = ready(3)
    cluster.change(leader, "remove", "3")
    node = cluster.nodes["3"]
    assert node.raft.role is Role.REMOVED
    term = leader.raft.term
    cluster.run(200)
    assert leader.raft.term == term
    assert node.raft.role is Role.REMOVED


def test_4_2_3_a_node_removed_while_away_is_told_when_it_returns() -> None:
    cluster, leader = ready(3)
    cluster.nodes["3"].crash()
    cluster.change(leader, "remove", "3")
    cluster.run(5)
    term = leader.raft.term
    cluster.nodes["3"].start()
    cluster.run(60)
    assert cluster.nodes["3"].raft.role is Role.REMOVED
    assert leader.raft.term == term
    assert cluster.leader() is leader


def test_nobody_is_told_of_a_removal_that_is_not_certain() -> None:
    raft = lead(raft_of())
    obey(raft)
    accept(raft, "2", 1)
    raft.propose_change("remove", "3", "", 0, 1000)
    raft.step(message(MessageKind.PREVOTE, "3", 9))
    kinds = {m.kind for m in raft.take().send_now}
    assert MessageKind.REMOVED not in kinds


def test_being_told_concerns_one_incarnation() -> None:
    raft = raft_of()
    raft.step(message(MessageKind.REMOVED, "2", 0, to_incarnation=99))
    raft.step(message(MessageKind.REMOVED, "2", 0, to_incarnation=0))
    assert raft.role is Role.FOLLOWER
    raft.step(message(MessageKind.REMOVED, "2", 0))
    assert raft.role is Role.REMOVED
    tick(raft, 100)
    assert not raft.take().send_now


# Wiped disks


def test_a_voter_that_lost_its_disk_comes_back_as_learner_and_becomes_a_voter_again() -> None:
    cluster, leader = ready(3)
    for n in range(10):
        cluster.propose(leader, b"%d" % n)
    cluster.nodes["3"].crash()
    node = cluster.new_node("3")
    node.start()
    cluster.change(leader, "rejoin", "3", node.incarnation)
    member = leader.raft.membership.get("3")
    assert member is not None
    assert member.incarnation == node.incarnation
    cluster.run_until(lambda: node.raft.is_voter, 60)
    assert node.applied >= 10


def test_a_wiped_voter_cannot_vote_away_what_it_had_promised() -> None:
    """ "2" and "3" commit without "1"; "3" loses its disk; "1" must not win with its vote."""
    cluster = Cluster(3)
    leader = cluster.elect("2")
    cluster.isolate("1")
    index = cluster.propose(leader, b"promised")
    assert leader.raft.log.commit == index
    cluster.heal()
    leader.crash()
    cluster.nodes["3"].crash()
    cluster.new_node("3").start()
    cluster.run(300)
    assert cluster.leader() is None
    leader.start()
    leader = cluster.wait_for_leader()
    assert leader.nid == "2"
    assert leader.raft.log.commit > index
