"""One node alone, talked to by hand."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import LEARNER, VOTER, Member, Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, HardState, Work

CONFIG = Config("1", 1, 2, 10, 20, 1000, 4, 2000, commit_at_once=True)


class Shelf:
    """Storage that holds a list of entries from index 1."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries = list(entries)
        self.reads = 0

    def read(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        self.reads += 1
        found: list[Entry] = []
        for entry in self.entries[lo - 1 : hi - 1]:
            bytes_max -= entry.size
            if found and bytes_max < 0:
                break
            found.append(entry)
        return found


def entry(index: int, term: int, payload: bytes = b"", time_ms: int = 0) -> Entry:
    return Entry.make(KIND_COMMANDS, index, term, time_ms, payload)


def entries_of(terms: Sequence[int], first: int = 1) -> list[Entry]:
    return [entry(first + place, term) for place, term in enumerate(terms)]


def config_entry(index: int, term: int, membership: Membership) -> Entry:
    return Entry.make(KIND_CONFIG, index, term, 0, membership.encode())


def members(voters: int = 3, learners: int = 0) -> Membership:
    """Nodes "1", "2", ... whose incarnations are their numbers."""
    found = tuple(
        Member(str(n), f"host{n}:1", n, VOTER if n <= voters else LEARNER)
        for n in range(1, voters + learners + 1)
    )
    return Membership(7, found)


def log_of(terms: Sequence[int] = (), **options: Any) -> RaftLog:
    shelf = Shelf(entries_of(terms))
    return RaftLog(shelf, 1, len(terms), terms[-1] if terms else 0, **options)


def raft_of(
    terms: Sequence[int] = (),
    term: int = 0,
    vote: str = "",
    commit: int = 0,
    membership: Membership | None = None,
    config: Config = CONFIG,
    seed: int = 1,
) -> Raft:
    """Node "1" with a log of these terms on disk, which has been up for long enough to vote."""
    hard = HardState(max([term, *terms]), vote, commit)
    known = members() if membership is None else membership
    raft = Raft(config, log_of(terms), hard, known, Random(seed))
    raft.lease.vote_hold = 0
    raft.take()
    return raft


def message(kind: MessageKind, sender: str, term: int, **fields: Any) -> Message:
    """A message to node "1"."""
    return Message(
        kind, sender, "1", term, **{"incarnation": int(sender), "to_incarnation": 1, **fields}
    )


def obey(raft: Raft) -> Work:
    """Take a Work whose disk part is done at once."""
    work = raft.take()
    if work.entries:
        raft.persisted(work.entries[-1].index, work.entries[-1].term)
    return work


def tick(raft: Raft, count: int = 1, now_ms: int = 1000) -> None:
    for _ in range(count):
        raft.tick(now_ms)


def lead(raft: Raft, granting: Sequence[str] = ("2",)) -> Raft:
    """Have it win an election with the votes of `granting`."""
    raft.election_elapsed = raft.election_timeout
    raft.tick(1000)
    for nid in granting:
        raft.step(message(MessageKind.PREVOTE_REPLY, nid, raft.term + 1, flag=True))
    obey(raft)
    for nid in granting:
        raft.step(message(MessageKind.VOTE_REPLY, nid, raft.term, flag=True))
    assert raft.is_leader
    return raft


def accept(raft: Raft, nid: str, index: int) -> None:
    """A peer's disk has everything up to `index`."""
    raft.step(message(MessageKind.APPEND_REPLY, nid, raft.term, index=index, flag=True))


def kinds(messages: Sequence[Message]) -> list[str]:
    return [m.kind.name for m in messages]


def to(messages: Sequence[Message], nid: str, kind: MessageKind) -> list[Message]:
    return [m for m in messages if m.to == nid and m.kind == kind]


def led_alone() -> Raft:
    """Of a sole voter that leads, with an entry of its term committed."""
    raft = raft_of(membership=members(1))
    while not raft.is_leader or raft.log.commit < raft.term_start:
        tick(raft)
        obey(raft)
    return raft
