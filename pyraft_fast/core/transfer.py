"""Leadership transfer (thesis section 3.10): the successor is brought up to date, then told to go.

Meanwhile the leader takes no proposals, so the successor can catch up. It campaigns at once in the
next term, without asking before, and the others vote although they hear a leader. If no newer term
appears within an election timeout, the leader goes on as before; see `leases` for what the late
messages of a transfer that was given up can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast.core import sparing
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.progress import REPLICATE, Progress
from pyraft_fast.core.work import Role
from pyraft_fast.errors import MembershipError, TryAgain

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft


def start(raft: Raft, nid: str) -> None:
    """Begin a transfer to `nid`, or to the most caught-up voter for "". Raises."""
    if raft.role is not Role.LEADER:
        raise TryAgain("this node does not lead, so it has nothing to transfer")
    if raft.transferee:
        if raft.transferee == nid:
            return
        raise TryAgain(f"the leadership is being transferred to {raft.transferee} already")
    if raft.log.commit < raft.term_start:
        raise TryAgain("the leader has not committed anything in its term yet")
    peer = _chosen(raft, nid)
    raft.transferee = peer.nid
    raft.transfer_elapsed = 0
    raft.tell()
    sparing.end(raft)
    go(raft)


def _chosen(raft: Raft, nid: str) -> Progress:
    if not nid:
        best = best_successor(raft)
        if best is None:
            raise TryAgain("no other voter answers")
        return best
    if nid == raft.nid:
        raise MembershipError(f"node {nid} leads already")
    peer = raft.progress.get(nid)
    if peer is None or not peer.is_voter:
        raise MembershipError(f"node {nid} is not a voter")
    if not is_alive(raft, peer):
        raise TryAgain(f"node {nid} does not answer")
    return peer


def is_alive(raft: Raft, peer: Progress) -> bool:
    """Was the peer heard of within an election timeout?"""
    return raft.ticks - peer.heard_tick < raft.config.election_ticks_max


def best_successor(raft: Raft) -> Progress | None:
    """The voter with the longest log among those that answer."""
    alive = [peer for peer in raft.voting_peers if is_alive(raft, peer)]
    return max(alive, key=lambda peer: (peer.match, peer.nid), default=None)


def go(raft: Raft) -> None:
    """Send the successor into its election, if it has everything."""
    peer = raft.progress.get(raft.transferee)
    if peer is not None and peer.state == REPLICATE and peer.match == raft.log.last:
        send_timeout_now(raft, peer)


def send_timeout_now(raft: Raft, peer: Progress) -> None:
    """Tell `peer` to begin an election at once."""
    raft.send_now.append(
        Message(
            MessageKind.TIMEOUT_NOW,
            raft.nid,
            peer.nid,
            raft.term,
            context=raft.lease.given_up,
            clock_ms=raft.clock_ms,
            incarnation=raft.incarnation,
            to_incarnation=peer.incarnation,
        )
    )


def tick(raft: Raft) -> None:
    """Tell the successor again, or give up after an election timeout."""
    if not raft.transferee:
        return
    raft.transfer_elapsed += 1
    peer = raft.progress.get(raft.transferee)
    is_late = raft.transfer_elapsed >= raft.config.election_ticks_max
    if is_late or peer is None or not peer.is_voter:
        raft.transferee = ""
        raft.lease.give_up_transfer(raft)
        raft.tell()
    elif raft.transfer_elapsed % raft.config.heartbeat_ticks == 0:
        go(raft)
