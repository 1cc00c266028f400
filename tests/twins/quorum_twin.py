"""Majority arithmetic in its plainest form: the judge of `pyraft_fast._quorum`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product


def commit_index(matches: Sequence[int]) -> int:
    """The highest index that more than half of the voters have reached, by counting."""
    for index in sorted(matches, reverse=True):
        if 2 * sum(match >= index for match in matches) > len(matches):
            return index
    raise AssertionError("no voters")


def vote_result(granted: int, rejected: int, voters: int) -> int:
    """By trying every way in which the voters that are still silent could answer."""
    silent = voters - granted - rejected
    outcomes = {2 * (granted + sum(more)) > voters for more in product((0, 1), repeat=silent)}
    if outcomes == {True}:
        return 1
    return -1 if outcomes == {False} else 0
