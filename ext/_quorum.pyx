# cython: language_level=3, autotestdict=False
"""Majorities: which index a majority holds, and whether a vote is decided.

It decides nothing but arithmetic. Who is a voter, and whether an entry of an older term may be
committed by counting (it may not, thesis section 3.6.2), is the business of the rules.
Invariant: any two majorities of the same voters share a voter, so a majority of n is n // 2 + 1.
"""

from pyraft_fast.errors import InvariantError

include "limits.pxi"

ctypedef unsigned long long u64


def commit_index(matches, /):
    """The highest index that a majority of `matches` (one index per voter) has reached.

    Raises InvariantError for no voters or more than MEMBERS_MAX; OverflowError for an index
    outside 0 .. 2**64-1. Thesis section 3.5, rule for leaders.
    """
    cdef u64 held[MEMBERS_MAX]
    cdef u64 index
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t at
    for match in matches:
        if count == MEMBERS_MAX:
            raise InvariantError(f"invariant broken: at most {MEMBERS_MAX} voters")
        index = match
        at = count
        # insertion keeps them highest first; there are a handful
        while at > 0 and held[at - 1] < index:
            held[at] = held[at - 1]
            at -= 1
        held[at] = index
        count += 1
    if count == 0:
        raise InvariantError("invariant broken: a quorum needs a voter")
    return held[count // 2]


def vote_result(long granted, long rejected, long voters, /):
    """1 when a majority granted, -1 when no majority can be had any more, 0 while it is open.

    Raises InvariantError when there are no voters, or more answers than voters.
    """
    if voters < 1 or granted < 0 or rejected < 0 or granted > voters - rejected:
        raise InvariantError(
            "invariant broken: votes of known voters "
            f"({granted} granted, {rejected} rejected, {voters} voters)"
        )
    cdef long majority = voters // 2 + 1
    if granted >= majority:
        return 1
    if rejected > voters - majority:
        return -1
    return 0
