"""What one group can do on machines of its own: a model of rate and latency, on paper.

    python -m tests.bench.scale [--clients 200] [--rtt-us 200] [--fsync-us 200]

The CPU figures are measured ones (docs/performance.md says how); network and disk are parameters.
Every stage is one thread of one process, so the slowest stage bounds the rate: a stage's time for
an operation is what it spends on the operation itself plus its share of what it spends on a batch.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

TRIP_US = 13.0  # serving, each time it reads from a client and writes to it
SET_US = 1.6  # serving, each SET: parse, batch, apply, answer
APPLY_US = 1.1  # a follower's serving, each SET
APPLY_BATCH_US = 30.0  # and each batch
LEAD_BATCH_US = 87.0  # the leader's consensus, each batch
LEAD_PEER_US = 34.0  # and for each follower
LEAD_SET_US = 0.3  # and each SET: its bytes are copied, summed and written
LEAD_SET_PEER_US = 0.2  # and sent
FOLLOW_BATCH_US = 106.0  # a follower's consensus, each batch
FOLLOW_SET_US = 0.6
WAKE_US = 35.0  # to wake a process or a thread that sleeps
WAKES = 5  # serving to consensus, pen and back, acknowledgement, ring
BATCH_COMMANDS_MAX = 4096


@dataclass(frozen=True)
class Group:
    """A group of `nodes` machines and what its clients do."""

    nodes: int
    clients: int
    pipeline: int
    rtt_us: float
    fsync_us: float

    def stages(self, commands: float) -> dict[str, float]:
        """Microseconds of each stage for one SET, in batches of so many.

        Peers that no majority needs get their entries in groups, whose share of a batch is small.
        """
        peers = self.nodes - 1
        needed = self.nodes // 2
        trip = TRIP_US / self.pipeline
        lead = LEAD_BATCH_US + LEAD_PEER_US * needed
        stages = {
            "leader, serving": trip + SET_US,
            "leader, consensus": lead / commands + LEAD_SET_US + LEAD_SET_PEER_US * peers,
            "disk": self.fsync_us / commands,
        }
        if peers:
            stages["follower, serving"] = APPLY_BATCH_US / commands + APPLY_US
            stages["follower, consensus"] = FOLLOW_BATCH_US / commands + FOLLOW_SET_US
        return stages

    def alone_us(self) -> float:
        """Latency of a lone SET: clients and nodes are `rtt_us` from each other.

        The leader's disk and the followers' work at the same time; what a majority takes counts.
        """
        own = self.fsync_us
        others = self.rtt_us + FOLLOW_BATCH_US + self.fsync_us if self.nodes > 1 else 0.0
        cpu = TRIP_US + SET_US + LEAD_BATCH_US + LEAD_PEER_US * (self.nodes - 1)
        return self.rtt_us + cpu + WAKES * WAKE_US + max(own, others)

    def highest(self) -> tuple[float, float, str]:
        """SETs a second, commands in a batch, and the stage that bounds the rate.

        In a closed loop half of the commands are in the batch under way and half gather meanwhile.
        """
        commands = min(max(self.clients * self.pipeline / 2, 1.0), BATCH_COMMANDS_MAX)
        stages = self.stages(commands)
        slowest = max(stages, key=lambda name: stages[name])
        by_stage = 1e6 / stages[slowest]
        by_loop = self.clients * self.pipeline * 1e6 / (self.alone_us() + commands * SET_US)
        return min(by_stage, by_loop), commands, slowest if by_stage < by_loop else "the clients"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rtt-us", type=float, default=200.0)
    parser.add_argument("--fsync-us", type=float, default=200.0)
    args = parser.parse_args()
    out = sys.stdout.write
    out("| nodes | pipeline | lone SET, ms | highest SET/s | commands a batch | bound by |\n")
    out("| --- | --- | --- | --- | --- | --- |\n")
    for nodes in (1, 3, 5, 7):
        for pipeline in (1, 16):
            group = Group(nodes, args.clients, pipeline, args.rtt_us, args.fsync_us)
            rate, commands, bound = group.highest()
            lone = f"{group.alone_us() / 1000:.2f}"
            out(f"| {nodes} | {pipeline} | {lone} | {rate:,.0f} | {commands:.0f} | {bound} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
