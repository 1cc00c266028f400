"""Clients that write down what they did, when, and what they were told: input for the judge.

Each client is a thread with one connection at a time. It sends commands alone or a few in one
pipeline, over a few keys that all clients share. As many clients as there are nodes keep to one
each, so that every node has one; the others wander. What may be concluded from each answer is in
`told`; the judge is in `linearizability`.

Keys: `r...` registers (set, get; every value is written once), `c...` counters (incr, get),
`t...` texts (append, get; every piece is written once), `l...` locks (setnx, del, get), most of
whose writes change nothing.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.retry import Retry

from tests.process.cluster import Node
from tests.process.linearizability import FOREVER, HELD, Operation, Outcome

CERTAINLY_NOT: Final = (  # CLUSTERDOWN, TRYAGAIN, LOADING
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.BusyLoadingError,
)
PIPELINE_MAX: Final = 6
PAUSE_SECONDS: Final = 0.02  # after a refusal, as a sensible client would
CONNECT_SECONDS: Final = 0.5
LEVELS: Final = ("default", "linearizable", "lease")  # of reads; all of them may not be old


def told(error: Exception) -> Outcome:
    """What an error says of the command. Raises it again when no fault may cause it."""
    if isinstance(error, CERTAINLY_NOT):
        return Outcome.FAILED
    if not isinstance(error, redis.ResponseError):
        return Outcome.UNKNOWN  # the connection broke, or no answer came in time
    if str(error).startswith("UNCERTAIN"):
        return Outcome.UNKNOWN
    raise error


def keys_of(name: str, count: int) -> list[str]:
    """`count` keys of each sort for one round of that name."""
    return [f"{sort}{number}:{name}" for sort in "rctl" for number in range(count)]


class Client(threading.Thread):
    """One client; runs until `end` is called."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        keys: Sequence[str],
        seed: object,
        answer_seconds: float = 1.5,
        home: Node | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.nodes = nodes
        self.home = home  # the node it keeps to as long as that one answers
        self.keys = keys
        self.dice = random.Random(str(seed))
        self.answer_seconds = answer_seconds
        self.operations: list[Operation] = []
        self.refused = 0
        self.acknowledged = 0
        self.slowest_seconds = 0.0  # the longest wait for an answer, one that was given up too
        self.broken: Exception | None = None  # what ended this thread, if anything did
        self._ended = threading.Event()
        self._number = 0
        self._groups = 0
        self._connection: Connection | None = None
        self._node: Node | None = None

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                if not self._turn():
                    self._ended.wait(PAUSE_SECONDS)
        except Exception as error:
            self.broken = error
        finally:
            self._hang_up()

    def end(self) -> None:
        self._ended.set()

    def _turn(self) -> bool:
        """One round trip; False when nothing came of it."""
        if self._connection is None and not self._dial():
            return False
        count = self.dice.randint(2, PIPELINE_MAX) if self.dice.random() < 0.3 else 1
        outcomes = self._exchange([self._command() for _ in range(count)])
        leaves = 0.3 if Outcome.FAILED in outcomes else 0.02
        if self._node is self.home and Outcome.OK in outcomes:
            leaves = 0
        if Outcome.UNKNOWN in outcomes or self.dice.random() < leaves:
            self._hang_up()
        return Outcome.OK in outcomes

    def _dial(self) -> bool:
        others = [node for node in self.nodes if node is not self._node]
        at_home = self.home is not None and self._node is not self.home
        self._node = self.home if at_home else self.dice.choice(others)
        assert self._node is not None
        connection = Connection(
            host=self._node.bind,
            port=self._node.port,
            protocol=2,
            decode_responses=True,
            socket_timeout=self.answer_seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        level = self.dice.choice(LEVELS)
        try:
            connection.connect()
            if level != LEVELS[0]:
                connection.send_command("CLIENT", "CONSISTENCY", level)
                connection.read_response()
        except (redis.RedisError, OSError):
            connection.disconnect()
            return False  # nothing was asked of the data
        self._connection = connection
        return True

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _command(self) -> tuple[str, str, str | None]:
        key = self.dice.choice(self.keys)
        self._number += 1
        value = f"<{self.name}.{self._number}>"
        if self.dice.random() < 0.4:
            return "get", key, None
        if key[0] == "l":
            kind = "setnx" if self.dice.random() < 0.97 else "del"
            return kind, key, HELD if kind == "setnx" else None
        return {"r": ("set", key, value), "c": ("incr", key, None), "t": ("append", key, value)}[
            key[0]
        ]

    def _exchange(self, commands: Sequence[tuple[str, str, str | None]]) -> list[Outcome]:
        connection = self._connection
        assert connection is not None
        group = 0
        if len(commands) > 1:
            self._groups += 1
            group = self._groups
        words = [[word for word in command if word is not None] for command in commands]
        lost: Exception | None = None
        invoked = time.monotonic()
        try:
            connection.send_packed_command(connection.pack_commands(words))
        except (redis.RedisError, OSError) as error:
            lost = error
        outcomes = []
        for place, (kind, key, argument) in enumerate(commands):
            result: Any = None
            outcome = Outcome.OK
            if lost is None:
                try:
                    result = connection.read_response(disconnect_on_error=False)
                except (redis.ResponseError, *CERTAINLY_NOT) as error:
                    outcome = told(error)
                except (redis.RedisError, OSError, EOFError) as error:
                    lost = error
            if lost is not None:
                outcome = told(lost)
            now = time.monotonic()
            if lost is None or isinstance(lost, redis.TimeoutError):
                self.slowest_seconds = max(self.slowest_seconds, now - invoked)
            returned = now if outcome is Outcome.OK else FOREVER
            self.operations.append(
                Operation(
                    key, kind, argument, invoked, returned, outcome, result,
                    f"{self.name}@{self._node.nid if self._node else ''}", group, place,
                )
            )  # fmt: skip
            self.refused += outcome is Outcome.FAILED
            self.acknowledged += outcome is Outcome.OK and kind != "get"
            outcomes.append(outcome)
        return outcomes


class Load:
    """Some clients at once; use with `with`, which ends them.

    Each draws among `answer_seconds` how long it waits for an answer.
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node],
        dice: random.Random,
        clients: int = 6,
        keys: int = 3,
        answer_seconds: Sequence[float] = (1.5,),
    ) -> None:
        self.keys = keys_of(name, keys)
        self.clients = [
            Client(
                f"{name}-{number}",
                nodes,
                self.keys,
                dice.random(),
                answer_seconds[dice.randrange(len(answer_seconds))],
                nodes[number] if number < len(nodes) else None,
            )
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.end()
        for client in self.clients:
            client.join(30)
            assert not client.is_alive(), f"client {client.name} hangs"

    @property
    def acknowledged(self) -> int:
        """Writes that were answered with success so far."""
        return sum(client.acknowledged for client in self.clients)

    @property
    def slowest_seconds(self) -> float:
        """The longest that any client waited for an answer."""
        return max(client.slowest_seconds for client in self.clients)

    def check(self) -> bool:
        """True; raises what ended a client before its time."""
        for client in self.clients:
            if client.broken is not None:
                raise AssertionError(f"client {client.name} was told nonsense") from client.broken
        return True

    def operations(self) -> list[Operation]:
        """Everything that was recorded."""
        self.check()
        return [op for client in self.clients for op in client.operations]


def final_reads(nodes: Iterable[Node], keys: Sequence[str]) -> list[Operation]:
    """Every key as every node shows it now, as operations of the history."""
    found = []
    for node in nodes:
        with node.client() as client:
            for key in keys:
                invoked = time.monotonic()
                value = client.get(key)
                found.append(
                    Operation(
                        key, "get", None, invoked, time.monotonic(), Outcome.OK, value,
                        f"last@{node.nid}",
                    )
                )  # fmt: skip
    return found


def longest_silence(operations: Iterable[Operation], begin: float, end: float) -> float:
    """The longest time in seconds, between two moments, without an acknowledged write."""
    marks = sorted(
        op.returned
        for op in operations
        if op.outcome is Outcome.OK and op.kind != "get" and begin <= op.returned <= end
    )
    marks = [begin, *marks, end]
    return max(after - before for before, after in itertools.pairwise(marks))
