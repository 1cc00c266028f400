"""Replication: thesis sections 3.5, 3.6.2, 3.7, 10.2 and the paper's section 5.3."""

from __future__ import annotations

import pytest

from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.progress import PROBE, REPLICATE
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config
from pyraft_fast.errors import InvariantError
from tests.core.cluster import Cluster
from tests.core.single import (
    CONFIG,
    accept,
    entries_of,
    entry,
    kinds,
    lead,
    members,
    message,
    obey,
    raft_of,
    tick,
    to,
)

COMMANDS = 2


def append(
    prev: int, prev_term: int, terms: tuple[int, ...], term: int, commit: int = 0
) -> Message:
    return message(
        MessageKind.APPEND,
        "2",
        term,
        index=prev,
        log_term=prev_term,
        commit=commit,
        entries=entries_of(terms, prev + 1),
    )


def terms_of(raft: Raft) -> list[int]:
    return [raft.log.term(index) for index in range(1, raft.log.last + 1)]


def propose(raft: Raft, payload: bytes = b"") -> int:
    assert raft.propose(COMMANDS, payload, 1, 0, 0, 0, 1000)
    return raft.log.last


def caught_up(raft: Raft) -> Raft:
    """Both peers have all there is."""
    obey(raft)
    for nid in ("2", "3"):
        accept(raft, nid, raft.log.last)
    obey(raft)
    return raft


# Following


def test_3_5_entries_are_taken_only_behind_a_place_that_agrees() -> None:
    raft = raft_of((1, 1))
    raft.step(append(3, 1, (1,), 1))
    raft.step(append(2, 2, (2,), 2))
    work = raft.take()
    assert [(m.flag, m.index) for m in work.send_now] == [(False, 3), (False, 2)]
    assert terms_of(raft) == [1, 1]


@pytest.mark.parametrize(
    ("own", "sent", "result"),
    [
        ((1, 1), (2, 1, (1, 1)), (1, 1, 1, 1)),
        ((1, 1, 2, 2), (2, 1, (3,)), (1, 1, 3)),
        ((1, 1, 2, 2), (2, 1, (2,)), (1, 1, 2, 2)),
        ((1, 1, 2, 2), (1, 1, (1, 2, 2, 3)), (1, 1, 2, 2, 3)),
        ((1, 1, 2, 2), (1, 1, (1, 2, 3)), (1, 1, 2, 3)),
        ((), (0, 0, (3, 3)), (3, 3)),
        ((1,), (0, 0, (2,)), (2,)),
    ],
)
def test_3_5_what_contradicts_the_leader_is_cut_and_nothing_else(
    own: tuple[int, ...], sent: tuple[int, int, tuple[int, ...]], result: tuple[int, ...]
) -> None:
    raft = raft_of(own)
    raft.step(append(*sent, 3))
    assert tuple(terms_of(raft)) == result
    (answer,) = raft.take().send_after_sync
    assert (answer.flag, answer.index) == (True, sent[0] + len(sent[2]))


def test_3_5_an_entry_is_acknowledged_after_it_is_on_disk() -> None:
    raft = raft_of()
    raft.step(append(0, 0, (1, 1), 1))
    work = raft.take()
    assert [e.index for e in work.entries] == [1, 2]
    assert work.state is not None
    assert kinds(work.send_after_sync) == ["APPEND_REPLY"]
    assert not work.send_now


def test_3_5_a_follower_commits_no_further_than_it_agrees_with_the_leader() -> None:
    raft = raft_of((1, 1, 1, 2, 2))
    raft.step(append(2, 1, (1,), 3, commit=5))
    assert raft.log.commit == 3


def test_3_5_committed_entries_are_never_cut() -> None:
    raft = raft_of((1, 1), commit=2)
    with pytest.raises(InvariantError, match="committed entries stay"):
        raft.log.truncate(1)
    raft.step(append(0, 0, (3, 3), 3))  # nonsense from a broken leader
    assert terms_of(raft) == [1, 1]


LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)


