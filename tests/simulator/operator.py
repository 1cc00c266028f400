"""The operator: empties folders, asks for membership changes, and knows when all is well.

A voter may lose what it promised (an emptied folder, a flipped bit) only while so many others still
have theirs that a majority always remembers: more than that no protocol survives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyraft_fast.common import Future
from pyraft_fast.serving.treaty import Request

if TYPE_CHECKING:
    from tests.simulator.machine import Machine
    from tests.simulator.run import Simulation

CHANGE_SECONDS = 5.0  # after which a change that was asked for happens no more


class Operator:
    """Who forgot, who is to leave, and what is still missing."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.shrinks: list[float] = []  # until when a voter may yet go that was asked to
        self.forgetful: Machine | None = None  # whose promises are lost

    def machines(self) -> list[Machine]:
        """All that were not removed for good."""
        return [m for m in self.simulation.machines.values() if not m.is_gone]

    def is_member(self, machine: Machine) -> bool:
        """Does the leader know it for certain?"""
        leader = self.simulation.leader()
        return leader is not None and bool(leader.raft.committed_membership.get(machine.nid))

    def may_forget(self, machine: Machine) -> bool:
        """Would a majority still remember everything if this one did not?"""
        leader = self.simulation.leader()
        if leader is None or leader.raft is None or self.forgetful not in (None, machine):
            return False
        raft = leader.raft
        if raft.log.config_index > raft.log.commit or raft.log.commit < raft.term_start:
            return False
        member = raft.membership.get(machine.nid)
        if member is None or machine is leader:
            return False
        return not member.is_voter or self._voters_left() >= 3

    def _voters_left(self) -> int:
        """How many voters there are at least, when all that was asked has come to pass."""
        leader = self.simulation.leader()
        if leader is None:
            return 0
        self.shrinks = [time for time in self.shrinks if time > self.simulation.world.now]
        outs = sum(machine.wants_out for machine in self.machines())
        return len(leader.raft.membership.voters) - len(self.shrinks) - outs

    def may_shrink(self) -> bool:
        """Would the voters that remember be a majority with one voter less, too?"""
        if self.forgetful is not None and self._voters_left() < 4:
            return False
        self.shrinks.append(self.simulation.world.now + CHANGE_SECONDS)
        return True

    def empty(self, machine: Machine) -> None:
        """Empty a node's folder and start it anew."""
        machine.say("its folder is emptied")
        self.forgetful = machine
        machine.is_rotten = False
        machine.overwrites = True
        machine.disk.wipe()
        machine.ensemble = self.listing(machine)
        machine.start()

    def listing(self, machine: Machine) -> list[tuple[str, str]]:
        """The other nodes, as `-e` names them."""
        return [(m.nid, m.addr) for m in self.machines() if m is not machine]

    def settle_members(self) -> None:
        """See who is whole again, and who is out."""
        leader = self.simulation.leader()
        if leader is None or leader.raft.log.commit < leader.raft.term_start:
            return
        membership = leader.raft.committed_membership
        machine = self.forgetful
        if machine is not None and machine.raft is not None and not machine.is_rotten:
            member = membership.get(machine.nid)
            if machine.is_gone or (
                member is not None
                and member.incarnation == machine.raft.incarnation
                and member.role != "learner"
            ):
                self.forgetful = None
        elif machine is not None and machine.raft is not None and machine.service.role.serving:
            machine.is_rotten = False  # the flipped bit did not matter
        for machine in self.machines():
            if machine.wants_out and membership.get(machine.nid) is None:
                machine.say("is out")
                machine.is_gone = True
                if machine is self.forgetful:
                    self.forgetful = None
                if machine.is_up:
                    machine.kill()
                self._tell_seekers()

    def _tell_seekers(self) -> None:
        """Start anew who looks for the cluster at nodes that are out: it can find nobody else."""
        gone = {m.nid for m in self.simulation.machines.values() if m.is_gone}
        for machine in self.machines():
            listed = {nid for nid, _ in machine.ensemble}
            if machine.is_up and machine.raft is None and listed and listed <= gone:
                machine.say("is told where the cluster is")
                machine.kill()
                machine.ensemble = self.listing(machine)
                machine.start()

    def ask(self, machine: Machine, name: str, *fields: Any) -> None:
        """A request of the operator to one node."""
        assert machine.serving is not None
        machine.say("is asked: %s %s", name, fields)
        future = Future((name, *fields))
        future.add_done_callback(lambda done: machine.say("answers %s: %r", name, done.value))
        machine.serving.soon(machine.service.ask, future, Request(name, fields))

    def is_settled(self) -> bool:
        """Does every node that should be in the cluster serve?"""
        self.settle_members()
        return not self.why()

    def why(self) -> str:
        """What is still missing."""
        leader = self.simulation.leader()
        if leader is None:
            return "nobody leads"
        raft = leader.raft
        if raft.log.commit < raft.term_start or raft.log.config_index > raft.log.commit:
            return f"leader {leader.nid} has not committed its term or membership"
        for machine in self.machines():
            member = raft.membership.get(machine.nid)
            if machine.raft is None:
                return f"node {machine.nid} has no core ({machine.fatal or 'up'})"
            if member is None or member.incarnation != machine.raft.incarnation:
                return f"node {machine.nid} is no member"
            if member.role == "learner":
                return f"node {machine.nid} is still a learner"
            if machine.service._stopping:
                return f"node {machine.nid} is about to stop"
            if not machine.service.role.serving:
                return f"node {machine.nid} does not serve ({machine.service.role})"
        return ""
