"""Membership changes: proposed by the leader one at a time, and what follows when they are certain.

A change goes into the log and is in force where it is appended; the next one may follow when it is
committed, and the first of a term only behind a committed entry of that term (the correction to
thesis section 4.1 of 2015). Newcomers are learners; the leader promotes them when a round of
catching up took less than an election timeout (4.2.1). A leader that removed itself leads on until
that is committed, then steps down (4.2.2). A removed node is told so, once it is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast._entry import KIND_CONFIG
from pyraft_fast.core import removal, replication, transfer
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import LEARNER, OBSERVER, VOTER, Member, Membership
from pyraft_fast.core.progress import REPLICATE, Progress
from pyraft_fast.core.work import Role
from pyraft_fast.errors import MembershipError, TryAgain

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft


def founding_entry(membership: Membership, time_ms: int) -> Entry:
    """Entry 1 of term 1 of a new cluster's log: its only voter is the founder, who writes it."""
    return Entry.make(KIND_CONFIG, 1, 1, time_ms, membership.encode())


def propose(raft: Raft, op: str, nid: str, addr: str, incarnation: int) -> int:
    """Carry out `Raft.propose_change`."""
    if raft.role is not Role.LEADER:
        raise TryAgain("this node does not lead; nothing was changed")
    if raft.transferee:
        raise TryAgain("the leadership is being transferred; nothing was changed")
    old = raft.log.membership
    new = _changed(old, op, nid, addr, incarnation)
    if new == old:
        return raft.log.config_index
    if raft.log.commit < raft.term_start:
        raise TryAgain("the leader has not committed anything in its term yet")
    if raft.log.config_index > raft.log.commit:
        raise TryAgain("another membership change is under way; nothing was changed")
    if new.voters != old.voters:
        _check_majority_stays(raft, op, nid, old, new)
    return _append(raft, new)


def _changed(old: Membership, op: str, nid: str, addr: str, incarnation: int) -> Membership:
    member = old.get(nid)
    if op == "add":
        return _added(old, member, nid, addr, incarnation)
    if op == "rejoin":
        return _rejoined(old, member, nid, addr, incarnation)
    if member is None:
        raise MembershipError(f"no member is called {nid}")
    if incarnation not in (0, member.incarnation):
        raise MembershipError(f"member {nid} is another node than the one named")
    if op == "remove":
        return old.with_removed(nid)
    if op == "promote":
        return old.with_role(nid, VOTER)
    if op == "demote":
        return old.with_role(nid, OBSERVER)
    if op == "address":
        return old.with_address(nid, addr)
    raise MembershipError(f"unknown membership change {op!r}")


def _added(
    old: Membership, member: Member | None, nid: str, addr: str, incarnation: int
) -> Membership:
    if member is None or member.incarnation != incarnation:
        return old.with_added(nid, addr, incarnation)
    return old.with_address(nid, addr)


def _rejoined(
    old: Membership, member: Member | None, nid: str, addr: str, incarnation: int
) -> Membership:
    if member is None:
        return old.with_added(nid, addr, incarnation)
    if member.incarnation == incarnation:
        return old.with_address(nid, addr)
    return old.with_rejoined(nid, addr, incarnation)


def _check_majority_stays(raft: Raft, op: str, nid: str, old: Membership, new: Membership) -> None:
    """Refuse what would leave the cluster without a majority that answers."""
    if op == "promote":
        peer = raft.progress[nid]
        if peer.state != REPLICATE or peer.match < raft.log.commit:
            raise TryAgain(f"node {nid} has not caught up yet; nothing was changed")
    alive = sum(1 for member in new.voters if _is_alive(raft, member))
    if alive <= len(new.voters) // 2:
        # Who comes back without its files waits for the others to come back, too.
        kind = TryAgain if op == "rejoin" else MembershipError
        raise kind(
            f"after this change only {alive} of {len(new.voters)} voters would answer; "
            "bring back or remove a dead one first"
        )


def _is_alive(raft: Raft, member: Member) -> bool:
    if member.nid == raft.nid:
        return True
    peer = raft.progress.get(member.nid)
    return peer is not None and transfer.is_alive(raft, peer)


def _append(raft: Raft, membership: Membership) -> int:
    index = raft.log.last + 1
    payload = membership.encode()
    raft.log.append(Entry.make(KIND_CONFIG, index, raft.term, raft.clock_ms, payload))
    raft.take_membership()
    return index


# Promotion


def tick(raft: Raft) -> None:
    """Promote a learner that has caught up; at most one change is under way."""
    if raft.role is not Role.LEADER or raft.heartbeat_elapsed or raft.transferee:
        return
    log = raft.log
    for member in log.membership.learners:
        if member.role == LEARNER and member.nid != raft.nid:
            peer = raft.progress[member.nid]
            is_idle = log.config_index <= log.commit and log.commit >= raft.term_start
            if _has_caught_up(raft, peer) and is_idle and transfer.is_alive(raft, peer):
                _append(raft, log.membership.with_role(member.nid, VOTER))
                return


def _has_caught_up(raft: Raft, peer: Progress) -> bool:
    """Did the last round of catching up end, and take less than an election timeout?

    It ends with an answer that came after it began, so that no dead learner becomes a voter.
    """
    if peer.state != REPLICATE or peer.match < peer.round_end:
        return False
    if peer.heard_tick <= peer.round_tick:
        return False
    took = raft.ticks - peer.round_tick
    peer.round_end = raft.log.last
    peer.round_tick = raft.ticks
    return took <= raft.config.election_ticks_max and peer.match >= raft.term_start


# What follows


def on_committed(raft: Raft) -> None:
    """A membership is certain: who left is told, be it this very node."""
    if raft.role is Role.LEADER and raft.log.config_index <= raft.log.commit:
        _tell_who_left(raft, raft.log.membership)
        if not raft.is_voter:
            _hand_over(raft)
    removal.notice_own_removal(raft)


def _tell_who_left(raft: Raft, membership: Membership) -> None:
    """Best effort: whoever misses it is told when it asks for votes."""
    index = len(raft.log.configs) - 2
    if index < 0:
        return
    for member in raft.log.configs[index][1].members:
        if member.incarnation in membership.removed and member.nid != raft.nid:
            removal.tell_removed(raft, member.nid, member.incarnation)


def _hand_over(raft: Raft) -> None:
    """Step down; the best of the others need not wait for a timeout.

    It is not told what is committed: knowing this node to be removed, it would not listen.
    """
    successor = transfer.best_successor(raft)
    for peer in raft.progress.values():
        if peer is successor:
            transfer.send_timeout_now(raft, peer)
        else:
            replication.send_heartbeat(raft, peer, False)
    raft.become_follower(raft.term, "")
