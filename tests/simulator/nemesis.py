"""Who makes things go wrong, and at the end puts everything right again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from pyraft_fast.common import Future
from tests.simulator.disk import OPERATIONS, PHASES, Trap
from tests.simulator.network import Way

if TYPE_CHECKING:
    from tests.simulator.machine import Machine
    from tests.simulator.run import Simulation

FAULTS = {
    "partition": 6,
    "one-way partition": 3,
    "bridge": 2,
    "flapping link": 2,
    "kill": 5,
    "power loss": 5,
    "power loss of all": 1,
    "crash point": 8,
    "consensus process killed": 4,
    "pause": 4,
    "clock jump": 2,
    "slow disk": 2,
    "full disk": 1,
    "failed sync": 1,
    "short writes": 2,
    "bit rot": 1,
    "emptied folder": 1,
    "slow handler": 4,
    "suspended": 2,
    "moved": 1,
    "bad network": 2,
    "snapshot": 5,
    "transfer": 4,
    "node added": 2,
    "node removed": 2,
    "demoted or promoted": 1,
    "stopped in order": 2,
}
ARMED = ("crash point", "full disk", "failed sync", "short writes")  # the disk counts what strikes
RARE = ("create", "rename", "unlink", "sync folder")  # what a node does to its disk now and then
MACHINES_MAX = 7


class Nemesis:
    """Draws faults and restarts what ended."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.operator = simulation.operator
        self.world = simulation.world
        self.random = Random(simulation.world.random.getrandbits(64))
        self.until = 0.0
        self.is_over = False
        self.cuts: dict[tuple[str, str], int] = {}
        self.moves = 0

    def begin(self, seconds: float) -> None:
        self.until = seconds
        self._later()

    def _later(self) -> None:
        pace = self.simulation.shape.pace
        self.world.harness.after(self.random.expovariate(1 / pace), self._act)

    def _act(self) -> None:
        if self.is_over:
            return
        self._later()
        self.operator.settle_members()
        weights = self.simulation.shape.weights
        if not any(weights.values()):
            return
        name = self.random.choices(list(weights), list(weights.values()))[0]
        action: Callable[[], bool] = getattr(self, "_" + name.replace(" ", "_").replace("-", "_"))
        if action():
            self.simulation.count(f"{name} armed" if name in ARMED else name)

    # Who

    def _up(self) -> Machine | None:
        ups = [machine for machine in self.operator.machines() if machine.is_up]
        return self.random.choice(ups) if ups else None

    def _running(self) -> Machine | None:
        """A node with a core, the leader more often than others."""
        ups = [machine for machine in self.operator.machines() if machine.raft is not None]
        leader = self.simulation.leader()
        if leader is not None and self.random.random() < 0.3:
            return leader
        return self.random.choice(ups) if ups else None

    # Network

    def _cut(self, one: Machine, other: Machine, seconds: float) -> None:
        key = (one.host_ip, other.host_ip)
        self.cuts[key] = self.cuts.get(key, 0) + 1
        self.simulation.network.cut(*key)
        self.world.harness.after(seconds, self._mend, key)

    def _mend(self, key: tuple[str, str]) -> None:
        if key in self.cuts:
            self.cuts[key] -= 1
            if self.cuts[key] <= 0:
                del self.cuts[key]
                self.simulation.network.mend(*key)

    def _partition(self) -> bool:
        machines = self.operator.machines()
        if len(machines) < 2:
            return False
        rng = self.random
        leader = self.simulation.leader()
        size = 1 if rng.random() < 0.5 else rng.randint(1, len(machines) - 1)
        group = rng.sample(machines, size)
        if size == 1 and leader is not None and rng.random() < 0.5:
            group = [leader]
        seconds = self._duration()
        self._say("partition: %s for %.3f s", " ".join(m.nid for m in group), seconds)
        for one in group:
            for other in machines:
                if other not in group:
                    self._cut(one, other, seconds)
                    self._cut(other, one, seconds)
        return True

    def _one_way_partition(self) -> bool:
        machines = self.operator.machines()
        if len(machines) < 2:
            return False
        one = self.random.choice(machines)
        seconds = self._duration()
        outward = self.random.random() < 0.5
        self._say(
            "one-way partition: %s cannot be %s for %.3f s",
            one.nid,
            "heard" if outward else "told",
            seconds,
        )
        others = [m for m in machines if m is not one and self.random.random() < 0.8]
        for other in others:
            self._cut(*((one, other) if outward else (other, one)), seconds)
        return bool(others)

    def _bridge(self) -> bool:
        machines = self.operator.machines()
        if len(machines) < 3:
            return False
        self.random.shuffle(machines)
        bridge, rest = machines[0], machines[1:]
        half = len(rest) // 2
        seconds = self._duration()
        self._say("bridge: only %s reaches both sides for %.3f s", bridge.nid, seconds)
        for one in rest[:half]:
            for other in rest[half:]:
                self._cut(one, other, seconds)
                self._cut(other, one, seconds)
        return True

    def _flapping_link(self) -> bool:
        machines = self.operator.machines()
        if len(machines) < 2:
            return False
        one, other = self.random.sample(machines, 2)
        self._say("link %s-%s flaps", one.nid, other.nid)
        for turn in range(self.random.randint(2, 8)):
            after = turn * self.random.uniform(0.02, 0.2)
            self.world.harness.after(after, self._flap, one, other)
        return True

    def _flap(self, one: Machine, other: Machine) -> None:
        if self.is_over:
            return
        network = self.simulation.network
        for stream in list(network.streams):
            there = stream.other
            if there is not None and {stream.host, there.host} == {one.host_ip, other.host_ip}:
                network.break_stream(stream, 0.0)
        self._cut(one, other, self.random.uniform(0.005, 0.1))

    def _bad_network(self) -> bool:
        ways = list(self.simulation.network.ways.values())
        if not ways:
            return False
        way = self.random.choice(ways)
        way.loss = self.random.choice([0.0, 0.1, 0.5])
        way.repeat = self.random.choice([0.0, 0.1])
        way.overtake = self.random.choice([0.0, 0.3])
        way.delay = self.random.choice([0.0002, 0.005, 0.05])
        way.jitter = self.random.choice([0.0002, 0.01, 0.1])
        return bool(way.loss or way.repeat or way.overtake) or way.delay + way.jitter > 0.001

    # Nodes that end

    def _kill(self) -> bool:
        machine = self._up()
        if machine is not None:
            machine.kill()
        return machine is not None

    def _power_loss(self) -> bool:
        machine = self._up()
        if machine is not None:
            machine.lose_power()
        return machine is not None

    def _power_loss_of_all(self) -> bool:
        ups = [machine for machine in self.operator.machines() if machine.is_up]
        for machine in ups:
            machine.lose_power()
        return bool(ups)

    def _crash_point(self) -> bool:
        machine = self._up()
        if machine is None:
            return False
        rng = self.random
        operation = rng.choice([*OPERATIONS, "write", "write", "sync", "sync", "rename"])
        trap = Trap(rng.choice(PHASES), rng.random() < 0.7)
        count = 1 if operation in RARE else rng.choice([1, 1, 2, 3, 8])
        machine.disk.arm(operation, count, trap)
        if operation in RARE:
            self._ask_snapshot(machine)  # which comes to it soon
        return True

    def _consensus_process_killed(self) -> bool:
        machine = self._up()
        return machine is not None and machine.kill_child()

    def _stopped_in_order(self) -> bool:
        machine = self._running()
        if machine is not None:
            machine.shut_down()
        return machine is not None

    def node_ended(self, machine: Machine) -> None:
        """Start it again in a while, as its supervisor or its operator does."""
        machine.disk.disarm()
        delay = self.random.choice([0.01, 0.1, 0.3, 0.8]) * self.random.uniform(0.5, 1.5)
        if self.is_over:
            delay = 0.05
        self.world.harness.after(delay, self._restart, machine)

    def _restart(self, machine: Machine) -> None:
        if machine.is_up or machine.is_gone or machine.is_held:
            return
        if machine.is_rotten and machine.fatal:
            self._say("the operator empties the folder of %s", machine.nid)
            self.operator.empty(machine)
            return
        if machine.ensemble:
            machine.ensemble = self.operator.listing(machine)
        machine.start()

    # Nodes that stand still

    def _pause(self) -> bool:
        machine = self._running()
        if machine is None:
            return False
        which = self.random.choice(["consensus", "serving", "both"])
        seconds = self.random.choice([0.05, 0.2, 0.5, 1.5])
        machine.say("is paused (%s) for %.3f s", which, seconds)
        for process in machine.pause(which):
            self.world.harness.after(seconds, process.go_on)
        return True

    def _slow_handler(self) -> bool:
        machine = self._up()
        if machine is None or machine.serving is None:
            return False
        seconds = self.random.choice([0.03, 0.2, 1.0])
        machine.say("has a handler that takes %.3f s", seconds)
        machine.serving.soon(machine.serving.take_time, seconds)
        return True

    def _suspended(self) -> bool:
        machine = self._running()
        if machine is None:
            return False
        seconds = self.random.choice([0.05, 0.3, 1.0])
        machine.say("sleeps for %.3f s", seconds)
        for process in machine.suspend(seconds):
            self.world.harness.after(seconds, process.go_on)
        return True

    def _moved(self) -> bool:
        """A node comes back at another address and tells the others."""
        machine = self.random.choice(self.operator.machines())
        if not self.operator.is_member(machine):
            return False  # who looks for a cluster is found at the listed address only
        if machine.is_up:
            machine.kill()
        self.moves += 1
        machine.move(self.moves)
        machine.overwrites = True
        machine.ensemble = self.operator.listing(machine)
        machine.say("moves to %s", machine.addr)
        return True

    def _clock_jump(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        jump = self.random.choice([-3_600_000, -2000, -100, 100, 2000, 3_600_000])
        machine.say("clock jumps by %d ms", jump)
        machine.clock.offset_ms += jump
        return True

    # Disks

    def _slow_disk(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        machine.disk_delay = self.random.choice([(0.0, 0.001), (0.02, 0.1), (0.1, 0.4)])
        return machine.disk_delay[0] > 0.0

    def _short_writes(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        machine.disk.short_writes = self.random.choice([0.0, 0.3])
        return machine.disk.short_writes > 0.0

    def _full_disk(self) -> bool:
        machine = self._up()
        if machine is None:
            return False
        machine.say("has a full disk")
        machine.disk.fill(self.random.choice([0, 100, 5000]))
        self.world.harness.after(self.random.uniform(0.1, 1.0), machine.disk.disarm)
        return True

    def _failed_sync(self) -> bool:
        machine = self._up()
        if machine is None:
            return False
        machine.say("a sync will fail")
        machine.disk.sync_failures = 1
        return True

    # What forgets

    def _bit_rot(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        if not self.operator.may_forget(machine):
            return False
        if machine.is_up:
            machine.kill()
        where = machine.disk.rot()
        if not where:
            return False
        machine.say("a bit rots: %s", where)
        machine.is_rotten = True
        self.operator.forgetful = machine
        return True

    def _emptied_folder(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        if not self.operator.may_forget(machine):
            return False
        if machine.is_up:
            machine.kill()
        self.operator.empty(machine)
        return True

    # Members

    def _ask(self, name: str, *fields: Any) -> bool:
        machine = self._running()
        if machine is None or machine.serving is None:
            return False
        self.operator.ask(machine, name, *fields)
        return True

    def _transfer(self) -> bool:
        targets = ["", *(m.nid for m in self.operator.machines())]
        return self._ask("transfer", self.random.choice(targets))

    def _snapshot(self) -> bool:
        machine = self._up()
        if machine is not None:
            self._ask_snapshot(machine)
        return machine is not None

    def _ask_snapshot(self, machine: Machine) -> None:
        if machine.serving is None or machine.service is None:
            return
        machine.say("is asked for a snapshot")
        future = Future(("checkpoint",))
        future.add_done_callback(lambda done: machine.say("snapshot: %r", done.value))
        machine.serving.soon(machine.service.checkpoint, future, None)

    def _node_added(self) -> bool:
        if len(self.simulation.machines) >= MACHINES_MAX or self.simulation.leader() is None:
            return False
        machine = self.simulation.new_machine()
        machine.ensemble = self.operator.listing(machine)
        machine.start()
        return True

    def _node_removed(self) -> bool:
        machines = self.operator.machines()
        if len(machines) < 2 or any(machine.wants_out for machine in machines):
            return False
        machine = self.random.choice(machines)
        if not self.operator.is_member(machine) or not self.operator.may_shrink():
            return False
        machine.wants_out = True
        return self._ask("change", "remove", machine.nid, "")

    def _demoted_or_promoted(self) -> bool:
        machine = self.random.choice(self.operator.machines())
        op = self.random.choice(["demote", "promote"])
        if op == "demote":
            if self.simulation.shape.founding == "join":
                return False  # too few voters for what was founded, and it would not serve
            if not self.operator.may_shrink():
                return False
        return self._ask("change", op, machine.nid, "")

    # Afterwards

    def heal(self) -> None:
        """No more faults; everything that can be put right is."""
        self.is_over = True
        network = self.simulation.network
        for key in list(self.cuts):
            del self.cuts[key]
            network.mend(*key)
        network.make_way = Way
        for way in network.ways.values():
            way.loss = way.repeat = way.overtake = 0.0
            way.delay, way.jitter = 0.001, 0.001
        for machine in self.simulation.machines.values():
            machine.disk.disarm()
            machine.disk_delay = (0.0002, 0.001)
            for process in (machine.serving, machine.child and machine.child.process):
                if process is not None:
                    process.go_on()
            if machine.is_up and machine.raft is None and self.moves:
                machine.kill()  # it may look for others where they are no more
            if not machine.is_up and not machine.is_gone:
                self._restart(machine)

    def _duration(self) -> float:
        return self.random.choice([0.03, 0.15, 0.4, 1.0]) * self.random.uniform(0.5, 1.5)

    def _say(self, text: str, *facts: Any) -> None:
        self.simulation.say("", text, *facts)
