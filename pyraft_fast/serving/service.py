"""The serving loop: brings clients, consensus, the log and the data of one node together.

Everything here runs in one thread and nothing waits. It decides what a turn does: take records
from the ring for a bounded time, apply them, write out the answers; and what happens when consensus
says something or is gone. A consensus process that dies is started again at once; the data stays.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from pyraft_fast._turn import Origin
from pyraft_fast.common import Future
from pyraft_fast.errors import ClusterDown, RaftException, TryAgain, Uncertain
from pyraft_fast.limits import MIB
from pyraft_fast.serving.accepting import ClientPort
from pyraft_fast.serving.apply import Applier, NodeFailure
from pyraft_fast.serving.callbacks import Callbacks
from pyraft_fast.serving.connection import Connection
from pyraft_fast.serving.dispatch import Call, Desk
from pyraft_fast.serving.expiry import Expiry
from pyraft_fast.serving.guard import Guard, Means
from pyraft_fast.serving.host import Host, say
from pyraft_fast.serving.propose import SWEEP_SECONDS, Proposer
from pyraft_fast.serving.reads import ReadGate
from pyraft_fast.serving.requests import Requests
from pyraft_fast.serving.restarts import Restarts
from pyraft_fast.serving.roles import NO_ROLE, callbacks_of, line_of, shown
from pyraft_fast.serving.rows import Rows
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.snapshot import SnapshotWriter, Waiter, tell_all
from pyraft_fast.serving.treaty import Consensus, Events, Ready, Request, RoleFact

logger = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.01  # of applying, before sockets are looked at again
TAKE_BYTES: Final = MIB // 4
STATUS_SECONDS: Final = 1.0

Spawn = Callable[[asyncio.AbstractEventLoop, Events], Consensus]


class Service:
    """State and events of the serving loop. Loop thread only, but for plain reads of facts."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        callbacks: Callbacks,
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
    ) -> None:
        self.host = host
        self.settings = settings
        self.loop = loop
        self.callbacks = callbacks
        self._spawn = spawn
        self.dirty: list[Origin] = []
        self.rows = Rows(host)
        self.proposer = Proposer(loop, self.dirty, lambda: self.desk.resume(), self._arm)
        self.gate = ReadGate(loop, self, self.dirty, settings.reads, self._arm)
        self.desk = Desk(
            host,
            self.rows,
            self.proposer,
            self.gate,
            self.dirty,
            settings.password,
            loop.call_soon_threadsafe,
            self._settle_soon,
        )
        means = Means(lambda: self.consensus, self.desk.halt, self.fail, self._arm)
        self.guard = Guard(host, settings.digests, loop, means, settings.folder)
        self.desk.holder = self.guard.holder
        self.applier = Applier(
            host, self.rows, self.proposer, self.gate, self.dirty, self._membership,
            self.guard.track,
        )  # fmt: skip
        self.expiry = Expiry(loop, host.store, self.proposer)
        self.writer = SnapshotWriter(loop, settings.folder, settings.nid, self._snapshot_taken)
        self.requests = Requests(loop, self._arm)
        self.restarts = Restarts(loop, self._start_consensus)
        self.consensus: Consensus | None = None
        self.role = self._said = NO_ROLE
        self.cluster = 0
        self.snapshot_index = 0
        self.snapshot_seconds = 0
        self._in_snapshot = (0, 0)  # commands and log bytes of the one being written
        self.status: dict[str, Any] = {}
        self.born = time.monotonic()
        self.started_ms = time.time_ns() // 1_000_000
        self.started = Future(("start",))
        self.stopped = Future(("stop",))
        self._fatal: tuple[int, str] | None = None
        self._stopping = False
        self._port: ClientPort | None = None
        self._listener: socket.socket | None = None
        self._taken: deque[Any] = deque()
        self._loading: Iterator[None] | None = None
        self._after_load: Callable[[], None] | None = None
        self._wanted: list[Waiter] = []  # for a snapshot that begins later than they came
        self._draining = self._settling = False
        self._sweeping: asyncio.TimerHandle | None = None

    # Starting

    def start(self, listener: socket.socket) -> None:
        """Start consensus; clients are let in when it is ready and the data is loaded."""
        self._listener = listener
        with self.host.data_lock:
            self.host.store.clear()  # the log and its snapshots alone say what the data is
        self._start_consensus()

    def _start_consensus(self) -> None:
        events = Events(
            self._ready, self._role, self._resend, self.requests.done,
            partial(say, self.host), lambda status, text: self.fail(text, status),
            self.drain, self._ended, self.guard.heard,
        )  # fmt: skip
        try:
            self.consensus = self._spawn(self.loop, events)
        except (OSError, RaftException) as error:
            self.fail(f"the consensus process cannot be started: {error}", 1)

    def _ready(self, ready: Ready) -> None:
        self.cluster = ready.cluster
        self.applier.incarnation = ready.incarnation
        self.snapshot_index = max(self.snapshot_index, ready.snapshot_index)
        self.proposer.new_session(ready.start, self.consensus)
        if ready.snapshot_path and ready.snapshot_index > self.applier.index:
            self._load(ready.snapshot_path, self._loaded_first)
        else:
            self._loaded_first()

    def _loaded_first(self) -> None:
        """Data and consensus agree on where to go on: ask for the log from there."""
        if self.consensus is not None:
            self.consensus.applied(self.applier.index)
        self._drain_soon()
        if self.started.done() or self._listener is None:
            return
        self.callbacks.tell("on_start")
        self._open_port(self._listener)
        self.refresh_status()

    def _open_port(self, listener: socket.socket) -> None:
        try:
            self._port = ClientPort(self.loop, listener, lambda: Connection(self.desk))
        except OSError as error:
            self.fail(f"the client port cannot be served: {error.strerror}", 1)
        else:
            self.started.set(True)

    # What consensus says

    def read(self, context: int, by_lease: bool) -> None:
        """Of ReadSink."""
        if self.consensus is not None:
            self.consensus.read(context, by_lease)

    def lease(self) -> tuple[int, int] | None:
        """Of ReadSink."""
        shown = None if self.consensus is None else self.consensus.lease()
        return shown[1:] if shown is not None and shown[0] == self.applier.index else None

    def _role(self, now: RoleFact) -> None:
        self._said = now
        self._show_role()

    def _show_role(self) -> None:
        before = self.role
        now = self.role = shown(self._said, before, self.applier.term)
        self.proposer.set_serving(now.serving)
        self.gate.set_serving(now.serving)
        self.expiry.lead(now.role == "leader" and now.serving)
        self.desk.take_role(now.role, self.drain)
        changed = (before.role, before.term) != (now.role, now.term)
        if changed and now is self._said and now.term:
            self.host.log_info(line_of(now))
        if before.role != now.role:
            for event in callbacks_of(before.role, now.role):
                self.callbacks.tell(event)
        if now.serving and not before.serving:
            self.callbacks.tell("on_ready")
        self._settle_soon()

    def _resend(self) -> None:
        self.proposer.resend()
        self.gate.ask_again()

    def fail(self, text: str, status: int) -> None:
        """The node cannot go on; said once."""
        if self._fatal is not None or self._stopping:
            return
        self._fatal = (status, text)
        self.desk.loading = True
        if not self.started.done():
            self.started.set(RaftException(text))
        else:
            self.host.fail(text, status)

    def _ended(self, how: str) -> None:
        """The consensus process is gone. What it committed is applied, the rest is unknown."""
        consensus, self.consensus = self.consensus, None
        if consensus is None:
            return
        if self._fatal is None and not self.guard.halted:
            self._drain_rest(consensus)
            self.guard.turn()
        self._taken.clear()
        consensus.kill()
        consensus.close()
        self.proposer.drop_session()
        self.requests.drop()
        self.gate.hold()
        if self._stopping:
            self._stop_end()
            return
        self._role(RoleFact("joining", self.role.term, "", "", False))
        self.settle()
        if self._fatal is not None:
            return
        text = self.restarts.ended(how)
        if text is not None:
            self.fail(text, 1)
        else:
            gone = f"consensus process {consensus.pid} ended ({how}); starting it again"
            self.host.log_error(gone)

    # Applying

    def drain(self) -> None:
        """Take and apply records for at most a time slice, then answer."""
        if self._loading is not None or self._fatal is not None or self.guard.halted:
            return  # a snapshot that is being loaded ends with another drain
        until = time.monotonic() + SLICE_SECONDS
        try:
            while self.consensus is not None and self._drain_some(self.consensus):
                if time.monotonic() > until:
                    self._drain_soon()
                    break
        except Exception as error:
            self._apply_failed(error)
        if not self.guard.turn():  # before any answer leaves
            return
        if self._said.role != self.role.role:
            self._show_role()
        self.settle()
        if self.writer.is_due(*self.applier.behind(self.snapshot_index), self.settings.log_max):
            self._write_snapshot()

    def _drain_some(self, consensus: Consensus) -> bool:
        """Apply what one look at the ring yields; False when there is nothing more."""
        taken = self._taken
        if not taken:
            taken.extend(consensus.take(TAKE_BYTES))
            if not taken:
                return not consensus.sleep()
        applier = self.applier
        while taken:
            applier.record(taken.popleft())
            applier.give_way()
            if applier.snapshot_wanted is not None:
                path, applier.snapshot_wanted = applier.snapshot_wanted[0], None
                self._load(path, self._drain_soon)
                if self._loading is not None:
                    return False
        consensus.release()
        return True

    def _drain_rest(self, consensus: Consensus) -> None:
        """Apply what a dead consensus process left in the ring: it is committed."""
        try:
            while self._loading is None and self._drain_some(consensus):
                continue
        except Exception as error:
            self._apply_failed(error)

    def _apply_failed(self, error: Exception) -> None:
        """An entry cannot be applied: going on would leave this node with other data."""
        if isinstance(error, NodeFailure):
            self.fail(str(error), 1)
            return
        index = self.applier.index
        logger.error("applying the log failed behind entry %d", index, exc_info=error)
        self.fail(f"applying the log failed behind entry {index}: {error!r}", 1)

    def _drain_soon(self) -> None:
        if not self._draining:
            self._draining = True
            self.loop.call_soon(self._drain_again)

    def _drain_again(self) -> None:
        self._draining = False
        self.drain()

    def settle(self) -> None:
        """Write out what was answered; connections may go on with what they held."""
        dirty = self.dirty
        while dirty:
            now = dirty[:]
            dirty.clear()
            for origin in now:
                origin.settle()

    def _settle_soon(self) -> None:
        if not self._settling:
            self._settling = True
            self.loop.call_soon(self._settle_now)

    def _settle_now(self) -> None:
        self._settling = False
        self.settle()

    # Snapshots

    def _load(self, path: str, then: Callable[[], None]) -> None:
        """Load a snapshot in slices; `then` is called when it is in."""
        self.writer.measure(path)
        self._loading = self.applier.load(path)
        self._after_load = then
        self.desk.loading = True
        self._load_step()

    def _load_step(self) -> None:
        loading, then = self._loading, self._after_load
        if loading is None or then is None:
            return
        until = time.monotonic() + SLICE_SECONDS
        try:
            for _ in loading:
                if time.monotonic() > until:
                    self.loop.call_soon(self._load_step)
                    return
        except Exception as error:  # whatever it is: half a snapshot is no state to serve
            self.fail(f"snapshot cannot be loaded: {error or error!r}", 1)
            return
        self._loading = self._after_load = None
        self.desk.loading = False
        self.desk.go_on()
        self.snapshot_index = max(self.snapshot_index, self.applier.index)
        then()

    def _write_snapshot(self) -> None:
        self._in_snapshot = self.applier.commands, self.applier.log_bytes
        self.writer.start(self.applier.meta(self.cluster), self.host.store.dump_items)

    def checkpoint(self, future: Future, copy_to: str | None) -> None:
        """Write a snapshot of now; behind the one that is being written, if any."""
        self._wanted.append((future, copy_to))
        if len(self._wanted) == 1:
            self._write_wanted()

    def _write_wanted(self) -> None:
        """One snapshot for all who want one, as soon as none is being written or loaded."""
        if self._stopping or self._fatal is not None:
            error = TryAgain("the node stops; no snapshot was written")
        elif self.applier.index == 0:
            error = TryAgain("there is nothing to write yet")
        elif self.writer.busy or self._loading is not None:
            self.loop.call_later(SWEEP_SECONDS, self._write_wanted)
            return
        else:
            self.writer.wait(self._wanted)
            self._wanted = []
            self._write_snapshot()
            return
        wanted, self._wanted = self._wanted, []
        tell_all(wanted, error)

    def _snapshot_taken(self, path: str, index: int, term: int) -> None:
        self.applier.discount(*self._in_snapshot)
        self.snapshot_index = max(self.snapshot_index, index)
        self.snapshot_seconds = int(time.time())
        logger.debug("snapshot of entry %d written to %s", index, path)
        if self.consensus is not None:
            self.consensus.snapshot_taken(path, index, term)
        self.callbacks.tell("on_snapshot")

    def _membership(self) -> None:
        self.guard.members(self.applier.members)
        self.proposer.set_alone(len(self.applier.members.members) == 1)
        self.callbacks.tell("on_membership")

    # Requests of this process

    @property
    def handling(self) -> bool:
        """Whether a handler runs now, so that commands of this thread come from it."""
        return self.applier.applying or self.desk.alone or self.desk.reading

    def call(self, call: Call) -> None:
        """An in-process command."""
        if self._stopping or self._fatal is not None:
            call.finish(TryAgain("the node stops; the command was not executed"))
        else:
            self.desk.take_call(call)

    def ask(self, future: Future, request: Request) -> None:
        """Pass a request on to consensus."""
        if self.consensus is None or self._stopping:
            future.set(ClusterDown("the consensus process is not there; nothing was done"))
        else:
            self.consensus.request(self.requests.add(future), request)

    def refresh_status(self) -> None:
        """Keep the status that INFO shows no older than a second."""
        if self._stopping:
            return
        if self.consensus is not None:
            future = Future(("status",))
            future.add_done_callback(self._status_came)
            self.ask(future, Request("status"))
        self.guard.tick()
        self.desk.stats.second_passed(self.loop.time())
        self.loop.call_later(STATUS_SECONDS, self.refresh_status)

    def _status_came(self, future: Future) -> None:
        if isinstance(future.value, dict):
            self.status = future.value

    # Time

    def _arm(self) -> None:
        """Somebody waits: look for what is overdue from now on."""
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self.loop.time()
        self.proposer.sweep(now)
        self.gate.sweep(now)
        self.requests.sweep(now)
        self.settle()
        held = self.guard.sweep(now)
        if held or not (self.proposer.idle and self.gate.idle and self.requests.idle):
            self._arm()

    # Stopping

    def stop(self, seconds: float) -> None:
        """Take no more commands, let consensus hand over and end; `stopped` is set at the end."""
        if self._stopping:
            return
        self._stopping = True
        if self._port is not None:
            self._port.stop_accepting()
        self.restarts.cancel()
        if self.proposer.pending_batches == 0:
            self._refuse_rest()  # else behind the answers that are still due
        if self.consensus is None:
            self._stop_end()
        else:
            self.consensus.shutdown()
            self.loop.call_later(seconds, self._stop_end)

    def _refuse_rest(self) -> None:
        """Answer what was never sent; nothing that was sent may lie before it."""
        for _ in range(2):  # what was taken for idle may become a write when it is settled
            refused = TryAgain("the node stops; the command was not executed")
            self.proposer.refuse_unsent(refused)
            self.gate.refuse_all(refused)
            self.desk.go_on(refused)
            self.settle()

    def _stop_end(self) -> None:
        if self.stopped.done():
            return
        self.expiry.lead(False)
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.writer.stop()
        self.requests.drop()
        self.proposer.drop_session(Uncertain("the node stopped; the write may have happened"))
        self._refuse_rest()
        self._write_wanted()
        consensus, self.consensus = self.consensus, None
        if consensus is not None:
            consensus.kill()
            consensus.close()
        self._taken.clear()
        if self.role.role == "leader":
            self.callbacks.tell("on_leader_lost")
        self.role = RoleFact(NO_ROLE.role, self.role.term, "", "", False)
        self.settle()
        self.desk.close_clients()
        if self._port is not None:
            self._port.close()
        if not self.started.done():
            self.started.set(RaftException("the node was stopped while it started"))
        self.stopped.set(True)
