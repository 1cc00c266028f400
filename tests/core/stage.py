"""Real nodes on a stage: every message by hand, and all they do put into words.

Unlike `cluster.py` nothing happens by itself and there are no dice: the election timeout of node n
is 10 + 3n ticks (never above 20), messages wait until they are delivered, in the order in which
they were sent, and a disk is done at once unless it is held. Nodes begin with 10 ticks on their
clocks. What is printed is meant to be read: `5@3` is the entry at index 5 of term 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG, KIND_NOOP
from pyraft_fast.core.change import founding_entry
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, HardState, Role, SnapshotState, Work
from tests.core.cluster import over_the_wire
from tests.core.disk import Job, MemoryDisk
from tests.core.invariants import Invariants

TICK_MS = 10
DELIVERIES_MAX = 2000
OLD_BYTES = 160  # of entries in logs at the start: one fills a message
CONFIG = Config(
    "", 0, 2, 10, 20, 250, 4, 1000, TICK_MS, uncommitted_bytes_max=700, commit_at_once=True
)
PATIENT = CONFIG._replace(commit_at_once=False)  # as nodes are: commits are told on occasion
Voice = Callable[[str], None]


class Timeout(Random):
    """A die that always falls on the same side."""

    def __init__(self, ticks: int) -> None:
        super().__init__(0)
        self.ticks = ticks

    def randint(self, a: int, b: int) -> int:
        return max(a, min(b, self.ticks))

    def getrandbits(self, k: int, /) -> int:
        return 0


def name_of(member: Member) -> str:
    """A member's name, and which of its lives it is unless it is the first."""
    life = member.incarnation % 10
    return member.nid if life == 1 else f"{member.nid}(life {life})"


def said_membership(membership: Membership) -> str:
    """A membership in words."""
    parts = ["voters " + " ".join(name_of(m) for m in membership.voters)]
    parts += [f"{m.role} {name_of(m)}" for m in membership.learners]
    if membership.removed:
        parts.append("removed " + " ".join(str(number) for number in membership.removed))
    return "; ".join(parts)


def said_entry(entry: Entry) -> str:
    """An entry in words."""
    place = f"{entry.index}@{entry.term}"
    if entry.kind == KIND_NOOP:
        return f"{place} noop"
    if entry.kind == KIND_CONFIG:
        return f"{place} {{{said_membership(Membership.decode(entry.payload))}}}"
    return f"{place} {entry.payload.decode().rstrip()}"


def said_entries(entries: Sequence[Entry]) -> str:
    """Entries in words; many of them by their ends."""
    if len(entries) > 4:
        return f"{said_entry(entries[0])} ... {said_entry(entries[-1])} ({len(entries)})"
    return ", ".join(said_entry(entry) for entry in entries)


def said_log(raft: Raft) -> str:
    """Where terms begin and end in a log."""
    log = raft.log
    runs: list[list[int]] = []
    for index in range(log.first, log.last + 1):
        if runs and runs[-1][2] == log.term(index):
            runs[-1][1] = index
        else:
            runs.append([index, index, log.term(index)])
    words = [f"{a}@{t}" if a == b else f"{a}-{b}@{t}" for a, b, t in runs]
    if log.first > 1:
        words.insert(0, f"({log.first - 1}@{log.base_term})")
    return " ".join(words) or "-"


TRANSFER = (MessageKind.HEARTBEAT, MessageKind.TIMEOUT_NOW, MessageKind.VOTE)
_LAST = "{kind} t{term} last {index}@{log_term}"
_YES_NO = "{kind} t{term} {yes}"
_SAID = {
    MessageKind.PREVOTE: _LAST,
    MessageKind.VOTE: _LAST,
    MessageKind.PREVOTE_REPLY: _YES_NO,
    MessageKind.VOTE_REPLY: _YES_NO,
    MessageKind.HEARTBEAT: "{kind} t{term} commit {commit} round {context}",
    MessageKind.HEARTBEAT_REPLY: "{kind} t{term} last {index} round {context}",
    MessageKind.READ: "{kind} t{term} bundle {context}",
    MessageKind.SNAPSHOT: "{kind} {index}@{log_term}",
    MessageKind.TIMEOUT_NOW: "{kind} t{term}",
    MessageKind.REMOVED: "{kind} t{term}",
}


def said_message(message: Message) -> str:
    """A message in words: what its kind uses, and nothing else."""
    kind, flag = message.kind, message.flag
    if kind == MessageKind.APPEND:
        what = said_entries(message.entries) or "nothing"
        place = f"{message.index}@{message.log_term}"
        return f"APPEND t{message.term} after {place}: {what}; commit {message.commit}"
    if kind == MessageKind.APPEND_REPLY:
        if flag:
            return f"APPEND_REPLY t{message.term} has {message.index}"
        hint = f"{message.hint}@{message.log_term}"
        return f"APPEND_REPLY t{message.term} not after {message.index}; perhaps after {hint}"
    if kind == MessageKind.READ_REPLY:
        answer = f"at {message.index}" if flag else "no"
        return f"READ_REPLY t{message.term} bundle {message.context} {answer}"
    fields = {name: getattr(message, name) for name in ("term", "index", "log_term", "commit")}
    text = _SAID[kind].format(
        kind=kind.name, yes="yes" if flag else "no", context=message.context, **fields
    )
    if kind == MessageKind.VOTE and flag:
        text += " sent by the leader"
    if kind == MessageKind.HEARTBEAT and not flag:
        text += " (no answer wanted)"
    given_up = message.index if kind == MessageKind.HEARTBEAT else message.context
    if given_up and kind in TRANSFER:
        text += f" (transfers given up: {given_up})"
    if kind == MessageKind.READ and flag:
        text += " by lease"
    return text


