"""Elections: who may ask, who gets a vote, and what a newer or older term does.

Before it raises its term, a node asks whether it could win (PreVote, thesis section 9.6); the
question changes nothing on the asked node, neither term, vote nor timer. A vote goes to the first
candidate of a term whose log is at least as complete (3.6.1), and is on disk before it is sent. A
node that hears a leader, or may have heard one before it restarted, ignores both questions (4.2.3;
see `leases`), unless that leader itself asks, or has sent the candidate. Whoever asks with an old
term is told the new one, or it would never learn it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast._entry import KIND_NOOP
from pyraft_fast._quorum import vote_result
from pyraft_fast.core import replication
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import Role
from pyraft_fast.errors import check

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft

_WON = 1
_LOST = -1


def tick(raft: Raft) -> None:
    """A tick of a node that does not lead."""
    raft.election_elapsed += 1
    raft.reads.expire(raft.ticks - raft.config.election_ticks_max)
    if _is_alone(raft):
        campaign(raft, is_sent=False)  # nobody else to wait for
    elif raft.election_elapsed >= raft.election_timeout:
        if _may_campaign(raft):
            ask_before(raft)
        else:
            raft.set_leader("")
            raft.restart_election_timer()


def _is_alone(raft: Raft) -> bool:
    if not raft.is_voter or raft.leader or raft.role is not Role.FOLLOWER:
        return False
    return len(raft.log.membership.voters) == 1


def _is_complete(raft: Raft, message: Message) -> bool:
    """Is the sender's log at least as up to date as this node's? (thesis section 3.6.1)"""
    log = raft.log
    if message.log_term != log.last_term:
        return message.log_term > log.last_term
    return message.index >= log.last


def _may_campaign(raft: Raft) -> bool:
    """A voter may; and one whose removal is not certain yet, since its log may be needed to make
    it so (thesis section 4.2.2). It does not count its own vote then.
    """
    if raft.is_voter:
        return True
    if raft.log.config_index <= raft.log.commit:
        return False
    me = raft.log.committed_membership().get(raft.nid)
    return me is not None and me.is_voter and me.incarnation == raft.incarnation


def _may_vote(raft: Raft) -> bool:
    """A node that never had a membership has no past to vote from."""
    return bool(raft.known)


# Asking


def ask_before(raft: Raft) -> None:
    """Ask the voters whether an election could be won."""
    if raft.role is Role.CANDIDATE:
        raft.move(Role.FOLLOWER)
    raft.set_leader("")
    if raft.role is Role.FOLLOWER:
        raft.move(Role.PRE_CANDIDATE)
    raft.restart_election_timer()
    raft.votes = {raft.nid: True}
    if _verdict(raft) == _WON:
        campaign(raft, is_sent=False)
        return
    raft.send_now += _questions(raft, MessageKind.PREVOTE, raft.term + 1, False, 0)


def campaign(raft: Raft, is_sent: bool, given_up: int = 0) -> None:
    """Begin a term as candidate; `is_sent` by the old leader, which had given up so many transfers
    before.
    """
    raft.move(Role.CANDIDATE)
    raft.set_leader("")
    raft.set_vote(raft.term + 1, raft.nid)
    raft.restart_election_timer()
    raft.votes = {raft.nid: True}
    if _verdict(raft) == _WON:
        _lead(raft)
        raft.is_term_durable = False  # nobody's answer proves that the own vote is on disk
        return
    raft.send_after_sync += _questions(raft, MessageKind.VOTE, raft.term, is_sent, given_up)


def _questions(raft: Raft, kind: MessageKind, term: int, flag: bool, context: int) -> list[Message]:
    return [
        Message(
            kind,
            raft.nid,
            member.nid,
            term,
            index=raft.log.last,
            log_term=raft.log.last_term,
            flag=flag,
            context=context,
            clock_ms=raft.clock_ms,
            incarnation=raft.incarnation,
            to_incarnation=member.incarnation,
        )
        for member in raft.log.membership.voters
        if member.nid != raft.nid
    ]


def _verdict(raft: Raft) -> int:
    """1 won, -1 lost, 0 open: among the voters in force."""
    voters = raft.log.membership.voters
    answers = [raft.votes[member.nid] for member in voters if member.nid in raft.votes]
    granted = sum(answers)
    return vote_result(granted, len(answers) - granted, len(voters))


def _lead(raft: Raft) -> None:
    """The election is won: an entry of the own term first, so that all before it can commit."""
    raft.move(Role.LEADER)
    raft.set_leader(raft.nid)
    raft.votes = {}
    raft.heartbeat_elapsed = 0
    raft.transferee = ""
    raft.lease.begin()
    raft.is_term_durable = True
    raft.reads.number = 0
    raft.progress = {}
    replication.take_peers(raft)
    index = raft.log.last + 1
    raft.term_start = index
    raft.log.append(Entry.make(KIND_NOOP, index, raft.term, raft.clock_ms, b""))


# Being asked


def _answer(raft: Raft, message: Message, kind: MessageKind, term: int, flag: bool) -> Message:
    return Message(
        kind,
        raft.nid,
        message.sender,
        term,
        flag=flag,
        clock_ms=raft.clock_ms,
        incarnation=raft.incarnation,
        to_incarnation=message.incarnation,
    )


def on_prevote(raft: Raft, message: Message) -> None:
    """Could the sender win? Answering promises nothing and changes nothing."""
    granted = message.term > raft.term and _may_vote(raft) and _is_complete(raft, message)
    term = message.term if granted else raft.term
    raft.send_now.append(_answer(raft, message, MessageKind.PREVOTE_REPLY, term, granted))


def on_vote(raft: Raft, message: Message) -> None:
    """Give the term's vote to the first complete candidate."""
    is_free = raft.vote == message.sender or (
        not raft.vote and not raft.leader and not raft.lease.forbids_vote(raft, message)
    )
    if is_free and _may_vote(raft) and _is_complete(raft, message):
        if raft.role is Role.PRE_CANDIDATE:
            raft.become_follower(raft.term, "")
        if not raft.vote:
            check(raft.role is Role.FOLLOWER, "followers vote", raft.nid, raft.role)
            raft.set_vote(raft.term, message.sender)
        raft.restart_election_timer()
        answer = _answer(raft, message, MessageKind.VOTE_REPLY, raft.term, True)
        raft.send_after_sync.append(answer)
    else:
        raft.send_now.append(_answer(raft, message, MessageKind.VOTE_REPLY, raft.term, False))


