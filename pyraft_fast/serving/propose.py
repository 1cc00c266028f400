"""Gathers writes into batches, sends them to consensus, and remembers them until applied.

It decides when a batch is closed, sent, sent again and given up; the way of a batch with which
nothing is amiss is `_turn.Intake`. It refuses to know what a
command means and whether this node leads: consensus forwards batches itself.

What a client is told follows from one fact, whether its batch got a number. Without one it
surely did not happen (CLUSTERDOWN); with one it may happen now or later (UNCERTAIN), and the
batch stays in the session, re-sent in order, since the log only takes a session without gaps.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from pyraft_fast._entry import Batch
from pyraft_fast._turn import Intake, OpenBatch, Origin, bounds
from pyraft_fast.errors import ClusterDown, CommandError, RaftException, Uncertain, check
from pyraft_fast.limits import (
    ANSWER_SECONDS_MAX,
    PENDING_BATCHES_MAX,
    PENDING_BYTES_MAX,
)
from pyraft_fast.serving.batches import Ride, new_batch, refusal, refuse

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 0.05  # how often overdue commands are looked for while any waits
ANSWER_SECONDS: Final = ANSWER_SECONDS_MAX - 4 * SWEEP_SECONDS
GATHER_SECONDS: Final = 0.05  # an unsendable batch gathers this long before it is closed
STILL_TURNS_MAX: Final = 2  # without another command, for a batch that could be sent
GROW_SECONDS_MAX: Final = 0.002  # that a batch may grow behind one that is not taken
UNSENT_BATCHES_MAX: Final = PENDING_BATCHES_MAX
GROUPS_ALONE: Final = 3  # of commands under way on a node alone: gathered, written, answered


class ProposalSink(Protocol):
    """The way down to consensus."""

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> bool:
        """Send one batch; it may be lost, and is then asked for by RESEND or a gap.

        True when it lies where `add` may add to it, until it is taken.
        """

    def add(self, count: int, payload: bytes) -> bool:
        """Add commands to the batch that was sent last; False when it is too late or too much."""

    def is_behind(self) -> bool:
        """Whether something that was sent has not been taken yet."""


class Proposer(Intake):
    """Open, unsent and sent batches of this node. Loop thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dirty: list[Origin],
        resume: Callable[[], None],
        arm: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sink = None
        self._dirty = dirty
        self._resume = resume  # called when `full` has become false again
        self._arm = arm  # called when somebody begins to wait: `sweep` is wanted then
        self._new_commands = Batch
        self.batches_max = PENDING_BATCHES_MAX
        self.bytes_max = PENDING_BYTES_MAX
        self.unsent_max = UNSENT_BATCHES_MAX
        self.still_max = STILL_TURNS_MAX
        self.groups = 1
        self.grow_seconds = GROW_SECONDS_MAX
        self.gather_seconds = GATHER_SECONDS
        self.answer_seconds = ANSWER_SECONDS
        self.start = 0  # number of this serving session; 0: consensus is not there
        self.serving = False  # whether a leader is known, so that sending makes sense
        self.full = False  # back-pressure: connections must not add writes
        self.open = new_batch(0.0)
        self.serial = 0
        self._unsent = deque()
        self._sent = deque()
        self._unsent_bytes = self._sent_bytes = self._under_way = self._usual = 0
        self._next_number = 1
        self._turn_scheduled = False
        self._seen = self._still = 0
        self._resent_after = -1  # last applied number when everything was re-sent for a gap

    # Adding commands

    def ride(self, origin: Origin, row: Any, words: list[Any]) -> None:
        """Let a read ride in the open batch, behind the write of its origin there."""
        self.open.ops.append(Ride(origin, row, words))
        origin.rides += 1
        origin.waiting += 1

    def tick(self) -> None:
        """Propose a batch without commands: its time stamp alone does something."""
        self._unsent.append(new_batch(self._loop.time()))
        self._arm()
        self._schedule()

    def take_waiting(self, origin: Origin) -> None:
        """Put the writes among the reads of `origin` into batches, and the reads around them.

        They were waiting to be answered without the log, and now that may not be.
        """
        reads, origin.reads = origin.reads, deque()
        origin.waiting -= len(reads)
        origin.idle_writes = 0
        for group, row, words in reads:
            if row.write:
                batch = self.open
                try:
                    self.write(origin, words, 0)
                    if group.deadline:  # it has waited since then
                        batch.born = min(batch.born, group.deadline - ANSWER_SECONDS)
                    continue
                except CommandError as error:
                    row = refusal(row, error)
            if origin.batch_serial == self.serial and origin.rides < bounds.batch_reads_max:
                self.ride(origin, row, words)
            else:
                origin.reads.append((group, row, words))
                origin.waiting += 1

    def _take_reads(self, origin: Origin, batch: OpenBatch) -> None:
        """Move unexecuted reads in front of the write that arrived behind them."""
        for _, row, words in origin.reads:
            batch.ops.append(Ride(origin, row, words))
        origin.reads.clear()

    # Sending

    def resend(self) -> None:
        """Send every unapplied batch again, in order: leader or link changed, or a gap showed."""
        self._growing = None  # from here on there are two of it, and they must be the same
        for batch in self._sent:
            self._sink.propose(self.start, batch.number, batch.count, batch.payload)

    def gap_seen(self, applied: int) -> None:
        """An own batch was skipped because an earlier one is missing; `applied` is the last."""
        if self._resent_after != applied:
            self._resent_after = applied
            self.resend()

    def set_alone(self, alone: bool) -> None:
        """Whether this node is the only one: with others, their disks work side by side anyway."""
        self.groups = GROUPS_ALONE if alone else 1

    def set_serving(self, serving: bool) -> None:
        """A leader is known now, or no longer."""
        self.serving = serving
        if serving:
            self._schedule()

    # Answers

    def covered(self, number: int) -> None:
        """A snapshot says that batches up to `number` were applied; their results are not known."""
        error = Uncertain("the write was applied, but its result was lost with a snapshot install")
        while self._sent and self._sent[0].number <= number:
            batch = self._next_sent()
            if batch.ops:
                refuse(batch.ops, error, self._dirty)
        if self._unsent or self.full:
            self._schedule()

    def new_session(self, start: int, sink: ProposalSink | None) -> None:
        """Consensus is new: number from 1 again under its start number."""
        check(not self._sent, "a new session begins with nothing sent", len(self._sent))
        self.start = start
        self._sink = sink
        self._next_number = 1
        self._resent_after = -1
        self._growing = None
        self._schedule()

    def drop_session(self, error: RaftException | None = None) -> None:
        """Consensus died or the node stops: whatever was sent may have happened."""
        error = error or Uncertain(
            "the consensus process ended before the answer; the write may have happened"
        )
        self.start = 0
        self.serving = False
        sent, self._sent = self._sent, deque()
        self._sent_bytes = self._under_way = 0
        for batch in sent:
            if batch.ops:
                refuse(batch.ops, error, self._dirty)

    def refuse_unsent(self, error: RaftException) -> None:
        """Answer everything that never got a number."""
        while self._unsent:
            refuse(self._next_unsent().ops, error, self._dirty)
        if self.open.ops:
            refuse(self._fresh().ops, error, self._dirty)
        self._relieve()

    def sweep(self, now: float) -> None:
        """Answer what has waited too long."""
        uncertain = None
        for batch in self._sent:
            if batch.deadline > now:
                break
            if batch.ops:
                uncertain = uncertain or Uncertain(
                    f"no answer from the cluster within {ANSWER_SECONDS_MAX:g} s; the write may "
                    "have happened or may happen later"
                )
                ops, batch.ops = batch.ops, None
                refuse(ops, uncertain, self._dirty)
        oldest = now - ANSWER_SECONDS
        error = ClusterDown("no leader is known or reachable; the command was not executed")
        while self._unsent and self._unsent[0].born <= oldest:
            refuse(self._next_unsent().ops, error, self._dirty)
        if self.open.ops and self.open.born <= oldest:
            refuse(self._fresh().ops, error, self._dirty)
        if self._unsent or self.open.ops or self.full:
            self._schedule()

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything here."""
        return not (self._sent or self._unsent or self.open.ops)

    @property
    def pending_batches(self) -> int:
        """How many sent batches the log has not applied yet."""
        return len(self._sent)
