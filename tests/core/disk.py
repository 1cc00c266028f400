"""A node's disk in memory: jobs finish in order, and a crash loses those that did not."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

from pyraft_fast._entry import KIND_CONFIG
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message
from pyraft_fast.core.work import HardState, SnapshotState, Work
from tests.core.invariants import Invariants


class Job:
    """What one Work asked of the disk, and the messages that wait for it."""

    def __init__(self, work: Work, before: int) -> None:
        self.snapshot = work.snapshot
        self.state = work.state
        self.entries = list(work.entries)
        self.before = before  # the term in front of them
        self.messages: Sequence[Message] = work.send_after_sync


class MemoryDisk:
    """Durable state of one node. Reading sees only what is durable, which is the strictest case."""

    def __init__(self, invariants: Invariants) -> None:
        self.invariants = invariants
        self.hard = HardState()
        self.first = 1
        self.base_term = 0
        self.entries: list[Entry] = []
        self.snapshot = SnapshotState(0, 0, Membership(0))
        self.snapshot_time_ms = 0
        self.jobs: deque[Job] = deque()

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def read(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """As storage does: at least one entry, then as many as `bytes_max` allows."""
        if lo < self.first:
            return []
        found: list[Entry] = []
        for entry in self.entries[lo - self.first : hi - self.first]:
            bytes_max -= entry.size
            if found and bytes_max < 0:
                break
            found.append(entry)
        return found

    def write(self, job: Job) -> None:
        """Carry out a job."""
        if job.snapshot is not None:
            self._restart(job.snapshot)
        if job.state is not None:
            assert job.state.term >= self.hard.term
            if job.state.term == self.hard.term:
                assert self.hard.vote in ("", job.state.vote)
            self.hard = job.state
        if job.entries:
            self.invariants.log_matching(job.entries, job.before)
        for entry in job.entries:
            assert self.first <= entry.index <= self.last + 1
            del self.entries[entry.index - self.first :]
            self.entries.append(entry)

    def save_snapshot(self, snapshot: SnapshotState, time_ms: int) -> None:
        """A snapshot file is complete; the log is another matter."""
        if snapshot.index > self.snapshot.index:
            self.snapshot = snapshot
            self.snapshot_time_ms = time_ms

    def _restart(self, snapshot: SnapshotState) -> None:
        self.first = snapshot.index + 1
        self.base_term = snapshot.term
        self.entries = []

    def forget_below(self, first: int) -> None:
        """Delete entries before `first`."""
        if self.first < first <= self.last + 1:  # else a restart of the log is under way
            self.base_term = self.entries[first - 1 - self.first].term
            del self.entries[: first - self.first]
            self.first = first

    def crash(self, rng: Random) -> None:
        """Power is gone: of the jobs under way, some first ones may have reached the disk."""
        for job in list(self.jobs)[: rng.randint(0, len(self.jobs))]:
            self.write(job)
        self.jobs.clear()

    def recover(self) -> RaftLog:
        """The log as a restarted node finds it."""
        if self.last < self.snapshot.index:
            self._restart(self.snapshot)
        return RaftLog(
            self,
            self.first,
            self.last,
            self.entries[-1].term if self.entries else self.base_term,
            (self.snapshot.index, self.snapshot.term),
            [entry for entry in self.entries if entry.kind == KIND_CONFIG],
            bytes_max=2000,
        )
