"""The read gate: reads run when this node's data is as current as their level asks.

All reads of one turn and level share a group, and a group costs one READ round. A group is
confirmed when its answer (a read index and the cluster's clock) came back and that index is
applied. Its reads then run at once where nothing earlier of their origin is unanswered, else as
soon as that is so.

Local reads have a group that is confirmed from the start. So have lease reads where this node
leads, shows its lease in the shared memory and has applied all it covers; the first one asks
consensus, which shows it from then on. And so have reads with an age, as long as the newest
confirmed round was asked no longer ago than that: what was acknowledged before it was asked is in
the data, and data never go back. Else they share a linearizable round. That age is counted by a
clock of this machine that cannot be set and goes on in suspension; it is read when the read is here
already, so a process that was stopped in between errs to the safe side.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pyraft_fast import _turn
from pyraft_fast._turn import Origin
from pyraft_fast.errors import ClusterDown, RaftException
from pyraft_fast.read_level import (
    LEASE,
    LEVELS,
    LINEARIZABLE,
    LOCAL,
    MAX_AGE,
    ReadLevel,
    parse_level,
)
from pyraft_fast.serving.propose import ANSWER_SECONDS, GATHER_SECONDS

RETRY_SECONDS: Final = 0.02
NEVER_NS: Final = -(1 << 62)  # before every age
NS_PER_MS: Final = 1_000_000


class ReadSink(Protocol):
    """The way down to consensus."""

    def read(self, context: int, by_lease: bool) -> None:
        """Ask for a read index; READ or READ_FAILED with this context comes back, or nothing.

        `by_lease`: a leader that holds a lease may answer without asking others.
        """

    def lease(self) -> tuple[int, int] | None:
        """The lease by which reads may run now, if it shows: the cluster clock that goes with it,
        and until when by the steady clock, in ms. None too where something it covers is not
        applied yet.
        """


class ReadGroup(_turn.ReadGroup):
    """There are `count` of them, and `level` is the name of the level that they are answered at.

    `asked_ns` is the steady clock before the round was asked for, `clock_ms` the cluster's clock
    that came back.
    """

    __slots__ = ()

    def __init__(self, level: str, confirmed: bool = False) -> None:
        self.level = level
        self.context = 0
        self.asked_ns = NEVER_NS
        self.clock_ms = 0
        self.origins = []
        self.confirmed = confirmed


class Level(Protocol):
    """A level of reads at this node."""

    @property
    def wanted(self) -> ReadLevel:
        """What users call it."""

    def join(self, origin: Origin) -> ReadGroup:
        """The group that a read of `origin` at this moment belongs to."""


class Rounds(_turn.Rounds):
    """Linearizable and lease reads: those of a turn share a round."""

    __slots__ = ("_begin", "wanted")

    open: ReadGroup

    def __init__(self, name: str, begin: Callable[[ReadGroup], None]) -> None:
        self.wanted = ReadLevel(name)
        self._begin = begin
        self.open = ReadGroup(name)

    def take(self) -> ReadGroup:
        """Put a new group in the place of the open one; returns the old one."""
        group, self.open = self.open, ReadGroup(self.wanted.name)
        return group


class Local:
    """Reads of what this node has."""

    __slots__ = ("group", "wanted")

    def __init__(self) -> None:
        self.wanted = ReadLevel(LOCAL)
        self.group = ReadGroup(LOCAL, confirmed=True)

    def join(self, origin: Origin) -> ReadGroup:
        """A group that may always run."""
        self.group.count += 1
        return self.group


class AtOnce:
    """Reads that run without a round while `may` says so, and in one of `rounds` else."""

    __slots__ = ("_group", "_may", "_rounds", "wanted")

    def __init__(
        self, wanted: ReadLevel, may: Callable[[], bool], group: ReadGroup, rounds: Rounds
    ) -> None:
        self.wanted = wanted
        self._may = may
        self._group = group
        self._rounds = rounds

    def join(self, origin: Origin) -> ReadGroup:
        """The confirmed group if they may, else the open one of the next round."""
        if self._may():
            self._group.count += 1
            return self._group
        group: ReadGroup = self._rounds.join(origin)
        return group


class ReadGate:
    """Open, asked and confirmed groups. Loop thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sink: ReadSink,
        dirty: list[Origin],
        default: str,
        arm: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._dirty = dirty
        self._arm = arm  # called when somebody begins to wait: `sweep` is wanted then
        self._contexts = 0
        self.serving = False
        self.clock_ms = 0  # the newest cluster clock that goes with what is applied
        self.steady_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
        self.fresh_ns = NEVER_NS  # when the newest confirmed round was asked for
        self.linearizable = Rounds(LINEARIZABLE, self._begin)
        self.lease = Rounds(LEASE, self._begin)
        self.local = Local()
        self.aged = ReadGroup(MAX_AGE, confirmed=True)  # reads with an age that need no round
        self.leased = ReadGroup(LEASE, confirmed=True)  # reads by the lease that shows
        self._fulfilled = dict.fromkeys(LEVELS, 0)  # reads whose round came back, by level
        self.default = self.level(parse_level(default))
        self._held: list[ReadGroup] = []  # waiting for a leader
        self._asked: dict[int, ReadGroup] = {}
        self._behind: list[tuple[int, int, ReadGroup]] = []  # (read index, context, group)
        self._turn_scheduled = False

    def level(self, wanted: ReadLevel) -> Level:
        """The level to read at from now on, for whoever wants this one."""
        if wanted.name == MAX_AGE:
            is_fresh = partial(self.is_fresh, wanted.age_ms * NS_PER_MS)
            return AtOnce(wanted, is_fresh, self.aged, self.linearizable)
        by_lease = AtOnce(ReadLevel(LEASE), self.is_leased, self.leased, self.lease)
        levels: dict[str, Level] = {
            LINEARIZABLE: self.linearizable, LEASE: by_lease, LOCAL: self.local,
        }  # fmt: skip
        return levels[wanted.name]

    @property
    def reads(self) -> dict[str, int]:
        """Reads that were let through, by level."""
        groups = (self.local.group, self.aged, self.leased)
        at_once = {group.level: group.count for group in groups}
        return {level: count + at_once.get(level, 0) for level, count in self._fulfilled.items()}

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._fulfilled = dict.fromkeys(LEVELS, 0)
        self.local.group.count = self.aged.count = self.leased.count = 0

    def is_fresh(self, age_ns: int) -> bool:
        """Was the newest confirmed round asked for no longer ago than that?"""
        return self.steady_ns() - self.fresh_ns <= age_ns

    def is_leased(self) -> bool:
        """May a read that is here run by lease? Asked for each, since a lease may end at any time.

        The clock is read last: then the lease was good, and nothing else committed, when it was
        looked at.
        """
        shown = self._sink.lease() if self.serving else None
        if shown is None or self.steady_ns() >= shown[1] * NS_PER_MS:
            return False
        self.clock_ms = max(self.clock_ms, shown[0])
        return True

    def _begin(self, group: ReadGroup) -> None:
        """An open group gets its first read."""
        group.deadline = self._loop.time() + ANSWER_SECONDS
        self._arm()
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn_end)

    def _turn_end(self) -> None:
        self._turn_scheduled = False
        if not self.serving:
            return
        for level in (self.linearizable, self.lease):
            if level.open.origins:
                self._ask(level.take())

    def _ask(self, group: ReadGroup) -> None:
        self._contexts += 1
        group.context = self._contexts
        group.asked_ns = self.steady_ns()
        self._asked[group.context] = group
        self._sink.read(group.context, group.level == LEASE)

    def set_serving(self, serving: bool) -> None:
        """A leader is known now, or no longer; then rounds under way may never be answered."""
        self.serving = serving
        if serving:
            held, self._held = self._held, []
            for group in held:
                self._ask(group)
            self._turn_end()

    def hold(self) -> None:
        """Consensus is gone: what was asked is asked again when there is a leader."""
        self.serving = False
        self._held[:0] = self._asked.values()
        self._asked.clear()

    def ask_again(self) -> None:
        """Repeat every round under way: leader or link changed. Old answers are ignored."""
        asked, self._asked = self._asked, {}
        for group in asked.values():
            self._ask(group)

    def came_back(self, context: int, index: int, clock_ms: int, applied: int) -> None:
        """READ arrived: reads of this context may run once `index` is applied."""
        group = self._asked.pop(context, None)
        if group is None:
            return
        group.clock_ms = clock_ms
        if index <= applied:
            self._fulfil(group)
        else:
            heapq.heappush(self._behind, (index, context, group))

    def failed(self, context: int) -> None:
        """READ_FAILED arrived: the leader changed meanwhile; ask again a little later."""
        if context in self._asked:
            self._loop.call_later(RETRY_SECONDS, self._retry, context)

    def _retry(self, context: int) -> None:
        group = self._asked.pop(context, None)
        if group is not None and self.serving:
            self._ask(group)
        elif group is not None:
            self._asked[context] = group

    def applied(self, index: int) -> None:
        """Entries up to `index` are applied: confirm who waited for that."""
        behind = self._behind
        while behind and behind[0][0] <= index:
            self._fulfil(heapq.heappop(behind)[2])

    def _fulfil(self, group: ReadGroup) -> None:
        """Its index is applied; only now its clock goes with the data, and the data are fresh."""
        self.clock_ms = max(self.clock_ms, group.clock_ms)
        self.fresh_ns = max(self.fresh_ns, group.asked_ns)
        self._fulfilled[group.level] += group.count
        _turn.confirm(group, self._dirty)

    def sweep(self, now: float) -> None:
        """Answer reads that have waited too long; reads never happen later, so it is certain."""
        # While there is a leader an open group is asked for at the end of the turn.
        late = now if self.serving else now + ANSWER_SECONDS - GATHER_SECONDS
        for level in (self.linearizable, self.lease):
            if level.open.origins and level.open.deadline <= late:
                self._held.append(level.take())  # who comes now waits from now on
        groups = [group for group in self._asked.values() if group.deadline <= now]
        for group in groups:
            del self._asked[group.context]
        groups += [group for group in self._held if group.deadline <= now]
        self._held = [group for group in self._held if group.deadline > now]
        overdue = [item for item in self._behind if item[2].deadline <= now]
        if overdue:
            self._behind = [item for item in self._behind if item[2].deadline > now]
            heapq.heapify(self._behind)
            groups += [item[2] for item in overdue]
        error = ClusterDown("no majority confirmed a read index in time; it was not executed")
        for group in groups:
            self._refuse(group, error)

    def _refuse(self, group: ReadGroup, error: RaftException) -> None:
        """Let the reads of a group be answered with `error`, each when its turn comes."""
        group.error = error
        _turn.confirm(group, self._dirty)

    def refuse_all(self, error: RaftException) -> None:
        """The node stops: nobody will be confirmed any more."""
        behind = [item[2] for item in self._behind]
        opened = [self.linearizable.take(), self.lease.take()]
        for group in [*self._asked.values(), *behind, *self._held, *opened]:
            self._refuse(group, error)
        self._asked.clear()
        self._held.clear()
        self._behind.clear()

    @property
    def idle(self) -> bool:
        """Whether no read waits for a round."""
        opened = self.linearizable.open.origins or self.lease.open.origins
        return not (self._asked or self._behind or self._held or opened)
