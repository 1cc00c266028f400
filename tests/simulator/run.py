"""One simulation from its seed: faults first, then healing, then everything must be well."""

from __future__ import annotations

import gc
import logging
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Any

from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.change import founding_entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.core.work import HardState, Role
from tests.core.invariants import require
from tests.simulator import checks, patches
from tests.simulator.checks import Checks
from tests.simulator.clients import Clients
from tests.simulator.loop import EPOCH_MS, Clock, World
from tests.simulator.machine import WORKERS, Machine, SimChild
from tests.simulator.nemesis import FAULTS, Nemesis
from tests.simulator.network import Network, Way
from tests.simulator.operator import Operator
from tests.simulator.shape import Options, draw

CLUSTER = 0xC1
HEAL_SECONDS = 15.0  # until every node has to be well again


class Violation(AssertionError):
    """A rule was broken; says which seed, when, what, and what happened right before."""

    def __init__(self, seed: int, step: int, text: str, trace: list[str]) -> None:
        tail = "\n".join(trace)
        super().__init__(
            f"seed {seed}, step {step}: {text}\n{tail}\n"
            f"replay: python -m tests.simulator --replay {seed}"
        )
        self.seed = seed
        self.step = step
        self.text = text
        self.trace = trace


@dataclass
class Report:
    """What one simulation was."""

    seed: int
    seconds: float = 0.0  # of virtual time
    steps: int = 0
    operations: int = 0
    elections: int = 0
    commits: int = 0
    nodes: int = 0
    hash: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)


