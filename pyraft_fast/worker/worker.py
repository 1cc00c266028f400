"""Workers: owners of handler tables, with the names and attributes of pyraft.

The node's own worker serves the node's port, which is not this module's business. A worker
registered besides listens on its own address, in threads, and speaks RESP or any protocol
object that offers `open_io(sock)` (see listener.py).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyraft_fast.errors import RaftException
from pyraft_fast.worker.listener import CONNECTIONS_MAX, Listener, serve
from pyraft_fast.worker.table import CALLBACKS, HandlerDict, Row, Table


class RespProtocol:
    """Opens RESP connections on plain sockets."""

    def open_io(self, handle: socket.socket) -> Any:
        """An io object with read, write, raw_write and close on `handle`."""
        from pyraft_fast.protocol.resp import resp_io  # the codec, wanted only by extra workers

        return resp_io(handle)


class Worker:
    """A handler table and, for a worker registered besides the node's own, a listener.

    `addr` is "ip:port" to listen on; without it the address is derived from the node's when the
    worker is registered. `worker_offset` is what marks the worker's commands in the log.
    """

    def __init__(self, addr: str | None = None) -> None:
        self._watchers: list[Callable[[], None]] = []
        self.table = Table(self.get_handler, self.names)
        self.handler = {}
        self.extra_rows: list[Row] = []  # commands that COMMAND shows and no table runs
        self.shutdown_flag = False
        self.p: Any = None
        self.addr = addr
        self.ip = ""
        self.port = 0
        self.worker_offset = 0
        self.connections_max = CONNECTIONS_MAX
        self._listener: Listener | None = None
        if addr:
            self._set_addr(addr)

    @property
    def handler(self) -> HandlerDict:
        """The table: name -> [function, flags, min, max], or a callback."""
        return self._handler

    @handler.setter
    def handler(self, entries: Mapping[str, Any]) -> None:
        self._handler = HandlerDict(entries, self.changed)
        self.changed()

    def changed(self) -> None:
        """A table changed: forget what was looked up, here and wherever this worker is merged."""
        self.table.forget()
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after every change of the tables."""
        self._watchers.append(watcher)

    def names(self) -> Iterable[str]:
        """Every name in the tables, callbacks included."""
        return list(self.handler)

    def get_handler(self, name: str) -> Any:
        """The entry for a lower case name, or None."""
        return self.handler.get(name)

    def callbacks(self, name: str) -> list[Callable[..., Any]]:
        """The functions registered for a callback such as `on_leader`."""
        entry = self.handler.get(name)
        if entry is None or name not in CALLBACKS:
            return []
        items = entry if isinstance(entry, (list, tuple)) else [entry]
        return [item for item in items if callable(item)]

    def init_node(self, node: Any) -> None:
        """Prepare the node for this worker; to be overridden, called once when it is registered."""

    def set_protocol(self, p: Any) -> None:
        """Speak another protocol: an object with `open_io(sock)`."""
        self.p = p

    def _set_addr(self, addr: str) -> None:
        host, _, port = addr.rpartition(":")
        self.addr, self.ip, self.port = addr, host.strip("[]"), int(port)

    def start(self, node: Any) -> None:
        """Listen on the worker's address and serve it in threads of its own.

        Raises OSError when the address cannot be bound.
        """
        if self._listener is not None:
            return
        if self.p is None:
            self.p = RespProtocol()
        if not self.addr:
            host, _, port = str(node.addr).rpartition(":")
            self._set_addr(f"{host}:{int(port) + self.worker_offset}")
        self.shutdown_flag = False
        self._listener = Listener(self, node)
        self._listener.start()

    def shutdown(self) -> None:
        """Stop listening and close every connection; returns at once."""
        self.shutdown_flag = True
        if self._listener is not None:
            self._listener.close()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the listener and all its connections have ended, at most `timeout` seconds."""
        if self._listener is not None:
            self._listener.join(timeout)
            self._listener = None

    def worker_listen(self, node: Any) -> None:
        """Accept connections until `shutdown`; runs in the listener's thread."""
        if self._listener is not None:
            self._listener.accept_loop()

    def process_work(self, node: Any, sock: socket.socket) -> None:
        """Serve one connection until it ends; runs in a thread of its own."""
        serve(self, node, sock)

    def relay_cmd(self, leader: Any, cmd: Any, worker_offset: int) -> Any:
        """Send a command to the same worker of `leader` (anything with `.addr`) for its reply.

        Commands reach the leader through the log by themselves; this remains for workers that
        answer something only the leader knows. Raises RaftException when the leader cannot be
        reached.
        """
        host, _, port = str(leader.addr).rpartition(":")
        try:
            sock = socket.create_connection((host.strip("[]"), int(port) + worker_offset), 4.0)
        except OSError as error:
            raise RaftException(f"cannot relay to leader: {error}") from error
        pio = (self.p or RespProtocol()).open_io(sock)
        try:
            pio.write(cmd)
            return pio.read()
        finally:
            pio.close()


class MergedWorker(Worker):
    """Several workers' tables as one; entries of its own `handler` win over the merged ones."""

    def __init__(self, addr: str | None = None, *workers: Worker) -> None:
        self._merging = threading.Lock()
        self.worker_list: list[Worker] = []
        super().__init__(addr)
        for worker in workers:
            self.append_worker(worker)

    def append_worker(self, worker: Worker) -> None:
        """Add another worker's table behind the others. Raises TypeError for anything else."""
        if not isinstance(worker, Worker):
            raise TypeError(f"{worker!r} is not a Worker")
        with self._merging:
            self.worker_list.append(worker)
        worker.watch(self.changed)
        self.changed()

    def init_node(self, node: Any) -> None:
        """Prepare the node for every merged worker."""
        for worker in self.worker_list:
            worker.init_node(node)

    def names(self) -> Iterable[str]:
        """Every name in the tables, callbacks included."""
        found = dict.fromkeys(self.handler)
        for worker in self.worker_list:
            found.update(dict.fromkeys(worker.names()))
        return list(found)

    def get_handler(self, name: str) -> Any:
        """The entry for a lower case name: the user's own, else the first merged worker's."""
        entry = self.handler.get(name)
        if entry is not None:
            return entry
        for worker in self.worker_list:
            entry = worker.get_handler(name)
            if entry is not None:
                return entry
        return None

    def callbacks(self, name: str) -> list[Callable[..., Any]]:
        """The user's own callbacks if there are any, else those of every merged worker."""
        own = super().callbacks(name)
        return own or [one for worker in self.worker_list for one in worker.callbacks(name)]
