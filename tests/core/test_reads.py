"""Linearizable reads: thesis section 6.4."""

from __future__ import annotations

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.reads import ROUNDS_MAX
from pyraft_fast.core.work import ReadState, Role
from tests.core.cluster import Cluster, Node
from tests.core.single import CONFIG, accept, lead, members, message, obey, raft_of, tick


def ready(raft: Raft) -> Raft:
    """Leading, with an entry of its term committed."""
    obey(lead(raft))
    accept(raft, "2", raft.log.last)
    obey(raft)
    return raft


def confirm(raft: Raft, nid: str) -> None:
    reply = message(
        MessageKind.HEARTBEAT_REPLY,
        nid,
        raft.term,
        context=raft.reads.number,
        index=raft.log.last,
    )
    raft.step(reply)


def test_6_4_a_read_is_answered_when_a_majority_still_follows() -> None:
    raft = ready(raft_of())
    raft.read(77)
    work = obey(raft)
    assert not work.reads
    assert {(m.to, m.flag) for m in work.send_now} == {("2", True), ("3", True)}
    confirm(raft, "3")
    (state,) = obey(raft).reads
    assert (state.context, state.index, state.clock_ms) == (77, raft.log.commit, raft.clock_ms)


def test_a_read_is_not_later_than_the_entry_that_comes_next() -> None:
    raft = ready(raft_of())
    assert raft.propose(KIND_COMMANDS, b"", 1, 0, 0, 0, 5000)  # keeps a key that ends at 6000
    obey(raft)
    tick(raft, now_ms=7000)
    raft.read(78)
    obey(raft)
    confirm(raft, "3")
    (state,) = obey(raft).reads
    assert (state.index, state.clock_ms) == (raft.log.last - 1, 5000)


def test_6_4_reads_of_a_turn_share_a_round() -> None:
    raft = ready(raft_of())
    for context in range(100):
        raft.read(context)
    assert len(obey(raft).send_now) == 2
    confirm(raft, "2")
    assert [state.context for state in obey(raft).reads] == list(range(100))


def test_6_4_an_answer_to_an_earlier_question_confirms_nothing_newer() -> None:
    raft = ready(raft_of())
    raft.read(1)
    obey(raft)
    old = raft.reads.number
    raft.read(2)
    obey(raft)
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, context=old))
    assert [state.context for state in obey(raft).reads] == [1]
    confirm(raft, "2")
    assert [state.context for state in obey(raft).reads] == [2]


def test_6_4_an_answer_to_a_later_question_confirms_the_earlier_ones() -> None:
    raft = ready(raft_of())
    for context in (1, 2):
        raft.read(context)
        obey(raft)
    confirm(raft, "3")
    assert [state.context for state in obey(raft).reads] == [1, 2]


def test_6_4_rounds_under_way_are_bounded() -> None:
    raft = ready(raft_of())
    for context in range(50):
        raft.read(context)
        obey(raft)
    assert raft.reads.number == ROUNDS_MAX
    confirm(raft, "2")
    assert len(obey(raft).reads) == ROUNDS_MAX
    confirm(raft, "2")
    assert len(obey(raft).reads) == 50 - ROUNDS_MAX


def test_6_4_a_lost_question_is_asked_again_by_the_next_heartbeat() -> None:
    raft = ready(raft_of())
    raft.read(1)
    obey(raft)  # lost
    tick(raft, CONFIG.heartbeat_ticks)
    contexts = [m.context for m in obey(raft).send_now if m.kind == MessageKind.HEARTBEAT]
    assert contexts == [raft.reads.number] * 2


def test_6_4_no_read_before_an_entry_of_the_own_term_is_committed() -> None:
    raft = lead(raft_of((1,), commit=1))
    raft.read(1)
    work = obey(raft)
    assert not work.reads
    confirm(raft, "2")
    confirm(raft, "3")
    assert not obey(raft).reads
    accept(raft, "2", raft.log.last)
    obey(raft)
    confirm(raft, "2")
    (state,) = obey(raft).reads
    assert state.index == 2


def test_6_4_a_sole_voter_answers_at_once() -> None:
    raft = raft_of(membership=members(1, 1))
    tick(raft)
    obey(raft)
    raft.read(5)
    assert [state.context for state in obey(raft).reads] == [5]


def test_6_4_learners_confirm_nothing() -> None:
    raft = ready(raft_of(membership=members(3, 1)))
    raft.read(5)
    asked = [m.to for m in obey(raft).send_now if m.kind == MessageKind.HEARTBEAT]
    assert asked == ["2", "3"]
    confirm(raft, "4")
    assert not obey(raft).reads


def test_6_4_a_deposed_leader_answers_nothing_and_says_so() -> None:
    raft = ready(raft_of())
    raft.read(1)
    obey(raft)
    raft.read(2)
    raft.step(message(MessageKind.READ, "3", raft.term, context=9))
    raft.step(message(MessageKind.HEARTBEAT, "2", raft.term + 1))
    work = obey(raft)
    assert not work.reads
    assert work.failed_reads == [1]
    assert [m.to for m in work.send_now if m.kind == MessageKind.READ] == ["2"], "not begun yet"
    (refusal,) = [m for m in work.send_now if m.kind == MessageKind.READ_REPLY]
    assert (refusal.to, refusal.context, refusal.flag) == ("3", 9, False)


