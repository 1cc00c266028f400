"""The command line of a fuzz whose inputs are judged one by one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from random import Random


def run(about: str, difference: Callable[[Random], str], count: int) -> int:
    """Judge as many inputs as asked for, `count` by default; the exit status is 1 at a difference.

    `difference` makes one input and compares: "" when both judges agree.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = Random(options.seed)
    for number in range(options.count):
        found = difference(dice)
        if found:
            print(f"seed {options.seed}, input {number}: {found[:2000]}")
            return 1
    print(f"seed {options.seed}: {options.count} inputs, no difference")
    return 0
