"""Sparing: under load, peers without whom a majority is complete get their entries seldom.

A message costs a peer and its leader nearly the same whether it brings one entry or a hundred: a
wake, a write with its sync, an answer, and a wake for that. Of three voters the leader's disk and
one peer's commit an entry. So while many commands come and those two keep pace, entries for the
third wait for company ("thrifty", in Moraru, Andersen and Kaminsky, "There Is More Consensus in
Egalitarian Parliaments", 2013).

Only messages with entries are fewer, and none is sent that otherwise would not be: what is
committed is on a majority's disks, and heartbeats and read rounds go to everybody. A cluster
without load spares nobody, and a lone command goes to all at once.

Who is needed is whoever was in time: first the leader listens for a tick or two, spares nobody, and
counts whose disks had an entry by the next commit. That decides for a second; then it listens
again. Where its own disk is too slow for that it spares nobody, but lets its own log wait
(`others_keep_pace`). As soon as a peer that is needed lags, or the own disk does, everybody is sent
what is missing, in the same turn. So one that stands still costs what it takes to notice: a few
batches, or two ticks, and a driver may look more often (`hurry`).
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
COMMITS_MIN: Final = 4  # to be listened to before somebody is spared
DECIDED_TICKS: Final = 100  # before the leader listens again


class Sparing:
    """Whom a leader needs while it spares others, and by what it decides.

    needed: empty while nobody is spared. proposed: commands since the last tick. load: the same,
    older ticks at half of the weight of the one behind them. mark: the end of the log at the last
    tick, -1 where that says nothing of now. is_listening: how often the commit index moved since
    then is in `commits`, how often the own disk was in time in `own`. decided_until: the tick at
    which to listen again.
    """

    __slots__ = (
        "commits",
        "decided_until",
        "is_listening",
        "load",
        "mark",
        "needed",
        "own",
        "proposed",
    )

    def __init__(self) -> None:
        self.needed: list[Progress] = []
        self.load = 0
        self.mark = -1
        self.proposed = 0
        self.is_listening = False
        self.commits = 0
        self.own = 0
        self.decided_until = 0


def tick(raft: Raft) -> None:
    """Once in a turn with ticks in it: decide, or listen. Of several ticks that come late, too."""
    sparing = raft.sparing
    sparing.load = sparing.load // 2 + sparing.proposed
    sparing.proposed = 0
    mark = sparing.mark
    if mark < 0 or not _is_worth_it(raft):
        end(raft)
    elif sparing.is_listening:
        if sparing.commits >= COMMITS_MIN:
            sparing.is_listening = False
            sparing.decided_until = raft.ticks + DECIDED_TICKS
            _spare(raft, _needed(raft, mark))
    elif raft.ticks >= sparing.decided_until or (sparing.needed and not _has_all(raft, mark)):
        _listen(raft)
    sparing.mark = raft.log.last


def _is_worth_it(raft: Raft) -> bool:
    config = raft.config
    return (
        raft.sparing.load >= config.spare_commands_min
        and len(raft.voting_peers) > 1  # else all are needed
        and raft.is_voter
        and raft.is_term_durable
        and not raft.transferee
        and not config.commit_at_once  # there answers wait for what the others have applied
    )


def _has_all(raft: Raft, mark: int) -> bool:
    """Have those who are needed, and the own disk, all up to `mark`?"""
    return raft.log.stable >= mark and all(peer.match >= mark for peer in raft.sparing.needed)


def _listen(raft: Raft) -> None:
    """Spare nobody, and count who is in time."""
    _spare(raft, [])
    sparing = raft.sparing
    sparing.is_listening = True
    sparing.commits = sparing.own = 0
    for peer in raft.voting_peers:
        peer.in_time = 0


def note(raft: Raft) -> None:
    """The commit index is about to move: who has all that it stood for?"""
    sparing = raft.sparing
    if sparing.is_listening:
        commit = raft.log.commit
        sparing.commits += 1
        sparing.own += raft.log.stable >= commit
        for peer in raft.voting_peers:
            peer.in_time += peer.match >= commit


def _needed(raft: Raft, mark: int) -> list[Progress]:
    """As many peers as make a majority with the leader; none where too few keep pace.

    First those whose own clients wait for entries, who get them at once anyway; then by who was
    more often in time. Who was not half of the time is not taken.
    """
    peers = raft.voting_peers
    count = (len(peers) + 1) // 2
    half = raft.sparing.commits // 2
    quick = [peer for peer in peers if peer.state == REPLICATE and peer.in_time > half]
    if len(quick) < count or raft.sparing.own <= half:
        return []
    quick.sort(key=lambda peer: (peer.awaits < mark, -peer.in_time, peer.nid))
    return quick[:count]


def _spare(raft: Raft, needed: list[Progress]) -> None:
    """Spare all but these; nobody for an empty list."""
    raft.sparing.needed = needed
    for peer in raft.progress.values():
        peer.is_spared = peer.is_voter and bool(needed) and peer not in needed


def end(raft: Raft) -> None:
    """Spare nobody, and know nothing of the time before."""
    _spare(raft, [])
    raft.sparing.is_listening = False
    raft.sparing.mark = -1
    raft.sparing.decided_until = 0


def hurry(raft: Raft) -> None:
    """Something takes long: all get what they lack with the next turn, then it listens anew."""
    raft.sparing.decided_until = raft.ticks
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

    Then its own may write less often: what is committed is on a majority's disks either way. Not
    while it spares peers, who are too few without its own, nor while it listens: whether its own
    disk is quick does not show where it waits.
    """
    sparing = raft.sparing
    if not raft.is_term_durable or sparing.needed or sparing.is_listening:
        return False
    count = 0
    peers = raft.voting_peers
    for peer in peers:
        if keeps_pace(peer):
            count += 1
    return 2 * count > len(peers) + 1
