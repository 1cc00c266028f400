"""How long nobody can write when the leader goes: killed, and ended in order.

python -m tests.bench.failover [--rounds 30] [--nodes 3]

Every node has a client that writes one value after the other. `kill`: from kill -9 of the leader
to the first acknowledgement of a write that was sent after it. `term`: SIGTERM, by which the
leader hands over first: the longest time between two acknowledgements at the nodes that stay, and
how many of their writes failed. Prints a table, decides nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

from tests.bench.progress import progress
from tests.process.cluster import Cluster, Node, eventually

WARM_WRITES = 50


class Writer(threading.Thread):
    """Writes at one node, one after the other, until told to end."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.done: list[tuple[float, float]] = []  # (sent, acknowledged)
        self.errors: list[tuple[float, str]] = []
        self.ended = threading.Event()

    def run(self) -> None:
        client = self.node.client()
        number = 0
        while not self.ended.is_set():
            number += 1
            sent = time.monotonic()
            try:
                client.set(f"at:{self.node.nid}", number)
            except (redis.RedisError, OSError) as error:
                self.errors.append((time.monotonic(), str(error)))
                self.ended.wait(0.01)
            else:
                self.done.append((sent, time.monotonic()))
        client.close()


def _end(leader: Node, number: int) -> float:
    """End both processes of the leader at once, or in order; returns when that began."""
    if number != signal.SIGKILL:
        at = time.monotonic()
        leader.stop(number)
        return at
    os.kill(leader.consensus_pid(), signal.SIGKILL)
    os.kill(leader.pid, signal.SIGKILL)
    at = time.monotonic()
    leader.kill()
    return at


def one_round(cluster: Cluster, number: int) -> tuple[float, int, int]:
    """End the leader by `number`; (seconds without a write, writes that failed, that were lost
    with the leader's own connection)."""
    leader = cluster.leader()
    writers = {node.nid: Writer(node) for node in cluster.nodes}
    for writer in writers.values():
        writer.start()
    staying = [writer for nid, writer in writers.items() if nid != leader.nid]
    try:
        eventually(lambda: all(len(w.done) > WARM_WRITES for w in writers.values()), 30)
        at = _end(leader, number)
        eventually(lambda: all(w.done and w.done[-1][0] > at + 0.5 for w in staying), 30)
    finally:
        for writer in writers.values():
            writer.ended.set()
        for writer in writers.values():
            writer.join(10)
    failed = sum(at <= when for writer in staying for when, _ in writer.errors)
    lost = min(1, sum(at <= when for when, _ in writers[leader.nid].errors))
    if number == signal.SIGKILL:
        silence = min(got for w in staying for sent, got in w.done if sent >= at) - at
    else:
        marks = sorted(got for w in staying for _, got in w.done if got >= at - 0.1)
        silence = max(after - before for before, after in itertools.pairwise(marks))
    leader.start()
    cluster.wait_ready()
    return silence, failed, lost


def main() -> int:
    """Run the rounds, print one line for each way to end a leader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=3)
    args = parser.parse_args()
    print(f"{'':6}{'rounds':>8}{'median ms':>11}{'p90 ms':>9}{'worst ms':>10}{'failed writes':>15}")
    with tempfile.TemporaryDirectory(prefix="pyraft-fast-failover-", dir=".") as text:
        for name, number in (("kill", signal.SIGKILL), ("term", signal.SIGTERM)):
            cluster = Cluster(Path(text).resolve() / name, args.nodes)
            try:
                cluster.start("-loglevel", "warning")
                rows = []
                for at in range(args.rounds):
                    progress(f"{name} {at + 1}/{args.rounds}")
                    rows.append(one_round(cluster, number))
                progress("")
            finally:
                for node in cluster.running():
                    node.stop()
                cluster.cleanup()
            times = sorted(silence * 1000 for silence, _, _ in rows)
            p90 = times[min(len(times) - 1, len(times) * 9 // 10)]
            failed = f"{sum(row[1] for row in rows)} (+{sum(row[2] for row in rows)} at leader)"
            print(
                f"{name:6}{len(rows):8}{statistics.median(times):11.0f}{p90:9.0f}"
                f"{times[-1]:10.0f}{failed:>22}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