@pytest.mark.parametrize(
    ("terms", "questions_max"),
    [
        (LEADER[:9], 2),  # the six followers of figure 3.6 (figure 7 of the paper)
        (LEADER[:4], 2),
        ((*LEADER, 6), 1),
        ((*LEADER, 7, 7), 1),
        ((1, 1, 1, 4, 4, 4, 4), 2),
        ((1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3), 2),
    ],
)
def test_3_5_every_log_of_figure_3_6_becomes_the_leaders(
    terms: tuple[int, ...], questions_max: int
) -> None:
    leader = lead(raft_of(LEADER, term=7))
    follower = raft_of(terms)
    questions = 0
    for _ in range(30):
        work = obey(leader)
        for sent in to(work.send_now, "3", MessageKind.APPEND):
            copy = message(
                MessageKind.APPEND,
                "2",
                sent.term,
                index=sent.index,
                log_term=sent.log_term,
                entries=sent.entries,
            )
            follower.step(copy)
        back = obey(follower)
        for answer in [*back.send_now, *back.send_after_sync]:
            questions += 0 if answer.flag else 1
            leader.step(
                message(
                    MessageKind.APPEND_REPLY,
                    "3",
                    answer.term,
                    index=answer.index,
                    log_term=answer.log_term,
                    flag=answer.flag,
                    hint=answer.hint,
                )
            )
    assert tuple(terms_of(follower)) == (*LEADER, 8)
    assert questions <= questions_max


def test_5_3_a_whole_term_is_skipped_in_one_question() -> None:
    leader = lead(raft_of((1,) + (3,) * 100))
    obey(leader)
    follower = raft_of((1,) + (2,) * 100)
    follower.step(append(101, 3, (4,), 4))
    (answer,) = follower.take().send_now
    leader.step(
        message(
            MessageKind.APPEND_REPLY,
            "3",
            leader.term,
            index=101,
            log_term=answer.log_term,
            hint=answer.hint,
        )
    )
    (sent,) = to(obey(leader).send_now, "3", MessageKind.APPEND)
    assert sent.index == 1


# Leading


def test_3_6_2_only_entries_of_the_own_term_are_committed_by_counting() -> None:
    """Figure 3.7: an entry of an older term on a majority is not safe by that alone."""
    raft = lead(raft_of((1, 2), term=3))
    obey(raft)
    accept(raft, "2", 2)
    assert raft.log.commit == 0
    accept(raft, "2", 3)
    assert raft.log.commit == 3


def test_3_6_2_a_term_begins_with_an_entry_of_its_own() -> None:
    raft = raft_of((1,))
    raft.election_elapsed = 99
    tick(raft)
    for kind in (MessageKind.PREVOTE_REPLY, MessageKind.VOTE_REPLY):
        raft.step(message(kind, "2", 2, flag=True))
    (first,) = raft.take().entries
    assert (first.index, first.term, first.kind, first.payload) == (2, 2, 1, b"")


def test_10_2_1_the_leaders_disk_is_one_vote_among_others() -> None:
    raft = caught_up(lead(raft_of()))
    index = propose(raft)
    work = raft.take()
    assert kinds(work.send_now) == ["APPEND", "APPEND"], "sending does not wait for the own disk"
    accept(raft, "2", index)
    assert raft.log.commit < index, "one disk of three"
    raft.persisted(index, raft.term)
    assert raft.log.commit == index


def test_10_2_1_followers_alone_can_commit_before_the_leaders_disk() -> None:
    raft = caught_up(lead(raft_of()))
    index = propose(raft)
    raft.take()
    accept(raft, "2", index)
    accept(raft, "3", index)
    assert raft.log.commit == index
    assert raft.log.stable < index


def test_10_2_2_messages_are_pipelined_within_a_window() -> None:
    config = Config("1", 1, 2, 10, 20, 300, 4, 100_000)
    raft = caught_up(lead(raft_of(config=config)))
    sent = 0
    for _ in range(10):
        propose(raft, b"x" * 200)
        sent += len(to(obey(raft).send_now, "2", MessageKind.APPEND))
    assert sent == config.inflight_messages_max
    accept(raft, "2", raft.progress["2"].match + 1)
    assert len(to(obey(raft).send_now, "2", MessageKind.APPEND)) == 1


def test_10_2_2_the_window_is_bounded_in_bytes_too() -> None:
    config = Config("1", 1, 2, 10, 20, 500, 1000, 2000)
    raft = caught_up(lead(raft_of(config=config)))
    for _ in range(100):
        propose(raft, b"x" * 200)
    sizes = [sum(e.size for e in m.entries) for m in to(obey(raft).send_now, "2", MessageKind(1))]
    assert max(sizes) <= 500
    assert 2000 <= sum(sizes) < 2500


