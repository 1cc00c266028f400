"""Chaos: faults of every kind from one seed, then healing, and everything must be well again.

python -m tests.core.chaos --seeds 1000 --first 1     run many
python -m tests.core.chaos --first 81723              replay one
"""

from __future__ import annotations

import argparse
import sys
import traceback
from functools import partial
from random import Random

from pyraft_fast.core.membership import VOTER
from pyraft_fast.core.work import Config, Role
from pyraft_fast.errors import RaftException
from pyraft_fast.limits import UNCOMMITTED_BYTES_MAX
from tests.core.cluster import Cluster, Faults, Node

NODES_MAX = 7


class Chaos:
    """One run."""

    ROUNDS = 40

    def __init__(self, seed: int, rounds: int = ROUNDS) -> None:
        self.rng = Random(seed * 7919 + 1)
        rng = self.rng
        self.rounds = rounds
        faults = Faults(
            loss=rng.choice([0.0, 0.02, 0.1, 0.3]),
            duplication=rng.choice([0.0, 0.05, 0.2]),
            delay_ticks_max=rng.choice([0, 1, 3, 8]),
            disk_ticks_max=rng.choice([0, 1, 4, 12]),
            notice=rng.choice([0.0, 0.5, 1.0]),
            snapshot_loss=rng.choice([0.0, 0.3]),
            drift=0.2,
        )
        config = Config("", 0, 2, 10, 20, 300, 4, 1000)
        config = config._replace(uncommitted_bytes_max=rng.choice([1000, UNCOMMITTED_BYTES_MAX]))
        config = config._replace(spare_commands_min=rng.choice([1, 1, 4, 64]))
        config = config._replace(inflight_messages_max=rng.choice([4, 20]))
        voters, learners = rng.choice([1, 2, 3, 3, 5]), rng.choice([0, 0, 1])
        self.cluster = Cluster(voters, learners, seed, faults, config)
        weighted = {
            self._propose: 30,
            self._read: 15,
            self._partition: 4,
            self._mend: 5,
            self._crash: 5,
            self._restart: 7,
            self._snapshot: 4,
            self._transfer: 2,
            self._join: 2,
            self._change: 3,
            self._wipe: 1,
            self._disturb: 1,
            self._stop: 2,
            self._go_on: 4,
            self._slow: 1,
        }
        self.actions = list(weighted)
        # Each run leaves some faults out and has more of others: so few do not hide many.
        self.weights = [weight * rng.choice([0, 1, 1, 4]) for weight in weighted.values()]
        self.weights[0] = max(self.weights[0], 20)
        self.names = 100
        self.proposed = 0

    def run(self) -> Cluster:
        """Faults first, then healing."""
        for _ in range(self.rounds):
            for _ in range(self.rng.randint(1, 4)):
                self._act()
            for _ in range(self.rng.randint(1, 12)):
                self.cluster.run(1)
                self._read_rivals()
        self.heal()
        return self.cluster

    def _act(self) -> None:
        self.rng.choices(self.actions, self.weights)[0]()

    def _any(self) -> Node | None:
        nodes = [node for node in self.cluster.up() if not node.is_removed]
        return self.rng.choice(nodes) if nodes else None

    def _leading(self) -> Node | None:
        """A leader, perhaps one that does not know it is none any more."""
        nodes = [node for node in self.cluster.up() if node.raft.role is Role.LEADER]
        return self.rng.choice(nodes) if nodes else None

    def _propose(self) -> None:
        node = self._leading()
        if node is not None:
            for _ in range(self.rng.randint(1, 5)):
                self.proposed += 1
                payload = b"%d:" % self.proposed + b"x" * self.rng.randint(0, 100)
                node.propose(payload)
            if self.rng.random() < 0.7:
                node.turn()

    def _read(self) -> None:
        node = self._any()
        if node is not None:
            for _ in range(self.rng.randint(1, 3)):
                node.read(by_lease=self.rng.random() < 0.5)
            node.turn()

    def _read_rivals(self) -> None:
        """Where two nodes think they lead, one of them must not answer by lease."""
        leaders = [node for node in self.cluster.up() if node.raft.role is Role.LEADER]
        if len(leaders) > 1:
            for node in leaders:
                node.read(by_lease=True)
                node.turn()

    def _partition(self) -> None:
        names = list(self.cluster.nodes)
        style = self.rng.random()
        if style < 0.5:
            self.cluster.isolate(*self.rng.sample(names, self.rng.randint(1, len(names))))
        elif len(names) > 1:
            for _ in range(self.rng.randint(1, 4)):
                self.cluster.cut.add(frozenset(self.rng.sample(names, 2)))

    def _mend(self) -> None:
        self.cluster.heal()

    def _crash(self) -> None:
        node = self._any()
        if node is not None:
            node.crash()
        if self.rng.random() < 0.1:
            for other in self.cluster.up():
                other.crash()

    def _restart(self) -> None:
        down = [node for node in self.cluster.nodes.values() if not node.is_up]
        if down:
            self.rng.choice(down).start()

    def _snapshot(self) -> None:
        node = self._any()
        if node is not None:
            node.take_snapshot(self.rng.choice([0, 3, 20]))

    def _transfer(self) -> None:
        node = self._leading()
        if node is not None:
            names = [*node.raft.progress, None]
            try:
                node.raft.transfer(self.rng.choice(names))
            except RaftException:
                return
            node.turn()

    def _join(self) -> None:
        if len(self.cluster.nodes) < NODES_MAX:
            self.names += 1
            node = self.cluster.new_node(str(self.names))
            node.start()
            self._propose_change("add", node.nid, node.incarnation)

    def _change(self) -> None:
        node = self._leading()
        if node is not None and not self._lost(node):
            member = self.rng.choice(node.raft.membership.members)
            op = self.rng.choice(["remove", "promote", "demote", "address"])
            self._propose_change(op, member.nid, 0)

    def _propose_change(self, op: str, nid: str, incarnation: int) -> None:
        node = self._leading()
        if node is None:
            return
        addr = f"host{nid}:{self.rng.randint(1, 9)}"
        try:
            node.raft.propose_change(op, nid, addr, incarnation, node.now_ms)
        except RaftException:
            return
        node.turn()

    def _wipe(self) -> None:
        """A member loses its disk; at most one is so at a time, and a majority stays."""
        leader = self.cluster.leader()
        if leader is None or leader.raft.log.config_index > leader.raft.log.commit:
            return
        members = leader.raft.membership.members
        lost = self._lost(leader)
        if lost:
            nid = lost[0]
        else:
            if len(leader.raft.membership.voters) < 3:
                return
            nid = self.rng.choice([m.nid for m in members if m.nid != leader.nid])
            old = self.cluster.nodes[nid]
            if old.is_up:
                old.crash()
            self.cluster.new_node(nid).start()
        self._propose_change("rejoin", nid, self.cluster.nodes[nid].incarnation)

    def _lost(self, node: Node) -> list[str]:
        """Members whose disk is gone, as `node` knows the members."""
        nodes = self.cluster.nodes
        members = node.raft.membership.members
        return [m.nid for m in members if nodes[m.nid].incarnation != m.incarnation]

    def _stop(self) -> None:
        """A process stands still for a while and knows nothing of it."""
        node = self._any()
        if node is not None:
            node.is_stopped = True

    def _go_on(self) -> None:
        for node in self.cluster.nodes.values():
            node.is_stopped = False

    def _slow(self) -> None:
        """Clocks run at different speeds."""
        node = self._any()
        if node is not None:
            node.speed = self.rng.choice([1.0, 0.5, 0.1])

    def _disturb(self) -> None:
        """Somebody's patience is the shortest there may be."""
        node = self._any()
        if node is not None:
            node.raft.election_timeout = self.cluster.config.election_ticks_min

    # Afterwards

    def heal(self) -> None:
        """No more faults: a leader, progress, one history everywhere, and no read forgotten."""
        cluster = self.cluster
        cluster.faults = Faults()
        cluster.heal()
        for node in cluster.nodes.values():
            node.speed, node.is_stopped = 1.0, False
            if not node.is_up and not node.is_removed:
                node.start()
        leader = self._settle_members()
        index = cluster.propose(leader, b"after healing")
        cluster.run_until(lambda: self._all_have(index), 400)
        cluster.run(cluster.config.election_ticks_max + 2)
        asked = [key for key in cluster.invariants.reads if self._lives(key[0])]
        assert not asked, f"reads without an answer: {asked}"
        for node in self._members():
            context = node.read()
            node.turn()
            cluster.run_until(partial(node.done.__contains__, context), 100)

    def _settle_members(self) -> Node:
        cluster = self.cluster
        cluster.wait_for_leader()
        cluster.run(100)
        leader = cluster.wait_for_leader()
        for member in leader.raft.membership.members:
            node = cluster.nodes[member.nid]
            if node.incarnation != member.incarnation:
                cluster.change(leader, "rejoin", node.nid, node.incarnation)
                cluster.run(5)
                leader = cluster.wait_for_leader()
        cluster.run(100)
        return cluster.wait_for_leader()

    def _members(self) -> list[Node]:
        leader = self.cluster.wait_for_leader()
        return [self.cluster.nodes[m.nid] for m in leader.raft.membership.members]

    def _all_have(self, index: int) -> bool:
        members = self._members()
        leader = self.cluster.wait_for_leader()
        learners = [m for m in leader.raft.membership.members if m.role not in (VOTER, "observer")]
        return not learners and all(node.applied >= index for node in members)

    def _lives(self, incarnation: int) -> bool:
        nodes = self.cluster.nodes.values()
        return any(node.incarnation == incarnation and node.is_up for node in nodes)


def main(kind: type[Chaos], module: str) -> int:
    """Run the seeds asked for; 1 if any fails."""
    parser = argparse.ArgumentParser(description=sys.modules[kind.__module__].__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=kind.ROUNDS)
    args = parser.parse_args()
    for seed in range(args.first, args.first + args.seeds):
        try:
            kind(seed, args.rounds).run()
        except Exception:
            traceback.print_exc()
            sys.stderr.write(f"replay: python -m {module} --first {seed} --rounds {args.rounds}\n")
            return 1
    sys.stdout.write(f"{args.seeds} seeds from {args.first}: all well\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Chaos, "tests.core.chaos"))
