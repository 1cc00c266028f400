"""What must hold in every reachable state, named as in the thesis (figure 3.2), and more."""

from __future__ import annotations

from collections.abc import Sequence

from pyraft_fast._entry import KIND_CONFIG
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.reads import Shown
from pyraft_fast.core.work import ReadState, Role


class Broken(AssertionError):
    """An invariant does not hold."""


def require(condition: object, rule: str, *facts: object) -> None:
    if not condition:
        raise Broken(f"{rule}: {facts!r}")


class Invariants:
    """Remembers what the whole cluster has done, as no node can."""

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[str, int]] = {}
        self.seen_terms: set[int] = set()
        self.votes: dict[tuple[int, int], str] = {}
        self.places: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.committed: dict[int, Entry] = {}
        self.commit_terms: dict[int, int] = {}
        self.commit = 0
        self.reads: dict[tuple[int, int], int] = {}

    def election_safety(self, raft: Raft) -> None:
        """At most one leader in a term, and it is a voter with every committed entry."""
        if raft.role is not Role.LEADER or not raft.is_term_durable:
            return  # a sole voter whose own vote is not on disk yet is silent, and leads nobody
        who = (raft.nid, raft.incarnation)
        if self.leaders.setdefault(raft.term, who) == who:
            if raft.term not in self.seen_terms:
                self.seen_terms.add(raft.term)
                old = raft.committed_membership.get(raft.nid)
                is_voter = raft.is_voter or (old is not None and old.is_voter)
                require(is_voter, "a new leader is a voter", who)
                self.leader_completeness(raft)
            return
        require(False, "election safety", raft.term, self.leaders[raft.term], who)

    def leader_completeness(self, raft: Raft) -> None:
        """A leader has every entry that was committed in earlier terms."""
        for index in range(max(raft.log.first, 1), self.commit + 1):
            if self.commit_terms[index] < raft.term:
                have = raft.log.term(index)
                require(
                    have == self.committed[index].term,
                    "leader completeness",
                    (raft.nid, raft.term, index, have, self.committed[index]),
                )

    def log_matching(self, entries: Sequence[Entry], before: int) -> None:
        """The same index and term: the same entry, behind the same entry.

        Held of all that is on any disk or wire; `before` is the term in front of `entries`.
        """
        for entry in entries:
            if before < 0:  # a log that begins behind a snapshot may not know
                before = entry.term
                continue
            found = self.places.setdefault((entry.index, entry.term), (entry.record, before))
            require(found == (entry.record, before), "log matching", entry, before)
            before = entry.term

    def state_machine_safety(self, raft: Raft, entry: Entry) -> None:
        """No two nodes apply different entries at the same index."""
        known = self.committed.setdefault(entry.index, entry)
        require(known.record == entry.record, "state machine safety", raft.nid, known, entry)
        self.commit_terms.setdefault(entry.index, raft.term)
        if entry.index > self.commit:
            self._config_safety(entry)
            require(entry.index == self.commit + 1, "commits have no gap", raft.nid, entry)
            if entry.index > 1:
                older = self.committed[entry.index - 1].time_ms
                require(entry.time_ms >= older, "cluster time never falls", raft.nid, entry)
            self.commit = entry.index

    def _config_safety(self, entry: Entry) -> None:
        """One voter at a time comes or goes, between committed memberships too."""
        if entry.kind != KIND_CONFIG:
            return
        new = Membership.decode(entry.payload)
        for index in range(entry.index - 1, 0, -1):
            if self.committed[index].kind == KIND_CONFIG:
                new.check_follows(Membership.decode(self.committed[index].payload))
                return

    def votes_are_kept(self, incarnation: int, message: Message) -> None:
        """A vote that left a node, whether asked or answered, is never given again in its term."""
        if message.kind == MessageKind.VOTE:
            candidate = message.sender
        elif message.kind == MessageKind.VOTE_REPLY and message.flag:
            candidate = message.to
        else:
            return
        key = (incarnation, message.term)
        known = self.votes.setdefault(key, candidate)
        require(known == candidate, "one vote in a term", message, known)

    def read_asked(self, incarnation: int, context: int) -> None:
        """A read begins: it must see what is committed now."""
        self.reads[incarnation, context] = self.commit

    def read_answered(self, raft: Raft, state: ReadState) -> None:
        """A read may not miss what was committed before it was asked, anywhere."""
        floor = self.reads.pop((raft.incarnation, state.context))
        require(state.index >= floor, "linearizable reads", raft.nid, state, floor)
        if state.index in self.committed:
            time_ms = self.committed[state.index].time_ms
            require(state.clock_ms >= time_ms, "a read's clock", raft.nid, state, time_ms)

    def shown_lease(self, nid: str, shown: Shown, steady_ms: int) -> None:
        """As long as a lease that was shown lasts, nothing is committed that it does not cover."""
        is_over = steady_ms >= shown.until_ms
        require(is_over or shown.commit >= self.commit, "a lease that shows", nid, shown, steady_ms)

    def read_failed(self, incarnation: int, context: int) -> None:
        """A read was given back without an answer."""
        del self.reads[incarnation, context]
