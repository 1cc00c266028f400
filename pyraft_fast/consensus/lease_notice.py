"""The leader's lease, shown to the serving side so that its reads need not ask for it.

It is shown while somebody reads by it, anew in every turn and before anything of that turn leaves
the node: so nobody can have been told of a commit that the lease shown here does not cover yet, nor
of a vote, a transfer or a membership that ends it (`core.leases`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyraft_fast.core.raft import Raft
from pyraft_fast.core.reads import NOT_SHOWN

WANTED_TICKS: Final = 1000  # that it is shown after a read asked by the pipe; then one asks again


class LeaseNotice:
    """What the serving side sees of the lease. `post` puts its words into the shared memory."""

    def __init__(self, raft: Raft, post: Callable[[int, int, int], None]) -> None:
        self._raft = raft
        self._post = post
        self._ticks_left = 0
        self._shown = NOT_SHOWN

    def want(self) -> None:
        """Somebody reads by lease."""
        self._ticks_left = WANTED_TICKS

    def tick(self, count: int) -> None:
        """So many ticks have passed."""
        self._ticks_left = max(self._ticks_left - count, 0)

    def show(self) -> None:
        """Let the lease be seen as it is now."""
        if self._ticks_left or self._shown is not NOT_SHOWN:
            raft = self._raft
            lease = raft.reads.by_lease_now(raft) if self._ticks_left else NOT_SHOWN
            if lease != self._shown:
                self._post(*lease)
            self._shown = lease
