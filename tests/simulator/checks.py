"""What must hold at every step, seen from outside all nodes; and where it is looked at.

The rules themselves are those of the core's own tests (`tests.core.invariants`). Here they are
held over the whole product: what a turn of the driver brings, what goes on the wire, what a log
on disk holds when it is opened again, and what reaches the state machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from pyraft_fast import _entry
from pyraft_fast.consensus.driver import Driver
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Role, Work
from pyraft_fast.errors import InvariantError
from pyraft_fast.serving.apply import Applier
from pyraft_fast.serving.restarts import DEATHS_MAX
from pyraft_fast.worker.codes import freeze
from tests.core.invariants import Broken, Invariants, require
from tests.simulator.steps import LOG_KINDS, Steps

if TYPE_CHECKING:
    from tests.simulator.machine import Machine
    from tests.simulator.run import Simulation

NOW: list[Checks] = []  # the checks of the simulation that runs
STEPPED = (
    MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_REPLY, MessageKind.APPEND_REPLY, MessageKind.READ,
    MessageKind.VOTE,
)  # fmt: skip
VOTES = (MessageKind.VOTE, MessageKind.VOTE_REPLY)
READ_BYTES = 1 << 24
STOPPED = "a node stops only for a reason"
AGE_SLACK = 1.1  # a machine's clock may run this much slower than the world's


class Group(tuple[Any, ...]):
    """(kind, term, vote, first index, terms) of one write to the log."""

    __slots__ = ()


class Durable:
    """What one log must still hold after any crash, and what it may hold beyond that."""

    def __init__(self) -> None:
        self.first = 1
        self.terms: list[int] = []  # of entries `first`, `first + 1` ...
        self.vote: tuple[int, str] = (0, "")
        self.pending: list[Group] = []
        self.begun: Group | None = None

    def copy(self) -> Durable:
        other = Durable()
        other.first, other.terms, other.vote = self.first, list(self.terms), self.vote
        return other

    def apply(self, group: Group) -> None:
        kind, term, vote, first, terms = group
        self.vote = (term, vote)
        if kind == "reset":
            self.first, self.terms = first, []
        elif terms:
            del self.terms[max(first - self.first, 0) :]
            self.terms.extend(terms)

    def sync(self) -> None:
        for group in self.pending:
            self.apply(group)
        self.pending.clear()

    def term_at(self, index: int) -> int:
        """The term of the entry that is safe on disk there; 0 where a snapshot has it, else -1."""
        if index < self.first:
            return 0
        place = index - self.first
        return self.terms[place] if place < len(self.terms) else -1

    def explains(self, first: int, terms: list[int], vote: tuple[int, str]) -> bool:
        """Is that what is durable, or that and a beginning of what was being written?"""
        state = self.copy()
        groups = [*self.pending, *([self.begun] if self.begun else [])]
        for group in [None, *groups]:
            if group is not None:
                state.apply(group)
            begin = max(first, state.first)
            mine = state.terms[begin - state.first :]
            theirs = terms[begin - first :]
            if mine == theirs and state.vote == vote and first <= begin:
                return True
        return False


def loud(check: Callable[..., None]) -> Callable[..., None]:
    """A broken rule ends the simulation, whatever the code that is looked at makes of the error."""

    @wraps(check)
    def checked(self: Checks, *facts: Any) -> None:
        try:
            check(self, *facts)
        except (Broken, InvariantError) as error:
            self.simulation.world.broken(error)
            raise

    return checked


class Checks:
    """The invariants of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.rules = Invariants()
        self.steps = Steps(self)
        self.durable: dict[int, Durable] = {}
        self.states: dict[int, list[tuple[str, Any]]] = {}  # index -> what it left of its keys
        self.versions: dict[str, list[tuple[int, Any]]] = {}  # key -> its values by index
        self.commit_times: list[tuple[float, int]] = [(0.0, 0)]
        self.elections = 0
        self.reads = 0

    # The core, once a turn

    @loud
    def took(self, raft: CheckedRaft, work: Work) -> None:
        rules = self.rules
        self.steps.took(raft)
        if raft.role is Role.LEADER:
            if raft.led_term != raft.term and raft.is_term_durable:
                raft.led_term = raft.term
                self.elections += 1
                self.simulation.say(raft.nid, "leads term %d", raft.term)
                rules.election_safety(raft)
                self.steps.elected(raft)
            if work.entries:
                self._leader_appends(raft, work)
        if work.entries and (raft.role is not Role.LEADER or raft.is_term_durable):
            # Without its term on disk a sole voter is silent: what it writes may never have been.
            rules.log_matching(work.entries, raft.log.term(work.entries[0].index - 1))
        if work.commit > raft.seen_commit:
            self._committed(raft, work.commit)
        for message in work.send_now:
            if message.kind == MessageKind.READ_REPLY and message.flag:
                self.steps.answered(raft, message.to, message.context)
        for state in work.reads:
            self.steps.answered(raft, "", state.context)
            self.reads += 1
            floor = raft.floors.pop(state.context, 0)
            require(state.index >= floor, "linearizable reads", raft.nid, state, floor)

    def _leader_appends(self, raft: CheckedRaft, work: Work) -> None:
        """A leader never changes what stands in its log."""
        first = work.entries[0].index
        term, last = raft.lead
        require(term != raft.term or first == last + 1, "leader append-only", raft.nid, last, first)
        raft.lead = (raft.term, work.entries[-1].index)
        configs = raft.log.configs
        open_ones = [index for index, _ in configs if index > raft.log.commit]
        require(len(open_ones) <= 1, "one membership change at a time", raft.nid, open_ones)
        if open_ones and len(configs) > 1:
            configs[-1][1].check_follows(configs[-2][1])  # majorities of both have a node in common

    def _committed(self, raft: CheckedRaft, commit: int) -> None:
        log, rules = raft.log, self.rules
        begin = max(raft.seen_commit + 1, log.first)
        while begin <= commit:
            entries = log.read(begin, commit + 1, READ_BYTES)
            require(entries, "a committed entry can be read", raft.nid, begin, commit)
            for entry in entries:
                rules.state_machine_safety(raft, entry)
            begin = entries[-1].index + 1
        raft.seen_commit = commit
        if commit > self.commit_times[-1][1]:
            self.commit_times.append((self.simulation.world.now, commit))

    def _on_majority(self, raft: CheckedRaft, index: int, term: int) -> None:
        """What a leader calls committed is on the disks of a majority of the voters in force."""
        voters = raft.membership.voters
        holders = []
        for member in voters:
            durable = self.durable.get(member.incarnation)
            if durable is not None and durable.term_at(index) in (0, term):
                holders.append(member.nid)
        require(
            2 * len(holders) > len(voters),
            "committed means on the disks of a majority",
            raft.nid, index, term, holders, [member.nid for member in voters],
        )  # fmt: skip

    @loud
    def sending(self, raft: CheckedRaft, message: Message) -> None:
        """A vote goes out: it must be on disk, and be the only one of its term."""
        if message.kind == MessageKind.VOTE_REPLY and not message.flag:
            return
        self.rules.votes_are_kept(raft.incarnation, message)
        if message.kind == MessageKind.VOTE:
            self.steps.asking(message)
        candidate = message.sender if message.kind == MessageKind.VOTE else message.to
        durable = self.durable[raft.incarnation].vote
        require(
            durable[0] > message.term or durable == (message.term, candidate),
            "a vote is on disk before it is given", raft.nid, message, durable,
        )  # fmt: skip

    @loud
    def began(self, raft: CheckedRaft) -> None:
        """A node starts."""
        self.steps.began(raft)

    @loud
    def promising(self, raft: CheckedRaft, vote: str) -> None:
        """A node gives its vote."""
        self.steps.promising(raft, vote, raft.taking)

    @loud
    def counting(self, raft: CheckedRaft, index: int) -> None:
        """A node takes entries for committed.

        Looked at here, not when the turn ends: by then a newer membership may be in force.
        """
        self.steps.counting(raft, index)
        if raft.role is Role.LEADER and index >= raft.log.first:
            self._on_majority(raft, index, raft.log.term(index))

    @loud
    def voting(self, raft: CheckedRaft, term: int, candidate: str) -> None:
        """A vote is decided on."""
        if candidate not in ("", raft.nid):
            self.steps.voting(raft, term, candidate)

    @loud
    def acknowledging(self, raft: CheckedRaft, message: Message) -> None:
        """Entries are acknowledged: they are on disk, and so is the term this is said in."""
        durable = self.durable[raft.incarnation]
        term = durable.vote[0]
        require(
            term > message.term or (term == message.term and durable.term_at(message.index) >= 0),
            "what is acknowledged is on disk, and its term", raft.nid, message, durable.vote,
        )  # fmt: skip

    # The log on disk

    @loud
    def opened(self, wal: Wal, recovered: Any) -> None:
        """A log was opened: nothing that was ever synced may be missing."""
        incarnation = recovered.identity.incarnation
        state = recovered.state
        entries = wal.read(wal.first, wal.last + 1, READ_BYTES) if wal.last >= wal.first else []
        terms = [entry.term for entry in entries]
        known = self.durable.get(incarnation)
        vote = (state.term, state.vote)
        if known is not None:
            require(
                known.explains(wal.first, terms, vote),
                "nothing synced is lost over a crash", recovered.identity.nid,
                (wal.first, terms, vote), (known.first, known.terms, known.vote),
                known.pending, known.begun,
            )  # fmt: skip
        durable = self.durable[incarnation] = Durable()
        durable.first, durable.terms, durable.vote = wal.first, terms, vote
        self.simulation.incarnations[incarnation] = recovered.identity.nid

    # The state machine

    @loud
    def applying(self, applier: Any, record: Any) -> None:
        """What reaches a state machine is what was committed, and is in order."""
        head = _entry.header(record)
        if head.kind in LOG_KINDS:
            known = self.rules.committed.get(head.index)
            require(
                known is not None and known.record == bytes(record),
                "what is applied is what was committed", applier._host.nid, head,
            )  # fmt: skip

    @loud
    def applied(self, applier: Any, record: Any) -> None:
        """Every state machine makes the same of an entry."""
        head = _entry.header(record)
        self.steps.applied(applier._host.nid, head)
        if head.kind != _entry.KIND_COMMANDS or not head.count:
            return
        data = applier._host.store.data
        keys = dict.fromkeys(words[1] for _, words in _entry.decode_record(record))
        state = [
            (key, data[key] if isinstance(data[key], str) else freeze(data[key]))
            for key in keys
            if key in data
        ]
        known = self.states.get(head.index)
        if known is None:
            self.states[head.index] = state
            values = dict(state)
            for key in keys:
                self.versions.setdefault(key, []).append((head.index, values.get(key)))
        else:
            require(
                known == state, "the same state on every node",
                applier._host.nid, head.index, known, state,
            )  # fmt: skip

    @loud
    def read(self, pending: Any, value: Any) -> None:
        """A read of any level shows a state that was, and not one older than its level allows."""
        index = pending.index
        versions = self.versions.get(pending.key, [])
        place = bisect_right(versions, index, key=lambda version: version[0])
        expected = versions[place - 1][1] if place else None
        shown = expected if expected is None else str(expected)
        require(value == shown, "a read of the node's own state", str(pending.key), index, value,
                shown)  # fmt: skip
        if pending.level.startswith("max-age:"):
            age = int(pending.level.split(":")[1]) / 1000 * AGE_SLACK
            place = bisect_right(self.commit_times, (pending.invoked - age, 1 << 62))
            floor = self.commit_times[max(place - 1, 0)][1]
            require(index >= floor, "a bounded age", pending.machine.nid, index, floor,
                    pending.level)  # fmt: skip

    # Nodes

    @loud
    def node_failed(self, machine: Machine, text: str) -> None:
        """A node stopped by itself: a fault that it met must be the reason, and it must say so."""
        if machine.wants_out and text.startswith("the cluster does not take this node"):
            return  # it was removed before it knew that it had been taken in
        if text == "the node was stopped while it started" and machine.is_told_to_stop:
            return
        if text.startswith("the consensus process ended") and machine.child_kills >= DEATHS_MAX:
            return
        disk = machine.disk
        faults = [f" {path}: {error}" for path, error in disk.faults if ".log" in path]
        if machine.is_rotten:
            faults += [
                f"{path} is damaged at " if ".log" in path else " newest valid snapshot ends at "
                for path in disk.rotten
            ]
        # A snapshot that cannot be written stops nobody.
        require(any(fault in text for fault in faults), STOPPED, machine.nid, text)


