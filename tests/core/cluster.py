"""A deterministic cluster in memory: the product's rules, with a network and disks made of dice.

Every node obeys the driver's duties (see pyraft_fast/core/work.py); the invariants are checked at
every step. One seed decides everything. Time is counted in ticks; `Faults` says how bad things are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG
from pyraft_fast._wire import FrameReader, decode_message, encode_message
from pyraft_fast.core.change import founding_entry
from pyraft_fast.core.membership import Member, Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.reads import NOT_SHOWN
from pyraft_fast.core.work import Config, HardState, Role, SnapshotState, Work
from pyraft_fast.limits import PEER_FRAME_BYTES_MAX
from tests.core.disk import Job, MemoryDisk
from tests.core.invariants import Invariants, require

TICK_MS = 10


def over_the_wire(message: Message) -> Message:
    """What the receiver makes of the bytes of a message."""
    reader = FrameReader(PEER_FRAME_BYTES_MAX)
    reader.feed(b"".join(encode_message(message)))
    (frame,) = reader.frames()
    return decode_message(message.sender, message.incarnation, message.to, frame)


@dataclass
class Faults:
    """Chances per event, from 0 to 1; delays in ticks; how wrong steady clocks may go."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_ticks_max: int = 0
    disk_ticks_max: int = 0
    notice: float = 1.0  # of a lost message by the sender's link
    snapshot_loss: float = 0.0
    drift: float = 0.0


class Node:
    """One node: rules, disk, and what its state machine has applied."""

    def __init__(self, cluster: Cluster, nid: str, incarnation: int) -> None:
        self.cluster = cluster
        self.nid = nid
        self.incarnation = incarnation
        self.disk = MemoryDisk(cluster.invariants)
        self.shown = NOT_SHOWN  # of its lease, to its serving side; as good without the node
        self.is_up = False
        self.is_removed = False
        self.applied = 0
        self.disk_free_at = 0
        self.roles: list[str] = []
        self.contexts = 0
        self.done: list[int] = []
        self.failed: list[int] = []
        self.speed = 1.0  # the chance of a tick in each tick of the cluster
        self.is_stopped = False  # gets no time and no messages, as after SIGSTOP
        self.drift_ms = cluster.rng.randint(-500, 500)
        drift = cluster.faults.drift
        self.steady_from = 0
        self.steady_rate = cluster.rng.choice([1 - drift, 1, 1 + drift])

    def start(self) -> None:
        """Start or restart from the disk."""
        log = self.disk.recover()
        config = self.cluster.config._replace(nid=self.nid, incarnation=self.incarnation)
        self.raft = Raft(
            config,
            log,
            self.disk.hard,
            self.disk.snapshot.membership,
            self.cluster.rng,
            self.disk.snapshot_time_ms,
        )
        self.applied = self.disk.snapshot.index
        self.shown = NOT_SHOWN
        self.steady_from = self.cluster.rng.randint(1, 1_000_000)  # the machine was booted anew
        if not self.cluster.now:
            self.raft.lease.vote_hold = 0  # founded, not restarted
        self.is_up = True
        self.turn()

    def crash(self) -> None:
        """Lose everything that is not on disk."""
        self.is_up = False
        self.disk.crash(self.cluster.rng)
        invariants = self.cluster.invariants
        for key in [key for key in invariants.reads if key[0] == self.incarnation]:
            del invariants.reads[key]

    @property
    def now_ms(self) -> int:
        return 1_000_000 + self.cluster.now * TICK_MS + self.drift_ms

    @property
    def steady_ms(self) -> int:
        return self.steady_from + int(self.cluster.now * TICK_MS * self.steady_rate)

    def read(self, by_lease: bool = False) -> int:
        """Ask for a read index; returns the context."""
        self.contexts += 1
        self.cluster.invariants.read_asked(self.incarnation, self.contexts)
        self.raft.read(self.contexts, by_lease)
        return self.contexts

    def propose(self, payload: bytes = b"") -> bool:
        """Propose a batch."""
        return self.raft.propose(KIND_COMMANDS, payload, 1, 0, 0, 0, self.now_ms)

    def turn(self) -> None:
        """Take one Work and obey it."""
        raft, cluster = self.raft, self.cluster
        invariants = cluster.invariants
        invariants.election_safety(raft)
        raft.steady_ms = self.steady_ms
        work = raft.take()
        self.shown = raft.reads.by_lease_now(raft)
        if work.role_change is not None:
            self.roles.append(work.role_change.role)
        if work.snapshot is not None:
            self.disk.save_snapshot(work.snapshot, raft.clock_ms)  # the file was durable before
        for message in work.send_now:
            cluster.send(message, self.incarnation)
        if work.needs_disk:
            before = raft.log.term(work.entries[0].index - 1) if work.entries else 0
            self.disk.jobs.append(Job(work, before))
        self._publish(work)
        for state in work.reads:
            invariants.read_answered(raft, state)
            self.done.append(state.context)
        for context in work.failed_reads:
            invariants.read_failed(self.incarnation, context)
            self.failed.append(context)
        for nid in work.wants_snapshot:
            cluster.send_snapshot(self, nid)
        self.is_removed = self.is_removed or raft.role is Role.REMOVED

    def _publish(self, work: Work) -> None:
        raft, invariants = self.raft, self.cluster.invariants
        before = invariants.commit
        while self.applied < work.commit:
            if self.applied + 1 < raft.log.first:
                require(self.disk.snapshot.index > self.applied, "a snapshot fills the gap")
                self.applied = self.disk.snapshot.index
                continue
            entries = raft.log.read(self.applied + 1, work.commit + 1, 500)
            require(entries, "a committed entry can be read", self.nid, self.applied, work.commit)
            for entry in entries:
                require(entry.index == self.applied + 1, "published in order", entry)
                invariants.state_machine_safety(raft, entry)
                self.applied = entry.index
        if invariants.commit > before:
            for node in self.cluster.nodes.values():
                invariants.shown_lease(node.nid, node.shown, node.steady_ms)

    def run_disk(self, everything: bool = False) -> bool:
        """Finish the oldest job if its time has come."""
        if (
            self.is_stopped
            or not self.disk.jobs
            or (not everything and self.disk_free_at > self.cluster.now)
        ):
            return False
        job = self.disk.jobs.popleft()
        self.disk.write(job)
        for message in job.messages:
            self.cluster.send(message, self.incarnation)
        if job.entries:
            self.raft.persisted(job.entries[-1].index, job.entries[-1].term)
        limit = self.cluster.faults.disk_ticks_max
        self.disk_free_at = self.cluster.now + (self.cluster.rng.randint(0, limit) if limit else 0)
        self.turn()
        return True

    def take_snapshot(self, tail: int) -> None:
        """The state machine saves what it has applied; the log keeps `tail` entries before it."""
        log = self.raft.log
        index = self.applied
        if index <= self.disk.snapshot.index or log.term(index) < 0:
            return
        membership = next(m for at, m in reversed(log.configs) if at <= index)
        self.disk.save_snapshot(
            SnapshotState(index, log.term(index), membership),
            self.cluster.invariants.committed[index].time_ms,
        )
        self.raft.compact(index - tail)
        self.disk.forget_below(log.first)