class Simulation:
    """Machines, network, clients and faults of one seed."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.world = World(seed)
        self.shape = draw(Random(seed * 7919 + 17), options, FAULTS)
        self.lines: deque[tuple[float, int, str, str, tuple[Any, ...]]] = deque(
            maxlen=None if options.trace else options.lines
        )
        self.faults: dict[str, int] = {}
        self.bells: dict[int, SimChild] = {}
        self.incarnations: dict[int, str] = {}
        self.network = Network(self.world)
        self.network.make_way = self._make_way
        self.checks = Checks(self)
        self.machines: dict[str, Machine] = {}
        self.clients = Clients(self)
        self.operator = Operator(self)
        self.nemesis = Nemesis(self)

    # Telling

    def say(self, who: str, text: str, *facts: Any) -> None:
        """One line of the trace; put into words only if somebody reads it."""
        world = self.world
        self.lines.append((world.now, world.steps, who, text, facts))

    def count(self, what: str) -> None:
        """A fault happened."""
        self.faults[what] = self.faults.get(what, 0) + 1

    def trace(self) -> list[str]:
        """The lines kept."""
        return [
            f"{time:10.6f} {step:6} {who:>4}  {text % facts if facts else text}"
            for time, step, who, text, facts in self.lines
        ]

    # Making

    def make_clock(self) -> Clock:
        """Half of all machines run as fast or as slow as any may."""
        rng, shape = self.world.random, self.shape
        rate = (1.0 + shape.drift) ** min(max(rng.uniform(-1.0, 1.0), -0.5), 0.5)
        return Clock(rate, rng.randint(-shape.skew_ms, shape.skew_ms) if shape.skew_ms else 0)

    def _make_way(self) -> Way:
        rng, shape = self.world.random, self.shape
        return Way(
            False, shape.loss, shape.repeat, shape.overtake,
            shape.delay * rng.uniform(0.5, 1.5), shape.jitter * rng.uniform(0.5, 1.5),
        )  # fmt: skip

    def new_machine(self) -> Machine:
        """A machine with an empty disk."""
        number = len(self.machines) + 1
        machine = Machine(self, str(number), number)
        self.machines[machine.nid] = machine
        return machine

    def found(self) -> None:
        """A cluster whose voters have nothing but the founding entry, or nodes without files."""
        rng = self.world.random
        for _ in range(self.shape.nodes):
            self.new_machine()
        if self.shape.founding == "join":
            listing = [(machine.nid, machine.addr) for machine in self.machines.values()]
            for machine in self.machines.values():
                machine.ensemble = listing
                machine.start()
            return
        incarnations = {nid: rng.randint(1, 2**32 - 1) for nid in self.machines}
        members = sorted(
            Member(m.nid, m.addr, incarnations[m.nid], VOTER) for m in self.machines.values()
        )
        entry = founding_entry(Membership(CLUSTER, tuple(members)), EPOCH_MS)
        for machine in self.machines.values():
            self.world.current.machine = machine
            wal, _ = Wal.open(
                machine.folder, machine.nid, cluster=CLUSTER,
                incarnation=incarnations[machine.nid], segment_bytes=self.shape.segment_bytes,
            )  # fmt: skip
            wal.append(HardState(1, "", 0), [entry.record])
            wal.close()
            machine.start()

    # Running

    def run(self) -> Report:
        """The whole of it. Raises what broke."""
        world, shape = self.world, self.shape
        with patches.patched(self):
            checks.NOW.append(self.checks)
            try:
                self.found()
                self.clients.begin(shape.clients, shape.keys, shape.think)
                self.nemesis.begin(shape.fault_seconds)
                world.run(shape.fault_seconds)
                self.nemesis.heal()
                self._recover()
                self._finish()
            finally:
                checks.NOW.pop()
                for machine in self.machines.values():
                    machine.discard()
        return self.report()

    def report(self) -> Report:
        faults = dict(self.faults)
        for what, count in self.network.counts.items():
            faults[what] = faults.get(what, 0) + count
        return Report(
            self.seed, self.world.now, self.world.steps, len(self.clients.history),
            self.checks.elections, self.checks.rules.commit, len(self.machines),
            self.world.hash, faults, dict(self.clients.results),
            self.trace() if self.options.trace else [],
        )  # fmt: skip

    def later_start(self, machine: Machine) -> None:
        """A node ended: its supervisor starts it again in a while."""
        self.nemesis.node_ended(machine)

    def leader(self) -> Machine | None:
        """Who leads the newest term."""
        found = [
            machine
            for machine in self.machines.values()
            if machine.raft is not None and machine.raft.role is Role.LEADER
        ]
        return max(found, key=lambda machine: machine.raft.term, default=None)

    def members(self) -> list[Machine]:
        """The machines that belong to the cluster, as its leader knows it."""
        leader = self.leader()
        if leader is None:
            return []
        names = {m.nid: m.incarnation for m in leader.raft.membership.members}
        return [
            machine
            for machine in self.machines.values()
            if machine.nid in names
            and machine.raft is not None
            and machine.raft.incarnation == names[machine.nid]
        ]

    def _recover(self) -> None:
        """After healing every member must answer a write and a read within a bounded time."""
        world = self.world
        deadline = world.now + HEAL_SECONDS
        self.say("", "healed")
        require(
            world.run(deadline, self.operator.is_settled),
            "a leader and all members back in time after healing", self.operator.why(),
        )  # fmt: skip
        self.clients.asking = False
        world.run(
            min(deadline, world.now + self.shape.answer_seconds + 0.5),
            lambda: not self.clients.pending,
        )
        keys = [key for key, _ in self.clients.keys]
        attempt = 0
        while world.now < deadline:
            attempt += 1
            asked = [
                self.clients.call(machine, None, "get", key, None)
                for machine in self.members()
                for key in keys
            ]
            marks = [
                self.clients.call(machine, None, "set", f"mark{machine.nid}", str(attempt))
                for machine in self.members()
            ]
            done = [*asked, *marks]
            world.run(
                min(deadline, world.now + 3.0),
                lambda done=done: all(each.is_over for each in done),
            )
            if done and all(each.is_ok for each in done) and self.operator.is_settled():
                return
            world.run(world.now + 0.2)
        require(False, "every member serves in time after healing", self.operator.why())

    def _finish(self) -> None:
        """The same data everywhere, and a history that one order explains."""
        world = self.world

        def even() -> bool:
            members = self.members()
            return bool(members) and len({m.service.applier.index for m in members}) == 1

        require(world.run(world.now + 5.0, even) or even(), "all nodes apply the whole log")
        self.clients.judge()
        members = self.members()
        first = members[0]
        for other in members[1:]:
            require(
                other.service.applier.index != first.service.applier.index
                or other.host.store.data == first.host.store.data,
                "the same data on every node", first.nid, other.nid,
                first.host.store.data, other.host.store.data,
            )  # fmt: skip


RUNS: list[int] = []  # since garbage was collected: it may not be during a run
RUNS_PER_COLLECTION = 20


def simulate(seed: int, options: Options | None = None) -> Report:
    """Run one seed. Raises Violation."""
    disabled = logging.root.manager.disable
    collecting = gc.isenabled()
    gc.disable()
    logging.disable(logging.CRITICAL)
    simulation = Simulation(seed, options or Options())
    try:
        return simulation.run()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise Violation(seed, simulation.world.steps, text, simulation.trace()) from error
    finally:
        WORKERS.clear()  # or it would hold all that was
        logging.disable(disabled)
        if collecting:
            gc.enable()
        RUNS.append(seed)
        if len(RUNS) >= RUNS_PER_COLLECTION:
            RUNS.clear()
            gc.collect()
