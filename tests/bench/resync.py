"""A node that lost its disk comes back while the cluster serves writes.

python -m tests.bench.resync [--keys 1000000] [--usual-seconds 20]

Three nodes hold `--keys` keys of 64 bytes. redis-benchmark writes to the leader without pause; its
rate is taken first as usual, then while a follower whose files were deleted gets everything again.
Prints how long that took and the ratio of the rates; decides nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.progress import progress
from tests.bench.steady import Load
from tests.process.cluster import Cluster, Node


def applied_commands(node: Node) -> int:
    """Commands that a node has answered so far."""
    return int(node.info("stats")["total_commands_processed"])


def rate_until(node: Node, done: object, seconds_max: float) -> tuple[float, float]:
    """(writes a second at `node`, seconds) until `done()` or the time is over."""
    assert callable(done)
    began, before = time.monotonic(), applied_commands(node)
    while time.monotonic() - began < seconds_max and not done():
        time.sleep(0.1)
    seconds = time.monotonic() - began
    return (applied_commands(node) - before) / seconds, seconds


def in_sync(leader: Node, follower: Node) -> bool:
    """Whether the follower votes again and has applied what the leader had just committed."""
    commit = int(leader.info()["raft_commit_index"])
    try:
        voters = leader.info()["raft_voters"].split(",")
        return follower.nid in voters and int(follower.info()["raft_applied_index"]) >= commit
    except Exception:  # it is starting or loading: not yet
        return False


def fill(leader: Node, keys: int) -> None:
    """Set `keys` different keys of 64 bytes."""
    client = leader.client(socket_timeout=60)
    for begin in range(0, keys, 1000):
        progress(f"filling: {begin} of {keys} keys")
        pipeline = client.pipeline(transaction=False)
        for number in range(begin, min(begin + 1000, keys)):
            pipeline.set(f"key:{number:012}", "x" * 64)
        pipeline.execute()
    client.close()
    progress("")


def main() -> int:
    """Fill, measure, lose a disk, measure again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--usual-seconds", type=float, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyraft-fast-resync-", dir=".") as text:
        cluster = Cluster(Path(text).resolve() / "nodes", 3).start("-loglevel", "warning")
        try:
            leader = cluster.leader()
            fill(leader, args.keys)
            follower = cluster.follower()
            load = Load(leader.port)
            load.start()
            usual, _ = rate_until(leader, lambda: False, args.usual_seconds)
            follower.kill()
            shutil.rmtree(follower.folder)
            follower.folder.mkdir()
            follower.start()
            rate, seconds = rate_until(leader, lambda: in_sync(leader, follower), 600)
            size = subprocess.run(
                ["du", "-sm", str(follower.folder)], capture_output=True, text=True, check=True
            ).stdout.split()[0]
            synced = in_sync(leader, follower)
            load.ended.set()
            load.join(20)
        finally:
            for node in cluster.running():
                node.stop(seconds=30)
            cluster.cleanup()
    print(
        f"{args.keys} keys; usual rate {usual:.0f} writes/s; a follower without its files was "
        f"{'back' if synced else 'NOT back'} after {seconds:.1f} s ({size} MB in its folder), "
        f"meanwhile {rate:.0f} writes/s: {rate / usual:.2f} of usual; "
        f"load errors: {load.failures or 'none'}"
    )
    return 0 if synced else 1


if __name__ == "__main__":
    sys.exit(main())
