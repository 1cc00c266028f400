"""Sparing: under load, peers without whom a majority is complete get their entries seldom.

A message costs a peer and its leader nearly the same whether it brings one entry or a hundred: a
wake, a write with its sync, an answer, and a wake for that. Of three voters the leader's disk and
one peer's commit an entry. So while many commands come and those two keep pace, entries for the
third wait for company ("thrifty", in Moraru, Andersen and Kaminsky, "There Is More Consensus in
Egalitarian Parliaments", 2013).

Only messages with entries are fewer, and none is sent that otherwise would not be: what is
committed is on a majority's disks, and heartbeats and read rounds go to everybody. Who is spared is
decided once a tick, by what happened since the one before. As soon as a peer that is needed lags,
or the leader's own disk does, everybody is sent what is missing, in the same turn. So one that
stands still costs what it takes to notice: a few batches, or two ticks, and a driver may look more
often (`hurry`). A cluster without load spares nobody, and a lone command goes to all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyraft_fast.core.progress import REPLICATE, Progress
from pyraft_fast.limits import MIB

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft

PACE_MESSAGES_MAX: Final = 8  # not answered yet: more, and a peer counts as slow
HELD_ENTRIES_MAX: Final = 256  # that wait for company
HELD_BYTES_MAX: Final = 1 * MIB  # of these
HELD_TICKS: Final = 5  # and no longer than this


class Sparing:
    """Whom a leader needs while it spares others, and by what it decides.

    needed: empty while nobody is spared. proposed: commands since the last tick. load: the same,
    older ticks at half of the weight of the one behind them. mark: the end of the log at the last
    tick.
    """

    __slots__ = ("load", "mark", "needed", "proposed")

    def __init__(self) -> None:
        self.needed: list[Progress] = []
        self.load = 0
        self.mark = 0
        self.proposed = 0


def decide(raft: Raft) -> None:
    """Whom to spare until the next tick. Ticks that come late, two at a time, count as one."""
    sparing = raft.sparing
    sparing.load = sparing.load // 2 + sparing.proposed
    sparing.proposed = 0
    mark, sparing.mark = sparing.mark, raft.log.last
    needed = sparing.needed = _needed(raft, mark) if _is_worth_it(raft, mark) else []
    for peer in raft.voting_peers:
        peer.is_spared = bool(needed) and peer not in needed


def _is_worth_it(raft: Raft, mark: int) -> bool:
    config = raft.config
    return (
        raft.sparing.load >= config.spare_commands_min
        and raft.is_voter
        and raft.is_term_durable
        and raft.log.stable >= mark
        and not raft.transferee
        and not config.commit_at_once  # there answers wait for what the others have applied
    )


def _needed(raft: Raft, mark: int) -> list[Progress]:
    """As many peers as make a majority with the leader; none where too few keep pace, or all are.

    First those whose own clients wait for entries, who get them at once anyway.
    """
    peers = raft.voting_peers
    count = (len(peers) + 1) // 2
    quick = [peer for peer in peers if peer.state == REPLICATE and peer.match >= mark]
    if len(quick) < count or count == len(peers):
        return []
    quick.sort(key=lambda peer: (peer.awaits < mark, peer.is_spared, peer.nid))
    return quick[:count]


def end(raft: Raft) -> None:
    """Spare nobody, at least until the next tick."""
    raft.sparing.needed = []
    for peer in raft.voting_peers:
        peer.is_spared = False


def hurry(raft: Raft) -> None:
    """Those who are spared get in the next turn what they lack; nothing else changes."""
    for peer in raft.voting_peers:
        if peer.is_spared:
            peer.sent_tick = raft.ticks - HELD_TICKS


def is_in_force(raft: Raft) -> bool:
    """Are there peers to be spared in this turn? Not while somebody who is needed lags."""
    needed = raft.sparing.needed
    if not needed or raft.log.last - raft.log.stable > PACE_MESSAGES_MAX:
        return False
    return all(keeps_pace(peer) for peer in needed)


def keeps_pace(peer: Progress) -> bool:
    """Does this peer answer what it is sent, but for a few messages?"""
    return peer.state == REPLICATE and peer.inflight <= PACE_MESSAGES_MAX


def waits(raft: Raft, peer: Progress) -> bool:
    """May what this peer lacks wait for more?"""
    log = raft.log
    begin = peer.next
    return (
        peer.is_spared
        and not peer.must_check
        and peer.awaits < begin
        and log.last - begin < HELD_ENTRIES_MAX
        and raft.ticks - peer.sent_tick < HELD_TICKS
        and log.bytes_from(begin) <= HELD_BYTES_MAX
    )


def others_keep_pace(raft: Raft) -> bool:
    """Do the others' disks commit what this leader proposes, without its own?

    Then its own may write less often: what is committed is on a majority's disks either way.
    """
    if not raft.is_term_durable:
        return False
    count = 0
    peers = raft.voting_peers
    for peer in peers:
        if keeps_pace(peer) and not peer.is_spared:
            count += 1
    return 2 * count > len(peers) + 1
