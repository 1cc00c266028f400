"""The desk: every command is taken here, and the row of the handler table decides its way.

    connection commands   answered from the connection alone (connection_commands)
    writes                appended to the open batch, executed when the log applies it; those that
                          would change nothing wait with the reads
    reads                 executed at their place between the writes of their connection
    anything else         executed at once, when everything before it is answered

Nothing here executes a write. The ordering law of one connection is kept by `Origin`,
`Proposer` and `ReadGate` together; the desk only picks the right one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from pyraft_fast import _turn
from pyraft_fast._turn import Origin
from pyraft_fast.common import Future
from pyraft_fast.errors import CommandError, Loading, NoAuth, RaftException, Uncertain
from pyraft_fast.limits import CLIENTS_MAX
from pyraft_fast.serving import removal
from pyraft_fast.serving.connection import Connection
from pyraft_fast.serving.connection_commands import BEFORE_AUTH
from pyraft_fast.serving.holding import Holder
from pyraft_fast.serving.host import Host
from pyraft_fast.serving.propose import Proposer
from pyraft_fast.serving.reads import ReadGate, ReadGroup
from pyraft_fast.serving.rows import Row, Rows

logger = logging.getLogger(__name__)

NO_ANSWER: Final = object()
ARGUMENTS_SHOWN: Final = 128  # characters of an unknown command's words in the error


class Stats(_turn.Traffic):
    """Totals since the node started."""

    __slots__ = ("_seen", "connections", "per_second", "rejected")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero again."""
        self.commands = self.connections = self.rejected = 0
        self.bytes_in = self.bytes_out = 0
        self.per_second = 0
        self._seen = (0.0, 0)

    def second_passed(self, now: float) -> None:
        """Take the rate since the last call; called about every second."""
        then, commands = self._seen
        if now > then > 0:
            self.per_second = round((self.commands - commands) / (now - then))
        self._seen = (now, self.commands)


def unknown_command(words: list[Any]) -> CommandError:
    """The error for a command without a row, worded as Redis does."""
    shown = ""
    for word in words[1:]:
        if len(shown) >= ARGUMENTS_SHOWN:
            break
        shown += f"'{str(word)[: ARGUMENTS_SHOWN - len(shown)]}' "
    name = str(words[0])[:ARGUMENTS_SHOWN]
    return CommandError(f"unknown command '{name}', with args beginning with: {shown}")


def misfit(row: Row) -> CommandError:
    """The error for too few or too many words."""
    return CommandError(f"wrong number of arguments for '{row.name}' command")


class Call(Origin):
    """One in-process command and the future of its answer."""

    __slots__ = ("desk", "future", "offset", "value", "words")

    def __init__(self, words: list[Any], offset: int, future: Future) -> None:
        super().__init__()
        self.words = words
        self.offset = offset
        self.future = future
        self.desk: Desk | None = None
        self.value: Any = NO_ANSWER

    def answer(self, value: Any) -> None:
        """Keep the answer until no handler runs: giving it runs callbacks of the user."""
        self.waiting -= 1
        self.value = value

    def finish(self, value: Any) -> None:
        """Give the future its answer, or let it follow the future that the handler returned."""
        if isinstance(value, Future):
            value.add_done_callback(lambda done: self.future.set(done.value))
        else:
            self.future.set(value)

    def settle(self) -> None:
        self.dirty = False
        if self.reads and self.desk is not None:
            _turn.run_reads(self.desk, self)
        if self.value is not NO_ANSWER:
            value, self.value = self.value, NO_ANSWER
            holder = None if self.desk is None else self.desk.holder
            if holder is None or not holder.hold(self, value):
                self.finish(value)

    def release(self, answer: Any) -> None:
        """Of `holding.Receiver`."""
        self.finish(answer)

    def lapse(self, error: RaftException) -> None:
        """Of `holding.Receiver`; also for an answer that was not yet given."""
        self.value = NO_ANSWER
        self.finish(error)


