"""Many seeds, or one again.

python -m tests.simulator --seeds 20000 [--first 1] [--jobs 2]
python -m tests.simulator --replay 4711
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.simulator import Options, Report, Violation, simulate

LINE_SECONDS = 5.0  # between two lines of progress


class Sums:
    """What many runs were, together."""

    def __init__(self) -> None:
        self.seeds = self.steps = self.operations = self.elections = 0
        self.seconds = 0.0
        self.faults: dict[str, int] = {}

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.seconds += report.seconds
        self.steps += report.steps
        self.operations += report.operations
        self.elections += report.elections
        for what, count in report.faults.items():
            self.faults[what] = self.faults.get(what, 0) + count

    def line(self) -> str:
        return (
            f"{self.seeds} seeds, {self.seconds / 3600:.2f} simulated hours, {self.steps} steps, "
            f"{self.operations} commands, {self.elections} elections"
        )

    def table(self) -> str:
        return "\n".join(f"{count:10}  {what}" for what, count in sorted(self.faults.items()))


def attempt(seed: int) -> Report | str:
    """One seed; the text of the violation if there is one."""
    try:
        return simulate(seed)
    except Violation as violation:
        return str(violation)


def outcomes(first: int, seeds: int, jobs: int) -> Iterator[Report | str]:
    """The seeds' outcomes, in any order."""
    numbers = range(first, first + seeds)
    gc.collect()
    gc.freeze()
    if jobs == 1:
        yield from map(attempt, numbers)
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs) as pool:
        yield from pool.imap_unordered(attempt, numbers, chunksize=10)


def soak(first: int, seeds: int, jobs: int, keep_going: bool) -> int:
    """Run many; 1 if any failed."""
    sums, failed = Sums(), 0
    began = said = time.monotonic()
    for outcome in outcomes(first, seeds, jobs):
        if isinstance(outcome, str):
            failed += 1
            print(outcome, file=sys.stderr, flush=True)
            if not keep_going:
                return 1
            continue
        sums.add(outcome)
        now = time.monotonic()
        if now - said > LINE_SECONDS:
            said = now
            print(f"{now - began:7.0f} s: {sums.line()}", flush=True)
    print(f"{sums.line()}, {time.monotonic() - began:.0f} s; {failed} failed\n{sums.table()}")
    return 1 if failed else 0


def replay(seed: int) -> int:
    """Run one seed and print everything that happened in it."""
    try:
        report = simulate(seed, Options(trace=True))
    except Violation as violation:
        print("\n".join(violation.trace))
        print(f"seed {seed}, step {violation.step}: {violation.text}", file=sys.stderr)
        return 1
    print("\n".join(report.trace))
    print(f"seed {seed}: all well, {report.steps} steps, hash {report.hash:015x}")
    return 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a violation")
    parser.add_argument("--replay", type=int, help="run this seed and print its trace")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay)
    return soak(arguments.first, arguments.seeds, arguments.jobs, arguments.keep_going)


if __name__ == "__main__":
    sys.exit(main())
