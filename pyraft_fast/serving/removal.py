"""A node that was removed from the cluster: nothing will come of waiting, so nobody waits.

Consensus tells that the node is out when that is certain. From then on every read and write is
answered at once, and so is what waits already. What was sent may have been taken by the log before
the removal; what was not sent surely never will be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyraft_fast.errors import ClusterDown, Uncertain

if TYPE_CHECKING:
    from pyraft_fast.serving.dispatch import Desk

REMOVED: Final = "removed"
_OUT: Final = "this node was removed from the cluster"


def take(desk: Desk, role: str) -> None:
    """The node is out of the cluster, or (its consensus started anew) may be in it again."""
    if role != REMOVED:
        desk.closed = None
        return
    error = ClusterDown(f"{_OUT}; the command was not executed, ask another node")
    desk.closed = error
    desk.proposer.drop_session(Uncertain(f"{_OUT}; the write may have happened before"))
    desk.proposer.refuse_unsent(error)
    desk.gate.refuse_all(error)
    desk.go_on(error)
