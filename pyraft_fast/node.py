"""RaftNode, as users see it: identity, data, handlers, callbacks, requests.

The node owns what user code may touch (`data`, `worker`, callbacks) and hands the work to its
engine: the thread that serves clients and applies the log, and behind it the consensus process.
It knows no sockets and no Raft. Everything here may be called from any thread, except that a
handler must not wait for a write of its own node (`request` says so instead of hanging).
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pyraft_fast import common
from pyraft_fast.address import check_nid, listed_members, parse_address
from pyraft_fast.common import Future
from pyraft_fast.errors import CommandError, ConfigError, RaftException, StartError
from pyraft_fast.log import read_later
from pyraft_fast.peer import Peer
from pyraft_fast.serving.engine import Engine
from pyraft_fast.serving.load import import_snapshot
from pyraft_fast.serving.roles import LETTERS
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.signals import on_signals, wait_for_end
from pyraft_fast.worker.base_worker import BaseWorker
from pyraft_fast.worker.redis_worker import RedisWorker
from pyraft_fast.worker.view import DataView
from pyraft_fast.worker.words import integer
from pyraft_fast.worker.worker import MergedWorker, Worker

REQUEST_SECONDS = 10.0  # pyraft's reply wait; the engine answers well before
STOP_SECONDS = 2.0


class RaftNode(DataView):
    """One member of a replicated state machine.

    `nid` names the node (1 to 128 printable bytes), `addr` is the "ip:port" others reach it at
    (port + 1 is used between nodes), `ensemble` maps other members' ids to their "ip:port",
    `worker` replaces the default handler tables. Keyword settings: see `Settings`.
    Raises ConfigError for values that cannot be used.
    """

    def __init__(
        self,
        nid: str,
        addr: str,
        ensemble: Mapping[str, str] | None = None,
        peer: bool = False,
        worker: Worker | None = None,
        overwrite_peer: bool = False,
        *,
        folder: str = ".",
        bind: str | None = None,
        reads: str = "linearizable",
        fsync: str = "always",
        heartbeat_ms: int = 50,
        election_ms: tuple[int, int] = (300, 600),
        log_max: int | None = None,
        password: str | None = None,
        digests: str = "sampled",
    ) -> None:
        if peer:
            raise ConfigError("peers are not nodes here; node.get_peers() has them")
        self.nid = check_nid(nid)
        address = parse_address(addr)
        self.addr = str(address)
        self.ip, self.port = address.host, address.port
        self.ensemble = {k: v for k, v in (ensemble or {}).items() if k != nid and v != self.addr}
        self.overwrite_peer = overwrite_peer
        self.settings = Settings(
            nid=nid,
            addr=self.addr,
            bind_host=bind or address.host,
            port=address.port,
            folder=folder,
            ensemble=listed_members(self.ensemble),
            overwrite_peer=overwrite_peer,
            reads=reads,
            fsync=fsync,
            heartbeat_ms=heartbeat_ms,
            election_ms_min=election_ms[0],
            election_ms_max=election_ms[1],
            log_max=log_max,
            password=password,
            digests=digests,
        )
        self.args: Any = None
        super().__init__()
        self.data_lock = threading.RLock()
        self.worker = (
            worker if worker is not None else MergedWorker(None, BaseWorker(), RedisWorker())
        )
        self.worker_map: dict[int, Worker] = {0: self.worker}
        self.worker.init_node(self)
        self.logger = logging.getLogger("pyraft_fast")
        self.exit_status = 0
        self.shutdown_event = threading.Event()
        self._life = threading.RLock()  # a signal may come while the thread it stops holds it
        self._stopped = threading.Event()
        self._stopped.set()
        self._ending: threading.Thread | None = None
        self.engine = Engine(self, self.settings)

    # What user code reads

    @property
    def state(self) -> str:
        """`l` leader, `f` follower (or learner), `c` candidate (or not yet a member)."""
        return LETTERS.get(self.engine.role, "c")

    @property
    def term(self) -> int:
        """The current term, as the consensus process last said."""
        return self.engine.term

    @property
    def index(self) -> int:
        """Index of the last applied log entry."""
        return self.engine.applied_index

    @property
    def commit_index(self) -> int:
        """Index of the newest log entry known here to be committed."""
        return self.engine.applied_index

    @property
    def last_checkpoint(self) -> int:
        """Index of the newest snapshot (0: none yet)."""
        return self.engine.snapshot_index

    @property
    def shutdown_flag(self) -> bool:
        """True from the moment the node is told to stop; background loops should test it."""
        return self.shutdown_event.is_set()

    @property
    def peers(self) -> dict[str, Peer]:
        """The other members by id; a copy."""
        return self.get_peers()

    @property
    def random(self) -> random.Random:
        """Dice for handlers: the same on every node for the command that runs."""
        return self.engine.random

    def get_peers(self) -> dict[str, Peer]:
        """The other members by id, as of the last second."""
        facts = self.engine.facts()
        found: dict[str, Peer] = {}
        for member in facts.get("members", []):
            nid = str(member["nid"])
            if nid == self.nid:
                continue
            found[nid] = Peer(
                nid,
                str(member["addr"]),
                state="l" if nid == facts.get("leader_nid") else "f",
                term=int(facts.get("term", 0)),
                index=int(member.get("match", 0)),
            )
        return found

    def get_pending_time(self) -> float | None:
        """On the leader: seconds since the slowest member was last heard of; None elsewhere.

        A member that was never heard of yet does not count.
        """
        if self.state != "l":
            return None
        members = self.engine.facts().get("members", [])
        waits = [int(member.get("contact_ms", 0)) for member in members]
        return max([0, *waits]) / 1000

    def get_handler(self, name: str, worker_offset: int = 0) -> Any:
        """The table entry of a command, or None; raises KeyError for an unknown offset."""
        return self.worker_map[worker_offset].get_handler(name.lower())

    def get_handler_func(self, name: str, worker_offset: int = 0) -> Callable[..., Any] | None:
        """The function of a command, or None."""
        entry = self.get_handler(name, worker_offset)
        if entry is None:
            return None
        function: Callable[..., Any] = entry[0] if isinstance(entry, (list, tuple)) else entry
        return function

    # Life

    def start(self) -> None:
        """Start serving; returns when clients can connect. Does nothing when it already runs.

        Raises StartError (port in use, folder locked, unusable files) and ConfigError.
        """
        if self.shutdown_flag:
            self._stopped.wait()  # it still stops
        if self.engine.running:
            return
        self.shutdown_event.clear()
        self._stopped.clear()
        self.exit_status = 0
        self.store.clear()
        self.engine.start()
        try:
            for offset, worker in self.worker_map.items():
                if offset:
                    worker.start(self)
        except OSError as error:
            self.shutdown()
            raise StartError(f"worker at offset {offset} cannot listen: {error}") from None

    def shutdown(self) -> None:
        """Begin to stop: leadership is handed over, clients are closed. `join()` waits for it."""
        with self._life:
            if self.shutdown_flag:
                return
            self.shutdown_event.set()
        ending = threading.Thread(target=self._shut_down, name=f"pyraft-shutdown-{self.nid}")
        ending.start()
        self._ending = ending

    def _shut_down(self) -> None:
        self.log_info("stopping")
        try:
            extra = [worker for offset, worker in self.worker_map.items() if offset]
            for worker in extra:
                worker.shutdown()
            self.engine.stop(STOP_SECONDS)
            for worker in extra:
                worker.join(STOP_SECONDS)
        finally:
            self.log_info("stopped")
            self._stopped.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the node has stopped; False when it has not within `timeout` seconds.

        In the main thread, Ctrl-C and SIGTERM stop the node meanwhile, unless the program
        handles them itself.
        """
        if not wait_for_end(self._stopped, self.shutdown, timeout):
            return False
        ending = self._ending
        if ending is not None and ending is not threading.current_thread():
            ending.join()  # it has nothing more to do, and none of our threads is left then
        return True

    def run(self) -> int:
        """Start, wait until the node has stopped, and return its `exit_status`: a whole program.

        In the main thread Ctrl-C and SIGTERM stop it, also while it starts. Raises as `start()`.
        """
        asked = threading.Event()

        def stop() -> None:
            asked.set()
            self.shutdown()

        with on_signals(stop):
            try:
                self.start()
            except StartError:
                if not asked.is_set():
                    raise
            if asked.is_set():  # so early that start() could not see it
                self.shutdown()
            self.join()
        return self.exit_status

    def fail(self, text: str, status: int) -> None:
        """Stop this node because it cannot go on; `exit_status` tells a program's caller."""
        self.log_error(f"this node stops: {text}")
        self.exit_status = status
        self.shutdown()

    def shutdown_from_log(self, time_ms: int) -> None:
        """Stop as the log asks, unless the entry is from before this start."""
        if time_ms >= self.engine.started_ms:
            self.shutdown()

    # Requests

    def propose(self, cmd: Any, worker_offset: int = 0, async_run: bool = False) -> Any:
        """Run a command: through the log or as a read, as its flags say.

        Returns its value, or with `async_run` a Future. Raises what the command failed with.
        """
        future = self.engine.submit(cmd, worker_offset)
        return future if async_run else future.get(REQUEST_SECONDS)

    def request(self, *cmd: Any, strict: bool = False) -> Any:
        """Run a command and wait for its value; an error is returned, or raised if `strict`."""
        try:
            return self.propose(cmd)
        except (RaftException, TimeoutError) as error:
            if strict:
                raise
            return error

    def request_async(self, *cmd: Any) -> Future:
        """Run a command; the Future can be waited for, awaited, or given a callback."""
        return self.engine.submit(cmd)

    def request_change(self, op: str, nid: str, addr: str = "") -> Future:
        """Change the membership: op is add, remove, promote, demote or address."""
        return self.engine.change(op, nid, addr)

    def request_transfer(self, nid: str = "") -> Future:
        """Hand leadership to `nid`, or to whoever is most up to date."""
        return self.engine.transfer(nid)

    def request_snapshot(self) -> Future:
        """Write a snapshot; the value is True."""
        asked = Future(("checkpoint",))
        self.engine.checkpoint().add_done_callback(
            lambda done: asked.set(done.value if isinstance(done.value, BaseException) else True)
        )
        return asked

    def add_node(self, nid: str, addr: str) -> bool:
        """Add a member that runs and waits to be let in; False when it is refused."""
        return self._changed("add", nid, addr)

    def del_node(self, nid: str) -> bool:
        """Remove a member for good; False when that is refused."""
        return self._changed("remove", nid, "")

    def _changed(self, op: str, nid: str, addr: str) -> bool:
        try:
            self.engine.change(op, nid, addr).get(REQUEST_SECONDS)
        except (RaftException, TimeoutError) as error:
            self.log_warn(f"{op} {nid} refused: {error}")
            return False
        return True

    def regist_worker(self, offset: int, worker: Worker) -> None:
        """Serve another handler table on port + `offset` (2 or more), or on the worker's own
        address. Raises ConfigError for an offset that is taken."""
        if offset in self.worker_map or offset == 1 or offset < 0:
            raise ConfigError(f"worker offset {offset} is taken (1 is the port between nodes)")
        worker.worker_offset = offset
        self.worker_map[offset] = worker
        worker.init_node(self)
        if self.engine.running:
            worker.start(self)

    register_worker = regist_worker

    # Snapshots and the log

    def load(self, filename: str) -> bool:
        """Start a new cluster from this snapshot (ours or pyraft's) at the next `start()`.

        Raises StorageError for a file that cannot be read and StartError when the node's folder
        holds a log already.
        """
        if self.engine.running:
            raise StartError("load() comes before start()")
        import_snapshot(filename, self.settings)
        self.settings.load = filename
        return True

    def checkpoint(self, filename: str | None = None) -> str:
        """Write a snapshot now; returns its path. With `filename` a copy lies there too."""
        return str(self.engine.checkpoint(filename).get())

    def get_snapshot(self) -> str:
        """The whole data as one JSON text, for people."""
        with self.data_lock:
            plain = {str(key): value for key, _, value, _ in self.store.dump_items()}
        return json.dumps(plain, default=repr)

    def read_log(self, start: int | None, end: int | None) -> Future:
        """A future of applied entries `start` up to `end` (excluded) as plain dicts.

        At most LOG_ITEMS_MAX of them; the files are read in a thread of their own.
        """
        last = self.engine.applied_index
        until = last + 1 if end is None else min(end, last + 1)
        return read_later(self.settings.folder, self.nid, start or 0, until)

    # Settings and facts, for CONFIG and INFO

    def info_facts(self) -> dict[str, Any]:
        """What INFO shows."""
        return self.engine.facts()

    def reset_stats(self) -> None:
        """Zero the counters that INFO shows."""
        self.engine.reset_stats()

    def config_get(self) -> dict[str, str]:
        """The settings that CONFIG GET shows."""
        settings = self.settings
        return {
            "dir": os.path.abspath(settings.folder),
            "port": str(settings.port),
            "bind": settings.bind_host,
            "appendfsync": settings.fsync.replace("never", "no"),
            "requirepass": "" if settings.password is None else "(set)",
            "raft-reads": settings.reads,
            "raft-digests": settings.digests,
            "raft-log-max": str(settings.log_max or common.CONF_LOG_MAX),
            "raft-heartbeat-ms": str(settings.heartbeat_ms),
            "raft-election-ms": f"{settings.election_ms_min}-{settings.election_ms_max}",
        }

    def config_set(self, name: str, value: str) -> None:
        """Change a setting while the node runs; raises CommandError for those that cannot be."""
        if name == "raft-log-max":
            count = integer(value, f"CONFIG SET failed - {name!r} is a number of commands")
            if count > 0:
                self.settings.log_max = count
                return
        if value != self.config_get()[name]:
            raise CommandError(f"CONFIG SET failed - {name!r} can't be set to that while running")

    # Callbacks: override them, or put functions into the handler table

    def on_start(self) -> None:
        """The node serves."""
        self._call_back("on_start")

    def on_ready(self) -> None:
        """A leader is known; writes can be made."""
        self._call_back("on_ready")

    def on_leader(self) -> None:
        """This node leads now; `state` is `l`."""
        self._call_back("on_leader")

    def on_leader_lost(self) -> None:
        """This node led until now."""
        self._call_back("on_leader_lost")

    def on_follower(self) -> None:
        """This node follows now; `state` is `f`."""
        self._call_back("on_follower")

    def on_candidate(self) -> None:
        """No leader is known to this node; `state` is `c`."""
        self._call_back("on_candidate")

    def on_membership(self) -> None:
        """Members came or went."""
        self._call_back("on_membership")

    def on_snapshot(self) -> None:
        """A snapshot was written here."""
        self._call_back("on_snapshot")

    def on_shutdown(self) -> None:
        """The node has stopped."""
        self._call_back("on_shutdown")

    def _call_back(self, name: str) -> None:
        for function in self.worker.callbacks(name):
            function(self)

    # Log lines, with pyraft's prefix

    def log_debug(self, msg: str) -> None:
        """One line at level debug."""
        self._say(logging.DEBUG, msg)

    def log_info(self, msg: str) -> None:
        """One line at level info."""
        self._say(logging.INFO, msg)

    def log_warn(self, msg: str) -> None:
        """One line at level warning."""
        self._say(logging.WARNING, msg)

    def log_error(self, msg: str) -> None:
        """One line at level error."""
        self._say(logging.ERROR, msg)

    def _say(self, level: int, msg: str) -> None:
        if self.logger.isEnabledFor(level):
            node = f"{self.nid}-{self.term}({self.state})"
            self.logger.log(level, "[%s] %s", node, msg, extra={"node": node})
