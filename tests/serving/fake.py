"""A consensus process that lives in the serving loop, and a node around an engine.

`FakeLog` stands for the whole cluster: what it holds is committed. `FakeConsensus` appends
proposals to it and publishes it, with the faults a test asks for; like the real one it may lose
or repeat batches, but never records.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pyraft_fast import _entry
from pyraft_fast.serving.engine import Engine
from pyraft_fast.serving.service import Service
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.treaty import Events, Ready, Request, RoleFact
from pyraft_fast.worker.base_worker import BaseWorker
from pyraft_fast.worker.redis_worker import RedisWorker
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.worker import MergedWorker

INCARNATION = 77


class FakeLog:
    """Committed entries, and knobs that every consensus process of a test looks at."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.time_ms = 1_000_000
        self.starts = 0
        self.role = RoleFact("leader", 0, "1", "127.0.0.1:1", True)  # of a term without entries
        self.fault: Callable[[int, int], str] = lambda start, batch: ""
        self.proposals: list[tuple[int, int]] = []
        self.reads: list[int] = []
        self.by_lease: list[bool] = []  # of each of these reads
        self.lease: tuple[int, int, int] | None = (0, 0, 0)  # that shows
        self.requests: list[Request] = []
        self.notes: list[tuple[str, bytes]] = []  # that guards sent
        self.snapshots: list[tuple[str, int, int]] = []
        self.consensus: FakeConsensus | None = None
        self.spawned = 0
        self.snapshot_path = ""
        self.snapshot_index = 0
        self.answer_reads = True
        self.is_behind = False  # True: what was sent lies in the pipe
        self.commit = True  # False: proposals are kept, not committed
        self.kept: list[tuple[int, int, int, bytes]] = []

    def append(
        self, payload: bytes, count: int, start: int = 0, batch: int = 0, kind: int = 0
    ) -> None:
        self.records.append(
            _entry.seal(
                kind or _entry.KIND_COMMANDS, len(self.records) + 1, 1, self.time_ms,
                INCARNATION if batch else 0, start, batch, count, payload,
            )
        )  # fmt: skip

    def append_commands(self, *commands: Sequence[Any]) -> None:
        """Commands of another node, without a session."""
        batch = _entry.Batch()
        for words in commands:
            batch.add(words, 0)
        count = batch.count
        self.append(batch.take(), count)

    def commit_kept(self) -> None:
        self.commit = True
        kept, self.kept = self.kept, []
        for start, number, count, payload in kept:
            self.append(payload, count, start, number)


class FakeConsensus:
    """Answers like a consensus process, from the same loop."""

    pid = 4242

    def __init__(self, log: FakeLog, loop: asyncio.AbstractEventLoop, events: Events) -> None:
        self.log = log
        self.loop = loop
        self.events = events
        self.published: int | None = None
        self.queue: deque[bytes] = deque()
        self.taken = 0
        self.dead = False
        log.consensus = self
        log.starts += 1
        log.spawned += 1
        self.start = log.starts
        loop.call_soon(self._ready)

    def _ready(self) -> None:
        if self.dead:
            return
        log = self.log
        self.events.ready(
            Ready(9, "1", INCARNATION, self.start, log.snapshot_path, log.snapshot_index)
        )
        self.events.role(log.role)

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> bool:
        if self.dead:
            return False
        self.log.proposals.append((start, batch))
        fault = self.log.fault(start, batch)
        if fault == "drop" or start != self.start:
            return False
        if not self.log.commit:
            self.log.kept.append((start, batch, count, payload))
            return False
        for _ in range(2 if fault == "twice" else 1):
            self.log.append(payload, count, start, batch)
        if fault == "late":
            self.loop.call_later(0.01, self.pump)
        elif fault == "die":
            self.loop.call_soon(self.die)
        else:
            self.loop.call_soon(self.pump)
        return False

    def add(self, count: int, payload: bytes) -> bool:
        return False

    def is_behind(self) -> bool:
        return self.log.is_behind and not self.dead

    def read(self, context: int, by_lease: bool) -> None:
        self.log.reads.append(context)
        self.log.by_lease.append(by_lease)
        if self.log.answer_reads and not self.dead:
            self.pump()
            self.queue.append(
                _entry.seal(
                    _entry.KIND_READ, len(self.log.records), 0, self.log.time_ms,
                    0, 0, context, 0, b"",
                )
            )  # fmt: skip
            self.loop.call_soon(self.tell)

    def lease(self) -> tuple[int, int, int] | None:
        return self.log.lease

    def applied(self, index: int) -> None:
        assert self.published is None
        self.published = index
        self.pump()

    def pump(self) -> None:
        if self.published is None or self.dead:
            return
        while self.published < len(self.log.records):
            self.queue.append(self.log.records[self.published])
            self.published += 1
        self.loop.call_soon(self.tell)

    def tell(self) -> None:
        if not self.dead:
            self.events.records()

    def snapshot_taken(self, path: str, index: int, term: int) -> None:
        self.log.snapshots.append((path, index, term))

    def request(self, request_id: int, request: Request) -> None:
        if request.name == "status":
            status = {"members": [], "commit": len(self.log.records)}
            self.loop.call_soon(self.events.done, request_id, status, "", "")
            return
        self.log.requests.append(request)
        refused = request.fields[0] == "refuse"
        code, text = ("ERR", "one change at a time") if refused else ("", "")
        self.loop.call_soon(self.events.done, request_id, None if refused else True, code, text)

    def digests(self, nid: str, note: bytes) -> None:
        self.log.notes.append((nid, note))

    def shutdown(self) -> None:
        self.loop.call_soon(self.die, "ended in order")

    def die(self, how: str = "killed by signal 9") -> None:
        if not self.dead:
            self.dead = True
            self.events.ended(how)

    def take(self, bytes_max: int) -> list[bytes]:
        records = []
        size = 0
        while self.queue and (not records or size < bytes_max):
            records.append(self.queue.popleft())
            size += len(records[-1])
        return records

    def release(self) -> None:
        self.taken += 1

    def sleep(self) -> bool:
        return not self.queue

    def kill(self) -> None:
        self.dead = True

    def close(self) -> None:
        self.queue.clear()


