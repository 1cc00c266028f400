"""The rules of one node: messages, ticks and proposals in, effects out."""

from __future__ import annotations

from random import Random

from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message
from pyraft_fast.core.work import Config, HardState, Work


class Raft:
    """One node's consensus. `membership` is that of the snapshot the log begins behind (or empty);
    membership entries in the log come on top. Read-only for the driver: role, term, leader,
    membership, committed_membership, log (log.commit, log.last, log.first, log.read), progress,
    ticks, clock_ms, hard.
    """

    def __init__(
        self, config: Config, log: RaftLog, hard: HardState, membership: Membership, rng: Random
    ) -> None: ...

    def tick(self, now_ms: int) -> None: ...
    def step(self, message: Message) -> None: ...
    def propose(
        self,
        kind: int,
        payload: bytes,
        count: int,
        origin: int,
        start: int,
        batch: int,
        now_ms: int,
    ) -> bool: ...
    def propose_change(self, op: str, nid: str, addr: str, incarnation: int, now_ms: int) -> int:
        """op: add remove promote demote address rejoin. Returns the index of the entry (or of the
        membership in force if it says so already); raises MembershipError, TryAgain."""

    def read(self, context: int) -> None: ...
    def transfer(self, nid: str | None) -> None:
        """raises MembershipError, TryAgain"""

    def persisted(self, index: int, term: int) -> None: ...
    def compact(self, index: int) -> None: ...
    def snapshot_sent(self, nid: str, ok: bool) -> None: ...
    def unreachable(self, nid: str) -> None: ...
    def take(self) -> Work: ...