def test_6_4_a_leader_cut_off_from_its_majority_fails_its_reads() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    cluster.isolate("1")
    context = leader.read()
    leader.turn()
    cluster.run(60)
    assert leader.failed == [context]
    assert not leader.done


def test_6_4_a_smaller_membership_may_have_confirmed_already() -> None:
    cluster = Cluster(2)
    leader = cluster.elect("1")
    cluster.on_message = lambda m: m.kind != MessageKind.HEARTBEAT_REPLY
    context = leader.read()
    leader.turn()
    cluster.settle()
    assert not leader.done
    cluster.change(leader, "demote", "2")
    assert leader.done == [context]


# By lease


def lease_read(node: Node) -> ReadState:
    """What a leader answers at once."""
    node.raft.steady_ms = node.steady_ms
    node.raft.read(0, by_lease=True)
    (state,) = node.raft.take().reads
    return state


def test_6_4_1_cluster_time_never_goes_back_between_leases() -> None:
    """A key that a read found expired must not be back for the next leader, whose machine may be
    set to an earlier time; so a lease does not show a time that only this leader has seen.
    """
    cluster = Cluster(3)
    for node in cluster.nodes.values():
        node.drift_ms = -500
    cluster.nodes["1"].drift_ms = 500
    old = cluster.elect("1")
    cluster.isolate("1")
    cluster.run(4)
    seen = lease_read(old)
    cluster.run_until(lambda: cluster.leader() is not old)
    new = cluster.wait_for_leader()
    cluster.run(2)
    assert lease_read(new).clock_ms >= seen.clock_ms


def test_6_4_1_cluster_time_never_goes_back_when_a_voter_comes() -> None:
    """What a sole voter has shown stays shown when a second one has seen less."""
    cluster = Cluster(1, 1)
    leader = cluster.elect("1")
    cluster.run_until(lambda: leader.raft.heartbeat_elapsed)
    seen = lease_read(leader)
    assert seen.clock_ms > leader.raft.progress["2"].clock_ms > 0
    cluster.change(leader, "promote", "2")
    assert lease_read(leader).clock_ms >= seen.clock_ms


# On other nodes


def test_6_4_a_follower_asks_the_leader_once_for_all_its_reads() -> None:
    cluster = Cluster(3)
    cluster.elect("1")
    node = cluster.nodes["3"]
    seen: list[Message] = []
    cluster.on_message = lambda m: seen.append(m) is None
    contexts = [node.read() for _ in range(10)]
    node.turn()
    cluster.settle()
    assert node.done == contexts
    assert [m.kind for m in seen].count(MessageKind.READ) == 1


def test_6_4_a_follower_without_a_leader_fails_at_once() -> None:
    raft = raft_of()
    raft.read(3)
    assert obey(raft).failed_reads == [3]


def test_6_4_a_follower_whose_leader_changes_fails_what_it_asked() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.read(3)
    assert [m.to for m in obey(raft).send_now] == ["2"]
    raft.step(message(MessageKind.HEARTBEAT, "3", 2))
    assert obey(raft).failed_reads == [3]


def test_6_4_a_question_without_an_answer_fails_in_time() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.read(3)
    assert not obey(raft).failed_reads
    for _ in range(CONFIG.election_ticks_max + 2):
        raft.step(message(MessageKind.HEARTBEAT, "2", 1))
        tick(raft)
    assert obey(raft).failed_reads == [3]


def test_6_4_whoever_does_not_lead_refuses() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.READ, "2", 1, context=4))
    raft.step(message(MessageKind.READ, "2", 0, context=5))
    answers = obey(raft).send_now
    assert [(m.context, m.flag) for m in answers] == [(4, False), (5, False)]


def test_6_4_a_refusal_fails_the_bundle() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    raft.read(3)
    (asked,) = obey(raft).send_now
    raft.step(message(MessageKind.READ_REPLY, "2", 1, context=asked.context))
    assert obey(raft).failed_reads == [3]


def test_6_4_an_answer_for_an_earlier_life_of_the_node_is_not_taken() -> None:
    """Its index may lie before what the new life was asked to see."""
    first, second = raft_of(term=1, seed=1), raft_of(term=1, seed=2)
    questions = []
    for raft in (first, second):
        raft.step(message(MessageKind.HEARTBEAT, "2", 1))
        raft.read(3)
        questions += obey(raft).send_now
    assert questions[0].context != questions[1].context
    answer = message(
        MessageKind.READ_REPLY, "2", 1, context=questions[0].context, index=1, flag=True
    )
    second.step(answer)
    assert not obey(second).reads


def test_6_4_a_learner_reads_through_the_leader() -> None:
    cluster = Cluster(3, 1)
    leader = cluster.elect("1")
    learner = cluster.nodes["4"]
    index = cluster.propose(leader)
    context = learner.read()
    learner.turn()
    cluster.settle()
    assert learner.done == [context]
    assert learner.raft.role is Role.FOLLOWER
    assert leader.raft.log.commit >= index
