"""Clients: a few, each one command at a time at any node, and the history of what they saw."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from pyraft_fast.common import Future
from pyraft_fast.errors import RaftException, Uncertain
from pyraft_fast.read_level import parse_level
from pyraft_fast.serving.dispatch import Call
from tests.core.invariants import require
from tests.process.linearizability import FOREVER, HELD, Operation, Outcome, judge

if TYPE_CHECKING:
    from tests.simulator.machine import Machine
    from tests.simulator.run import Simulation

KINDS = ("set", "append", "incr", "lock")
LOCKING = ("setnx", "setnx", "del")  # most of these change nothing
BURSTS = (1, 1, 1, 4, 16)  # nobody waits for them, so a leader cut off gathers a long log
LINEARIZABLE = "linearizable"
JUDGED = (LINEARIZABLE, "lease")  # levels whose reads must fit into one order with all writes
ASIDE = (
    ("set", "brief", "x", "px", "40"), ("append", "brief", "y"), ("strlen", "brief"),
    ("sadd", "bag", "a", "b", "c", "d"), ("spop", "bag"),
)  # fmt: skip  # time and dice: only that all nodes come to the same is judged


class Pending:
    """A command under way."""

    __slots__ = (
        "argument", "client", "index", "invoked", "is_ok", "is_over", "key", "kind", "level",
        "machine",
    )  # fmt: skip

    def __init__(
        self, client: Client | None, machine: Machine, kind: str, key: str, argument: str | None
    ) -> None:
        self.client = client
        self.machine = machine
        self.kind = kind
        self.key = key
        self.argument = argument
        self.invoked = machine.world.now
        self.is_over = self.is_ok = False
        self.level = LINEARIZABLE
        self.index = 0  # what its node had applied when it ran


class Client:
    """One client's rhythm and favourite node."""

    def __init__(self, number: int, think: float, sticky: float) -> None:
        self.name = f"c{number}"
        self.think = think
        self.sticky = sticky
        self.machine: Machine | None = None
        self.written = 0


