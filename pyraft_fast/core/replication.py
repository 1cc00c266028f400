"""Replication: how a follower's log becomes the leader's, and what is committed by that.

The leader sends each peer what comes next without waiting for answers, up to a window, and counts
its own disk as one among others. What a majority holds on disk is committed, if it is of the
leader's own term (thesis section 3.6.2); whatever lies before is committed with it. A follower
takes entries only behind a place where both logs agree (3.5), cuts what contradicts, and answers
when its disk has them. Where logs differ, a whole term is skipped per question (5.3 of the paper).

Heartbeats wait for nothing: they carry the commit index, the clocks and the newest read round. A
leader that no majority answers for an election timeout steps down (6.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast._quorum import commit_index
from pyraft_fast.core import removal, sparing, transfer
from pyraft_fast.core.log import UNKNOWN
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from pyraft_fast.core.work import Role, SnapshotState
from pyraft_fast.errors import check
from pyraft_fast.limits import APPEND_ENTRIES_MAX, PROBE_BYTES_MAX

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft

# Leading: what goes out


def take_peers(raft: Raft) -> None:
    """Follow the membership in force: forget who left, begin with who came."""
    peers: dict[str, Progress] = {}
    for member in raft.log.membership.members:
        if member.nid == raft.nid:
            continue
        peer = raft.progress.get(member.nid)
        if peer is None or peer.incarnation != member.incarnation:
            peer = Progress(member.nid, member.incarnation, raft.log.last + 1, raft.ticks)
        peer.is_voter = member.is_voter
        peers[member.nid] = peer
    raft.progress = peers
    raft.voting_peers = [peer for peer in peers.values() if peer.is_voter]
    sparing.end(raft)  # another majority counts
    raft.reads.confirm(raft)  # a smaller majority may have answered already


def replicate(raft: Raft) -> None:
    """Bring every peer what it lacks and may be sent now."""
    log = raft.log
    if not raft.is_term_durable:
        return  # a restart could begin this very term again, with other entries
    reads = raft.reads
    if reads.by_lease:
        reads.answer_by_lease(raft)
    if reads.waiting and reads.begin_round(raft):
        for peer in raft.voting_peers:
            send_heartbeat(raft, peer, True)
    commit = log.commit
    tells_all = raft.tells_commit or raft.config.commit_at_once
    if raft.tells_commit:
        sparing.tick(raft)
    raft.tells_commit = False
    spares = sparing.is_in_force(raft)
    for peer in raft.progress.values():
        state = peer.state
        if state == REPLICATE:
            lacks = peer.next <= log.last or peer.must_check
            if lacks and not (spares and sparing.waits(raft, peer)):
                _fill_window(raft, peer)
            sent = peer.commit_sent
            if sent < commit and sent < peer.match and (tells_all or sent < peer.awaits):
                send_heartbeat(raft, peer, False)
        elif state == PROBE and not peer.is_paused:
            _probe(raft, peer)


def expect(raft: Raft, incarnation: int, index: int) -> None:
    """Clients of that node wait until entry `index` is committed: it must hear of it at once.

    Nobody at the others waits. They hear of it with the next entries, or after a tick, which costs
    a busy leader no message and a busy follower no turn.
    """
    for peer in raft.progress.values():
        if peer.incarnation == incarnation:
            peer.awaits = index


def _fill_window(raft: Raft, peer: Progress) -> None:
    config = raft.config
    last = raft.log.last
    while (
        peer.next <= last
        and peer.inflight < config.inflight_messages_max
        and peer.inflight_bytes < config.inflight_bytes_max
    ):
        if not _send_append(raft, peer, config.append_bytes_max):
            return
    if peer.must_check:
        peer.must_check = False
        _send_append(raft, peer, 0)


def _probe(raft: Raft, peer: Progress) -> None:
    """One message; whether it was taken decides what comes next.

    Each heartbeat that is answered may be followed by another one, so it brings no more than a
    little.
    """
    if _send_append(raft, peer, min(PROBE_BYTES_MAX, raft.config.append_bytes_max)):
        peer.is_paused = True


def _send_append(raft: Raft, peer: Progress, bytes_max: int) -> bool:
    """Send what follows `next - 1`; False when the peer needs a snapshot for that."""
    log = raft.log
    begin = peer.next
    previous = begin - 1
    term = log.term(previous)
    entries = log.read(begin, begin + APPEND_ENTRIES_MAX, bytes_max) if bytes_max else ()
    if term == UNKNOWN or (bytes_max and not entries and begin <= log.last):
        peer.move(SNAPSHOT)
        raft.wants_snapshot.append(peer.nid)
        return False
    if entries and peer.state == PROBE and entries[0].size > PROBE_BYTES_MAX:
        entries = ()  # a long entry waits until it is known where the peer's log stands
    last = previous
    peer.sent_tick = raft.ticks
    if entries:
        last = entries[-1].index
        size = entries[0].size if len(entries) == 1 else sum([entry.size for entry in entries])
        if peer.state == REPLICATE:
            peer.sent(last, size)
    peer.commit_sent = log.commit if log.commit < last else last
    raft.send_now.append(
        Message(
            MessageKind.APPEND,
            raft.nid,
            peer.nid,
            raft.term,
            previous,
            term,
            log.commit,
            False,
            0,
            0,
            raft.clock_ms,
            entries,
            raft.incarnation,
            peer.incarnation,
        )
    )
    return True


def send_heartbeat(raft: Raft, peer: Progress, must_answer: bool) -> None:
    """Tell commit, clocks and read round; never a commit index the peer may not have.

    While it is probed that is none: with weaker sync modes it may have lost what it had accepted,
    and show what stood there before.
    """
    commit = min(peer.match, raft.log.commit) if peer.state == REPLICATE else 0
    peer.commit_sent = commit
    raft.send_now.append(
        Message(
            MessageKind.HEARTBEAT,
            raft.nid,
            peer.nid,
            raft.term,
            raft.lease.given_up,
            0,
            commit,
            must_answer,
            raft.steady_ms,
            raft.reads.number,
            raft.clock_ms,
            (),
            raft.incarnation,
            peer.incarnation,
        )
    )


def tick(raft: Raft) -> None:
    """A tick of the leader: heartbeats, and does a majority still answer?"""
    raft.tells_commit = True
    raft.heartbeat_elapsed += 1
    if raft.heartbeat_elapsed < raft.config.heartbeat_ticks:
        return
    raft.heartbeat_elapsed = 0
    if raft.ticks - _majority_heard_tick(raft) >= raft.config.election_ticks_max:
        raft.become_follower(raft.term, "")
        return
    if not raft.is_term_durable:
        return  # nobody may hear of a term whose own vote could be forgotten
    for peer in raft.progress.values():
        send_heartbeat(raft, peer, True)


def _majority_heard_tick(raft: Raft) -> int:
    """The latest tick by which a majority has been heard of."""
    heard = [peer.heard_tick for peer in raft.voting_peers]
    if raft.is_voter:
        heard.append(raft.ticks)
    return int(commit_index(heard))


# Leading: what comes back


def on_append_reply(raft: Raft, message: Message) -> None:
    """A peer has taken entries onto its disk, or could not."""
    peer = raft.progress.get(message.sender)
    if peer is None:
        return
    peer.heard_tick = raft.ticks
    if not message.flag:
        _on_refusal(raft, peer, message)
        return
    index = message.index
    check(index <= raft.log.last, "a peer holds what was sent", peer.nid, index, raft.log.last)
    is_news = index > peer.match
    if is_news:
        peer.accepted(index)
    if peer.state == REPLICATE:
        if not is_news:
            return
    elif index == peer.match and index >= raft.log.first - 1:
        if peer.state == SNAPSHOT:
            peer.move(PROBE)
        peer.move(REPLICATE)
    if is_news and peer.is_voter:
        advance_commit(raft)
        if raft.transferee == peer.nid:
            transfer.go(raft)  # it may have caught up with this answer


def _on_refusal(raft: Raft, peer: Progress, message: Message) -> None:
    """The peer's log does not agree at `message.index`: go back, a whole term at a time."""
    refused = message.index
    if peer.state == SNAPSHOT:
        return
    if peer.state == REPLICATE:
        if refused < peer.match:
            return  # an answer from before it agreed
        peer.move(PROBE)
        if refused == peer.match:
            return  # the same, most likely; if not, it will say so again
    elif refused != peer.next - 1:
        return
    hint = min(message.hint, refused - 1)
    if refused <= peer.match:
        # It has lost what its disk had promised, as weaker sync modes may. Counting less is safe.
        peer.match = min(peer.match, hint)
    agreed = raft.log.find_agreement(hint, message.log_term, 0)
    peer.next = max(peer.match, min(refused - 1, agreed)) + 1
    peer.is_paused = False


