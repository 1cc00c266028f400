"""The words between the rules and their driver: settings in, effects out.

The driver's whole duty, per turn: hand inputs to Raft, then `take()` one Work and obey it:

1. send `send_now` (any order, may be lost);
2. put on disk, in this order: `snapshot` (the log restarts behind it), then `state` together with
   `entries` (an entry whose index is on disk already replaces it and all behind it);
3. when that and everything from earlier Works is synced: send `send_after_sync`, and if there were
   entries call `persisted(index, term)` with those of the last one.

Works reach the disk in the order they were taken, and are reported in that order. The driver need
not wait: it may take many more Works while the disk is busy. `commit`, `reads` and the rest may be
used at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message
from pyraft_fast.limits import (
    APPEND_BYTES_MAX,
    INFLIGHT_BYTES_MAX,
    INFLIGHT_MESSAGES_MAX,
    UNCOMMITTED_BYTES_MAX,
)


class Role(str, Enum):
    """What a node is in its term, as shown to people. The first three move inside the rules;
    the others name a follower that has no vote, no membership yet, or no place any more.
    """

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"
    JOINING = "joining"
    REMOVED = "removed"


class Config(NamedTuple):
    """Settings of one node. Times are counted in ticks; bounds are per peer.

    An election begins when no leader was heard of for a random number of ticks between
    `election_ticks_min` and `election_ticks_max`; a leader that hears no majority for
    `election_ticks_max` steps down. `tick_ms` is how long a tick takes; the cluster's clock and
    leases depend on it. With `commit_at_once` peers hear of every commit as soon as there is one;
    else they hear at once of what their own clients wait for, and of the rest with the next entries
    or after a tick. A leader with `uncommitted_bytes_max` in its log that no majority has taken
    accepts no more proposals until half of that is committed. Where `spare_commands_min` commands
    came in a tick, older ticks counted at half, a leader spares peers that no majority needs (see
    `sparing`).
    """

    nid: str
    incarnation: int
    heartbeat_ticks: int = 5
    election_ticks_min: int = 30
    election_ticks_max: int = 60
    append_bytes_max: int = APPEND_BYTES_MAX
    inflight_messages_max: int = INFLIGHT_MESSAGES_MAX
    inflight_bytes_max: int = INFLIGHT_BYTES_MAX
    tick_ms: int = 10
    uncommitted_bytes_max: int = UNCOMMITTED_BYTES_MAX
    commit_at_once: bool = False
    spare_commands_min: int = 64

    @property
    def lease_ms(self) -> int:
        """How long an answered heartbeat counts from when it was sent, on the leader's clock.

        Less than the followers' promise by a fifth, which is the bound on clock drift, and by the
        grain of their ticks: as a timer that fired late counts two at once, they may count three
        more ticks than have passed.
        """
        ticks = self.election_ticks_min
        return max(0, (ticks - 3) * 8) * self.tick_ms // 10


class HardState(NamedTuple):
    """What a node must find again after a crash. `vote` is a nid, "" when none was given.

    `commit` is a convenience: it may lag, and is never trusted past the end of the log.
    """

    term: int = 0
    vote: str = ""
    commit: int = 0


class SoftState(NamedTuple):
    """What users see of the node; told whenever it changes.

    `leader` is a nid or "". `accepts`: this node leads and takes proposals. When `leader` or
    `accepts` changes, what was proposed before may be lost and is to be sent again.
    """

    role: str
    term: int
    leader: str
    accepts: bool


@dataclass(slots=True)
class ReadState:
    """A read may be answered from a state that has applied `index`, at cluster time `clock_ms`."""

    context: int
    index: int
    clock_ms: int


@dataclass(slots=True)
class SnapshotState:
    """The log restarts behind this snapshot, whose file is on disk already."""

    index: int
    term: int
    membership: Membership


class Work:
    """Effects of the inputs since the last one; see the module's text for their order.

    `state` is None when nothing of it must be saved now. `commit` is the index up to which entries
    may be published. `role_change` and `membership` (the one in force) are None when they did not
    change. `wants_snapshot` names peers that need a snapshot file sent; answer with
    `Raft.snapshot_sent`.
    """

    __slots__ = (
        "commit",
        "entries",
        "failed_reads",
        "membership",
        "reads",
        "role_change",
        "send_after_sync",
        "send_now",
        "snapshot",
        "state",
        "wants_snapshot",
    )

    def __init__(self, commit: int) -> None:
        self.state: HardState | None = None
        self.entries: Sequence[Entry] = NOTHING
        self.snapshot: SnapshotState | None = None
        self.send_now: Sequence[Message] = NOTHING
        self.send_after_sync: Sequence[Message] = NOTHING
        self.commit = commit
        self.reads: Sequence[ReadState] = NOTHING
        self.failed_reads: Sequence[int] = NOTHING
        self.role_change: SoftState | None = None
        self.membership: Membership | None = None
        self.wants_snapshot: Sequence[str] = NOTHING

    @property
    def needs_disk(self) -> bool:
        """Is there anything to write, or to send only behind what is being written?"""
        return bool(self.entries or self.state or self.snapshot or self.send_after_sync)


NOTHING: Final[tuple[()]] = ()