class Cluster:
    """Nodes "1".."n" and what lies between them."""

    def __init__(
        self,
        voters: int = 3,
        learners: int = 0,
        seed: int = 1,
        faults: Faults | None = None,
        config: Config | None = None,
    ) -> None:
        self.rng = Random(seed)
        self.faults = faults or Faults()
        self.config = config or Config("", 0, 2, 10, 20, 300, 4, 1000, commit_at_once=True)
        self.now = 0
        self.invariants = Invariants()
        self.incarnations = 0
        self.nodes: dict[str, Node] = {}
        self.wire: list[tuple[int, int, Message]] = []
        self.sent = 0
        self.cut: set[frozenset[str]] = set()
        self.snapshots: list[tuple[int, Node, str]] = []
        self.on_message: Callable[[Message], bool] | None = None
        self.on_step: Callable[[Node], None] | None = None  # after each message a node takes
        self.slow: set[str] = set()  # if there are any, only their messages are delayed
        names = [str(number + 1) for number in range(voters + learners)]
        self._found(names, voters)

    def _found(self, names: list[str], voters: int) -> None:
        members = []
        for position, nid in enumerate(names):
            node = self.new_node(nid)
            role = "voter" if position < voters else "learner"
            members.append(Member(nid, f"host{nid}:1", node.incarnation, role))
        entry = founding_entry(Membership(7, tuple(sorted(members))), 1000)
        for node in self.nodes.values():
            node.disk.entries = [entry]
            node.disk.hard = HardState(1, "", 0)
            node.start()

    def new_node(self, nid: str) -> Node:
        """A node with an empty disk, not started."""
        self.incarnations += 1
        node = self.nodes[nid] = Node(self, nid, self.incarnations)
        return node

    # The network

    def send(self, message: Message, incarnation: int) -> None:
        """Put a message on the wire, unless it is lost."""
        self.invariants.votes_are_kept(incarnation, message)
        self.invariants.log_matching(message.entries, message.log_term)
        if self.on_message is not None and not self.on_message(message):
            return
        faults, rng = self.faults, self.rng
        if self.is_cut(message.sender, message.to) or (faults.loss and rng.random() < faults.loss):
            sender = self.nodes[message.sender]
            if faults.notice and rng.random() < faults.notice and sender.is_up:
                sender.raft.unreachable(message.to)
            return
        copies = 2 if faults.duplication and rng.random() < faults.duplication else 1
        for _ in range(copies):
            is_slow = not self.slow or bool(self.slow & {message.sender, message.to})
            delay = rng.randint(0, faults.delay_ticks_max) if is_slow else 0
            self.sent += 1
            self.wire.append((self.now + delay, self.sent, message))

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.cut

    def deliver(self) -> bool:
        """Hand over one message that is due."""
        due = [
            item
            for item in self.wire
            if item[0] <= self.now and not self.nodes[item[2].to].is_stopped
        ]
        if not due:
            return False
        item = due[0] if not self.faults.delay_ticks_max else self.rng.choice(due)
        self.wire.remove(item)
        message = item[2]
        node = self.nodes[message.to]
        if not node.is_up or self.is_cut(message.sender, message.to):
            return True
        node.raft.step(over_the_wire(message))
        node.turn()
        if self.on_step is not None:
            self.on_step(node)
        return True

    def send_snapshot(self, node: Node, nid: str) -> None:
        """Stream the node's newest snapshot, which takes a while."""
        delay = self.rng.randint(0, 3 * self.faults.delay_ticks_max)
        self.snapshots.append((self.now + delay, node, nid))

    def _finish_snapshots(self) -> None:
        for item in [item for item in self.snapshots if item[0] <= self.now]:
            self.snapshots.remove(item)
            _, sender, nid = item
            node = self.nodes.get(nid)
            lost = self.rng.random() < self.faults.snapshot_loss
            ok = node is not None and node.is_up and not self.is_cut(sender.nid, nid) and not lost
            if not sender.is_up:
                continue
            if ok and node is not None:
                found = sender.disk.snapshot
                require(found.index >= sender.raft.log.first - 1, "a snapshot joins the log")
                node.raft.step(
                    Message(
                        MessageKind.SNAPSHOT,
                        sender.nid,
                        nid,
                        0,
                        index=found.index,
                        log_term=found.term,
                        clock_ms=sender.disk.snapshot_time_ms,
                        membership=found.membership,
                    )
                )
                node.turn()
            sender.raft.snapshot_sent(nid, ok)
            sender.turn()

    # Time

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        while True:
            busy = self.deliver()
            for node in self.up():
                busy = node.run_disk() or busy
            if not busy:
                before = len(self.snapshots)
                self._finish_snapshots()
                if before == len(self.snapshots):
                    return

    def run(self, ticks: int) -> None:
        """Let time pass."""
        for _ in range(ticks):
            self.now += 1
            nodes = self.up()
            self.rng.shuffle(nodes)
            for node in nodes:
                if not node.is_stopped and (node.speed == 1 or self.rng.random() < node.speed):
                    node.raft.steady_ms = node.steady_ms
                    node.raft.tick(node.now_ms)
                    node.turn()
            self.settle()

    def run_until(self, condition: Callable[[], object], ticks_max: int = 1000) -> None:
        """Let time pass until something holds; fails if it takes too long."""
        for _ in range(ticks_max):
            if condition():
                return
            self.run(1)
        assert condition(), "it did not happen in time"

    # Nodes

    def up(self) -> list[Node]:
        """Nodes that run and were not removed."""
        return [node for node in self.nodes.values() if node.is_up]

    def leader(self) -> Node | None:
        """The leader of the newest term among nodes that run."""
        leaders = [node for node in self.up() if node.raft.role is Role.LEADER]
        return max(leaders, key=lambda node: node.raft.term, default=None)

    def elect(self, nid: str = "1") -> Node:
        """Have `nid` elected, and its first entry committed everywhere it can be."""
        node = self.nodes[nid]
        node.raft.election_elapsed = node.raft.election_timeout
        self.run_until(lambda: node.raft.role is Role.LEADER, 1)
        self.run(3)
        return node

    def wait_for_leader(self) -> Node:
        """Let time pass until somebody leads and may serve."""

        def is_ready() -> bool:
            node = self.leader()
            return node is not None and node.raft.log.commit >= node.raft.term_start

        self.run_until(is_ready)
        leader = self.leader()
        assert leader is not None
        return leader

    def propose(self, node: Node, payload: bytes = b"") -> int:
        """Propose on `node` and let it happen; returns the index."""
        assert node.propose(payload)
        index = node.raft.log.last
        node.turn()
        self.settle()
        return index

    def change(self, node: Node, op: str, nid: str, incarnation: int = 0) -> int:
        """Propose a membership change on `node` and let it happen."""
        index = node.raft.propose_change(op, nid, f"host{nid}:1", incarnation, node.now_ms)
        node.turn()
        self.settle()
        return index

    def join(self, leader: Node, nid: str) -> Node:
        """Add a fresh node as learner."""
        node = self.new_node(nid)
        node.start()
        self.change(leader, "add", nid, node.incarnation)
        return node

    def isolate(self, *group: str) -> None:
        """Cut `group` off from all others."""
        for one in group:
            for other in self.nodes:
                if other not in group:
                    self.cut.add(frozenset((one, other)))

    def heal(self) -> None:
        """Mend every cut."""
        self.cut.clear()


def membership_entries(node: Node) -> list[int]:
    """Indexes of membership entries in a node's log."""
    log = node.raft.log
    found = [log.read(i, i + 1, 1)[0] for i in range(log.first, log.last + 1)]
    return [entry.index for entry in found if entry.kind == KIND_CONFIG]
