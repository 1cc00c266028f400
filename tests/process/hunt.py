"""Look for lost, doubled or stale data for a while: `python -m tests.process.hunt --seconds 600`.

Rounds of one to three random faults under load, on a fresh cluster every few rounds. Stops at the
first anomaly, keeps the folder with all logs and snapshots, and says where it is. At the end a
table says what each kind of fault cost: longest time without an acknowledged write.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.process.kinds import KINDS
from tests.process.namespaces import Namespaces
from tests.process.partition import Network
from tests.process.partition_faults import PARTITIONS
from tests.process.rig import Rig
from tests.process.scene import Verdict, one_round

ROUNDS_PER_CLUSTER: Final = 12
SIZES: Final = (3, 3, 3, 5)
LONG_STALLS: Final = 0.3  # of the rounds: up to the longest; the others up to two seconds
SHORT_STALL_SECONDS: Final = 2.0


@dataclass
class Row:
    """What the rounds with one kind of fault saw; a round with several counts for each."""

    rounds: int = 0
    operations: int = 0
    alone: int = 0  # rounds with this fault only, which the silence is of
    silence_seconds: float = 0.0
    slowest_seconds: float = 0.0

    def count(self, verdict: Verdict, alone: bool) -> None:
        """One more round."""
        self.rounds += 1
        self.operations += verdict.operations
        if alone:
            self.alone += 1
            self.silence_seconds = max(self.silence_seconds, verdict.silence_seconds)
            self.slowest_seconds = max(self.slowest_seconds, verdict.slowest_seconds)


def table(rows: dict[str, Row]) -> str:
    """The rows as text."""
    lines = [
        f"{'kind':27}{'rounds':>7}{'operations':>12}{'alone':>7}{'silence':>9}{'slowest':>9}",
        *(
            f"{kind:27}{row.rounds:7}{row.operations:12}{row.alone:7}"
            f"{row.silence_seconds:7.2f} s{row.slowest_seconds:7.2f} s"
            for kind, row in sorted(rows.items())
        ),
        "silence: longest time without an acknowledged write, in rounds with that fault alone",
        "slowest: longest wait for an answer, there; clients hang up after 1.5 s or 8 s",
    ]
    return "\n".join(lines)


class Hunt:
    """Clusters, rounds and what they showed."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.dice = random.Random(given.seed)
        self.names: list[str] = given.only.split(",") if given.only else list(KINDS)
        self.given = given
        self.deadline = time.monotonic() + given.seconds
        self.folder = Path(tempfile.mkdtemp(prefix="hunt-"))
        self.rows: dict[str, Row] = defaultdict(Row)
        self.rounds = self.operations = self.unknown = 0

    def run(self) -> int:
        """0 when all was well until the time was over, 1 for an anomaly, 2 for a failed round."""
        status = 0
        while time.monotonic() < self.deadline and not status:
            network = Namespaces() if self.given.namespaces else Network()
            size = self.dice.choice(SIZES)
            rig = Rig(self.folder / f"cluster-{self.rounds}", size, network)
            try:
                status = self._rounds_on(rig)
            except Exception:
                traceback.print_exc()
                status = 2
            finally:
                rig.cleanup()
            if not status:
                shutil.rmtree(rig.folder)
        print(f"{self.rounds} rounds, {self.operations} operations, {self.unknown} unknown")
        print(table(self.rows))
        if status:
            print(f"round {self.rounds} went wrong; files: {self.folder}, seed {self.given.seed}")
        else:
            shutil.rmtree(self.folder)
        return status

    def _rounds_on(self, rig: Rig) -> int:
        flags = ["--log-max", str(self.given.log_max)]
        reads = self.given.reads or self.dice.choice(["linearizable", "lease"])
        rig.start(*flags, "--reads", reads)
        for _ in range(ROUNDS_PER_CLUSTER):
            self.rounds += 1
            chosen = [self.dice.choice(self.names) for _ in range(self.dice.choice([1, 1, 2, 3]))]
            longest = self.given.stall if self.dice.random() < LONG_STALLS else SHORT_STALL_SECONDS
            verdict = one_round(
                rig,
                f"{self.rounds}",
                [KINDS[name] for name in chosen],
                self.dice,
                (0.2, longest),
                all(name in PARTITIONS for name in chosen),
            )
            self._count(chosen, verdict)
            print(
                f"{self.rounds} {len(rig.nodes)} nodes, {reads}, {'+'.join(chosen)}: "
                f"{verdict.operations} operations, {verdict.unknown} unknown, "
                f"{verdict.silence_seconds:.2f} s silent; {'; '.join(verdict.notes)}",
                flush=True,
            )
            if verdict.wrong:
                print("\n".join([*verdict.wrong, rig.tails()]))
                return 1
            if time.monotonic() > self.deadline:
                break
        return 0

    def _count(self, chosen: list[str], verdict: Verdict) -> None:
        self.operations += verdict.operations
        self.unknown += verdict.unknown
        for name in dict.fromkeys(chosen):
            self.rows[name].count(verdict, len(chosen) == 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only these kinds, with commas between")
    parser.add_argument("--reads", default="", help="linearizable or lease (default: either)")
    parser.add_argument("--log-max", type=int, default=300)
    parser.add_argument("--stall", type=float, default=10.0, help="the longest stall in seconds")
    parser.add_argument(
        "--namespaces", action="store_true", help="cut real packets between namespaces (as root)"
    )
    given = parser.parse_args()
    unknown = set(given.only.split(",")) - KINDS.keys() - {""}
    if unknown:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return Hunt(given).run()


if __name__ == "__main__":
    sys.exit(main())
