"""The consensus process seen from the serving loop: its pipe, its ring, its death.

Messages go down a non-blocking socket at once, or queue here in order while it is full; what
the other side says is handed to the loop as events. The end of the pipe is the end of the
process, whatever the reason, and is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from typing import Any, Final

from pyraft_fast._slot import ADDED_TELL, NOT_ADDED
from pyraft_fast.errors import ProtocolError
from pyraft_fast.link import pipe
from pyraft_fast.link.ring import clear
from pyraft_fast.link.spawn import start_child
from pyraft_fast.serving.service import Spawn
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.treaty import Events, Ready, Request, RoleFact

logger = logging.getLogger(__name__)

REAP_SECONDS: Final = 0.1  # a process that closed its pipe is about to be gone
BACKLOG_PARTS_MAX: Final = 10_000  # unsent, past which reads are lost, as `treaty` allows
PARTS_MAX: Final = 64  # of one write
SLOT_FILLED: Final = pipe.encode(pipe.SlotFilled())


def spawner(settings: Settings, listener: socket.socket, lock_fd: int) -> Spawn:
    """How the consensus process of this node is started, again and again if need be."""
    return lambda loop, events: ConsensusChild(settings, listener.fileno(), lock_fd, loop, events)


class ConsensusChild:
    """One consensus process; see `treaty.Consensus`. Loop thread only."""

    def __init__(
        self,
        settings: Settings,
        listen_fd: int,
        lock_fd: int,
        loop: asyncio.AbstractEventLoop,
        events: Events,
    ) -> None:
        self._loop = loop
        self._events = events
        self._child = start_child(listen_fd, lock_fd, ring_bytes=settings.ring_bytes)
        self._pipe = self._child.pipe
        self.take = self._child.reader.take  # the ring
        self.release = self._child.reader.release
        self.sleep = self._child.reader.sleep
        self.lease = self._child.reader.posted
        self._slot = self._child.slot
        self._heard_bytes = self._child.reader.heard
        self._given_bytes = 0  # for the pipe, since the beginning
        self._proposed_bytes = 0  # of these: no batch passes by the last one there by the slot
        self._decoder = pipe.Decoder()
        self._backlog: deque[bytes | memoryview] = deque()
        self._open = True
        loop.add_reader(self._pipe.fileno(), self._readable)
        loop.add_reader(self._child.to_serving, self._bell)
        self._send(pipe.Start(settings.for_consensus()))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    # Down

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> bool:
        """Send one batch; see `treaty.Consensus`."""
        may_pass = self._heard_bytes() >= self._proposed_bytes
        if may_pass and self._is_added(self._slot.put(start, batch, count, payload)):
            return True
        self._write(pipe.propose_head(start, batch, count, len(payload)), payload)
        self._proposed_bytes = self._given_bytes
        return False

    def add(self, count: int, payload: bytes) -> bool:
        """Add commands to the batch in the slot; see `treaty.Consensus`."""
        return self._is_added(self._slot.add(count, payload))

    def _is_added(self, added: int) -> bool:
        """What became of commands for the slot; consensus is told if it asked."""
        if added == ADDED_TELL:
            self._write(SLOT_FILLED)
        return added != NOT_ADDED

    def is_behind(self) -> bool:
        """Whether something waits here or in the pipe."""
        return self._open and self._heard_bytes() != self._given_bytes

    def read(self, context: int, by_lease: bool) -> None:
        """Ask for a read index; a process that takes nothing any more is asked no more."""
        if len(self._backlog) < BACKLOG_PARTS_MAX:
            self._send(pipe.Read(context, by_lease))

    def applied(self, index: int) -> None:
        """Say up to where this side has the data."""
        self._send(pipe.Applied(index))

    def snapshot_taken(self, path: str, index: int, term: int) -> None:
        """A snapshot is durable."""
        self._send(pipe.SnapshotTaken(path, index, term))

    def request(self, request_id: int, request: Request) -> None:
        """Ask for a membership change, a transfer or the status."""
        kind: Any = {"change": pipe.Change, "transfer": pipe.Transfer, "status": pipe.Status}
        self._send(kind[request.name](request_id, *request.fields))

    def digests(self, nid: str, note: bytes) -> None:
        """Pass a note on to the guards of other nodes; lost when the process takes nothing."""
        if len(self._backlog) < BACKLOG_PARTS_MAX:
            self._send(pipe.Digests(nid, note))

    def shutdown(self) -> None:
        """Hand over what it leads, and end."""
        self._send(pipe.Shutdown())

    def _send(self, message: pipe.Message) -> None:
        self._write(pipe.encode(message))

    def _write(self, *parts: bytes) -> None:
        if not self._open:
            return
        given = sum(map(len, parts))
        self._given_bytes += given
        if self._backlog:
            self._backlog.extend(part for part in parts if part)  # a tick has no payload
            return
        try:
            sent = self._pipe.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:  # the process is gone; reading from the pipe tells that
            return
        if sent < given:
            self._backlog.append(memoryview(b"".join(parts))[sent:])
            self._loop.add_writer(self._pipe.fileno(), self._drained)

    def _drained(self) -> None:
        self._writable()
        if not self._backlog:
            self._loop.remove_writer(self._pipe.fileno())

    def _writable(self) -> None:
        """Write as much as the socket takes."""
        backlog = self._backlog
        while backlog:
            parts = [backlog[at] for at in range(min(len(backlog), PARTS_MAX))]
            try:
                sent = self._pipe.sendmsg(parts)
            except BlockingIOError:
                return
            except OSError:  # the process is gone; reading from the pipe tells that
                backlog.clear()
                return
            while sent:
                part = backlog.popleft()
                if sent < len(part):
                    backlog.appendleft(memoryview(part)[sent:])
                    return
                sent -= len(part)

    # Up

    def _readable(self) -> None:
        try:
            count = self._pipe.recv_into(self._decoder.get_buffer())
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count == 0:
            self._gone()
            return
        self._decoder.buffer_updated(count)
        try:
            for message in self._decoder.messages():
                self._heard(message)
                if not self._open:
                    return
        except ProtocolError as error:
            logger.error("the consensus process sent nonsense: %s", error)
            self._child.kill()
            self._gone()

    def _heard(self, message: pipe.Message) -> None:
        events = self._events
        if isinstance(message, pipe.Role):
            events.role(
                RoleFact(
                    message.role,
                    message.term,
                    message.leader_nid,
                    message.leader_addr,
                    message.serving_ok,
                )
            )
        elif isinstance(message, pipe.Done):
            events.done(message.request_id, message.value, message.error_code, message.error_text)
        elif isinstance(message, pipe.Resend):
            events.resend()
        elif isinstance(message, pipe.DigestsFrom):
            events.digests(message.nid, message.note)
        elif isinstance(message, pipe.Log):
            events.log(message.level, message.text)
        elif isinstance(message, pipe.Fatal):
            events.fatal(message.exit_status, message.text)
        elif isinstance(message, pipe.Ready):
            events.ready(
                Ready(
                    message.cluster,
                    message.nid,
                    message.incarnation,
                    message.start,
                    message.snapshot_path,
                    message.snapshot_index,
                )
            )
        else:
            raise ProtocolError(f"a {type(message).__name__} message goes the other way")

    def _gone(self) -> None:
        """The pipe ended: tell it once."""
        if not self._open:
            return
        self._stop_listening()
        with contextlib.suppress(TimeoutError):
            self._child.wait(REAP_SECONDS)
        self._events.ended(self._child.how())

    def _bell(self) -> None:
        clear(self._child.to_serving)
        self._events.records()

    # The end

    def _stop_listening(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._pipe.fileno())
            self._loop.remove_writer(self._pipe.fileno())
            self._loop.remove_reader(self._child.to_serving)
            self._backlog.clear()

    def kill(self) -> None:
        """End the process now and reap it."""
        self._stop_listening()
        self._child.kill()

    def close(self) -> None:
        """Give back pipe, ring and bells."""
        self._stop_listening()
        self._child.close()