def on_own_disk(raft: Raft) -> None:
    """The leader's own disk has more."""
    if not raft.is_term_durable and raft.log.stable >= raft.term_start:
        raft.is_term_durable = True
    if raft.is_voter:
        advance_commit(raft)


def advance_commit(raft: Raft) -> None:
    """Commit what a majority has on disk, once that reaches into the own term."""
    matches = [peer.match for peer in raft.voting_peers]
    if raft.is_voter:
        matches.append(raft.log.stable)
    index = commit_index(matches)
    if index > raft.log.commit and index >= raft.term_start:
        sparing.note(raft)
        raft.commit_to(index)


def on_heartbeat_reply(raft: Raft, message: Message) -> None:
    """A peer lives and follows: it may be asked again, and a read round may be over."""
    peer = raft.progress.get(message.sender)
    if peer is None:
        return
    peer.heard_tick = raft.ticks
    peer.is_paused = False
    if peer.state == REPLICATE:
        # Nothing was answered for a whole heartbeat, or it has less than it had: was it lost?
        is_stalled = peer.match < peer.next - 1 and peer.match == peer.stalled_at
        peer.must_check = peer.must_check or is_stalled or message.index < peer.match
    peer.stalled_at = peer.match
    if peer.answered_ms < message.hint <= raft.steady_ms:
        peer.answered_ms = message.hint
        peer.clock_ms = message.clock_ms
    if peer.is_voter and message.context > peer.read_round:
        peer.read_round = message.context
        raft.reads.confirm(raft)


