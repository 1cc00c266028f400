"""Random votes and match indexes, judged by the twin: python -m tests.fuzz.fuzz_quorum --count N

The seed decides everything; the exit status is 1 at a difference.
"""

from __future__ import annotations

import sys
from random import Random

from pyraft_fast import _quorum
from pyraft_fast.limits import MEMBERS_MAX
from tests.fuzz.command import run
from tests.twins import quorum_twin

TWIN_VOTERS_MAX = 7  # the twin tries every way in which silent voters could answer


def difference(dice: Random) -> str:
    """Compare one random election and one random set of match indexes; "" when they agree."""
    voters = dice.randint(1, MEMBERS_MAX)
    top = dice.choice((3, 100, 2**32, 2**63 - 1))
    matches = [dice.randint(0, top) for _ in range(voters)]
    got, wanted = _quorum.commit_index(matches), quorum_twin.commit_index(matches)
    if got != wanted:
        return f"commit_index({matches}) is {got}, not {wanted}"
    voters = dice.randint(1, TWIN_VOTERS_MAX)
    granted = dice.randint(0, voters)
    rejected = dice.randint(0, voters - granted)
    vote, judged = (
        module.vote_result(granted, rejected, voters) for module in (_quorum, quorum_twin)
    )
    if vote != judged:
        return f"vote_result({granted}, {rejected}, {voters}) is {vote}, not {judged}"
    return ""


if __name__ == "__main__":
    sys.exit(run(__doc__, difference, 100_000))
