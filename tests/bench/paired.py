"""Is one version faster than another? Both run, and take the same load in turn.

python -m tests.bench.paired --before DIR [--after DIR] [--nodes 3] [--works SET:1,SET:16]
                             [--rounds 7] [--pairs 1] [--seconds 2] [--before-flags "..."]

A DIR holds a package with its compiled parts: `git archive COMMIT pyraft_fast | tar x -C DIR`, then
`cp pyraft_fast/*.so DIR/pyraft_fast`, or build there. Each round loads one, then the other, the
first one by turns; what is printed is the median of the rounds' ratios, after to before, with the
middle half of them. `--pairs` starts both anew so many times. It decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyraft_fast.bench import load
from pyraft_fast.bench.measure import Usage
from pyraft_fast.bench.model import Point
from pyraft_fast.bench.peers import Ours, Server
from tests.bench.progress import progress

PROBE_REQUESTS = 20_000


class Version(Ours):
    """Nodes of the package that lies in `root`."""

    def __init__(self, root: Path, nodes: int, flags: Sequence[str]) -> None:
        super().__init__(root.name, str(root), nodes, flags)
        self.env = {"PYTHONPATH": str(root)}


class Seen:
    """Rate and CPU of every run of one work, by version."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = [[], []]
        self.cpu: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]

    def add(self, which: int, rate: float, cpu: dict[str, float]) -> None:
        self.rates[which].append(rate)
        self.cpu[which]["all"].append(sum(cpu.values()))
        for label, micros in cpu.items():
            self.cpu[which][label].append(micros)

    def lines(self, name: str) -> list[str]:
        before, after = self.rates
        out = [f"{name}: rate {spread(before, after)} ({statistics.median(after):,.0f}/s)"]
        for label, micros in self.cpu[1].items():
            line = f"  CPU {label:20} {statistics.median(micros):7.2f} us"
            if label in self.cpu[0]:
                line += f"  {spread(self.cpu[0][label], micros)}"
            out.append(line)
        return out


def spread(before: list[float], after: list[float]) -> str:
    """Median and quartiles of the ratios."""
    ratios = sorted(b / a for a, b in zip(before, after, strict=True) if a)
    if len(ratios) < 2:
        return f"{ratios[0]:.3f}" if ratios else "-"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} [{low:.3f}-{high:.3f}]"


def run(server: Server, point: Point) -> tuple[float, dict[str, float]]:
    """One load: rate, and CPU of each process in microseconds an operation."""
    port = server.port()
    load.prepare(port, point.work, point.requests)
    usage = Usage(server.processes())
    generator = load.generator_for(point, "resp")
    text, seconds = load.run_command(load.command_of(generator, point, port, "resp"))
    rate = load.parse(generator, text, seconds)["rate"]
    cpu = {label: used * 1e6 / point.requests for label, used in usage.cpu().items()}
    return rate, cpu


@contextlib.contextmanager
def up(servers: Sequence[Server], keys: int, size: int) -> Iterator[None]:
    """The servers run, each with so many keys."""
    with tempfile.TemporaryDirectory() as name:
        try:
            for number, server in enumerate(servers):
                folder = Path(name) / str(number)
                folder.mkdir()
                server.start(folder)
                load.fill(server.port(), keys, size)
            yield
        finally:
            for server in servers:
                server.stop()


def alternate(
    servers: Sequence[Server], point: Point, args: argparse.Namespace, seen: Seen, what: str
) -> None:
    """Load both in turn, in each round the other one first: `args` has `rounds` and `seconds`."""
    rates = [run(server, point)[0] for server in servers]
    point = dataclasses.replace(point, requests=int(min(rates) * args.seconds))
    for turn in range(args.rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            seen.add(which, *run(servers[which], point))
        progress(f"{what}, round {turn + 1} of {args.rounds}")


def one_pair(args: argparse.Namespace, seen: dict[str, Seen], pair: int) -> None:
    flags = (shlex.split(args.before_flags), shlex.split(args.after_flags))
    roots = (args.before, args.after)
    servers = [Version(root, args.nodes, flag) for root, flag in zip(roots, flags, strict=True)]
    with up(servers, args.keys, args.size):
        for work in args.works.split(","):
            verb, _, pipeline = work.partition(":")
            point = Point(
                "paired", verb, args.clients, int(pipeline), args.size, args.keys, PROBE_REQUESTS
            )
            alternate(servers, point, args, seen[work], f"pair {pair}, {work}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, default=here)
    parser.add_argument("--before-flags", default="")
    parser.add_argument("--after-flags", default="")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--works", default="SET:1,SET:16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--keys", type=int, default=100_000)
    args = parser.parse_args()
    seen: dict[str, Seen] = defaultdict(Seen)
    for pair in range(1, args.pairs + 1):
        one_pair(args, seen, pair)
    progress("")
    for work, found in seen.items():
        print("\n".join(found.lines(f"{work}, {args.nodes} nodes")))


if __name__ == "__main__":
    main()
