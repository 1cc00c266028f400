"""The read gate: reads run when this node has applied what was committed when they were asked.

All reads of one turn share a group, and a group costs one READ round. A group is confirmed when
its answer (a read index and the cluster's clock) came back and that index is applied. Its reads
then run at once where nothing earlier of their origin is unanswered, else as soon as that is so.
With local reads every group is confirmed from the start.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Protocol

from pyraft_fast.errors import ClusterDown, RaftException
from pyraft_fast.serving.origin import Origin
from pyraft_fast.serving.propose import ANSWER_SECONDS, GATHER_SECONDS

RETRY_SECONDS: Final = 0.02


class ReadSink(Protocol):
    """The way down to consensus."""

    def read(self, context: int) -> None:
        """Ask for a read index; READ or READ_FAILED with this context comes back, or nothing."""


class ReadGroup:
    """Reads that share a round; `confirmed` once they may run, or be answered with `error`."""

    __slots__ = ("confirmed", "context", "deadline", "error", "origins")

    def __init__(self) -> None:
        self.context = 0
        self.deadline = 0.0
        self.origins: list[Origin] = []
        self.confirmed = False
        self.error: RaftException | None = None


class ReadGate:
    """Open, asked and confirmed groups. Loop thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sink: ReadSink,
        dirty: list[Origin],
        local: bool,
        arm: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sink = sink
        self._dirty = dirty
        self._arm = arm  # called when somebody begins to wait: `sweep` is wanted then
        self._contexts = 0
        self.local = local
        self.serving = False
        self.clock_ms = 0  # the newest cluster clock that came with a read index
        self.always = ReadGroup()
        self.always.confirmed = True
        self.open = ReadGroup()
        self._held: list[ReadGroup] = []  # waiting for a leader
        self._asked: dict[int, ReadGroup] = {}
        self._behind: list[tuple[int, int, ReadGroup]] = []  # (read index, context, group)
        self._turn_scheduled = False

    def join(self, origin: Origin) -> ReadGroup:
        """The group that a read of this turn belongs to."""
        if self.local:
            return self.always
        group = self.open
        origins = group.origins
        if not origins:
            group.deadline = self._loop.time() + ANSWER_SECONDS
            self._arm()
            if not self._turn_scheduled:
                self._turn_scheduled = True
                self._loop.call_soon(self._turn_end)
        if not origins or origins[-1] is not origin:
            origins.append(origin)
        return group

    def _turn_end(self) -> None:
        self._turn_scheduled = False
        group = self.open
        if not group.origins:
            return
        if self.serving:
            self.open = ReadGroup()
            self._ask(group)

    def _ask(self, group: ReadGroup) -> None:
        self._contexts += 1
        group.context = self._contexts
        self._asked[group.context] = group
        self._sink.read(group.context)

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
        self.clock_ms = max(self.clock_ms, clock_ms)
        if group is None:
            return
        if index <= applied:
            self._confirm(group)
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
            self._confirm(heapq.heappop(behind)[2])

    def _confirm(self, group: ReadGroup) -> None:
        group.confirmed = True
        for origin in group.origins:
            if origin.reads and not origin.dirty:
                origin.dirty = True
                self._dirty.append(origin)
        group.origins.clear()

    def sweep(self, now: float) -> None:
        """Answer reads that have waited too long; reads never happen later, so it is certain."""
        if self.open.origins and self.open.deadline - ANSWER_SECONDS + GATHER_SECONDS <= now:
            self._held.append(self.open)  # no leader: whoever comes now waits from now on
            self.open = ReadGroup()
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
        error = ClusterDown("no majority confirmed a read index in time; the read did not run")
        for group in groups:
            self._refuse(group, error)

    def _refuse(self, group: ReadGroup, error: RaftException) -> None:
        """Let the reads of a group be answered with `error`, each when its turn comes."""
        group.error = error
        self._confirm(group)

    def refuse_all(self, error: RaftException) -> None:
        """The node stops: nobody will be confirmed any more."""
        behind = [item[2] for item in self._behind]
        for group in [*self._asked.values(), *behind, *self._held, self.open]:
            self._refuse(group, error)
        self._asked.clear()
        self._held.clear()
        self._behind.clear()
        self.open = ReadGroup()

    @property
    def idle(self) -> bool:
        """Whether no read waits for a round."""
        return not (self._asked or self._behind or self._held or self.open.origins)
