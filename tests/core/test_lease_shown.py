"""What a leader shows of its lease, so that reads need not ask for it."""

from __future__ import annotations

from pyraft_fast.core.reads import NOT_SHOWN
from tests.core.single import led_alone, raft_of
from tests.core.test_leases import LEASE_MS, SENT_MS, leased, ready


def test_a_shown_lease_covers_what_is_committed_until_it_ends() -> None:
    raft = leased(raft_of())
    shown = raft.reads.by_lease_now(raft)
    assert (shown.commit, shown.until_ms) == (raft.log.commit, SENT_MS + LEASE_MS)
    assert shown.clock_ms >= raft.log.read(shown.commit, shown.commit + 1, 1)[0].time_ms


def test_what_is_shown_of_the_clock_never_goes_back() -> None:
    raft = leased(raft_of())
    before = raft.reads.by_lease_now(raft).clock_ms
    raft.reads.clock_ms = before + 7  # given with an answer
    assert raft.reads.by_lease_now(raft).clock_ms == before + 7


def test_no_lease_is_shown_by_who_holds_none() -> None:
    assert ready(raft_of()).reads.by_lease_now(raft_of()) == NOT_SHOWN
    raft = leased(raft_of())
    raft.transfer("2")
    assert raft.reads.by_lease_now(raft) == NOT_SHOWN
    raft = leased(raft_of())
    raft.become_follower(raft.term + 1, "")
    assert raft.reads.by_lease_now(raft) == NOT_SHOWN


def test_a_sole_voter_shows_its_lease_for_a_while_too() -> None:
    """Else the time that reads see would stand still with a node that stands still."""
    raft = led_alone()
    raft.steady_ms = SENT_MS
    assert raft.reads.by_lease_now(raft).until_ms == SENT_MS + LEASE_MS