def on_prevote_reply(raft: Raft, message: Message) -> None:
    """Somebody would, or would not, vote for this node."""
    if message.flag and message.term == raft.term:
        return  # granted for a term that has begun since
    _count(raft, message)
    verdict = _verdict(raft)
    if verdict == _WON:
        campaign(raft, is_sent=False)
    elif verdict == _LOST:
        raft.become_follower(raft.term, "")


def on_vote_reply(raft: Raft, message: Message) -> None:
    """Somebody has given its vote, or has not."""
    _count(raft, message)
    verdict = _verdict(raft)
    if verdict == _WON:
        _lead(raft)
    elif verdict == _LOST:
        raft.become_follower(raft.term, "")


def _count(raft: Raft, message: Message) -> None:
    raft.votes.setdefault(message.sender, message.flag)


def on_timeout_now(raft: Raft, message: Message) -> None:
    """The leader sends this node into an election at once (thesis section 3.10)."""
    if raft.lease.forbids_campaign(raft, message):
        return
    if _may_campaign(raft) and raft.role in (Role.FOLLOWER, Role.PRE_CANDIDATE):
        campaign(raft, is_sent=True, given_up=message.context)


# Terms


def accepts_newer_term(raft: Raft, message: Message) -> bool:
    """A message of a newer term: follow it there, if it is to be believed. True to go on."""
    kind = message.kind
    if kind == MessageKind.PREVOTE:
        return not raft.lease.forbids_vote(raft, message)
    if kind == MessageKind.PREVOTE_REPLY and message.flag:
        return raft.role is Role.PRE_CANDIDATE and message.term == raft.term + 1
    if kind == MessageKind.VOTE:
        if raft.lease.forbids_vote(raft, message):
            return False
        raft.lease.release(raft, message)
    is_from_leader = kind in (MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.TIMEOUT_NOW)
    raft.become_follower(message.term, message.sender if is_from_leader else "")
    return True


def on_older_term(raft: Raft, message: Message) -> None:
    """Tell whoever asks in an old term which one it is; old answers are dropped."""
    kind = message.kind
    if kind in (MessageKind.APPEND, MessageKind.HEARTBEAT):
        answer = _answer(raft, message, MessageKind.HEARTBEAT_REPLY, raft.term, False)
        raft.send_now.append(answer)
    elif kind == MessageKind.PREVOTE:
        answer = _answer(raft, message, MessageKind.PREVOTE_REPLY, raft.term, False)
        raft.send_now.append(answer)
    elif kind == MessageKind.VOTE:
        answer = _answer(raft, message, MessageKind.VOTE_REPLY, raft.term, False)
        raft.send_now.append(answer)
    elif kind == MessageKind.READ:
        raft.reads.refuse(raft, message)
