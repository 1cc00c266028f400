"""Look for lost, doubled or stale data for a while: `python -m tests.process.hunt --seconds 600`.

Rounds of one to three random faults under load, on a fresh cluster every few rounds. Stops at the
first anomaly, keeps the folder with all logs and snapshots, and says where it is.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path

from tests.process.faults import FAULTS
from tests.process.partition_faults import PARTITIONS
from tests.process.rig import Rig
from tests.process.scene import one_round

ROUNDS_PER_CLUSTER = 12
KINDS = {**FAULTS, **PARTITIONS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default="", help="only these, with commas between")
    parser.add_argument("--log-max", type=int, default=300)
    parser.add_argument("--stall", type=float, default=3.0, help="the longest stall in seconds")
    given = parser.parse_args()
    dice = random.Random(given.seed)
    names = given.faults.split(",") if given.faults else list(KINDS)
    deadline = time.monotonic() + given.seconds
    folder = Path(tempfile.mkdtemp(prefix="hunt-"))
    silence: dict[str, float] = defaultdict(float)
    rounds = operations = unknown = 0
    status = 0
    while time.monotonic() < deadline and not status:
        cluster = Rig(folder / f"cluster-{rounds}", 3)
        try:
            cluster.start("--log-max", str(given.log_max))
            for _ in range(ROUNDS_PER_CLUSTER):
                rounds += 1
                chosen = [dice.choice(names) for _ in range(dice.choice([1, 1, 2, 3]))]
                kinds = [KINDS[name] for name in chosen]
                timely = all(name in PARTITIONS for name in chosen)
                verdict = one_round(cluster, f"{rounds}", kinds, dice, (0.2, given.stall), timely)
                operations += verdict.operations
                unknown += verdict.unknown
                if len(chosen) == 1:
                    silence[chosen[0]] = max(silence[chosen[0]], verdict.silence_seconds)
                print(
                    f"{rounds} {'+'.join(chosen)}: {verdict.operations} operations, "
                    f"{verdict.unknown} unknown, {verdict.silence_seconds:.2f} s silent",
                    flush=True,
                )
                if verdict.wrong:
                    print("\n".join(verdict.wrong), f"\nfiles: {folder}, seed {given.seed}")
                    status = 1
                    break
                if time.monotonic() > deadline:
                    break
        except Exception:
            traceback.print_exc()
            print(f"round {rounds} failed; files: {folder}, seed {given.seed}")
            status = 2
        finally:
            cluster.cleanup()
    print(f"{rounds} rounds, {operations} operations, {unknown} unknown; longest silences:")
    for name, seconds in sorted(silence.items()):
        print(f"  {name}: {seconds:.2f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
