"""The serving loop's work per command in plain Python: the judge of `pyraft_fast._turn`.

Nothing here is remembered from one command to the next: a read asks its level for a group each
time, and every bound and flag is looked up where it matters. The classes of `pyraft_fast.serving`
that inherit from `_turn` may inherit from these instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyraft_fast import _entry
from pyraft_fast._resp import Parser, encode_into
from pyraft_fast.errors import CommandError, NoAuth, ProtocolError, RaftException, check
from tests.twins.intake_twin import Intake, OpenBatch, SentBatch, bounds

__all__ = ["Intake", "OpenBatch", "SentBatch", "bounds"]

TAKE_MAX = 1024
RIDING = 1 << 19


class Row:
    name: Any = None
    function: Any = None
    least = most = 0
    write = read = connection = at_once = False
    idle: Any = None
    idle_score = idle_rest = 0


class Origin:
    level: Any = None

    def __init__(self, *_: Any) -> None:
        self.waiting = 0
        self.reads: deque[Any] = deque()
        self.batch_serial = -1
        self.rides = 0
        self.idle_writes = 0
        self.out = bytearray()
        self.dirty = False

    @property
    def ready_to_read(self) -> bool:
        return self.waiting == len(self.reads)

    def answer(self, value: Any) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    def lapse(self, error: RaftException) -> None:
        raise NotImplementedError

    def crowded(self) -> bool:
        return False


class ReadGroup:
    level: Any = None
    context: Any = None
    asked_ns: Any = None
    clock_ms: Any = None
    origins: Any = None
    error: Any = None
    count = 0
    deadline = 0.0
    confirmed = False


class Rounds:
    open: Any = None

    def join(self, origin: Any) -> Any:
        group = self.open
        if not group.origins:
            self._begin(group)  # type: ignore[attr-defined]
        if origin not in group.origins[-1:]:
            group.origins.append(origin)
        group.count += 1
        return group


class Place:
    position = index = term = time_ms = incarnation = 0
    commands = log_bytes = commands_total = 0
    applying = _noting = False

    def record(self: Any, record: Any) -> None:
        head = _entry.header(record)
        if head.kind != _entry.KIND_COMMANDS:
            self._other(head, record)
            return
        if head.index <= self.index:
            return
        check(head.index == self.index + 1, "no gap in the log", self.index, head.index)
        verdict = self.sessions.judge(head.origin, head.start, head.batch)
        if verdict != 0:
            self._skip(head, verdict)
            return
        ops = self._own(head) if head.origin == self.incarnation else None
        self.index = head.index
        commands = _entry.decode_record(record) if head.count else []
        self.applying = True
        try:
            with self.entry(head):
                known = {} if self._noting else self._rows.logged
                if ops is None:
                    apply(self, self._host, commands, known)
                else:
                    answer(self, self._host, commands, ops, known, self._dirty)
        finally:
            self.applying = False
        self.commands += len(commands)
        self.commands_total += len(commands)
        self.log_bytes += head.length
        self.moved(head)

    @contextmanager
    def entry(self: Any, head: Any) -> Iterator[None]:
        self._noting = self._track.every != 0 and head.index % self._track.every == 0
        if self._noting:
            self._track.begin()
        with self._host.data_lock:
            self._host.store.begin(head.time_ms)
            yield

    def moved(self: Any, head: Any) -> None:
        self.index, self.term, self.time_ms = head.index, head.term, head.time_ms
        if self._noting:
            self._noting = False
            self._track.end(head.index)
        self._track.index = head.index
        self._gate.clock_ms = max(self._gate.clock_ms, head.time_ms)
        self._gate.applied(head.index)

    def _advance(self: Any, head: Any) -> None:
        check(head.index == self.index + 1, "no gap in the log", self.index, head.index)
        with self.entry(head):
            pass
        self.moved(head)


def value_of(row: Any, subject: Any, words: Any) -> Any:
    """What a handler answers, also when it raises."""
    try:
        return row.function(subject, words)
    except RaftException as error:
        return error
    except BaseException as error:
        return row.failure(error)


def run(desk: Any, line: Any, commands: list[Any]) -> int:
    desk.stats.commands += len(commands)
    if desk.loading or desk.closed is not None:
        return desk.run_while_closed(line, commands)
    group = None
    taken = len(commands)
    for position, words in enumerate(commands):
        row = desk.rows.known.get(words[0]) or desk.rows.find(words[0])
        if row is None or not row.least <= len(words) <= row.most:
            line.reply(desk.unusable(line, row, words))
            continue
        if not line.authenticated and row.name not in desk.before_auth:
            line.reply(NoAuth("Authentication required."))
            continue
        if row.write and is_idle(desk, line, row, words):
            group = join_idle(desk, line, row, words, group)
            continue
        if row.write:
            group = run_joined(desk, line, group)
            if line.reads and not desk.proposer.has_seats(line, len(line.reads)):
                desk.stats.commands -= len(commands) - position
                return position
            try:
                desk.proposer.write(line, words, 0)
            except CommandError as error:
                line.reply(error)
            if desk.proposer.full:
                return position + 1
        elif row.read and desk.proposer.rides(line):
            desk.proposer.ride(line, row, words)
        elif row.read:
            group = join(line, row, words, group)
        elif row.at_once:
            line.reply(row.function(line, words))
        else:
            run_joined(desk, line, group)
            group = None
            if line.waiting:  # it is taken again, and counted then
                desk.stats.commands -= len(commands) - position
                return position
            desk.run_alone(line, row, words)
            if line.blocked or line.closing:
                return position + 1
        if len(line.out) > bounds.output_bytes_pause:
            taken = position + 1
            break
    run_joined(desk, line, group)
    return taken


def join(origin: Any, row: Any, words: Any, group: Any) -> Any:
    """Let a read wait in the group that the one before it joined, or in the one of its level."""
    if group is None:
        group = origin.level.join(origin)
    else:
        group.count += 1
    origin.reads.append((group, row, words))
    origin.waiting += 1
    return group


def run_joined(desk: Any, origin: Any, group: Any) -> Any:
    """Run what needs no round, and then begin with a new group; any other one stays."""
    if group is None or not group.confirmed:
        return group
    if origin.reads and origin.ready_to_read and not getattr(origin, "writing_paused", False):
        run_reads(desk, origin)
    return None


def read(desk: Any, origin: Any, row: Any, words: Any) -> None:
    if desk.proposer.rides(origin):
        desk.proposer.ride(origin, row, words)
    else:
        run_joined(desk, origin, join(origin, row, words, None))


def run_reads(desk: Any, origin: Any) -> None:
    reads = origin.reads
    if not reads[0][0].confirmed or not origin.ready_to_read:
        return
    desk.reading = True
    try:
        with desk.host.data_lock:
            desk.host.store.begin_read(desk.gate.clock_ms)
            while reads and reads[0][0].confirmed:
                group, row, words = reads[0]
                if desk.loading and group.error is None:
                    desk.postponed.append(origin)
                    break
                value = group.error
                if value is None and row.write:
                    value = look(row, desk.host, words)
                    if value is NotImplemented and desk.closed is None:
                        desk.proposer.take_waiting(origin)
                        reads = origin.reads
                        if not origin.ready_to_read:
                            break
                        continue
                    if value is NotImplemented:
                        value = desk.closed
                elif value is None:
                    value = value_of(row, desk.host, words)
                reads.popleft()
                origin.idle_writes -= row.write
                origin.answer(value)
                if len(origin.out) > bounds.output_bytes_pause and origin.crowded():
                    break
    finally:
        desk.reading = False


def look(row: Any, host: Any, words: Any) -> Any:
    value = NotImplemented
    try:
        value = row.idle(host, words)
    except RaftException:
        pass
    except BaseException as error:
        row.failure(error)
    is_miss = value is NotImplemented
    row.idle_score = max(row.idle_score - 16, 0) if is_miss else min(row.idle_score + 1, 48)
    row.idle_rest = 15 if is_miss else 3
    return value


def is_idle(desk: Any, origin: Any, row: Any, words: Any) -> bool:
    """A score of 16 is wanted; below it one of 4 writes is looked at, one of 16 after a miss."""
    if row.idle is None or origin.batch_serial == desk.proposer.serial:
        return False
    if row.idle_score >= 16:
        return True
    if row.idle_rest:
        row.idle_rest -= 1
        return False
    desk.reading = True
    desk.host.store.begin_read(desk.gate.clock_ms)
    look(row, desk.host, words)
    desk.reading = False
    return False


def join_idle(desk: Any, origin: Any, row: Any, words: Any, group: Any) -> Any:
    origin.idle_writes += 1
    level = desk.gate.linearizable
    if origin.level is level:
        return join(origin, row, words, group)
    origin.reads.append((level.join(origin), row, words))
    origin.waiting += 1
    return group


def write_idle(desk: Any, origin: Any, row: Any, words: Any) -> bool:
    fits = row.idle is not None and row.idle_score >= 16
    if not fits or origin.batch_serial == desk.proposer.serial:
        return False
    if not all(type(word) is str and word.isascii() for word in words):
        return False
    join_idle(desk, origin, row, words, None)
    return True


def confirm(group: Any, dirty: list[Any]) -> None:
    group.confirmed = True
    for origin in group.origins:
        if origin.reads and not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
    group.origins.clear()


def carry_out(place: Any, command: Any, node: Any, known: dict[str, Any]) -> Any:
    """What the handler of a command of the log answers."""
    offset, words = command
    row = known.get(words[0]) if offset == 0 else None
    return for_the_log(place, row or place.find_row(offset, words), node, words)


def for_the_log(place: Any, row: Any, node: Any, words: Any) -> Any:
    try:
        return row.function(node, words)
    except RaftException as error:
        return error
    except MemoryError:
        return place.out_of_memory(row)
    except BaseException as error:
        return row.failure(error)


def apply(place: Any, node: Any, commands: list[Any], known: dict[str, Any]) -> None:
    for position, command in enumerate(commands):
        place.position = position
        carry_out(place, command, node, known)


def answer(
    place: Any,
    node: Any,
    commands: list[Any],
    ops: list[Any],
    known: dict[str, Any],
    dirty: list[Any],
) -> None:
    position = 0
    for op in ops:
        if isinstance(op, Origin):
            check(position < len(commands), "a command for each op", len(ops), len(commands))
            origin = op
            place.position = position
            value = carry_out(place, commands[position], node, known)
            position += 1
        else:
            origin, row, words = op
            place.position = position | RIDING
            value = for_the_log(place, row, node, words)
        origin.answer(value)
        if not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
    check(position == len(commands), "an op for each command", position, len(commands))


class Line(Origin):
    """The rest of it is `serving.connection.Connection`."""

    def __init__(self, desk: Any) -> None:
        super().__init__()
        self.desk = desk
        self.level = desk.gate.default
        self.parser = Parser()
        self.transport: Any = None
        self.proto = 2
        self.mute = self.answered = self.unanswered = self.owed = 0
        self.held: list[Any] = []
        self.late: deque[Any] = deque()
        self.blocked = self.full = self.closing = self.writing_paused = False
        self.reading = True
        self.authenticated = desk.password is None
        self.seen = 0.0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.parser.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self.parser.buffer_updated(nbytes)
        self.desk.stats.bytes_in += nbytes
        if not self.waiting:
            self.unanswered = 0
        self.unanswered += nbytes
        self.seen = self.desk.now()
        self.pump()

    def pump(self: Any) -> None:
        if not (self.blocked or self.closing or self.writing_paused):
            try:
                while self.go_on():
                    pass
            except ProtocolError as error:
                self.reply(error)
                self.close()
        self.flush()

    def go_on(self: Any) -> bool:
        """Dispatch what is held, or else what the parser gives; whether to look for more."""
        commands, self.held = self.held, []
        if not commands:
            room = min(bounds.pipeline_commands_max - self.waiting - len(self.late), TAKE_MAX)
            commands = self.parser.take(room) if room > 0 else []
            self.full = room <= 0 or len(commands) == room
            if not commands:
                return False
        self.held = commands[run(self.desk, self, commands) :]
        if self.closing or self.blocked or self.desk.proposer.full:
            return False
        if len(self.out) > bounds.output_bytes_pause:
            self.flush()
            return not self.writing_paused
        return not (self.held and (self.waiting or self.writing_paused))

    def gauge(self: Any) -> None:
        if self.transport is None or self.closing:
            return
        if self.desk.proposer.full:
            self.desk.starved[self] = None
        crammed = self.waiting > 0 and self.unanswered > bounds.unanswered_bytes_max
        stopped = self.held or self.full or self.blocked or self.writing_paused or crammed
        want = not (stopped or self.desk.proposer.full)
        if want and not self.reading:
            self.transport.resume_reading()
        elif self.reading and not want:
            self.transport.pause_reading()
        self.reading = want

    def answer(self: Any, value: Any) -> None:
        self.waiting -= 1
        self.answered += 1
        if isinstance(value, dict) or self.mute or self.closing:
            self.emit(value)
        else:
            encode_into(self.out, value, self.proto)
        if len(self.out) > bounds.output_bytes_max:
            self.cut()
        if self.late:
            self.emit_late()

    def settle(self) -> None:
        self.dirty = False
        if self.transport is None:
            return
        if self.reads and not self.writing_paused:
            run_reads(self.desk, self)
        if self.held or self.full or not self.reading:
            self.pump()
        else:
            self.flush()

    def flush(self: Any) -> None:
        out, transport = self.out, self.transport
        if transport is None:
            return
        if out:
            self.out = bytearray()
            self.desk.stats.bytes_out += len(out)
            holder = self.desk.holder
            if holder is not None and holder.hold(self, out, len(out)):
                self.owed += 1
            else:
                transport.write(out)
                if (
                    self.writing_paused
                    and transport.get_write_buffer_size() > bounds.output_bytes_max
                ):
                    self.cut()
                    return
        if not self.closing:
            self.gauge()
        elif not (self.waiting or self.owed):
            transport.close()
