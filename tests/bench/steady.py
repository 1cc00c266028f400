"""Does anything cost an election? Full load with snapshots, beside handlers that stall.

python -m tests.bench.steady [--seconds 600] [--nodes 3] [--log-max 100000]

redis-benchmark writes without pause to the leader (50 clients, pipelines of 16) while, in turn,
nothing else happens, a handler sleeps 5 s on every node, and one runs a full garbage collection
over a million objects. An election shows as a new term. Prints what was seen; decides nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

from tests.bench.progress import progress
from tests.process.cluster import Cluster, eventually

PROGRAM = """
import gc
import time

from pyraft_fast import raft

KEPT = [[n] for n in range(1_000_000)]


def do_stall(node, words):
    time.sleep(float(words[1]))
    return True


def do_collect(node, words):
    gc.collect()
    return True


node = raft.make_default_node()
node.worker.handler["stall"] = [do_stall, "we", 1, 1]
node.worker.handler["collect"] = [do_collect, "we", 0, 0]
node.start()
node.join()
"""
LOAD = ["-t", "set", "-c", "50", "-P", "16", "-d", "64", "-r", "100000", "-n", "1000000", "-q"]


class Load(threading.Thread):
    """redis-benchmark over and over until told to end."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.ended = threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.ended.is_set():
            command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(self.port), *LOAD]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            while process.poll() is None and not self.ended.wait(0.2):
                pass
            if process.poll() is None:
                process.terminate()
            out, _ = process.communicate()
            if process.returncode > 0:
                self.failures.append(out.decode(errors="replace")[-200:])


def phase(cluster: Cluster, name: str, seconds: float, every: float, words: list[str]) -> bool:
    """Load for some seconds, `words` sent now and then; False when there was an election."""
    leader = cluster.leader()
    before = leader.info()["raft_term"]
    written = int(leader.info("stats")["total_commands_processed"])
    load = Load(leader.port)
    load.start()
    slowest = 0.0
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            progress(f"{name}: {until - time.monotonic():.0f} s to go")
            began = time.monotonic()
            try:
                with leader.client() as client:
                    client.execute_command(*(words or ["PING"]))
            except redis.ResponseError as error:
                if not str(error).startswith("UNCERTAIN"):
                    raise
            slowest = max(slowest, time.monotonic() - began)
            load.ended.wait(min(every, max(0.0, until - time.monotonic())))
    finally:
        load.ended.set()
        load.join(20)
        progress("")
    after = eventually(lambda: leader.info(), 30)
    writes = int(leader.info("stats")["total_commands_processed"]) - written
    kept = after["raft_term"] == before
    print(
        f"{name:24}{seconds:6.0f} s{writes:12} writes{slowest:7.2f} s slowest"
        f"  term {before} -> {after['raft_term']}"
        f"  load errors: {load.failures or 'none'}",
        flush=True,
    )
    return kept


def main() -> int:
    """Run the phases; exit status 1 when any saw an election."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="of full load alone")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--log-max", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyraft-fast-steady-", dir=".") as text:
        program = Path(text).resolve() / "program.py"
        program.write_text(PROGRAM)
        cluster = Cluster(Path(text).resolve() / "nodes", args.nodes, [str(program.absolute())])
        try:
            cluster.start("-loglevel", "warning", "--log-max", str(args.log_max))
            results = [
                phase(cluster, "full load", args.seconds, 1.0, []),
                phase(cluster, "a handler sleeps 5 s", 60, 15.0, ["stall", "5"]),
                phase(cluster, "full garbage collections", 30, 1.0, ["collect"]),
            ]
        finally:
            for node in cluster.running():
                node.stop(seconds=20)
            cluster.cleanup()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