class Clients:
    """All clients and the history."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.world = simulation.world
        self.random = Random(simulation.world.random.getrandbits(64))
        self.history: list[Operation] = []
        self.pending: dict[Pending, None] = {}
        self.keys: list[tuple[str, str]] = []  # (key, kind of its writes)
        self.clients: list[Client] = []
        self.asking = True
        self.answered = 0
        self.results: dict[str, int] = {}

    def begin(self, count: int, keys: int, think: float) -> None:
        rng = self.random
        self.keys = [(f"{KINDS[n % 4]}{n}", KINDS[n % 4]) for n in range(keys)]
        for number in range(count):
            client = Client(number + 1, think * rng.uniform(0.5, 2.0), rng.choice([0.0, 0.5, 0.95]))
            self.clients.append(client)
            self._later(client)

    def _later(self, client: Client) -> None:
        delay = self.random.expovariate(1 / client.think)
        self.world.harness.after(delay, self._next, client)

    def _next(self, client: Client) -> None:
        if not self.asking:
            return
        rng = self.random
        machine = client.machine
        if machine is None or not machine.is_up or rng.random() >= client.sticky:
            ups = [each for each in self.simulation.machines.values() if each.is_up]
            machine = client.machine = rng.choice(ups) if ups else None
        if machine is None or machine.service is None:
            self._later(client)
            return
        if rng.random() < 0.15 and machine.serving is not None:
            for number in range(rng.choice(BURSTS)):  # one by one, so that each is an entry
                machine.serving.after(number * 0.003, self._aside, machine, rng.choice(ASIDE))
        key, kind = rng.choice(self.keys)
        if rng.random() < 0.45:
            levels = self.simulation.shape.levels
            pending = self.call(machine, client, "get", key, None)
            pending.level = rng.choice(levels)
            return
        client.written += 1
        value = f"{client.name}.{client.written}"
        if kind == "lock":
            kind = rng.choice(LOCKING)
        arguments = {"set": value, "setnx": HELD, "append": f"<{value}>"}
        argument = arguments.get(kind)
        self.call(machine, client, kind, key, argument)

    def call(
        self, machine: Machine, client: Client | None, kind: str, key: str, argument: str | None
    ) -> Pending:
        """Send one command to a node."""
        pending = Pending(client, machine, kind, key, argument)
        self.pending[pending] = None
        assert machine.serving is not None
        machine.serving.soon(self._enter, pending)
        return pending

    def _aside(self, machine: Machine, words: tuple[str, ...]) -> None:
        """A command whose answer nobody looks at."""
        service = machine.service
        service.call(Call(list(words), 0, Future(words)))
        service.settle()

    def _enter(self, pending: Pending) -> None:
        words = [pending.kind, pending.key]
        if pending.argument is not None:
            words.append(pending.argument)
        future = Future(words)
        future.add_done_callback(self.world.aloud(lambda done: self._answered(pending, done.value)))
        service = pending.machine.service
        if pending.kind in LOCKING and self.random.random() < 0.5:
            row = service.desk.rows.find_at(0, pending.kind)
            row.idle_score = 48  # such writes are taken for idle, rightly or not
        call = SimCall(words, 0, future)
        call.pending = pending
        call.level = service.gate.level(parse_level(pending.level))
        service.call(call)
        service.settle()

    def _answered(self, pending: Pending, value: Any) -> None:
        if pending.is_over:
            return
        if isinstance(value, Uncertain):
            self._over(pending, Outcome.UNKNOWN, None)
        elif isinstance(value, RaftException):
            require(value.code in FAILURES, "an error a client may see", pending.kind, value)
            self.simulation.say(pending.machine.nid, "refuses: %s", value)
            self._over(pending, Outcome.FAILED, None)
        else:
            if pending.kind == "get":
                self.simulation.checks.read(pending, value)
            self._over(pending, Outcome.OK, value)

    def _over(self, pending: Pending, outcome: Outcome, value: Any) -> None:
        pending.is_over = True
        pending.is_ok = outcome is Outcome.OK
        del self.pending[pending]
        name = "" if pending.client is None else pending.client.name
        returned = FOREVER if outcome is Outcome.UNKNOWN else pending.machine.world.now
        if outcome is Outcome.OK and pending.kind == "set":
            value = None
        operation = Operation(
            pending.key, pending.kind, pending.argument, pending.invoked, returned, outcome,
            value, f"{name}@{pending.machine.nid}"
            + ("" if pending.level == LINEARIZABLE else f" ({pending.level})"),
        )  # fmt: skip
        if pending.level in JUDGED:
            self.history.append(operation)
        self.results[outcome.value] = self.results.get(outcome.value, 0) + 1
        self.simulation.say(pending.machine.nid, "client %s", operation)
        if pending.client is not None:
            self._later(pending.client)

    def node_died(self, machine: Machine) -> None:
        """The connections to a node ended."""
        for pending in [each for each in self.pending if each.machine is machine]:
            outcome = Outcome.FAILED if pending.kind == "get" else Outcome.UNKNOWN
            self._over(pending, outcome, None)

    # Afterwards

    def judge(self) -> None:
        """Is there one order that explains what all clients saw?"""
        for pending in list(self.pending):
            self._over(pending, Outcome.UNKNOWN, None)
        self._judge_appends()  # quick, where the search below takes long to give up
        complaints = judge(self.history)
        require(not complaints, "linearizability", "\n".join(complaints))

    def _judge_appends(self) -> None:
        """Each acknowledged append shows once in the end, each unknown one at most once."""
        last: dict[str, Operation] = {}
        for op in self.history:
            if op.kind == "get" and op.outcome is Outcome.OK:
                known = last.get(op.key)
                if known is None or op.returned > known.returned:
                    last[op.key] = op
        for op in self.history:
            end = last.get(op.key)
            if op.kind != "append" or end is None or not end.client.startswith("@"):
                continue
            shown = (end.result or "").count(op.argument)
            allowed = {Outcome.OK: (1,), Outcome.FAILED: (0,), Outcome.UNKNOWN: (0, 1)}
            if op.outcome is Outcome.OK and op.returned > end.invoked:
                continue  # it was still under way
            require(shown in allowed[op.outcome], "one effect of each write", str(op), shown)


class SimCall(Call):
    """A command whose client wants to know what had been applied when it was answered."""

    __slots__ = ("pending",)

    def answer(self, value: Any) -> None:
        self.pending.index = self.pending.machine.service.applier.index
        super().answer(value)


FAILURES = ("TRYAGAIN", "CLUSTERDOWN", "LOADING")
