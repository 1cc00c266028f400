"""Scenes from seeds that once failed, played without dice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pyraft_fast.common import Future
from tests.simulator import checks, patches
from tests.simulator.machine import Machine
from tests.simulator.run import Simulation
from tests.simulator.shape import Options


class Scene:
    """A quiet cluster, whose faults a test chooses."""

    def __init__(self, nodes: int, **shape: int) -> None:
        self.simulation = Simulation(1, Options(nodes=nodes))
        self.simulation.shape = replace(self.simulation.shape, skew_ms=0, **shape)
        self.simulation.shape.loss = self.simulation.shape.repeat = 0.0
        self.simulation.shape.overtake = 0.0

    def __enter__(self) -> Scene:
        self.patches = patches.patched(self.simulation)
        self.patches.__enter__()
        checks.NOW.append(self.simulation.checks)
        self.simulation.found()
        self.until(self.simulation.operator.is_settled)
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.simulation.machines.values():
            machine.discard()
        checks.NOW.pop()
        self.patches.__exit__(None, None, None)

    def until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        world = self.simulation.world
        assert world.run(world.now + seconds, done), self.simulation.operator.why()

    def leader(self) -> Machine:
        found = self.simulation.leader()
        assert found is not None
        return found

    def followers(self) -> list[Machine]:
        return [m for m in self.simulation.machines.values() if m is not self.leader()]

    def cut_off(self, machine: Machine) -> None:
        for other in self.simulation.machines.values():
            if other is not machine:
                self.simulation.network.cut(machine.host_ip, other.host_ip)
                self.simulation.network.cut(other.host_ip, machine.host_ip)

    def mend(self) -> None:
        for one, other in list(self.simulation.network.ways):
            self.simulation.network.mend(one, other)

    def transfer(self, target: Machine) -> None:
        leader = self.leader()
        self.simulation.operator.ask(leader, "transfer", target.nid)
        self.until(lambda: self.simulation.leader() is target)


def test_a_laggard_answers_a_leader_that_was_set_up_anew_behind_its_back() -> None:
    """It knows the leader's name with the incarnation of before; the leader refused its links."""
    with Scene(5) as scene:
        laggard, lost = scene.followers()[:2]
        scene.cut_off(laggard)
        lost.kill()
        scene.simulation.operator.empty(lost)
        voters = scene.leader().raft.membership.voters
        assert lost.nid in [member.nid for member in voters]

        def is_back() -> bool:
            leader = scene.simulation.leader()
            raft = None if leader is None else leader.raft
            if raft is None or lost.raft is None:
                return False
            member = raft.committed_membership.get(lost.nid)
            return bool(member and member.is_voter and member.incarnation == lost.raft.incarnation)

        scene.until(is_back)
        scene.transfer(lost)
        scene.mend()
        scene.until(scene.simulation.operator.is_settled)
        index = scene.leader().raft.log.commit
        scene.until(lambda: laggard.raft.log.commit >= index)


def test_a_node_that_moved_finds_a_leader_it_never_heard_of() -> None:
    """Its leader is a newcomer, which looks for it at its old address."""
    with Scene(3) as scene:
        mover = scene.followers()[0]
        mover.is_held = True
        mover.kill()
        newcomer = scene.simulation.new_machine()
        newcomer.ensemble = scene.simulation.operator.listing(newcomer)
        newcomer.start()

        def votes() -> bool:
            leader = scene.simulation.leader()
            member = leader and leader.raft.committed_membership.get(newcomer.nid)
            return bool(member and member.is_voter)

        scene.until(votes)
        scene.transfer(newcomer)
        mover.move(1)
        mover.is_held = False
        mover.start()
        scene.until(scene.simulation.operator.is_settled)
        assert scene.leader().raft.committed_membership.get(mover.nid).addr == mover.addr


def test_a_snapshot_beyond_the_known_commit_leaves_the_log_as_the_core_knows_it() -> None:
    """A new consensus process has not heard yet that what its serving side applied is committed."""
    with Scene(3, segment_bytes=4096, tail_entries=0) as scene:
        leader, (node, other) = scene.leader(), scene.followers()
        leader.disk_delay = other.disk_delay = (0.5, 0.5)
        node.disk_delay = (0.0, 0.0)  # it writes all of this before any of it is committed
        harness, clients = scene.simulation.world.harness, scene.simulation.clients
        for number in range(60):
            value = f"{number:0200}"
            harness.after(number * 0.003, clients.call, leader, None, "set", "set0", value)
        scene.until(lambda: node.raft.log.last > 60)
        scene.until(lambda: node.service.applier.index >= node.raft.log.last)
        scene.cut_off(node)
        node.kill_child()
        scene.until(lambda: node.raft is not None)
        assert node.raft.log.commit < node.service.applier.index
        node.serving.soon(node.service.checkpoint, Future(("checkpoint",)), None)
        driver = node.child.main._node._driver
        scene.until(lambda: driver.snapshot is not None and driver.disk.is_idle)
        assert driver.snapshot.index > node.raft.log.commit
        scene.simulation.world.current = node.child.process  # whose disk it is
        first = node.raft.log.first
        assert node.raft.log.read(first, first + 1, 1)
        scene.mend()
        scene.until(scene.simulation.operator.is_settled)


def test_two_nodes_that_moved_at_once_find_each_other_by_one_list_that_is_right() -> None:
    """The leader needs nobody and had asked its list once, while the other could not be reached."""
    with Scene(2) as scene:
        operator, network = scene.simulation.operator, scene.simulation.network
        leader, other = scene.leader(), scene.followers()[0]
        operator.ask(leader, "change", "demote", other.nid, "")
        scene.until(lambda: len(leader.raft.committed_membership.voters) == 1)
        for number, machine in enumerate((leader, other)):
            machine.is_held = True
            machine.kill()
            machine.move(number)
        leader.ensemble = [(other.nid, other.addr)]  # the other's list names nobody any more
        scene.cut_off(leader)
        for machine in (leader, other):
            machine.is_held = False
            machine.start()

        def is_alone() -> bool:
            raft = leader.raft
            member = raft and raft.committed_membership.get(leader.nid)
            return bool(member and member.addr == leader.addr)

        scene.until(is_alone)
        network.mend(leader.host_ip, other.host_ip)
        network.mend(other.host_ip, leader.host_ip)
        scene.until(operator.is_settled)