class CheckedRaft(Raft):
    """The core, looked at whenever its effects are taken."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.led_term = 0
        self.seen_commit = self.log.first - 1
        self.lead = (0, 0)  # (term, last entry) it wrote as a leader
        self.floors: dict[int, int] = {}
        self.taking: Message | None = None  # the message that is being taken
        NOW[-1].began(self)

    def step(self, message: Message) -> None:
        self.taking = message
        super().step(message)
        self.taking = None
        if message.kind in STEPPED:
            NOW[-1].steps.stepped(self, message)

    def take(self) -> Work:
        work = super().take()
        NOW[-1].took(self, work)
        return work

    def commit_to(self, index: int) -> None:
        NOW[-1].counting(self, index)
        super().commit_to(index)

    def set_vote(self, term: int, vote: str) -> None:
        if vote != self.vote or term != self.term:
            NOW[-1].voting(self, term, vote)
            if vote:
                NOW[-1].promising(self, vote)
        super().set_vote(term, vote)

    def read(self, context: int, *more: Any) -> None:
        self.floors[context] = NOW[-1].rules.commit
        NOW[-1].steps.reading(self, "", context, bool(more and more[0]))
        super().read(context, *more)


class CheckedDriver(Driver):
    """The driver, looked at where votes and acknowledgements leave it."""

    def _send(self, outgoing: Sequence[Message]) -> None:
        for message in outgoing:
            if message.kind in VOTES:
                NOW[-1].sending(self.raft, message)  # type: ignore[arg-type]
            elif message.kind == MessageKind.APPEND_REPLY and message.flag:
                NOW[-1].acknowledging(self.raft, message)  # type: ignore[arg-type]
        super()._send(outgoing)


def appended(state: Any, records: Sequence[bytes]) -> Group:
    """What a group of the log changes."""
    heads = [_entry.header(record) for record in records]
    first = heads[0].index if heads else 0
    return Group(("append", state.term, state.vote, first, [head.term for head in heads]))


class CheckedWal(Wal):
    """The log, with a memory of what was synced that no crash can reach."""

    is_open = False  # before that it writes what it found once more

    @classmethod
    def open(cls, *arguments: Any, **named: Any) -> tuple[Wal, Any]:  # type: ignore[override]
        wal, recovered = super().open(*arguments, **named)
        NOW[-1].opened(wal, recovered)
        wal.is_open = True  # type: ignore[attr-defined]
        return wal, recovered

    def _memory(self) -> Durable | None:
        return NOW[-1].durable[self._identity.incarnation] if self.is_open else None

    def append(self, state: Any, records: Sequence[bytes]) -> None:
        mine = self._memory()
        if mine is None:
            super().append(state, records)
            return
        mine.begun = appended(state, records)
        try:
            super().append(state, records)
        except Exception:
            mine.begun = None
            raise
        mine.pending.append(mine.begun)
        mine.begun = None

    def stage(self, state: Any, records: Sequence[bytes], synced: bool) -> Any:
        piece = super().stage(state, records, synced)
        mine = self._memory()
        if piece is not None and mine is not None:
            mine.begun = appended(state, records)
        return piece

    def landed(self, synced: bool) -> None:
        super().landed(synced)
        mine = self._memory()
        if mine is not None:
            assert mine.begun is not None
            mine.pending.append(mine.begun)
            mine.begun = None
            if synced:
                mine.sync()

    def reset(self, index: int, term: int, state: Any) -> None:
        mine = self._memory()
        if mine is None:
            super().reset(index, term, state)
            return
        mine.begun = Group(("reset", state.term, state.vote, index + 1, []))
        super().reset(index, term, state)
        mine.sync()
        mine.apply(mine.begun)
        mine.begun = None

    def sync(self) -> None:
        super().sync()
        mine = self._memory()
        if mine is not None:
            mine.sync()


class CheckedApplier(Applier):
    """The state machine's driver, looked at record by record."""

    def record(self, record: Any) -> None:
        NOW[-1].applying(self, record)
        before = self.index
        super().record(record)
        if self.index != before:
            NOW[-1].applied(self, record)