class Actor:
    """One node: its rules, its disk, and what it showed last."""

    def __init__(self, stage: Stage, nid: str, incarnation: int) -> None:
        self.stage = stage
        self.nid = nid
        self.incarnation = incarnation
        self.timeout = Timeout(10 + 3 * int(nid))
        self.disk = MemoryDisk(stage.invariants)
        self.is_up = False
        self.is_held = False  # the disk works no job off
        self.now_ms = 1_000_000
        self.published = 0
        self.shown: tuple[Any, ...] = ()
        self.told: Membership | None = None
        self.saved: tuple[int, str] = (0, "")

    def start(self) -> None:
        """Start from what is on disk."""
        config = self.stage.config._replace(nid=self.nid, incarnation=self.incarnation)
        disk = self.disk
        self.raft = Raft(
            config,
            disk.recover(),
            disk.hard,
            disk.snapshot.membership,
            self.timeout,
            disk.snapshot_time_ms,
        )
        self.raft.steady_ms = self.now_ms
        self.is_up = True
        self.published = max(disk.snapshot.index, self.raft.log.commit)
        self.shown = self.look()
        self.told = self.raft.membership
        self.saved = (self.raft.term, self.raft.vote)
        self.raft.take()

    def crash(self) -> None:
        """Lose what is not on disk."""
        self.is_up = self.is_held = False
        self.disk.jobs.clear()

    def tick(self) -> None:
        """A tick of this node's clocks."""
        self.now_ms += TICK_MS
        self.raft.steady_ms = self.now_ms
        self.raft.tick(self.now_ms)
        self.turn()

    def say(self, text: str) -> None:
        self.stage.say(f"  {self.nid}: {text}")

    def turn(self) -> None:
        """Take Works and obey them, until nothing is left to do."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        raft, stage = self.raft, self.stage
        work = raft.take()
        self._show_change()
        stage.invariants.election_safety(raft)
        for message in work.send_now:
            stage.send(self, message)
        if work.snapshot is not None:
            self.disk.save_snapshot(work.snapshot, raft.clock_ms)
        if work.needs_disk:
            before = raft.log.term(work.entries[0].index - 1) if work.entries else 0
            self.disk.jobs.append(Job(work, before))
            self._say_disk(work)
        self._publish(work)
        for state in work.reads:
            stage.invariants.read_answered(raft, state)
            self.say(f"read {state.context} may be answered at {state.index}")
        for context in work.failed_reads:
            stage.invariants.read_failed(self.incarnation, context)
            self.say(f"read {context} failed")
        for nid in work.wants_snapshot:
            self.say(f"wants its snapshot sent to {nid}")
        return not self.is_held and self.work_off()

    def work_off(self) -> bool:
        """Let the disk finish its oldest job."""
        if not self.disk.jobs:
            return False
        job = self.disk.jobs.popleft()
        self.disk.write(job)
        for message in job.messages:
            self.stage.send(self, message)
        if job.entries:
            self.raft.persisted(job.entries[-1].index, job.entries[-1].term)
        return True

    def _say_disk(self, work: Work) -> None:
        words = []
        if work.snapshot is not None:
            words.append(f"log begins behind {work.snapshot.index}@{work.snapshot.term}")
        if work.state is not None and work.state[:2] != self.saved:
            self.saved = work.state[:2]
            vote = f" vote {work.state.vote}" if work.state.vote else ""
            words.append(f"term {work.state.term}{vote}")
        if work.entries:
            words.append(said_entries(work.entries))
        if words:
            self.say(f"{'to disk later' if self.is_held else 'to disk'}: {'; '.join(words)}")

    def look(self) -> tuple[Any, ...]:
        raft = self.raft
        role = raft.role.value
        if raft.role is Role.FOLLOWER and not raft.is_voter:
            role = "learner" if raft.known.get(self.nid) == self.incarnation else "joining"
        return role, raft.term, raft.leader, raft.transferee

    def _show_change(self) -> None:
        was, now = self.shown, self.look()
        raft = self.raft
        if was != now:
            words = []
            if was[0] != now[0]:
                words.append(f"{was[0]} -> {now[0]}")
            if was[1] != now[1]:
                words.append(f"term {was[1]} -> {now[1]}")
            if was[2] != now[2]:
                words.append(f"follows {now[2]}" if now[2] else "follows nobody")
            if was[3] != now[3]:
                to = now[3]
                words.append(f"hands over to {to}" if to else "hands over no more")
            self.say(", ".join(words))
        if raft.membership != self.told:
            self.say(f"members now: {said_membership(raft.membership)}")
        self.shown, self.told = now, raft.membership

    def _publish(self, work: Work) -> None:
        raft = self.raft
        if self.published + 1 < raft.log.first <= work.commit + 1:
            self.published = raft.log.first - 1
            self.say(f"goes on behind the snapshot at {self.published}")
        entries = []
        while self.published < work.commit:
            for entry in raft.log.read(self.published + 1, work.commit + 1, 100_000):
                self.stage.invariants.state_machine_safety(raft, entry)
                entries.append(entry)
                self.published = entry.index
        if entries:
            self.say(f"commits {said_entries(entries)}")


class Stage:
    """The nodes, what lies between them, and the page on which it is all written."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.invariants = Invariants()
        self.actors: dict[str, Actor] = {}
        self.wire: list[Message] = []
        self.cut: set[tuple[str, str]] = set()
        self.page: list[str] = []
        self.hidden: frozenset[MessageKind] = frozenset()
        self.kept: MessageKind | None = None
        self._header = ""

    # Words

    def say(self, text: str) -> None:
        """Write a line, below the headline that explains it."""
        if self._header:
            self.page.append(self._header)
            self._header = ""
        self.page.append(text)

    # Nodes

    def found(self, logs: dict[str, list[int]], voters: int, seen: dict[str, int]) -> None:
        """Nodes with logs of these terms on disk, which have seen these terms; entry 1 makes them
        all members.
        """
        names = sorted(logs)
        members = tuple(
            Member(nid, f"host{nid}:1", int(nid) * 10 + 1, VOTER if n < voters else "learner")
            for n, nid in enumerate(names)
        )
        first = founding_entry(Membership(7, members), 1000)
        for nid, terms in logs.items():
            actor = self.fresh(nid)
            entries = [
                Entry.make(KIND_COMMANDS, index, term, 1000, b"old".ljust(OLD_BYTES))
                for index, term in enumerate(terms[1:], 2)
            ]
            actor.disk.entries = [first, *entries]
            actor.disk.hard = HardState(seen[nid], "", 0)
            actor.start()
            if voters > 1:  # long enough to owe nothing to leaders of before
                for _ in range(CONFIG.election_ticks_min):
                    actor.tick()

    def fresh(self, nid: str) -> Actor:
        """A node with an empty disk, not started: the next life of its name."""
        old = self.actors.get(nid)
        incarnation = old.incarnation + 1 if old else int(nid) * 10 + 1
        actor = self.actors[nid] = Actor(self, nid, incarnation)
        return actor

    def up(self) -> list[Actor]:
        return [actor for actor in self.actors.values() if actor.is_up]

    # The network

    def send(self, actor: Actor, message: Message) -> None:
        """Put a message on the wire, or lose it."""
        self.invariants.votes_are_kept(actor.incarnation, message)
        self.invariants.log_matching(message.entries, message.log_term)
        is_cut = (message.sender, message.to) in self.cut
        if message.kind not in self.hidden:
            lost = " (lost)" if is_cut else ""
            self.say(f"    {message.sender}->{message.to} {said_message(message)}{lost}")
        if not is_cut:
            self.wire.append(message)

    def hear(self, message: Message) -> None:
        """Hand over one message, as it comes out of a link."""
        actor = self.actors[message.to]
        self._header = f"{message.to} hears {message.kind.name} from {message.sender}"
        if not actor.is_up:
            if message.kind not in self.hidden:
                self.say(f"  {message.to}: is down")
            self._header = ""
            return
        copy = message
        if message.kind != MessageKind.SNAPSHOT:
            copy = over_the_wire(message)
        actor.raft.step(copy)
        actor.turn()
        if self._header and message.kind not in self.hidden:
            self.say(f"  {message.to}: nothing changes")
        self._header = ""

    def deliver(self, fits: Callable[[Message], bool], follow: bool) -> None:
        """Hand over what is on the wire and fits, with `follow` also what comes of it."""

        def is_due(message: Message) -> bool:
            return fits(message) and message.kind != self.kept

        if not follow:
            due = [message for message in self.wire if is_due(message)]
            self.wire = [message for message in self.wire if not is_due(message)]
            for message in due:
                self.hear(message)
            return
        for _ in range(DELIVERIES_MAX):
            place = next((n for n, m in enumerate(self.wire) if is_due(m)), None)
            if place is None:
                return
            self.hear(self.wire.pop(place))
        raise AssertionError("the nodes do not come to rest")

    def snapshot_message(self, sender: Actor, to: str, found: SnapshotState) -> Message:
        """What the driver of `to` says when it has the file."""
        return Message(
            MessageKind.SNAPSHOT,
            sender.nid,
            to,
            0,
            index=found.index,
            log_term=found.term,
            clock_ms=sender.disk.snapshot_time_ms,
            membership=found.membership,
        )
