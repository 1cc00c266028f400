"""The engine of a node: the thread of its serving loop, and the safe way in from other threads.

Starting takes what the node needs (folder, lock, ports) in the caller's thread, so that every
refusal is raised there, in one line; it returns when clients are served. Stopping gives all of
it back within its time limit, whatever hangs. In between, commands of other threads are queued
to the loop; futures carry the answers back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from pyraft_fast import _turn
from pyraft_fast.common import Future
from pyraft_fast.errors import CommandError, RaftException, StartError, TryAgain
from pyraft_fast.link.loop import new_loop
from pyraft_fast.serving import facts, startup
from pyraft_fast.serving.callbacks import Callbacks
from pyraft_fast.serving.dispatch import Call, misfit
from pyraft_fast.serving.diverged import refuse_diverged
from pyraft_fast.serving.host import Host
from pyraft_fast.serving.members import NOBODY, Members
from pyraft_fast.serving.roles import NO_ROLE
from pyraft_fast.serving.service import Service, Spawn
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.treaty import Request
from pyraft_fast.worker.dice import Dice

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 2.0
SpawnMaker = Callable[[Settings, socket.socket, int], Spawn]
CHILD_STOP_SHARE: Final = 0.75  # of the time to stop that consensus gets to hand over


class Engine:
    """Start, stop and in-process commands of one node. Safe to use from any thread.

    `spawn(settings, peer_listener, lock_fd)` returns how a consensus process is started, for
    tests; the default starts the real one.
    """

    def __init__(
        self,
        host: Host,
        settings: Settings,
        spawn: SpawnMaker | None = None,
    ) -> None:
        self._host = host
        self.settings = settings
        self.port = settings.port
        self._spawn = spawn
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ident = 0  # of that thread, while it runs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks = Callbacks(host)
        self._service: Service | None = None
        self._listeners: list[socket.socket] = []
        self._lock_fd = -1
        self._calls: deque[Call] = deque()
        self._calls_queued = False
        self._ended = threading.Event()
        self._ended.set()

    # What the node shows

    @property
    def role(self) -> str:
        """leader, follower, candidate, learner, joining or removed."""
        service = self._service
        return service.role.role if service is not None else NO_ROLE.role

    @property
    def term(self) -> int:
        """The current term, as consensus last said."""
        service = self._service
        return service.role.term if service is not None else 0

    @property
    def leader_nid(self) -> str:
        """Who leads, "" when nobody is known to."""
        service = self._service
        return service.role.leader_nid if service is not None else ""

    @property
    def leader_addr(self) -> str:
        """The leader's address, "" when unknown."""
        service = self._service
        return service.role.leader_addr if service is not None else ""

    @property
    def serving(self) -> bool:
        """Whether writes can be sent: a leader is known and reachable."""
        service = self._service
        return service.role.serving if service is not None else False

    @property
    def applied_index(self) -> int:
        """Index of the last applied log entry."""
        service = self._service
        return service.applier.index if service is not None else 0

    @property
    def snapshot_index(self) -> int:
        """Index of the newest snapshot (0: none)."""
        service = self._service
        return service.snapshot_index if service is not None else 0

    @property
    def members(self) -> Members:
        """The membership that the log has led to here."""
        service = self._service
        return service.applier.members if service is not None else NOBODY

    @property
    def status_facts(self) -> dict[str, Any]:
        """Consensus' last status, at most about a second old; see `status` for a fresh one."""
        service = self._service
        return service.status if service is not None else {}

    @property
    def random(self) -> Dice:
        """Dice for handlers: alike on every node for the command being applied.

        Other threads get dice of their own: a draw of theirs would shift those of a handler.
        """
        service = self._service
        if service is None or not self.in_loop():
            return Dice(time.time_ns())
        return service.applier.dice

    @property
    def started_ms(self) -> int:
        """When this start began, epoch milliseconds of this machine's clock."""
        service = self._service
        return service.started_ms if service is not None else 0

    @property
    def running(self) -> bool:
        """Whether the loop's thread lives."""
        return not self._ended.is_set()

    def facts(self) -> dict[str, Any]:
        """What INFO shows; see worker.info."""
        return facts.gather(self._host, self.settings, self._service)

    def reset_stats(self) -> None:
        """Zero the counters."""
        if self._service is not None:
            self._service.desk.stats.reset()
            self._service.gate.reset_stats()

    def in_loop(self) -> bool:
        """Whether the caller is a handler: the loop's own thread, which must not wait."""
        return self._ident == threading.get_ident()

    # Life

    def start(self) -> None:
        """Start the node; returns when it serves clients on its port.

        Raises StartError when the folder or a port cannot be had, or when recovery fails.
        """
        with self._lock:
            if self._thread is not None:
                return
            try:
                self._take_resources()
                self._start_thread()
            except BaseException:
                self._give_back()
                raise
        service = self._service
        try:
            if service is not None:
                service.started.get()
        except RaftException as error:
            self.stop(0.5)
            raise StartError(str(error)) from None

    def _take_resources(self) -> None:
        settings = self.settings
        startup.make_folder(settings.folder)
        self._lock_fd = startup.lock_folder(settings.folder, settings.nid)
        startup.clean_folder(settings.folder, settings.nid)
        refuse_diverged(settings.folder, settings.nid)
        bind, port = settings.bind_host, settings.port
        self._listeners = [startup.listen(bind, port, startup.CLIENT_BACKLOG, "for clients")]
        self.port = self._listeners[0].getsockname()[1]
        peer_port = port + 1 if port else 0  # port 0: any two free ports, for tests
        self._listeners.append(
            startup.listen(bind, peer_port, startup.PEER_BACKLOG, "for other nodes")
        )

    def _start_thread(self) -> None:
        loop = new_loop()
        client_listener, peer_listener = self._listeners
        if self._spawn is None:
            from pyraft_fast.serving import child  # starts processes: tests bring their own

            make: SpawnMaker = child.spawner
        else:
            make = self._spawn
        self._loop = loop
        self._callbacks = Callbacks(self._host)
        self._service = Service(
            self._host,
            self.settings,
            self._callbacks,
            loop,
            make(self.settings, peer_listener, self._lock_fd),
        )
        self._service.stopped.add_done_callback(lambda _: loop.call_soon(loop.stop))
        self._ended.clear()
        self._callbacks.start()
        loop.call_soon(self._service.start, client_listener)
        self._thread = threading.Thread(
            target=self._run,
            args=(loop, self._service),
            name=f"pyraft-serving-{self.settings.nid}",
            daemon=True,
        )
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop, service: Service) -> None:
        asyncio.set_event_loop(loop)
        self._ident = threading.get_ident()
        try:
            while not service.stopped.done():
                try:
                    loop.run_forever()
                except BaseException:  # sys.exit() in a callback that ran in this thread
                    logger.exception("the serving thread of node %s failed", self.settings.nid)
                    service.fail("its serving thread failed; see the lines above", 1)
            loop.run_until_complete(asyncio.sleep(0))  # transports finish closing
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            self._ident = 0
            self._ended.set()
            self._refuse_calls()  # the last: whoever sees the end refuses by himself

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop the node and give everything back, within about `timeout` seconds.

        From the loop's own thread or a callback it only begins to stop.
        """
        loop, service, thread = self._loop, self._service, self._thread
        if thread is None or loop is None or service is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(service.stop, timeout * CHILD_STOP_SHARE)
        if self.in_loop():
            return
        self._ended.wait(timeout)
        with self._lock:
            if self._thread is not thread:
                return
            if not self._ended.is_set():
                logger.error("the serving thread did not stop within %s s", timeout)
            self._give_back()
            self._thread = None
        self._callbacks.tell("on_shutdown")
        self._callbacks.stop(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the loop has ended; False when it has not within `timeout` seconds."""
        return self._ended.wait(timeout)

    def _give_back(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # Commands of this process

    def submit(self, words: Sequence[Any], offset: int = 0) -> Future:
        """Run a command; the future gets its reply value, or the error it failed with.

        Inside a handler that the log runs, or a read, a write is refused: every node runs it.
        """
        future = Future(words, offset)
        call = Call(list(words), offset, future)
        service = self._service
        if service is not None and self.in_loop():
            future.giver = threading.get_ident()
            if service.handling:
                self._submit_inside(service, call)
                return future
        self._calls.append(call)
        loop = self._loop
        if loop is None or self._ended.is_set():
            self._refuse_calls()
        elif not self._calls_queued:
            self._calls_queued = True
            try:
                loop.call_soon_threadsafe(self._take_calls)
            except RuntimeError:
                self._refuse_calls()
        return future

    def _submit_inside(self, service: Service, call: Call) -> None:
        row = service.rows.find_at(call.offset, call.words[0]) if call.words else None
        if row is not None and not row.least <= len(call.words) <= row.most:
            call.finish(misfit(row))
        elif row is not None and not row.write:  # at the time and place of the handler that asks
            call.finish(_turn.perform(row, self._host, call.words))
        elif row is not None and not service.desk.alone:
            call.finish(
                CommandError(
                    f"a handler cannot send {row.name!r} through the log of its own node; call "
                    "its function, or do it from another thread"
                )
            )
        else:
            service.call(call)

    def _take_calls(self) -> None:
        self._calls_queued = False
        calls, service = self._calls, self._service
        if service is None:
            return
        while calls:
            service.call(calls.popleft())
        service.settle()

    def _refuse_calls(self) -> None:
        self._calls_queued = False
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            call.finish(TryAgain("the node does not run; the command was not executed"))

    def _ask(self, name: str, *fields: Any) -> Future:
        future = Future((name, *fields))
        self._in_loop_soon(future, lambda service: service.ask(future, Request(name, fields)))
        return future

    def _in_loop_soon(self, future: Future, action: Callable[[Service], None]) -> None:
        loop, service = self._loop, self._service
        if loop is None or service is None or self._ended.is_set():
            future.set(TryAgain("the node does not run; nothing was done"))
            return
        if self.in_loop():
            future.giver = threading.get_ident()
        try:
            loop.call_soon_threadsafe(action, service)
        except RuntimeError:
            future.set(TryAgain("the node does not run; nothing was done"))

    def change(self, op: str, nid: str, addr: str = "") -> Future:
        """Change the membership: op add, remove, promote, demote or address; the answer is True."""
        return self._ask("change", op, nid, addr)

    def transfer(self, nid: str = "") -> Future:
        """Hand leadership to `nid` ("": whoever is most up to date)."""
        return self._ask("transfer", nid)

    def status(self) -> Future:
        """What consensus knows of itself, as a dict."""
        return self._ask("status")

    def checkpoint(self, filename: str | None = None) -> Future:
        """Write a snapshot now; the answer is its path, or `filename`, where a copy then lies."""
        future = Future(("checkpoint",))
        self._in_loop_soon(future, lambda service: service.checkpoint(future, filename))
        return future
