"""The command line of a fuzz whose inputs are judged one by one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from random import Random


class Difference(AssertionError):
    """Two judges of the same input disagree; the text shows it, and is printed whole."""


def run(about: str, difference: Callable[[Random], str | None], count: int) -> int:
    """Judge as many inputs as asked for, `count` by default; the exit status is 1 at a difference.

    `difference` makes one input and compares: "" or None when both judges agree, else a text or a
    raised Difference.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = Random(options.seed)
    for number in range(options.count):
        try:
            found = (difference(dice) or "")[:2000]
        except Difference as error:
            found = str(error)
        if found:
            print(f"seed {options.seed}, input {number}: {found}")
            return 1
    print(f"seed {options.seed}: {options.count} inputs, no difference")
    return 0
