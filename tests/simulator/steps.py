"""What each step must keep, long before its breach shows: who counts whom for what.

The thesis proves safety from a few rules on single steps. A breach of one of them hurts only when
two or three faults meet; seen at the step, few seeds show it. Facts of other nodes come from
`Durable`, which knows what lies on every disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG, KIND_NOOP, Header
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Role
from tests.core.invariants import require

if TYPE_CHECKING:
    from tests.simulator.checks import Checks

LOG_KINDS = (KIND_NOOP, KIND_COMMANDS, KIND_CONFIG)


class Steps:
    """The rules on single steps, of one simulation."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self.asked: dict[tuple[str, int, int], tuple[int, int]] = {}  # last (term, index)
        self.heard: dict[tuple[int, str, int], float] = {}  # (node, leader, term) -> when
        self.newest: dict[int, tuple[str, float, int]] = {}  # node -> leader heard, when, its term
        self.reads: dict[tuple[int, str, int], tuple[int, bool, float]] = {}
        self.newest_applied = 0  # by any state machine
        self.answers: dict[tuple[int, int], dict[int, int]] = {}  # of peers, to a leader's term
        self.alone: dict[tuple[int, int], int] = {}  # since which tick no majority answers it

    def began(self, raft: Raft) -> None:
        """A node that starts knows its term, and its vote in it."""
        known = self.checks.durable.get(raft.incarnation)
        term, vote = (0, "") if known is None else known.vote
        require(raft.term > term or (raft.term, raft.vote) == (term, vote),
                "a node that starts knows its vote",
                raft.nid, (raft.term, raft.vote), (term, vote))  # fmt: skip

    def elected(self, raft: Raft) -> None:
        """A majority's votes for a new leader are on disk (thesis section 3.4)."""
        voters = raft.membership.voters
        durable = self.checks.durable
        given = []
        for member in voters:
            known = durable.get(member.incarnation)
            term, vote = (0, "") if known is None else known.vote
            if term > raft.term or (term, vote) == (raft.term, raft.nid):
                given.append(member.nid)
        require(
            2 * len(given) > len(voters),
            "a leader has the votes of a majority", raft.nid, raft.term, given,
            [member.nid for member in voters],
        )  # fmt: skip

    def counting(self, raft: Raft, index: int) -> None:
        """A leader commits by counting only what is of its own term (section 3.6.2)."""
        if raft.role is Role.LEADER:
            term = raft.log.term(index)
            require(term == raft.term, "only the own term is committed by counting",
                    raft.nid, raft.term, index, term)  # fmt: skip

    # Reads and leases

    @property
    def now(self) -> float:
        """World time."""
        return self.checks.simulation.world.now

    def _lease_seconds(self, raft: Raft, leader: str) -> float:
        """How long a lease lasts in the world, by the clock of the leader that holds it."""
        rate = self.checks.simulation.machines[leader].clock.rate
        return raft.config.lease_ms / 1000 / rate

    def stepped(self, raft: Raft, message: Message) -> None:
        """A message was taken: a leader was heard, or a read asked for."""
        if message.kind == MessageKind.HEARTBEAT and message.flag:
            if (raft.leader, raft.term) == (message.sender, message.term):
                self.heard[raft.incarnation, raft.leader, raft.term] = self.now
                self.newest[raft.incarnation] = (raft.leader, self.now, raft.term)
        elif message.kind == MessageKind.VOTE:
            leader, _, led = self.newest.get(raft.incarnation, ("", 0.0, 0))
            if leader == message.sender and message.term > led:
                del self.newest[raft.incarnation]  # it asks for votes: its lease is over
        elif message.kind == MessageKind.READ:
            self.reading(raft, message.sender, message.context, message.flag)
        elif raft.role is Role.LEADER and message.term == raft.term:
            answers = self.answers.setdefault((raft.incarnation, raft.term), {})
            answers[message.incarnation] = raft.ticks

    def leading(self, raft: Raft) -> None:
        """A leader that no majority answers for an election timeout steps down (section 6.2)."""
        key = (raft.incarnation, raft.term)
        answers = self.answers.setdefault(key, {})
        answers[raft.incarnation] = raft.ticks
        ticks = [answers.setdefault(m.incarnation, raft.ticks) for m in raft.membership.voters]
        heard = sorted(ticks)[(len(ticks) - 1) // 2]
        if raft.ticks - heard < raft.config.election_ticks_max:
            self.alone.pop(key, None)
            return
        since = self.alone.setdefault(key, raft.ticks)
        require(raft.ticks - since <= raft.config.heartbeat_ticks,
                "a leader that no majority answers steps down", raft.nid, key, answers)  # fmt: skip

    def reading(self, raft: Raft, nid: str, context: int, by_lease: bool) -> None:
        """`nid` ("" for itself) asks a leader for a read index."""
        if raft.role is Role.LEADER:
            key = (raft.incarnation, nid, context)
            self.reads.setdefault(key, (raft.term, by_lease, self.now))

    def answered(self, raft: Raft, nid: str, context: int) -> None:
        """A read index is given: a majority took this node for its leader since it was asked.

        With a lease it is enough that they did so within the time that they promise.
        """
        term, by_lease, since = self.reads.pop((raft.incarnation, nid, context), (0, False, 0.0))
        if term != raft.term or raft.role is not Role.LEADER:
            return
        if by_lease:
            since = min(since, self.now - self._lease_seconds(raft, raft.nid))
        voters = raft.membership.voters
        followed = [
            member.nid
            for member in voters
            if member.incarnation == raft.incarnation
            or self.heard.get((member.incarnation, raft.nid, term), -1.0) >= since
        ]
        require(2 * len(followed) > len(voters), "who answers reads has a majority behind it",
                raft.nid, term, context, by_lease, followed)  # fmt: skip

    def applied(self, nid: str, head: Header) -> None:
        """Clients of `nid` may hear of this entry: no lease that shows elsewhere lacks it."""
        if head.kind not in LOG_KINDS or head.index <= self.newest_applied:
            return
        self.newest_applied = head.index
        for machine in self.checks.simulation.machines.values():
            words = None if machine.child is None else machine.child.ring.posted()
            if words is None or machine.nid == nid:  # there it is looked at which of both is ahead
                continue
            index, _, until_ms = words
            steady_ms = machine.clock.boottime(self.now) * 1000
            require(index >= head.index or steady_ms >= until_ms, "a lease that shows",
                    machine.nid, words, steady_ms, nid, head.index)  # fmt: skip

    def promising(self, raft: Raft, vote: str, message: Message | None) -> None:
        """A vote keeps the promise that leaders build their leases on (section 6.4.1)."""
        leader, when, _ = self.newest.get(raft.incarnation, ("", 0.0, 0))
        if len(raft.membership.voters) == 1:
            return
        if message is not None and (message.flag or message.kind == MessageKind.TIMEOUT_NOW):
            return
        age_ms = raft.ticks * raft.config.tick_ms
        require(age_ms >= raft.config.lease_ms, "a restarted node waits before it votes",
                raft.nid, raft.term, vote, age_ms)  # fmt: skip
        if not leader or leader in (vote, raft.nid):
            return
        kept = self._lease_seconds(raft, leader)
        require(self.now - when >= kept, "a promise to a leader is kept",
                raft.nid, raft.term, vote, leader, self.now - when)  # fmt: skip

    # Disks

    def took(self, raft: Raft) -> None:
        """What a node counts as safe, on its own disk or a peer's, is on that disk."""
        log = raft.log
        if log.stable >= log.first:  # else a snapshot is the proof
            self._held(raft, raft.nid, raft.incarnation, log.stable)
        if raft.role is Role.LEADER:
            self.leading(raft)
            for peer in raft.progress.values():
                self._held(raft, peer.nid, peer.incarnation, peer.match)

    def _held(self, raft: Raft, nid: str, incarnation: int, index: int) -> None:
        durable = self.checks.durable.get(incarnation)
        term = raft.log.term(index)
        if durable is None or term < 0 or durable.vote[0] > raft.term:
            return
        held = durable.term_at(index)
        require(held in (0, term), "what is counted is on disk",
                raft.nid, nid, index, term, held)  # fmt: skip

    def asking(self, message: Message) -> None:
        """A candidate says how complete its log is."""
        asked = (message.log_term, message.index)
        self.asked[message.sender, message.incarnation, message.term] = asked

    def voting(self, raft: Raft, term: int, candidate: str) -> None:
        """A vote goes to a log that is at least as complete (section 3.6.1)."""
        log = raft.log
        asked = self.asked.get((candidate, raft.known.get(candidate, 0), term))
        if asked is not None and log.last >= log.first:
            mine = (log.last_term, log.last)
            require(asked >= mine, "a vote goes to a log as complete",
                    raft.nid, term, candidate, asked, mine)  # fmt: skip
