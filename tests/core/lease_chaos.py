"""Chaos aimed at leases: two nodes think they lead, and the old one is asked at every step.

python -m tests.core.lease_chaos --seeds 1000 --first 1     run many
python -m tests.core.lease_chaos --first 81723              replay one

Each round takes a healthy cluster into one of the traps that a lease can fall into, with dice for
when and how; the others are as impatient as their promises allow, and write as soon as they lead.
"""

from __future__ import annotations

import sys

from pyraft_fast.core.work import Role
from pyraft_fast.errors import TryAgain
from tests.core.chaos import Chaos, main
from tests.core.cluster import Cluster, Faults, Node

ACTS_MAX = 30  # in a tick


class LeaseChaos(Chaos):
    """One run."""

    ROUNDS = 10

    def __init__(self, seed: int, rounds: int = ROUNDS) -> None:
        super().__init__(seed, rounds)
        voters = self.rng.choice([2, 3, 3, 3, 4, 5])
        self.cluster = Cluster(voters, self.rng.choice([0, 0, 1]), seed, Faults(drift=0.2))
        self.cluster.on_step = self._on_step
        self._acts_at = self._acts = 0

    def run(self) -> Cluster:
        """One trap after the other, each from a healthy cluster."""
        for _ in range(self.rounds):
            leader = self.cluster.wait_for_leader()
            self.cluster.run(self.rng.randint(10, 20))
            if leader.raft.role is Role.LEADER and self.cluster.leader() is leader:
                self._trap(leader)
            self._mend()
        self.heal()
        return self.cluster

    def _trap(self, leader: Node) -> None:
        others = [node for node in self.cluster.nodes.values() if node is not leader]
        self.rng.shuffle(others)
        trap = self.rng.choice([self._lonely, self._restarted, self._handed_over, self._given_up])
        trap(leader, others)
        for _ in range(25):
            self._hurry()
            self.cluster.run(1)
            self._read_rivals()
            if self.rng.random() < 0.1:
                self._go_on()

    def _lonely(self, leader: Node, others: list[Node]) -> None:
        """The leader hears nobody, or hears them late, or stands still."""
        self._delay(leader)
        if self.rng.random() < 0.5:
            self.cluster.run(self.rng.randint(1, 9))
        if self.rng.random() < 0.5:
            leader.is_stopped = True
        elif self.rng.random() < 0.5:
            self.cluster.isolate(leader.nid)

    def _restarted(self, leader: Node, others: list[Node]) -> None:
        """A node that no longer hears the leader asks one that heard it just before a restart."""
        for other in others[1:]:
            self.cluster.cut.add(frozenset((leader.nid, other.nid)))
        self.cluster.run(self.rng.randint(8, 18))
        self._delay(leader)
        if self.rng.random() < 0.5:
            self.cluster.isolate(leader.nid)
        for node in self.rng.sample(others, self.rng.randint(1, len(others))):
            node.crash()
            node.start()

    def _handed_over(self, leader: Node, others: list[Node]) -> None:
        """The successor is elected while the leader's followers have just answered it."""
        self._send(leader, others[0])
        self._delay(leader)

    def _given_up(self, leader: Node, others: list[Node]) -> None:
        """The successor stands still, and does what it was told when the leader has given up."""
        others[0].is_stopped = True
        self._send(leader, others[0])
        for _ in range(self.rng.randint(19, 30)):
            self.cluster.run(1)
            self._read_rivals()
        if self.rng.random() < 0.8:
            self._delay(leader)
        self._go_on()

    def _send(self, leader: Node, successor: Node) -> None:
        try:
            leader.raft.transfer(successor.nid)
        except (TryAgain, LookupError):
            return
        leader.turn()

    def _delay(self, leader: Node) -> None:
        self.cluster.slow = {leader.nid}
        self.cluster.faults.delay_ticks_max = self.rng.choice([3, 8, 12])

    def _mend(self) -> None:
        self._go_on()
        self.cluster.heal()
        self.cluster.slow.clear()
        self.cluster.faults.delay_ticks_max = 0

    def _hurry(self) -> None:
        """Who has not heard a leader for as long as it promised calls an election."""
        for node in self.cluster.up():
            raft = node.raft
            patience = self.cluster.config.election_ticks_min
            unheard = raft.ticks - max(raft.lease.heard_tick, 0)
            if raft.role is Role.FOLLOWER and unheard >= patience and self.rng.random() < 0.7:
                raft.election_elapsed = raft.election_timeout

    def _on_step(self, node: Node) -> None:
        newest = self.cluster.leader()
        if self._acts_at != self.cluster.now:
            self._acts_at, self._acts = self.cluster.now, 0
        self._acts += 1  # each act makes steps: without a bound a tick would never end
        if newest is None or node.raft.role is not Role.LEADER or self._acts > ACTS_MAX:
            return
        if newest is not node:
            node.read(by_lease=True)
        elif not node.is_stopped and self.rng.random() < 0.3:
            node.propose()
        else:
            return
        node.turn()


if __name__ == "__main__":
    sys.exit(main(LeaseChaos, "tests.core.lease_chaos"))
