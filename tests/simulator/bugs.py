"""The proof that the simulator can fail: deliberate bugs, and how many seeds it takes to see each.

python -m tests.simulator.bugs                        all that are caught, as a table
python -m tests.simulator.bugs --all                  those too that were not caught so far
python -m tests.simulator.bugs --only NAME            those whose name contains NAME
python -m tests.simulator.bugs --seeds-max N --jobs J up to N seeds each, in J processes

Each bug is a classic one, made by changing a few characters of the product's source in memory (see
`edits`). It counts as caught by a seed only if a rule is broken, of the simulator or the product's
own, and the same seed passes without the bug. An error that Python raises is no such rule. Exit
status 1 if a bug gets away.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final, NamedTuple

from tests.simulator import Violation, simulate
from tests.simulator.bug import Bug
from tests.simulator.bugs_core import CORE
from tests.simulator.bugs_serving import SERVING
from tests.simulator.bugs_storage import STORAGE
from tests.simulator.checks import STOPPED

BUGS: Final[list[Bug]] = [*CORE, *STORAGE, *SERVING]
QUICK: Final[list[Bug]] = [bug for bug in BUGS if 0 < bug.seeds <= 40]  # for every test run
SEEDS_MAX: Final = 600
TEXT_MAX: Final = 100  # characters of a violation in the table
HARNESS: Final = re.compile(r"(Attribute|Name|Type|Key|Index|Value|Overflow|UnboundLocal)Error")
RULE: Final = re.compile(r".*(?:Broken: |invariant broken: )")

FACTS: Final = re.compile(r":? \(")


class Hunt(NamedTuple):
    """What became of one bug. `seeds`: how many it took; 0: it got away. `text`: what was seen."""

    name: str
    seeds: int
    text: str
    seconds: float


def named(name: str) -> Bug:
    """The bug of that name."""
    return next(bug for bug in BUGS if bug.name == name)


def hunt(name: str, seeds_max: int, first: int = 1) -> Hunt:
    """Run seeds from `first` on with the bug in force, until the simulator sees it."""
    begin = time.monotonic()
    bug, crash = named(name), ""
    for seed in range(first, first + seeds_max):
        with bug.apply():
            text = _seen(seed)
        if text and not _seen(seed):  # what fails without the bug too says nothing about it
            if not HARNESS.search(text):
                return Hunt(name, seed - first + 1, text, time.monotonic() - begin)
            crash = text
    return Hunt(name, 0, f"not seen; {crash}", time.monotonic() - begin)


def _seen(seed: int) -> str:
    """The violation that `seed` shows, in one line; "" for none."""
    try:
        simulate(seed)
    except Violation as violation:
        return " ".join(violation.text.split())
    return ""


def hunt_all(names: list[str], seeds_max: int, jobs: int) -> Iterator[Hunt]:
    """Hunt each of them, `jobs` at a time, in the order given."""
    if jobs == 1:
        yield from (hunt(name, seeds_max) for name in names)
        return
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        yield from pool.map(hunt, names, [seeds_max] * len(names))


def shown(text: str) -> str:
    """The rule that was broken, without its facts; of a node that stopped, its last words."""
    text = RULE.sub("", text)
    rule = FACTS.split(text, maxsplit=1)[0]
    return text[:TEXT_MAX] if rule == STOPPED else rule


def row(hunted: Hunt, seeds_max: int) -> str:
    """One line of the table."""
    bug = named(hunted.name)
    seeds = str(hunted.seeds) if hunted.seeds else f"more than {seeds_max}"
    text = shown(hunted.text).replace("|", "/")
    return f"| {bug.name} | {bug.text} | {seeds} | {text} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--all", action="store_true", help="also those not caught so far")
    parser.add_argument("--seeds-max", type=int, default=SEEDS_MAX)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    wanted = [bug for bug in BUGS if args.only in bug.name]
    names = [bug.name for bug in wanted if bug.seeds or args.all or args.only]
    sys.stdout.write("| bug | what it breaks | seeds | what the simulator says |\n")
    sys.stdout.write("| --- | --- | --- | --- |\n")
    fled = 0
    for hunted in hunt_all(names, args.seeds_max, args.jobs):
        sys.stdout.write(row(hunted, args.seeds_max) + "\n")
        sys.stdout.flush()
        fled += not 0 < hunted.seeds <= (named(hunted.name).seeds or args.seeds_max)
    skipped = [bug.name for bug in wanted if bug.name not in names]
    if skipped:
        sys.stdout.write(f"\nNot caught so far: {', '.join(skipped)}.\n")
    return 1 if fled else 0


if __name__ == "__main__":
    sys.exit(main())