def test_10_2_2_an_entry_larger_than_a_message_is_sent_alone() -> None:
    raft = caught_up(lead(raft_of()))
    propose(raft, b"x" * 5000)
    propose(raft)
    sent = to(obey(raft).send_now, "2", MessageKind.APPEND)
    assert [len(m.entries) for m in sent] == [1]
    accept(raft, "2", raft.log.last - 1)
    assert len(to(obey(raft).send_now, "2", MessageKind.APPEND)) == 1


def test_many_proposals_of_a_turn_share_a_message() -> None:
    raft = caught_up(lead(raft_of()))
    for _ in range(5):
        propose(raft)
    sent = to(obey(raft).send_now, "2", MessageKind.APPEND)
    assert [len(m.entries) for m in sent] == [5]


def test_commit_is_told_at_once_to_whoever_holds_it() -> None:
    raft = caught_up(lead(raft_of()))
    index = propose(raft)
    obey(raft)
    accept(raft, "2", index)
    sent = obey(raft).send_now
    assert [(m.kind.name, m.to, m.commit, m.flag) for m in sent] == [
        ("HEARTBEAT", "2", index, False)
    ]
    accept(raft, "3", index)
    assert [(m.to, m.commit) for m in obey(raft).send_now] == [("3", index)]
    assert not obey(raft).send_now


def test_3_7_a_heartbeat_never_tells_more_than_the_peer_holds() -> None:
    raft = caught_up(lead(raft_of()))
    index = propose(raft)
    obey(raft)
    accept(raft, "2", index)
    tick(raft, CONFIG.heartbeat_ticks)
    sent = {m.to: m for m in obey(raft).send_now if m.flag}
    assert sent["2"].commit == index
    assert sent["3"].commit == index - 1


def test_a_heartbeat_tells_nothing_committed_to_a_peer_that_came_back() -> None:
    """It may have lost what it had accepted, and hold there what had been replaced."""
    raft = caught_up(lead(raft_of((1, 1))))
    assert raft.log.commit == 3
    raft.unreachable("2")
    tick(raft, CONFIG.heartbeat_ticks)
    work = raft.take()
    assert [m.commit for m in to(work.send_now, "2", MessageKind.HEARTBEAT)] == [0]
    assert [m.commit for m in to(work.send_now, "3", MessageKind.HEARTBEAT)] == [3]


def test_heartbeats_do_not_wait_for_a_disk_that_hangs() -> None:
    raft = lead(raft_of())
    propose(raft)
    raft.take()
    for _ in range(5):
        tick(raft, CONFIG.heartbeat_ticks)
        assert kinds(raft.take().send_now).count("HEARTBEAT") == 2
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term))


def test_a_dead_peer_costs_heartbeats_and_nothing_else() -> None:
    raft = caught_up(lead(raft_of()))
    raft.unreachable("3")
    for _ in range(200):
        index = propose(raft, b"x" * 100)
        tick(raft)
        work = obey(raft)
        assert all(m.kind == MessageKind.HEARTBEAT for m in work.send_now if m.to == "3")
        accept(raft, "2", index)
    peer = raft.progress["3"]
    assert (peer.state, peer.inflight, peer.inflight_bytes) == (PROBE, 0, 0)
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term))
    (sent,) = to(obey(raft).send_now, "3", MessageKind.APPEND)
    assert sent.entries


def test_a_silent_peer_gets_a_window_and_no_more() -> None:
    raft = caught_up(lead(raft_of()))
    for _ in range(200):
        accept(raft, "2", propose(raft, b"x" * 100) - 1)
        obey(raft)
    assert raft.progress["3"].inflight <= CONFIG.inflight_messages_max


def test_the_last_message_lost_is_noticed_by_the_next_heartbeats() -> None:
    raft = caught_up(lead(raft_of()))
    index = propose(raft)
    obey(raft)  # lost on the way to "3"
    checks: list[Message] = []
    for _ in range(2):
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term, index=index - 1))
        checks += to(obey(raft).send_now, "3", MessageKind.APPEND)
    assert [(m.index, len(m.entries)) for m in checks] == [(index, 0)]
    refused = message(
        MessageKind.APPEND_REPLY, "3", raft.term, index=index, hint=index - 1, log_term=raft.term
    )
    raft.step(refused)
    (again,) = to(obey(raft).send_now, "3", MessageKind.APPEND)
    assert [e.index for e in again.entries] == [index]


def test_an_old_refusal_does_not_disturb_the_pipeline() -> None:
    raft = caught_up(lead(raft_of((1,))))
    peer = raft.progress["3"]
    raft.step(message(MessageKind.APPEND_REPLY, "3", raft.term, index=peer.match - 1, hint=0))
    assert (peer.state, peer.match) == (REPLICATE, raft.log.last)