class Desk(_turn.Desk):
    """What all connections of a node share. Loop thread only."""

    __slots__ = (
        "_ids", "alone", "call_soon", "clients", "dirty", "flush_soon", "password",
    )  # fmt: skip

    stats: Stats

    def __init__(
        self,
        host: Host,
        rows: Rows,
        proposer: Proposer,
        gate: ReadGate,
        dirty: list[Origin],
        password: str | None,
        call_soon: Callable[..., object],
        flush_soon: Callable[[], None],
    ) -> None:
        self.call_soon = call_soon  # safe from any thread
        self.flush_soon = flush_soon  # settle the dirty origins at the end of this turn
        self.host = host
        self.rows = rows
        self.proposer = proposer
        self.gate = gate
        self.dirty = dirty
        self.password = password
        self.clients: dict[int, Connection] = {}
        self.starved: dict[Connection, None] = {}  # stopped reading because the proposer is full
        self.stats = Stats()
        self.holder: Holder | None = None  # keeps answers back until they are known to be right
        self.loading = False
        self.closed: RaftException | None = None  # why no command can be carried out any more
        self.postponed: list[Origin] = []  # their reads may run when the data is complete
        self.alone = False  # an admin command runs, which may send commands of its own
        self.reading = False  # read handlers run
        self.before_auth = BEFORE_AUTH
        self._ids = 0
        self.now = time.monotonic

    # Clients

    def admit(self, connection: Connection) -> RaftException | None:
        """Register a new client; returns the error to close it with when there are too many."""
        self.stats.connections += 1
        if len(self.clients) >= CLIENTS_MAX:
            self.stats.rejected += 1
            return CommandError("max number of clients reached")
        self._ids += 1
        connection.id = self._ids
        connection.born = connection.seen = self.now()
        self.clients[connection.id] = connection
        return None

    def forget(self, connection: Connection) -> None:
        """A client is gone."""
        self.clients.pop(connection.id, None)
        self.starved.pop(connection, None)

    def log_overrun(self, connection: Connection) -> None:
        """A client is cut off because it does not read its answers."""
        logger.warning("client %s closed: too many unread answers", connection.peer)

    def resume(self) -> None:
        """The proposer has room again: let waiting connections go on."""
        starved, self.starved = self.starved, {}
        for connection in starved:
            if not connection.dirty:
                connection.dirty = True
                self.dirty.append(connection)
        if starved:
            self.flush_soon()

    def halt(self) -> None:
        """The data are wrong: nothing that came from them may leave any more."""
        self.loading = True
        if self.holder is not None:
            self.holder.drop()
        error = Uncertain("the node stops, since its data are not the majority's")
        for origin in [*self.dirty, *self.clients.values()]:
            origin.lapse(error)

    def close_clients(self) -> None:
        """The node has stopped: write out what was answered, and say goodbye."""
        for client in list(self.clients.values()):
            client.close()
            client.flush()
            if client.transport is not None:
                client.transport.close()

    def take_role(self, role: str, drain: Callable[[], None]) -> None:
        """The node's part in the cluster is `role` now; `drain` applies what came before that."""
        if (role == removal.REMOVED) != (self.closed is not None):
            drain()
            removal.take(self, role)

    def go_on(self, error: RaftException | None = None) -> None:
        """Let the reads run that came due while data was loaded, or answer them with `error`."""
        postponed, self.postponed = self.postponed, []
        for origin in postponed:
            if error is not None:  # not in their groups: later reads share some of them
                refused = ReadGroup("", confirmed=True)
                refused.error = error
                origin.reads = deque((refused, row, words) for _, row, words in origin.reads)
            if not origin.dirty:
                origin.dirty = True
                self.dirty.append(origin)
        self.flush_soon()

    # Commands

    def run_while_closed(self, connection: Connection, commands: list[list[str]]) -> int:
        """Without whole data or a cluster only commands about the connection and the node run."""
        error = self.closed or Loading("the node is loading the data; try again soon")
        for position, words in enumerate(commands):
            row = self.rows.find(words[0])
            if row is None or not row.least <= len(words) <= row.most:
                connection.reply(self.unusable(connection, row, words))
            elif not connection.authenticated and row.name not in BEFORE_AUTH:
                connection.reply(NoAuth("Authentication required."))
            elif row.write or row.read:
                connection.reply(error)
            elif connection.waiting:
                return position
            else:
                self.run_alone(connection, row, words)
                if connection.blocked or connection.closing:
                    return position + 1
        return len(commands)

    def unusable(self, connection: Connection, row: Row | None, words: list[str]) -> RaftException:
        """Why a command is refused before it reaches a handler."""
        if not connection.authenticated and (row is None or row.name not in BEFORE_AUTH):
            return NoAuth("Authentication required.")
        if row is None:
            return unknown_command(words)
        return misfit(row)

    def run_alone(self, connection: Connection, row: Row, words: list[str]) -> None:
        """Run a command that nothing of its connection may overtake."""
        if row.connection:
            connection.last_command = row.name
            connection.reply(_turn.perform(row, connection, words))
            return
        value = self.execute_now(row, words)
        if not isinstance(value, Future):
            connection.reply(value)
        elif value.done():
            connection.reply(value.value)
        else:
            connection.block()
            value.add_done_callback(lambda done: self.call_soon(connection.unblock, done.value))

    def execute_now(self, row: Row, words: list[Any]) -> Any:
        """Run an admin command; it sees the newest time this node knows."""
        self.alone = True
        try:
            with self.host.data_lock:
                self.host.store.begin_read(self.gate.clock_ms)
                return _turn.perform(row, self.host, words)
        finally:
            self.alone = False

    def take_call(self, call: Call) -> None:
        """Dispatch one in-process command, as if from a connection of its own."""
        words = call.words
        call.desk = self
        if call.level is None:
            call.level = self.gate.default
        self.stats.commands += 1
        row = self.rows.find_at(call.offset, words[0]) if words else None
        if row is None:
            call.finish(unknown_command(words or [""]))
        elif not row.least <= len(words) <= row.most:
            call.finish(misfit(row))
        elif self.closed is not None and (row.write or row.read):
            call.finish(self.closed)
        elif row.write:
            try:
                if call.offset or not _turn.write_idle(self, call, row, words):
                    self.proposer.write(call, words, call.offset)
            except CommandError as error:
                call.finish(error)
        elif row.read:
            _turn.read(self, call, row, words)
            call.settle()  # a local read is answered already
        else:
            call.finish(self.execute_now(row, words))