class FakeNode:
    """What RaftNode is to an engine, and the engine."""

    def __init__(self, folder: Path, log: FakeLog | None = None, **settings: Any) -> None:
        self.nid = "1"
        self.log = log or FakeLog()
        self.store = Store()
        self.data_lock = threading.RLock()
        self.worker = MergedWorker(None, BaseWorker(), RedisWorker())
        self.worker_map = {0: self.worker}
        self.lines: list[str] = []
        self.failures: list[tuple[str, int]] = []
        self.events: list[str] = []
        self.stopping = False
        values: dict[str, Any] = {"nid": "1", "addr": "127.0.0.1:1", "bind_host": "127.0.0.1"}
        values.update(port=0, folder=str(folder))
        values.update(settings)
        self.engine = Engine(self, Settings(**values), self._spawn)

    def _spawn(self, settings: Settings, listener: socket.socket, lock_fd: int) -> Any:
        return lambda loop, events: FakeConsensus(self.log, loop, events)

    @property
    def random(self) -> Any:
        return self.engine.random

    @property
    def data(self) -> dict[str, Any]:
        return self.store.data

    def info_facts(self) -> dict[str, Any]:
        return self.engine.facts()

    def request_change(self, op: str, nid: str, addr: str) -> Any:
        return self.engine.change(op, nid, addr)

    def request_snapshot(self) -> Any:
        return self.engine.checkpoint()

    def request_async(self, *words: Any) -> Any:
        return self.engine.submit(words)

    def shutdown(self) -> None:
        self.stopping = True

    def log_info(self, msg: str) -> None:
        self.lines.append(msg)

    log_warn = log_error = log_info

    def fail(self, text: str, status: int) -> None:
        self.failures.append((text, status))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda: self.events.append(name)
        raise AttributeError(name)

    def in_loop(self, action: Callable[[], Any]) -> Any:
        """Run something in the serving loop and wait for it."""
        loop = self.engine._loop
        assert loop is not None

        async def run() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), loop).result(10)

    def consensus(self) -> FakeConsensus:
        assert self.log.consensus is not None
        return self.log.consensus

    def client(self) -> Client:
        return Client(self.engine.port)


class Client:
    """A socket with a reader of RESP2 lines."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def send(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def reply(self) -> Any:
        """The next reply: str for simple and bulk, int, list, None; errors begin with '-'."""
        line = self.file.readline()
        assert line.endswith(b"\r\n"), f"connection ended: {line!r}"
        mark, rest = line[:1], line[1:-2].decode()
        if mark == b"$":
            if rest == "-1":
                return None
            return self.file.read(int(rest) + 2)[:-2].decode()
        if mark in b"*%~>":
            size = int(rest) * (2 if mark == b"%" else 1)
            return [self.reply() for _ in range(size)]
        if mark == b"_":
            return None
        if mark == b":":
            return int(rest)
        return rest if mark == b"+" else line[:-2].decode()

    def ask(self, *lines: str) -> Any:
        """Send inline commands at once; returns their replies (one reply for one line)."""
        self.send(*lines)
        replies = [self.reply() for _ in lines]
        return replies[0] if len(lines) == 1 else replies

    def ended(self) -> bool:
        """Await the end of the connection."""
        return self.file.read() == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def running(folder: Path, log: FakeLog | None = None, **settings: Any) -> Iterator[FakeNode]:
    """A started node, stopped at the end."""
    node = FakeNode(folder, log, **settings)
    node.engine.start()
    try:
        yield node
    finally:
        node.engine.stop()


def service(node: FakeNode) -> Service:
    """The serving loop of a node that runs."""
    found = node.engine._service
    assert found is not None
    return found


def eventually(condition: Callable[[], object]) -> None:
    """Await a condition that another thread brings about."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.005)