def hear_part(raft: Raft, nid: str, incarnation: int) -> None:
    """Bytes of a message to or from that node moved, though not yet all: it is there.

    Nobody need call for an election or step down for want of heartbeats that wait behind them.
    """
    if raft.known.get(nid) != incarnation:
        return
    peer = raft.progress.get(nid)
    if raft.is_leader and peer is not None:
        peer.heard_tick = raft.ticks
    elif raft.leader == nid:
        raft.election_elapsed = 0


def on_lost_messages(peer: Progress) -> None:
    """Begin again behind what the peer is known to hold, once it answers."""
    if peer.state == REPLICATE:
        peer.move(PROBE)
    if peer.state == PROBE:
        peer.is_paused = True


def end_snapshot(raft: Raft, peer: Progress, ok: bool) -> None:
    """The file has arrived, or will not: ask where the peer stands. `ok` False waits first."""
    peer.move(PROBE)
    if ok:
        peer.next = raft.log.last + 1
    peer.is_paused = not ok


def on_read(raft: Raft, message: Message) -> None:
    """Another node asks for a read index."""
    reads = raft.reads
    asks = reads.by_lease if message.flag else reads.waiting
    asks.append((message.sender, message.incarnation, message.context))


def on_second_leader(raft: Raft, message: Message) -> None:
    """Two leaders in one term: the safety of everything is gone."""
    check(False, "one leader in a term", raft.nid, message.sender, raft.term)


# Following


def hear_leader(raft: Raft, message: Message) -> None:
    """The leader of this term speaks: follow it, and wait a whole timeout from now."""
    if raft.leader != message.sender or raft.role is not Role.FOLLOWER:
        check(raft.leader in ("", message.sender), "one leader in a term", raft.leader, message)
        raft.become_follower(raft.term, message.sender)
    raft.election_elapsed = 0
    raft.lease.heard_tick = raft.ticks


