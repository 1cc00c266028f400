"""A node's serving loop over fakes, on top of `pyraft_fast._turn` or of its twin.

`World` plays the steps of `turn_script`; `seen` is all that may be noticed from outside after one.
The desk, and what a connection does rarely, are the product's own; log, rounds, transports and
handlers are fakes. A handler's second word says what it does.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

from pyraft_fast.common import Future
from pyraft_fast.errors import ClusterDown, HandlerError, TryAgain, Uncertain
from pyraft_fast.serving import propose
from pyraft_fast.serving.connection import Connection
from pyraft_fast.serving.dispatch import Desk
from tests.turn_batch import Commands

LOW_BOUNDS = {
    "batch_bytes_soft": 60,
    "batch_commands_max": 4,
    "batch_reads_max": 3,
    "output_bytes_max": 4000,
    "output_bytes_pause": 500,
    "pipeline_commands_max": 12,
    "unanswered_bytes_max": 300,
}
VALUES = {
    "ok": "OK", "nil": None, "one": {"k": 1}, "map": {"a": 1, "b": [2, "c"]}, "big": "x" * 300,
    "huge": "y" * 3000, "raw": {"bypass": b"+raw\r\n"}, "bye": {"quit_after_send": "bye"},
    "drop": {"quit": None},
}  # fmt: skip
ERRORS: dict[str, BaseException] = {
    "raft": TryAgain("not now"), "value": ValueError("no such value"), "exit": SystemExit(3),
}  # fmt: skip
OUTCOMES = [*(name for name in VALUES if name not in ("bye", "drop")), *ERRORS]
# name: what it is, and how many words it takes
TABLE = {
    "set": ("write", 2, 3), "add": ("write", 2, 3), "once": ("write", 2, 3),
    "get": ("read", 2, 2), "sum": ("read", 2, 2),
    "ping": ("at_once", 1, 2), "info": ("alone", 2, 2), "auth": ("connection", 2, 2),
    "hello": ("connection", 2, 3), "level": ("connection", 3, 3), "mute": ("connection", 3, 3),
}  # fmt: skip
COLD = {
    name: value
    for name, value in vars(Connection).items()
    if isinstance(value, FunctionType) and name not in ("__init__", "connection_made")
}
INTAKE = (
    "serial", "full", "serving", "_unsent_bytes", "_sent_bytes", "_next_number", "_turn_scheduled",
    "_seen", "_still", "_under_way", "_usual",
)  # fmt: skip
UNSENT_MAX, SENT_MAX, FRESH_JOINS, ON_HOLD_MAX = 3, 2, 4, 6


def shown(value: Any) -> Any:
    return (type(value).__name__, str(value)) if isinstance(value, BaseException) else value


class NodeStops(Exception):
    """A node without memory cannot go on."""


class Transport:
    """Keeps what was written; a client that stalls reads nothing of it."""

    def __init__(self, world: World, line: Any) -> None:
        self.world = world
        self.line = line
        self.inbox = b""
        self.unread = 0
        self.stalls = self.paused = self.closed = False

    def note(self, *what: Any) -> None:
        self.world.log.append((self.line.name, *what))

    def write(self, data: Any) -> None:
        self.note("write", bytes(data))
        if self.stalls:
            self.unread += len(data)
            if self.unread > LOW_BOUNDS["output_bytes_pause"] and not self.line.writing_paused:
                self.line.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.note("pause")
        self.paused = True

    def resume_reading(self) -> None:
        self.note("resume")
        self.paused = False

    def close(self) -> None:
        self.note("close")
        self.closed = True

    def abort(self) -> None:
        self.note("abort")
        self.closed = True

    def deliver(self, size: int) -> bool:
        if self.closed or self.paused or not self.inbox:
            return False
        buffer = self.line.get_buffer(-1)
        size = min(size, len(buffer))
        data, self.inbox = self.inbox[:size], self.inbox[size:]
        buffer[: len(data)] = data
        self.line.buffer_updated(len(data))
        return True


class NotedRow:
    """What has no more of a row than the log needs."""

    def __init__(self, row: Any) -> None:
        self.name = row.name
        self.failure = row.failure
        self.function = row.function


class Level:
    """Reads share the open group; while `fresh`, so many of them may run at once."""

    def __init__(self, world: World, fresh: int) -> None:
        self.world = world
        self.fresh = fresh

    def join(self, origin: Any) -> Any:
        if self.fresh:
            self.fresh -= 1
            return self.world.local
        group = self.world.group
        if not group.origins or group.origins[-1] is not origin:
            group.origins.append(origin)
        group.count += 1
        return group


def classes_over(turn: Any) -> SimpleNamespace:
    """What inherits from `_turn` in the product."""

    class Row(turn.Row):
        def __init__(self, world: World, name: str) -> None:
            kind, self.least, self.most = TABLE[name]
            self.name = name
            self.function = partial(world.handle, name)
            self.write, self.read = kind == "write", kind == "read"
            self.idle = world.idle if name == "once" else None
            self.idle_score = 40  # its writes are taken for idle at first
            self.connection, self.at_once = kind in ("connection", "at_once"), kind == "at_once"

        def failure(self, error: BaseException) -> HandlerError:
            return HandlerError(f"{self.name} failed: {error!r}")

    class Group(turn.ReadGroup):
        def __init__(self, number: int, confirmed: bool = False) -> None:
            self.context = number
            self.origins = []
            self.confirmed = confirmed

    class Intake(turn.Intake):
        ride = propose.Proposer.ride
        take_waiting = propose.Proposer.take_waiting
        _take_reads = propose.Proposer._take_reads
        set_serving = propose.Proposer.set_serving

        def __init__(self, world: World) -> None:
            self._loop = SimpleNamespace(time=lambda: world.time, call_soon=world.due.append)
            self._sink = SimpleNamespace(
                propose=world.propose, add=world.add, is_behind=lambda: world.behind
            )
            self._arm = lambda: world.log.append(("arm",))
            self._resume = lambda: world.desk.resume()
            self._new_commands = Commands
            self.open = turn.OpenBatch(Commands(), 0.0)
            self.batches_max, self.unsent_max, self.bytes_max = SENT_MAX, UNSENT_MAX, 400
            self.still_max, self.grow_seconds, self.gather_seconds = 1, 4.0, 3.0
            self.answer_seconds = 10.0
            self._unsent, self._sent = deque(), deque()
            self._unsent_bytes = self._sent_bytes = self._seen = self._still = 0
            self._under_way = self._usual = 0
            self.groups = world.groups
            self._growing = None
            self._turn_scheduled = False
            self.start = self._next_number = 1
            self.serving = True

    class Place(turn.Place):
        world: World

        def find_row(self, offset: int, words: Any) -> Any:
            self.world.log.append(("find", offset, words[0]))
            return NotedRow(self.world.rows[words[0].lower()])

        def out_of_memory(self, row: Any) -> None:
            raise NodeStops(row.name)

    class Call(turn.Origin):
        def __init__(self, world: World) -> None:
            super().__init__()
            self.world = world
            self.level = world.levels[0]
            self.name = "call"

        def answer(self, value: Any) -> None:
            self.waiting -= 1
            self.world.log.append((self.name, "answer", shown(value)))

        def settle(self) -> None:
            self.dirty = False
            if self.reads:
                turn.run_reads(self.world.desk, self)

    Client = type("Client", (turn.Line,), COLD)
    return SimpleNamespace(
        Row=Row, Group=Group, Intake=Intake, Place=Place, Call=Call, Client=Client
    )


class World:
    """One node; `log` is what happened in a step, in order."""

    def __init__(self, turn: Any, password: str | None = None, groups: int = 1) -> None:
        self.turn = turn
        self.groups = groups
        self.kinds = classes_over(turn)
        self.log: list[Any] = []
        self.time = 0.0
        self.due: list[Any] = []  # for the end of the turn
        self.behind = False  # what was sent lies in the pipe
        self.grows = False  # or where commands can be added to it
        self.given: dict[int, list[Any]] = {}  # commands by the number of their batch
        self.groups = self.asked_idle = 0
        self.group = self.new_group()
        self.local = self.kinds.Group(-1, confirmed=True)
        self.levels = [Level(self, 0), Level(self, 1 << 30), Level(self, FRESH_JOINS)]
        self.asked: deque[Any] = deque()
        self.futures: deque[Future] = deque()
        self.rows = {name: self.kinds.Row(self, name) for name in TABLE}
        self.logged = {"set": self.rows["set"]}
        self.place = self.kinds.Place()
        self.place.world = self
        self.dirty: list[Any] = []
        self.on_hold: deque[Any] = deque()
        self.holding = False
        store = SimpleNamespace(
            data={}, begin_read=lambda clock_ms: self.log.append(("begin", clock_ms))
        )
        self.host = SimpleNamespace(data_lock=nullcontext(), store=store, name="host")
        gate = SimpleNamespace(clock_ms=7, default=self.levels[0], linearizable=self.levels[0])
        self.proposer = self.kinds.Intake(self)
        rows = SimpleNamespace(known={}, find=self.find)
        soon = (lambda function, *args: function(*args), lambda: None)
        parts: Any = (self.host, rows, self.proposer, gate, self.dirty, password, *soon)
        self.desk = Desk(*parts)
        self.desk.now = lambda: self.time
        self.desk.holder = SimpleNamespace(hold=self.hold)  # type: ignore[assignment]
        self.call = self.kinds.Call(self)
        self.lines: list[Any] = []
        self.slots = [self.connect() for _ in range(3)]

    # What the loop calls

    def propose(self, start: int, number: int, count: int, payload: Any) -> bool:
        self.log.append(("propose", start, number, count, list(payload.items)))
        self.given[number] = list(payload.items)
        return self.grows

    def add(self, count: int, payload: Any) -> bool:
        self.log.append(("add", count, list(payload.items), self.grows))
        if self.grows:
            self.given[max(self.given)] += payload.items
        return self.grows

    def find(self, name: str) -> Any:
        row = self.rows.get(name.lower())
        self.log.append(("look up", name))
        if row is not None:
            self.desk.rows.known[name] = row
        return row

    def hold(self, receiver: Any, out: bytearray, nbytes: int) -> bool:
        if self.holding and len(self.on_hold) >= ON_HOLD_MAX:
            receiver.lapse(Uncertain("too much is on hold"))
        elif self.holding:
            self.on_hold.append((receiver, out))
        return self.holding

    def handle(self, name: str, subject: Any, words: list[str]) -> Any:
        what = words[1] if len(words) > 1 else "ok"
        self.log.append((subject.name, words, self.place.position, self.desk.reading))
        if name == "auth":
            subject.authenticated = True
        elif name == "hello":
            subject.proto = 5 - subject.proto
        elif name == "level":
            subject.level = self.levels[int(words[2])]
        elif name == "mute":
            subject.mute = int(words[2])
        elif name == "info" and what in ("slow", "done"):
            future = Future()
            if what == "done":
                future.set("done")
            else:
                self.futures.append(future)
            return future
        if what in ERRORS and name != "ping":
            raise ERRORS[what]
        return VALUES.get(what, what)

    def idle(self, subject: Any, words: list[str]) -> Any:
        self.log.append(("idle?", subject.name, words, self.desk.reading))
        self.asked_idle += 1
        if self.asked_idle % 7 == 0:
            raise ERRORS["raft" if self.asked_idle % 2 else "value"]
        would = self.asked_idle % 5 == 0 or words[1] == "nil"
        return NotImplemented if would else ["nothing", *words]

    def new_group(self) -> Any:
        self.groups += 1
        return self.kinds.Group(self.groups)

    def connect(self) -> Any:
        line: Any = self.kinds.Client(self.desk)
        line.name = f"line {len(self.lines)}"
        line.peer = line.last_command = ""
        line.transport = line.client = Transport(self, line)
        self.desk.admit(line)
        self.lines.append(line)
        return line

    # Steps of a script

    def come(self, slot: int, data: bytes, sizes: list[int]) -> None:
        client = self.slots[slot].client
        client.inbox += data
        for size in sizes:
            if not client.deliver(size):
                break

    def turn_ends(self) -> None:
        due, self.due[:] = list(self.due), []
        for function in due:
            function()
        if self.group.origins:
            self.asked.append(self.group)
            self.group = self.new_group()

    def applied(self) -> None:
        if self.proposer._sent:
            batch = self.proposer._sent[0]
            commands, ops = self.given.pop(batch.number), self.proposer.applied(batch.number)
            self.turn.answer(self.place, self.host, commands, ops, self.logged, self.dirty)

    def pipe(self, behind: bool, grows: bool) -> None:
        self.behind, self.grows = behind, grows

    def lead(self, known: bool) -> None:
        self.proposer.set_serving(known)

    def foreign(self, commands: list[Any]) -> None:
        self.turn.apply(self.place, self.host, commands, self.logged)

    def confirm(self, late: int, failed: bool) -> None:
        if len(self.asked) > late:
            group = self.asked[late]
            del self.asked[late]
            if failed:
                group.error = ClusterDown("no majority")
            else:
                self.levels[2].fresh = FRESH_JOINS
            self.turn.confirm(group, self.dirty)

    def settle(self) -> None:
        dirty, self.dirty[:] = list(self.dirty), []
        for origin in dirty:
            origin.settle()

    def calls(self, commands: list[Any]) -> None:
        for offset, words in commands:
            row = self.rows[words[0].lower()]
            if row.write:
                if offset or not self.turn.write_idle(self.desk, self.call, row, words):
                    self.proposer.write(self.call, words, offset)
            else:
                self.turn.read(self.desk, self.call, row, words)

    def stall(self, slot: int) -> None:
        self.slots[slot].client.stalls = True

    def drain(self, slot: int) -> None:
        client = self.slots[slot].client
        client.stalls, client.unread = False, 0
        if self.slots[slot].writing_paused and not client.closed:
            self.slots[slot].resume_writing()

    def finish(self) -> None:
        if self.futures:
            self.futures.popleft().set("late")

    def load(self, on: bool, failed: bool) -> None:
        self.desk.loading = on
        if not on:
            self.desk.go_on(Uncertain("no snapshot") if failed else None)

    def close(self, on: bool) -> None:
        self.desk.closed = ClusterDown("removed") if on else None

    def keep(self, on: bool) -> None:
        self.holding = on
        while self.on_hold and not on:
            receiver, out = self.on_hold.popleft()
            receiver.release(out)

    def end(self, slot: int) -> None:
        if not self.slots[slot].client.closed:
            self.slots[slot].eof_received()

    def lose(self, slot: int) -> None:
        self.slots[slot].connection_lost(None)
        self.slots[slot] = self.connect()

    def reap(self) -> None:
        for slot, line in enumerate(self.slots):
            if line.client.closed:
                self.lose(slot)

    # What may be noticed

    def play(self, name: str, *args: Any) -> dict[str, Any]:
        self.time += 1
        getattr(self, name)(*args)
        return self.seen()

    def op(self, op: Any) -> Any:
        return op.name if hasattr(op, "name") else (op[0].name, op[1].name, op[2])

    def origin(self, origin: Any) -> dict[str, Any]:
        return {
            "waiting": origin.waiting,
            "reads": [(group.context, row.name, words) for group, row, words in origin.reads],
            "serial": origin.batch_serial,
            "rides": origin.rides,
            "idle": origin.idle_writes,
            "out": bytes(origin.out),
            "dirty": origin.dirty,
            "ready": origin.ready_to_read,
        }

    def line(self, line: Any) -> dict[str, Any]:
        plain = (
            "answered", "unanswered", "owed", "blocked", "full", "closing", "reading",
            "writing_paused", "authenticated", "seen", "held", "proto", "mute",
        )  # fmt: skip
        return {
            **self.origin(line),
            **{name: getattr(line, name) for name in plain},
            "late": [(count, shown(value)) for count, value in line.late],
            "parser": line.parser.pending,
            "connected": line.transport is not None,
        }

    def seen(self) -> dict[str, Any]:
        log, self.log = self.log, []
        desk, proposer = self.desk, self.proposer
        return {
            "log": log,
            "lines": {line.name: self.line(line) for line in self.lines[-6:]},
            "call": self.origin(self.call),
            "stats": (desk.stats.commands, desk.stats.bytes_in, desk.stats.bytes_out),
            "starved": [line.name for line in desk.starved],
            "postponed": [origin.name for origin in desk.postponed],
            "dirty": [origin.name for origin in self.dirty],
            "known": list(desk.rows.known),
            "proposer": {name: getattr(proposer, name) for name in INTAKE},
            "batches": [batch.commands.items for batch in proposer._unsent],
            "sent": [(sent.number, sent.count, sent.deadline) for sent in proposer._sent],
            "open": (proposer.open.born, proposer.open.commands.items, len(self.due)),
            "ops": [self.op(op) for op in proposer.open.ops],
            "place": self.place.position,
            "group": (self.group.count, [origin.name for origin in self.group.origins]),
        }
