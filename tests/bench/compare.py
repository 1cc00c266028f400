"""SET and GET of ours beside redis-server with `appendfsync always`, in one run.

python -m tests.bench.compare [--requests 100000] [--rounds 3]

Each round drives every server once, one after the other, with the very same redis-benchmark
command, so that a machine whose speed drifts harms all alike; the median of the rounds is shown.
CPU per operation counts all processes of a server, not the load generator. Absolute rates say
little about other machines: read the ratios.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.process.cluster import Cluster, children_of, connect, eventually, free_port

TICKS = os.sysconf("SC_CLK_TCK")


class RedisServer:
    """redis-server, with every write synced before it is answered."""

    name = "redis, appendfsync always"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is missing: apt-get install redis-server")
        self.port = free_port()
        folder.mkdir()
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder),
             "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: connect(self.port).ping())

    def pids(self) -> list[int]:
        return [self.process.pid]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Ours:
    """Nodes of this package; the load goes to the leader."""

    def __init__(self, folder: Path, count: int, flags: Iterable[str] = ()) -> None:
        self.name = f"pyraft-fast, {count} node{'s' if count > 1 else ''}"
        folder.mkdir()
        self.cluster = Cluster(folder, count).start("-loglevel", "warning", *flags)
        self.port = self.cluster.leader().port

    def pids(self) -> list[int]:
        own = [node.pid for node in self.cluster.nodes]
        return own + [child for pid in own for child in children_of(pid)]

    def stop(self) -> None:
        for node in self.cluster.nodes:
            node.stop()
        self.cluster.cleanup()


Server = RedisServer | Ours


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def command(port: int, test: str, pipeline: int, requests: int) -> list[str]:
    """The redis-benchmark line of one measurement."""
    return [
        "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", test, "-n", str(requests),
        "-c", "50", "-P", str(pipeline), "-d", "64", "-r", "100000", "--csv",
    ]  # fmt: skip


def measure(server: Server, test: str, pipeline: int, requests: int) -> tuple[float, float, float]:
    """(operations a second, CPU µs an operation, p99 in ms) of one run."""
    pids = server.pids()
    before = cpu_seconds(pids)
    done = subprocess.run(
        command(server.port, test, pipeline, requests), capture_output=True, text=True, check=True
    )
    used = cpu_seconds(pids) - before
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if not rows:
        raise SystemExit(f"redis-benchmark against {server.name} said: {done.stdout}{done.stderr}")
    rate = float(rows[0]["rps"])
    return rate, used / requests * 1e6, float(rows[0]["p99_latency_ms"])


def main() -> int:
    """Run all, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="a run (P=16: four times)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    results: dict[tuple[str, int, str], list[tuple[float, float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="pyraft-fast-bench-", dir=".") as text:
        folder = Path(text)
        servers: list[Server] = []
        try:
            servers.append(RedisServer(folder / "redis"))
            servers.append(Ours(folder / "one", 1))
            servers.append(Ours(folder / "three", 3))
            for number in range(args.rounds):
                for test, pipeline in (("set", 1), ("set", 16), ("get", 1), ("get", 16)):
                    for server in servers:
                        requests = args.requests * (4 if pipeline > 1 else 1)
                        progress(
                            f"round {number + 1}/{args.rounds}: {test} P={pipeline} {server.name}"
                        )
                        figures = measure(server, test, pipeline, requests)
                        results[test, pipeline, server.name].append(figures)
        finally:
            progress("")
            for server in servers:
                server.stop()
    report(results, [server.name for server in servers], args.requests)
    return 0


def progress(text: str) -> None:
    """One line that is written over, for people who wait."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def report(
    results: dict[tuple[str, int, str], list[tuple[float, float, float]]],
    names: list[str],
    requests: int,
) -> None:
    """Print medians and ratios against redis."""
    shown = " ".join(command(0, "set", 1, requests)).replace("-p 0", "-p PORT")
    print("each run (with set or get, P 1 or 16):", shown)
    print(f"{'':28}{'test':>9}{'op/s':>10}{'ratio':>7}{'CPU µs/op':>11}{'p99 ms':>8}")
    for test, pipeline in (("set", 1), ("set", 16), ("get", 1), ("get", 16)):
        base = 0.0
        for name in names:
            rows = results[test, pipeline, name]
            rate, cpu, p99 = (statistics.median(column) for column in zip(*rows, strict=True))
            base = base or rate
            label = f"{test} P={pipeline}"
            print(f"{name:28}{label:>9}{rate:10.0f}{rate / base:7.2f}{cpu:11.1f}{p99:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