def on_append(raft: Raft, message: Message) -> None:
    """Take entries behind a place where both logs agree."""
    hear_leader(raft, message)
    log = raft.log
    previous = message.index
    if previous < log.commit:
        _accept_append(raft, message.sender, message.incarnation, log.commit)
        return
    if previous > log.last or log.term(previous) != message.log_term:
        _refuse_append(raft, message)
        return
    entries = message.entries
    last = previous + len(entries)
    if entries:
        _take_entries(raft, message)
    commit = min(message.commit, last)
    if commit > log.commit:
        raft.commit_to(commit)
    _accept_append(raft, message.sender, message.incarnation, last)


def _take_entries(raft: Raft, message: Message) -> None:
    log = raft.log
    entries = message.entries
    membership = log.membership
    skip = 0
    if message.index < log.last:
        for entry in entries:
            if entry.index > log.last:
                break
            if log.term(entry.index) != entry.term:
                log.truncate(entry.index - 1)
                break
            skip += 1
    for entry in entries[skip:] if skip else entries:
        log.append(entry)
    if entries[-1].time_ms > raft.clock_ms:
        raft.clock_ms = entries[-1].time_ms
    if log.membership is not membership:  # perhaps another one at the same index
        raft.take_membership()


def _accept_append(raft: Raft, nid: str, incarnation: int, index: int) -> None:
    raft.send_after_sync.append(
        Message(
            MessageKind.APPEND_REPLY,
            raft.nid,
            nid,
            raft.term,
            index,
            0,
            0,
            True,
            0,
            0,
            raft.clock_ms,
            (),
            raft.incarnation,
            incarnation,
        )
    )


def _refuse_append(raft: Raft, message: Message) -> None:
    log = raft.log
    hint = log.find_agreement(message.index - 1, message.log_term, log.commit)
    raft.send_now.append(
        Message(
            MessageKind.APPEND_REPLY,
            raft.nid,
            message.sender,
            raft.term,
            index=message.index,
            log_term=max(log.term(hint), 0),
            hint=hint,
            clock_ms=raft.clock_ms,
            incarnation=raft.incarnation,
            to_incarnation=message.incarnation,
        )
    )


def on_heartbeat(raft: Raft, message: Message) -> None:
    """The leader lives, and says what is committed of what this node holds."""
    hear_leader(raft, message)
    raft.lease.promise(raft.term, message.index)
    commit = min(message.commit, raft.log.last)
    if commit > raft.log.commit:
        raft.commit_to(commit)
    if message.flag:
        raft.send_now.append(
            Message(
                MessageKind.HEARTBEAT_REPLY,
                raft.nid,
                message.sender,
                raft.term,
                index=raft.log.last,
                hint=message.hint,
                context=message.context,
                clock_ms=raft.clock_ms,
                incarnation=raft.incarnation,
                to_incarnation=message.incarnation,
            )
        )


def on_read_reply(raft: Raft, message: Message) -> None:
    """The leader gave, or refused, a read index."""
    raft.reads.on_reply(message)


def refuse_read(raft: Raft, message: Message) -> None:
    """Somebody takes this node for the leader."""
    raft.reads.refuse(raft, message)


def install_snapshot(raft: Raft, message: Message) -> None:
    """A whole snapshot file lies on this node's disk: go on behind it, if it is news."""
    log = raft.log
    index = message.index
    membership = message.membership
    if raft.role is not Role.LEADER and index > log.commit:
        check(membership is not None, "a snapshot holds the membership", message)
        raft.clock_ms = max(raft.clock_ms, message.clock_ms)
        if message.log_term > raft.term or raft.role is not Role.FOLLOWER:
            raft.become_follower(max(raft.term, message.log_term), "")
        if log.term(index) == message.log_term:
            raft.commit_to(index)  # the log has it all; what is in a snapshot is committed
        elif membership is not None:
            log.restart(index, message.log_term, membership)
            raft.set_snapshot(SnapshotState(index, message.log_term, membership))
            raft.take_membership()
            removal.notice_own_removal(raft)
    if raft.leader and raft.leader != raft.nid:
        _accept_append(raft, raft.leader, raft.known.get(raft.leader, 0), log.commit)
