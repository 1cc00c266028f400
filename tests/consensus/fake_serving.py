"""A serving side for tests: starts a real consensus process and speaks its pipe and ring.

It applies entries as the real one does (sessions decide what takes effect), keeps them in a list,
sends pending batches again at RESEND, and writes snapshots of that list.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyraft_fast import _entry
from pyraft_fast.link import pipe
from pyraft_fast.link.ring import clear
from pyraft_fast.link.spawn import Child, start_child
from pyraft_fast.serving.sessions import FRESH, Sessions
from pyraft_fast.storage import snapshot as snapshots

WAIT_SECONDS = 30.0
RING_BYTES = 1 << 20


class FakeServing:
    """One node: what is its serving side, and the process it started."""

    def __init__(self, folder: Path, nid: str, ring_bytes: int = RING_BYTES, **settings: Any):
        self.folder = folder
        self.nid = nid
        self.ring_bytes = ring_bytes
        self.settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        self.lock_fd = os.open(folder / f"{nid}.testlock", os.O_RDWR | os.O_CREAT)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.child: Child | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all data, as a new serving process would."""
        self.applied = 0
        self.term = 0
        self.data: list[list[Any]] = []
        self.sessions = Sessions()
        self.membership = b""
        self.reads: dict[int, int] = {}
        self.failed_reads: set[int] = set()
        self.snapshots_loaded: list[int] = []
        self.logs: list[str] = []
        self.roles: list[pipe.Role] = []
        self._new_process()

    def _new_process(self) -> None:
        self.ready: pipe.Ready | None = None
        self.role = pipe.Role("joining", 0, "", "", False)
        self.fatal: pipe.Fatal | None = None
        self.done: dict[int, pipe.Done] = {}
        self.pending: dict[int, pipe.Propose] = {}
        self.next_batch = 1
        self.is_taking = True
        self.is_gone = False
        self._decoder = pipe.Decoder()
        self._request_id = 0
        self._unsent = bytearray()

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1] - 1}"

    def move(self) -> None:
        """Take another address; the old one is given up."""
        self.listener.close()
        self.listener = socket.create_server(("127.0.0.1", 0))

    def start(self) -> None:
        self._new_process()
        self.child = start_child(self.listener.fileno(), self.lock_fd, ring_bytes=self.ring_bytes)
        defaults = {"nid": self.nid, "addr": self.addr, "folder": str(self.folder)}
        fast = {"segment_bytes": 1 << 20, "election_ms_min": 200, "election_ms_max": 400}
        self.send(pipe.Start({**defaults, **fast, **self.settings}))

    def kill(self) -> None:
        """As kill -9 of the child; the serving side lives on."""
        assert self.child is not None
        self.child.close()
        self.child = None
        self.role = pipe.Role("joining", 0, "", "", False)

    def close(self) -> None:
        if self.child is not None:
            self.kill()
        self.listener.close()
        os.close(self.lock_fd)

    # The pipe

    def send(self, message: pipe.Message) -> None:
        self._unsent += pipe.encode(message)
        self._flush()

    def _flush(self) -> None:
        assert self.child is not None
        while self._unsent:
            try:
                sent = self.child.pipe.send(self._unsent)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self.is_gone = True
                return
            del self._unsent[:sent]

    def propose(self, *commands: Sequence[Any]) -> int:
        """One batch; returns its number."""
        assert self.ready is not None
        batch = _entry.Batch()
        for words in commands:
            batch.add(words)
        number = self.next_batch
        self.next_batch += 1
        proposal = pipe.Propose(self.ready.start, number, batch.count, batch.take())
        self.pending[number] = proposal
        self.send(proposal)
        return number

    def read(self, context: int, by_lease: bool = False) -> None:
        self.send(pipe.Read(context, by_lease))

    def request(self, kind: Callable[..., pipe.Message], *fields: Any) -> int:
        self._request_id += 1
        self.send(kind(self._request_id, *fields))
        return self._request_id

    def pump(self, seconds: float = 0.0) -> None:
        """Take what has come, waiting at most `seconds` for the first of it."""
        if self.child is None or self.is_gone:
            return
        watched = [self.child.pipe.fileno(), self.child.to_serving]
        if self.is_taking and not self.child.reader.sleep():
            seconds = 0.0
        select.select(watched, [], [], seconds)
        clear(self.child.to_serving)
        self._flush()
        self._take_messages()
        if self.is_taking:
            self._take_records()

    def _take_messages(self) -> None:
        assert self.child is not None
        try:
            while data := self.child.pipe.recv(1 << 16):
                self._decoder.feed(data)
            self.is_gone = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.is_gone = True
        for message in self._decoder.messages():
            self._message(message)

    def _message(self, message: pipe.Message) -> None:
        if isinstance(message, pipe.Ready):
            assert self.ready is None
            self.ready = message
            if message.snapshot_path and message.snapshot_index > self.applied:
                self.load(message.snapshot_path)
            self.send(pipe.Applied(self.applied))
        elif isinstance(message, pipe.Role):
            self.role = message
            self.roles.append(message)
        elif isinstance(message, pipe.Resend):
            for number in sorted(self.pending):
                self.send(self.pending[number])
        elif isinstance(message, pipe.Done):
            self.done[message.request_id] = message
        elif isinstance(message, pipe.Log):
            self.logs.append(message.text)
        elif isinstance(message, pipe.Fatal):
            self.fatal = message

    # The ring

    def _take_records(self) -> None:
        assert self.child is not None
        while records := self.child.reader.take(1 << 20):
            for record in records:
                self._record(bytes(record))
            self.child.reader.release()

    def _record(self, record: bytes) -> None:
        assert _entry.verify(record)
        head = _entry.header(record)
        if head.kind == _entry.KIND_READ:
            self.reads[head.batch] = head.index
        elif head.kind == _entry.KIND_READ_FAILED:
            self.failed_reads.add(head.batch)
        elif head.kind == _entry.KIND_SNAPSHOT:
            self.load(_entry.unpackb(record[_entry.HEADER_SIZE :])[0])
        else:
            assert head.index == self.applied + 1, (head, self.applied)
            self.applied, self.term = head.index, head.term
            if head.kind == _entry.KIND_CONFIG:
                self.membership = record[_entry.HEADER_SIZE :]
            elif self.sessions.judge(head.origin, head.start, head.batch) == FRESH:
                self._apply(head, record)

    def _apply(self, head: Any, record: bytes) -> None:
        if head.kind == _entry.KIND_COMMANDS:
            self.data += [words for _, words in _entry.decode_record(record)]
        ready = self.ready
        if ready and (head.origin, head.start) == (ready.incarnation, ready.start):
            self.pending.pop(head.batch, None)

    # Snapshots

    def snapshot(self) -> str:
        """Write one of what is applied, and tell the process."""
        assert self.ready is not None
        path = snapshots.snapshot_path(str(self.folder), self.nid, int(time.time()), self.applied)
        meta = snapshots.Meta(
            cluster=0,
            index=self.applied,
            term=self.term,
            time_ms=1,
            membership=self.membership,
            sessions=self.sessions.copy(),
            keys=len(self.data),
        )
        snapshots.write_snapshot(
            path, meta, [(str(i), 0, words, None) for i, words in enumerate(self.data)]
        )
        self.send(pipe.SnapshotTaken(path, self.applied, self.term))
        return path

    def load(self, path: str) -> None:
        meta = snapshots.read_meta(path)
        self.data = [item.value for item in snapshots.read_items(path)]
        self.sessions.replace(meta.sessions)
        self.membership = meta.membership
        self.applied, self.term = meta.index, meta.term
        self.snapshots_loaded.append(meta.index)


def until(condition: Callable[[], object], *nodes: FakeServing) -> None:
    """Pump `nodes` until `condition` holds; fails with what they logged when it never does."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end or any(node.fatal for node in nodes):
            shown = "\n".join(
                f"{n.nid}: {n.role} applied {n.applied} fatal {n.fatal}\n  " + "\n  ".join(n.logs)
                for n in nodes
            )
            raise AssertionError(f"the awaited condition never came:\n{shown}")
        for node in nodes:
            node.pump(0.003)


def leader_of(nodes: Sequence[FakeServing]) -> FakeServing | None:
    """The node all running ones follow, when it serves."""
    running = [n for n in nodes if n.child is not None]
    for node in running:
        if node.role.role == "leader" and all(
            n.role.leader_nid == node.nid and n.role.serving_ok for n in running
        ):
            return node
    return None
