"""Applies the log: every committed record comes here once, in order, and changes the data.

It decides which entries take effect (`sessions`), at which time and with which dice handlers
run, and who gets which answer. It refuses to know where records come from. The same bytes give
the same data on every node: nothing here reads a clock or anything else of this process, except
to answer the clients that wait at this node.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from pyraft_fast import _entry, _turn
from pyraft_fast._digest import Noted
from pyraft_fast._turn import Origin
from pyraft_fast.errors import InvariantError, RaftException
from pyraft_fast.serving.batches import Ride
from pyraft_fast.serving.host import Host
from pyraft_fast.serving.members import NOBODY, read_members
from pyraft_fast.serving.propose import Proposer
from pyraft_fast.serving.reads import ReadGate
from pyraft_fast.serving.rows import Row, Rows
from pyraft_fast.serving.sessions import GAP, Sessions
from pyraft_fast.serving.track import OFF, Track
from pyraft_fast.storage.snapshot import Meta, read_items, read_meta
from pyraft_fast.worker.dice import Dice

logger = logging.getLogger(__name__)

POSITION_BITS: Final = 20  # of a dice seed: the command's place in its entry; _turn.RIDING is in it
RUN_SECONDS: Final = 0.0001  # of applying what nobody waits for, before others may run
ITEMS_PER_SLICE: Final = 512  # of a snapshot, between looks at the clock
LENGTH_PER_SLICE: Final = 64 * 1024  # of their values, in characters or elements


class NodeFailure(RaftException):
    """This node cannot apply the log and must stop; the others may be well."""


class Applier(_turn.Place):
    """The state machine's driver. Loop thread only."""

    _track: Track

    def __init__(
        self,
        host: Host,
        rows: Rows,
        proposer: Proposer,
        gate: ReadGate,
        dirty: list[Origin],
        membership_changed: Callable[[], None],
        track: Track | None = None,
    ) -> None:
        self._host = host
        self._rows = rows
        self._proposer = proposer
        self._gate = gate
        self._dirty = dirty
        self._membership_changed = membership_changed
        self._track = Track(OFF, host.store) if track is None else track
        self._noting = False
        self.sessions = Sessions()
        self.incarnation = 0
        self.index = host.store.version = 0  # the store counts entries, too
        self.term = 0
        self.time_ms = 0
        self.position = 0
        self.applying = False
        self.membership = b""
        self.members = NOBODY
        self.commands = self.log_bytes = self.commands_total = 0
        self.snapshot_wanted: tuple[str, int, int] | None = None
        self._dice = Dice(0)
        self._dice_seed = 0
        self._runs_until = 0.0

    def give_way(self) -> None:
        """Between two records: let others have the processor if nobody here waits for anything.

        Neither for what follows nor for an answer that is made and leaves at the end of the turn.

        A follower takes what was committed in portions of milliseconds. Where processors are few
        its own consensus would stand behind each, and with it whoever waits for the entries that it
        is to write. Who takes long to give the processor back has it for no longer than this: a
        follower must not fall behind. With digests of every entry others' clients wait, too.
        """
        began = now = time.monotonic()
        if began >= self._runs_until:
            waited_for = self._dirty or not (self._proposer.idle and self._gate.idle)
            if not waited_for and self._track.every != 1:
                os.sched_yield()
                now = time.monotonic()
            self._runs_until = now + max(RUN_SECONDS, now - began)

    @property
    def dice(self) -> Dice:
        """Random numbers that are the same on every node for the command being applied."""
        seed = (self.index << POSITION_BITS) | self.position
        if seed != self._dice_seed:
            self._dice_seed = seed
            self._dice.seed(seed)
        return self._dice

    def _other(self, head: Any, record: Any) -> None:
        """Of Place: a record of the ring that holds no commands."""
        kind = head.kind
        if kind == _entry.KIND_READ:
            self._gate.came_back(head.batch, head.index, head.time_ms, self.index)
        elif kind == _entry.KIND_READ_FAILED:
            self._gate.failed(head.batch)
        elif kind == _entry.KIND_NOOP:
            if head.index > self.index:
                self._advance(head)
        elif kind == _entry.KIND_CONFIG:
            if head.index > self.index:
                self._advance(head)
                self._config(bytes(memoryview(record)[_entry.HEADER_SIZE : head.length]))
        elif kind == _entry.KIND_SNAPSHOT:
            payload = memoryview(record)[_entry.HEADER_SIZE : head.length]
            path, index, term = _entry.unpackb(payload)
            if index > self.index:
                self.snapshot_wanted = (path, index, term)
        else:
            raise InvariantError(f"a record of kind {kind} in the ring")

    def _own(self, head: Any) -> list[Origin | Ride] | None:
        """Of Place: who waits here for an entry of this node that takes effect."""
        own = head.start == self._proposer.start
        return self._proposer.applied(head.batch) if own else None

    def _skip(self, head: Any, verdict: int) -> None:
        """Of Place: an entry of commands that takes no effect."""
        self._advance(head)
        own = head.origin == self.incarnation and head.start == self._proposer.start
        if own and verdict == GAP:
            self._proposer.gap_seen(self.sessions.last(head.origin, head.start))

    def find_row(self, offset: int, words: Any) -> Row | Noted:
        """Of Place: the handler for a command of the log; a node without it cannot keep up."""
        row = self._rows.find_at(offset, words[0])
        if row is None:
            where = f" of the worker at offset {offset}" if offset else ""
            raise NodeFailure(
                f"no handler {str(words[0]).lower()!r}{where} for entry {self.index} of the log: "
                "every node must have the same handlers; add it and start this node again"
            )
        return self._track.noted(row) if self._noting else row

    def out_of_memory(self, row: Row | Noted) -> None:
        """Of Place: a handler that could not do its work leaves other data here than elsewhere."""
        raise NodeFailure(f"out of memory in handler {row.name!r}")

    def _config(self, payload: bytes) -> None:
        self._take_membership(payload)
        self.sessions.keep(member.incarnation for member in self.members.members)
        self._membership_changed()

    def _take_membership(self, payload: bytes) -> None:
        self.membership = payload
        self.members = read_members(payload)
        self.sessions.bar(self.members.removed)

    # Snapshots

    def load(self, path: str) -> Iterator[None]:
        """Replace all data by a snapshot's, a slice per step, so that the loop stays alive.

        Raises StorageError for a file that cannot be read; the data is then useless.
        """
        store, lock = self._host.store, self._host.data_lock
        meta = read_meta(path)
        with lock:
            store.clear()
            store.begin(meta.time_ms)
        slice_: list[Any] = []
        length = 0
        for item in read_items(path):
            slice_.append(item)
            if isinstance(item.value, (str, list, dict)):
                length += len(item.value)
            if len(slice_) == ITEMS_PER_SLICE or length >= LENGTH_PER_SLICE:
                length = 0
                with lock:
                    for key, code, value, deadline_ms in slice_:
                        store.load_item(key, code, value, deadline_ms)
                slice_.clear()
                yield
        with lock:
            for key, code, value, deadline_ms in slice_:
                store.load_item(key, code, value, deadline_ms)
        self._take_over(meta)

    def _take_over(self, meta: Meta) -> None:
        self.index = self._host.store.version = meta.index
        self.term = meta.term
        self.time_ms = meta.time_ms
        self.position = 0
        self.commands = self.log_bytes = 0
        self.sessions.replace(meta.sessions)
        self._track.replace(meta.index, meta.digests)
        self._take_membership(meta.membership)
        start = self._proposer.start
        self._proposer.covered(self.sessions.last(self.incarnation, start) if start else 0)
        self._gate.clock_ms = max(self._gate.clock_ms, meta.time_ms)
        self._gate.applied(meta.index)
        self._membership_changed()

    def behind(self, snapshot_index: int) -> tuple[int, int, int]:
        """Commands, bytes and entries of the log behind the newest snapshot."""
        return self.commands, self.log_bytes, self.index - snapshot_index

    def discount(self, commands: int, log_bytes: int) -> None:
        """So much of that is in a snapshot now."""
        self.commands = max(0, self.commands - commands)
        self.log_bytes = max(0, self.log_bytes - log_bytes)

    def meta(self, cluster: int) -> Meta:
        """The head of a snapshot of the data as it is now."""
        store = self._host.store
        return Meta(
            cluster=self.members.cluster or cluster,
            index=self.index,
            term=self.term,
            time_ms=self.time_ms,
            membership=self.membership,
            sessions=self.sessions.copy(),
            keys=len(store.data),
            digests=self._track.saved(),
        )
