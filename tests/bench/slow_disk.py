"""How much of redis' rate is left with which disk? Both get the same one, and the load in turn.

python -m tests.bench.slow_disk [--nodes 1,3] [--more 0,100,200] [--works SET:1] [--rounds 6]
                                [--seconds 1.5] [--pairs 2]

`--more` is in microseconds: what each sync takes beyond what it takes here; above 0 a node's log is
written by a thread of its own, as what the kernel writes by itself cannot be slowed down. The
reference is redis-server with `appendfsync always`; what is printed is the median of the rounds'
ratios to it, with the middle half of them. It decides nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pyraft_fast.bench.model import Point
from pyraft_fast.bench.peers import Ours, Redis, Server
from tests.bench.paired import PROBE_REQUESTS, Seen, alternate, spread, up
from tests.bench.progress import progress

SOURCE: Final = Path(__file__).with_name("slow_sync.c")
SYNCED: Final = ("--appendonly", "yes", "--appendfsync", "always")
CLIENTS: Final = 50
SIZE: Final = 64
KEYS: Final = 100_000


def library(folder: Path) -> Path:
    """The slower disk, compiled."""
    made = folder / "slow_sync.so"
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-o", str(made), str(SOURCE)]
    subprocess.run([*compiler, *flags], check=True)
    return made


def one_pair(
    nodes: int, work: str, disk: dict[str, str], args: argparse.Namespace, seen: Seen
) -> None:
    """Start both and load them in turn."""
    redis = Redis("redis-always", "redis, appendfsync always", SYNCED)
    servers: list[Server] = [redis, Ours(f"ours-{nodes}", f"{nodes} nodes", nodes)]
    for server in servers:
        server.env = disk
    verb, _, pipeline = work.partition(":")
    point = Point("disk", verb, CLIENTS, int(pipeline), SIZE, KEYS, PROBE_REQUESTS)
    with up(servers, KEYS, SIZE):
        alternate(servers, point, args, seen, f"{work}, {nodes} nodes, {disk['SLOW_SYNC_US']} us")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", default="1,3")
    parser.add_argument("--more", default="0,100,200")
    parser.add_argument("--works", default="SET:1")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--pairs", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = library(Path(name))
        for work in args.works.split(","):
            for nodes in map(int, args.nodes.split(",")):
                for more in args.more.split(","):
                    seen = Seen()
                    disk = {"LD_PRELOAD": str(made), "SLOW_SYNC_US": more}
                    for _ in range(args.pairs):
                        one_pair(nodes, work, disk, args, seen)
                    progress("")
                    redis, ours = (statistics.median(rates) for rates in seen.rates)
                    print(
                        f"{work}, {nodes} nodes, syncs {more} us longer: {spread(*seen.rates)} "
                        f"({ours:,.0f}/s, redis {redis:,.0f}/s)"
                    )


if __name__ == "__main__":
    main()
