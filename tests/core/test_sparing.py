"""Who is not needed for a majority that keeps pace: peers, or the leader's own disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core import sparing
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.raft import Raft
from tests.core.single import (
    CONFIG,
    accept,
    lead,
    members,
    message,
    obey,
    raft_of,
    tick,
    to,
)

BUSY = 10_000  # commands in a batch: enough for some ticks


@pytest.mark.parametrize(
    ("voters", "answering", "enough"),
    [
        (1, (), False),
        (2, ("2",), False),
        (3, ("2",), False),
        (3, ("2", "3"), True),
        (4, ("2", "3"), False),
        (5, ("2", "3"), False),
        (5, ("2", "3", "4"), True),
    ],
)
def test_others_commit_alone_where_a_majority_of_them_answers(
    voters: int, answering: tuple[str, ...], enough: bool
) -> None:
    config = CONFIG._replace(inflight_messages_max=100)
    raft = lead(raft_of(membership=members(voters, learners=1), config=config), answering)
    assert not sparing.others_keep_pace(raft), "the term is not on the disk"
    obey(raft)
    for nid in (*answering, str(voters + 1)):
        accept(raft, nid, raft.log.last)
    obey(raft)
    assert sparing.others_keep_pace(raft) is enough
    for _ in range(sparing.PACE_MESSAGES_MAX):
        assert raft.propose(KIND_COMMANDS, b"", 1, 0, 0, 0, 1000)
        obey(raft)
    assert sparing.others_keep_pace(raft) is enough, "that much may be under way"
    assert raft.propose(KIND_COMMANDS, b"", 1, 0, 0, 0, 1000)
    obey(raft)
    assert not sparing.others_keep_pace(raft)
    for nid in answering:
        accept(raft, nid, raft.log.last)
    assert sparing.others_keep_pace(raft) is enough
    if answering:
        raft.unreachable(answering[0])
        assert not sparing.others_keep_pace(raft)


def propose(raft: Raft, count: int = BUSY, origin: int = 0, size: int = 0) -> None:
    assert raft.propose(KIND_COMMANDS, b"x" * size, count, origin, 0, 0, 1000)


def sent(raft: Raft) -> dict[str, list[int]]:
    """How many entries each message of the next turn brings, by peer."""
    work = obey(raft)
    return {
        nid: found
        for nid in raft.progress
        if (found := [len(m.entries) for m in to(work.send_now, nid, MessageKind.APPEND)])
    }


def accept_all(raft: Raft) -> None:
    for nid in raft.progress:
        accept(raft, nid, raft.log.last)


def busy(voters: int = 3, learners: int = 0, **options: object) -> Raft:
    """A leader whose peers keep pace, after a tick of load that they have taken."""
    config = CONFIG._replace(inflight_messages_max=1000, inflight_bytes_max=1 << 30)
    config = config._replace(
        append_bytes_max=1 << 30, uncommitted_bytes_max=1 << 30, commit_at_once=False
    )
    config = config._replace(**options)  # type: ignore[arg-type]
    granting = [str(n) for n in range(2, voters + 1)]
    raft = lead(raft_of(membership=members(voters, learners), config=config), granting)
    obey(raft)
    accept_all(raft)
    propose(raft)
    obey(raft)
    accept_all(raft)
    tick(raft)
    obey(raft)
    listen(raft)
    return raft


def listen(raft: Raft, *slow: str, origin: int = 0) -> None:
    """Let it count who is in time, and decide; `slow` are always one behind."""
    raft.sparing.decided_until = 0
    tick(raft)
    obey(raft)
    for _ in range(sparing.COMMITS_MIN + 1):
        before = raft.log.last
        propose(raft, origin=origin)
        obey(raft)
        for nid in slow:
            accept(raft, nid, before - 1)
        for nid in raft.progress:
            if nid not in slow:
                accept(raft, nid, raft.log.last)
    for nid in slow:
        accept(raft, nid, raft.log.last)
    tick(raft)
    obey(raft)


def test_under_load_who_is_not_needed_gets_entries_together() -> None:
    raft = busy()
    for _ in range(3):
        propose(raft)
        assert sent(raft) == {"2": [1]}
        accept(raft, "2", raft.log.last)
        assert raft.log.commit == raft.log.last
    begun = raft.progress["3"].sent_tick
    while raft.ticks < begun + sparing.HELD_TICKS:
        assert sent(raft) == {}
        tick(raft)
    assert sent(raft) == {"3": [3]}


def test_ticks_that_come_late_are_one_and_without_load_nobody_is_spared() -> None:
    raft = busy()
    propose(raft)
    tick(raft, 3)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    while not (found := sent(raft)):
        raft.progress["3"].sent_tick = raft.ticks  # whatever time says
        tick(raft)
    assert found == {"3": [1]}
    assert raft.sparing.load < raft.config.spare_commands_min


@pytest.mark.parametrize(("voters", "spared"), [(2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_a_majority_with_the_leader_is_never_spared(voters: int, spared: int) -> None:
    raft = busy(voters)
    propose(raft)
    assert sent(raft) == {str(n): [1] for n in range(2, voters + 1 - spared)}


def test_learners_are_not_spared() -> None:
    raft = busy(3, learners=1)
    propose(raft)
    assert sent(raft) == {"2": [1], "4": [1]}


def test_few_commands_spare_nobody() -> None:
    raft = busy(spare_commands_min=BUSY + 1)
    propose(raft)
    assert sent(raft) == {"2": [1], "3": [1]}


def test_nobody_is_spared_where_answers_wait_for_what_others_applied() -> None:
    raft = busy(commit_at_once=True)
    propose(raft)
    assert sent(raft) == {"2": [1], "3": [1]}


def a_peer_lags(raft: Raft) -> None:
    for _ in range(sparing.PACE_MESSAGES_MAX):
        propose(raft)
        assert sent(raft) == {"2": [1]}
    propose(raft)
    assert sent(raft) == {"2": [1]}, "so many may be under way"


def the_own_disk_lags(raft: Raft) -> None:
    for _ in range(sparing.PACE_MESSAGES_MAX):
        propose(raft)
        work = raft.take()
        assert not to(work.send_now, "3", MessageKind.APPEND)
        accept(raft, "2", raft.log.last)


def a_link_breaks(raft: Raft) -> None:
    propose(raft)
    assert sent(raft) == {"2": [1]}
    raft.unreachable("2")


def a_transfer_begins(raft: Raft) -> None:
    propose(raft)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    raft.transfer("3")


def a_member_comes(raft: Raft) -> None:
    propose(raft)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    raft.propose_change("add", "9", "host9:1", 9, 1000)


def too_many_wait(raft: Raft) -> None:
    for _ in range(sparing.HELD_ENTRIES_MAX):
        propose(raft)
        assert "3" not in sent(raft)
        accept(raft, "2", raft.log.last)


def too_much_waits(raft: Raft) -> None:
    propose(raft, size=sparing.HELD_BYTES_MAX)
    assert "3" in sent(raft)
    accept_all(raft)
    propose(raft)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    propose(raft, size=sparing.HELD_BYTES_MAX)


def its_clients_wait(raft: Raft) -> None:
    propose(raft)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    propose(raft, origin=3)


def its_clients_read(raft: Raft) -> None:
    propose(raft)
    assert sent(raft) == {"2": [1]}
    accept(raft, "2", raft.log.last)
    raft.step(message(MessageKind.READ, "3", raft.term, context=1))
    obey(raft)
    raft.step(
        message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, context=raft.reads.number, index=99)
    )


@pytest.mark.parametrize(
    "happens",
    [
        a_peer_lags, the_own_disk_lags, a_link_breaks, a_transfer_begins, a_member_comes,
        too_many_wait, too_much_waits, its_clients_wait, its_clients_read,
    ],
)  # fmt: skip
def test_who_was_spared_is_sent_all_in_the_very_turn_when(
    happens: Callable[[Raft], None],
) -> None:
    raft = busy()
    held_from = raft.progress["3"].next
    happens(raft)
    if raft.accepts and happens not in (its_clients_read, its_clients_wait):
        propose(raft)
    work = obey(raft)
    (append,) = to(work.send_now, "3", MessageKind.APPEND)
    assert append.entries[-1].index == raft.log.last
    assert happens is too_much_waits or append.entries[0].index == held_from


def test_who_stands_still_is_needed_no_more_after_two_ticks() -> None:
    raft = busy()
    propose(raft)
    assert sent(raft) == {"2": [1]}
    tick(raft)
    assert sent(raft) == {}
    tick(raft)
    assert sent(raft) == {"3": [1]}
    accept(raft, "3", raft.log.last)
    assert raft.log.commit == raft.log.last
    listen(raft, "2")
    propose(raft)
    assert sent(raft) == {"3": [1]}, "who is slow is spared"


def test_who_has_clients_that_wait_is_needed_first() -> None:
    raft = busy()
    propose(raft, origin=3)
    assert sent(raft) == {"2": [1], "3": [1]}
    accept_all(raft)
    listen(raft, origin=3)
    propose(raft, origin=3)
    assert sent(raft) == {"3": [1]}


def test_heartbeats_go_to_all_and_their_answers_do_not_make_who_is_spared_look_stalled() -> None:
    raft = busy()
    for round_ in range(1, 4):
        propose(raft)
        assert sent(raft) == {"2": [1]}
        accept(raft, "2", raft.log.last)
        heard: set[str] = set()
        while not heard:
            tick(raft)
            work = obey(raft)
            heard = {m.to for m in work.send_now if m.kind == MessageKind.HEARTBEAT and m.flag}
            if to(work.send_now, "3", MessageKind.APPEND):
                accept(raft, "3", raft.log.last)
        assert heard == {"2", "3"}
        match = raft.progress["3"].match
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "3", raft.term, index=match, hint=round_))
        assert sent(raft) == {}


def test_who_leads_no_more_needs_nobody() -> None:
    raft = busy()
    assert raft.sparing.needed
    raft.step(message(MessageKind.HEARTBEAT, "2", raft.term + 1))
    assert not raft.is_leader
    assert not raft.sparing.needed


def test_where_all_are_needed_nothing_is_decided() -> None:
    assert not busy(2).sparing.needed


@pytest.mark.parametrize(("slow", "needed"), [("2", {"3", "4"}), ("3", {"2", "4"})])
def test_who_was_not_in_time_is_spared_first(slow: str, needed: set[str]) -> None:
    raft = busy(5)
    listen(raft, slow, "5")
    propose(raft)
    assert set(sent(raft)) == needed


def test_where_the_own_disk_is_slow_it_waits_for_more_instead_of_others() -> None:
    raft = busy()
    raft.sparing.decided_until = 0
    tick(raft)
    obey(raft)
    for _ in range(sparing.COMMITS_MIN + 1):
        propose(raft)
        raft.take()
        assert not sparing.others_keep_pace(raft), "how quick it is shows only while it hurries"
        accept_all(raft)
    tick(raft)
    raft.take()
    assert not raft.sparing.needed
    assert sparing.others_keep_pace(raft)
    propose(raft)
    assert to(raft.take().send_now, "3", MessageKind.APPEND)


def test_what_was_decided_is_asked_again_after_a_while_and_when_something_took_long() -> None:
    raft = busy()
    until = raft.sparing.decided_until
    assert until == raft.ticks + sparing.DECIDED_TICKS
    sparing.hurry(raft)
    assert raft.sparing.needed, "until then as it was"
    propose(raft)
    tick(raft)
    obey(raft)
    assert raft.sparing.is_listening
    assert not raft.sparing.needed


def test_who_lost_its_vote_is_spared_no_more_and_a_change_begins_anew() -> None:
    raft = busy(5)
    (spared, *_) = [peer.nid for peer in raft.voting_peers if peer.is_spared]
    raft.propose_change("demote", spared, "", 0, 1000)
    tick(raft)
    propose(raft)
    found = sent(raft)
    assert set(found) == set(raft.progress), "also where a tick comes with it"
    assert not any(peer.is_spared for peer in raft.progress.values())


def test_a_later_leadership_knows_nothing_of_the_load_before() -> None:
    raft = busy()
    raft.step(message(MessageKind.HEARTBEAT, "2", raft.term + 1))
    obey(raft)
    lead(raft, ["2", "3"])
    assert (raft.sparing.load, raft.sparing.mark) == (0, -1)