def test_a_refusal_where_the_logs_agreed_is_asked_again_before_it_is_believed() -> None:
    raft = caught_up(lead(raft_of((1, 1, 1))))
    match = raft.progress["3"].match
    for state in (match, 1):
        raft.step(
            message(MessageKind.APPEND_REPLY, "3", raft.term, index=match, hint=1, log_term=1)
        )
        assert raft.progress["3"].match == state
    (sent,) = to(obey(raft).send_now, "3", MessageKind.APPEND)
    assert sent.index == 1


def test_a_peer_that_lost_what_its_disk_had_promised_is_repaired() -> None:
    cluster = Cluster(3)
    leader = cluster.elect("1")
    for n in range(20):
        cluster.propose(leader, b"%d" % n)
    node = cluster.nodes["3"]
    node.crash()
    del node.disk.entries[5:]
    node.disk.hard = node.disk.hard._replace(commit=3)
    node.start()
    cluster.run_until(lambda: node.applied == leader.applied, 100)


def test_3_5_a_promise_of_a_truncated_entry_is_worth_nothing() -> None:
    raft = raft_of((1,))
    raft.step(append(1, 1, (2,), 2))
    raft.take()
    raft.step(append(1, 1, (3,), 3))
    raft.persisted(2, 2)
    assert raft.log.stable == 1


def test_3_5_an_entry_that_came_back_is_on_disk_only_when_written_again() -> None:
    """Jobs: 2@2, then 2@3 over it, then 2@2 again. Between the last two, disk holds 2@3."""
    raft = raft_of((1,))
    first = entry(2, 2, b"first")
    for term, sent in ((2, first), (3, entry(2, 3)), (4, first)):
        raft.step(message(MessageKind.APPEND, "2", term, index=1, log_term=1, entries=[sent]))
        assert raft.take().entries
    for index, term, stable in ((2, 2, 1), (2, 3, 1), (2, 2, 2)):
        raft.persisted(index, term)
        assert raft.log.stable == stable


def test_a_message_of_the_cluster_clock_moves_it_forward_only() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1, clock_ms=5000))
    raft.step(message(MessageKind.HEARTBEAT, "2", 1, clock_ms=4000))
    assert raft.clock_ms == 5000
    tick(raft, now_ms=9000)
    assert raft.clock_ms == 5000, "only a leader reads the wall clock"


def test_entries_are_stamped_with_a_clock_that_never_falls() -> None:
    raft = raft_of(term=1)
    raft.step(message(MessageKind.HEARTBEAT, "2", 1, clock_ms=50_000))
    lead(raft)
    stamps = []
    for now_ms in (1000, 60_000, 2000):
        raft.propose(COMMANDS, b"", 1, 0, 0, 0, now_ms)
        stamps.append(raft.take().entries[-1].time_ms)
    assert stamps == [50_000, 60_000, 60_000]


def test_the_clock_goes_on_when_the_leaders_machine_is_set_back() -> None:
    """At half speed, until the machine has caught up: deadlines still come, and nothing jumps."""
    raft = caught_up(lead(raft_of()))
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, clock_ms=100_000))
    shown = []
    for now_ms in range(99_900, 100_200, CONFIG.tick_ms):
        raft.tick(now_ms)
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term))
        shown.append(raft.clock_ms)
    assert shown == sorted(set(shown))
    assert shown[0] == 100_000 + CONFIG.tick_ms // 2
    assert shown[-1] == now_ms


def test_a_proposal_keeps_its_header_fields() -> None:
    from pyraft_fast._entry import header

    raft = lead(raft_of())
    assert raft.propose(COMMANDS, b"abc", 3, 77, 5, 9, 1234)
    head = header(raft.take().entries[-1].record)
    found = (head.origin, head.start, head.batch, head.count, head.time_ms, head.term)
    assert found == (77, 5, 9, 3, 1234, raft.term)


def test_followers_take_no_proposals() -> None:
    assert not raft_of().propose(COMMANDS, b"", 1, 0, 0, 0, 1000)


def test_learners_do_not_count_for_a_commit() -> None:
    raft = lead(raft_of(membership=members(3, 2)))
    index = propose(raft)
    obey(raft)
    for nid in ("4", "5"):
        accept(raft, nid, index)
    assert raft.log.commit == 0
    accept(raft, "3", index)
    assert raft.log.commit == index
