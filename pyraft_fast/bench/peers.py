"""The servers that are measured: how each is started, found, looked into and stopped.

Every server gets a folder of its own and ports that were free; only processes that were started
here are ever ended, by their pid. Ours and redis-server live here, the rest in `foreign`.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pyraft_fast.bench.measure import children_of
from pyraft_fast.bench.replies import Client

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.01
CONSENSUS: Final = b"pyraft_fast.consensus"  # in the command line of that process
OUTPUT_TAIL: Final = 300


class Ended(Exception):
    """A program ended by itself; the message is the end of what it said."""


class NotHere(Exception):
    """A program is not on this machine; the message names the package that has it."""


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free now, below those the kernel hands out.

    Raises RuntimeError when none are found.
    """
    for _ in range(1000):
        port = random.randrange(10_000, 32_000 - count)
        with contextlib.ExitStack() as held:
            try:
                for number in range(port, port + count):
                    held.enter_context(socket.socket()).bind((LOOPBACK, number))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no {count} neighbouring free ports found")


def until(
    condition: Callable[[], object], what: Callable[[], str], seconds: float = START_SECONDS
) -> float:
    """Await a true result; errors of a server that is not there yet count as no.

    Returns the seconds it took. Raises RuntimeError with `what` when the time is over.
    """
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError):
            if condition():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"not within {seconds:.0f} s: {what()}")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end: what is started here must not be lost sight of."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which signals never interrupt
        return
    came: list[int] = []
    held = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


class Program:
    """One process that was started here, and its output."""

    def __init__(self, line: Sequence[str], folder: Path, env: dict[str, str] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.line = list(line)
        self.output = folder.with_name(folder.name + ".out")
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                self.line,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C is for us; we end it in order
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tail(self) -> str:
        """The end of what it printed, on one line."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return " ".join(text.split())[-OUTPUT_TAIL:]

    def kill(self) -> None:
        """kill -9 it and its children, and await their end."""
        for pid in (self.pid, *children_of(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it in order; by force when it does not end in STOP_SECONDS."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class Server:
    """A server under measurement: one program or several."""

    protocol = "resp"  # or "etcd", or "driver": it makes its own load
    plain_redis = True  # whether redis-benchmark can speak to it
    works: tuple[str, ...] = ()  # what it can do; empty: everything
    nodes = 1

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.programs: list[Program] = []
        self.env: dict[str, str] = {}  # for its programs, beside what this one has

    def start(self, folder: Path) -> None:
        """Start it in a folder of its own and await that it serves."""
        raise NotImplementedError

    def launch(self, line: Sequence[str], folder: Path) -> None:
        """Start one of its programs."""
        with uninterrupted():
            self.programs.append(Program(line, folder, self.env))

    def port(self, via: str = "leader") -> int:
        """Where the load goes."""
        raise NotImplementedError

    def processes(self) -> dict[str, int]:
        """Pids of all its processes, by a label for people."""
        return {f"node {n}": p.pid for n, p in enumerate(self.programs, 1)}

    def counters(self) -> dict[str, float]:
        """Counters it keeps itself: `fsyncs` of all nodes, `batches` that were replicated."""
        return {}

    def until(self, condition: Callable[[], object]) -> float:
        """Await a true result, as `until`; a program that ended will never give it.

        Raises RuntimeError.
        """

        def met() -> object:
            for program in self.programs:
                if program.process.poll() is not None:
                    raise Ended(f"it ended: {program.tail()}")
            return condition()

        try:
            return until(met, self.tails)
        except Ended as ended:
            raise RuntimeError(str(ended)) from None

    def command_lines(self) -> list[str]:
        """How it was started."""
        return [shlex.join(program.line) for program in self.programs]

    def tails(self) -> str:
        """The end of its programs' output."""
        return " | ".join(program.tail() for program in self.programs)

    def stop(self) -> None:
        """End all its processes."""
        for program in self.programs:
            with contextlib.suppress(ProcessLookupError):
                program.process.terminate()
        for program in self.programs:
            program.stop()
        self.programs = []


class Redis(Server):
    """redis-server, with nothing on disk or with every write synced before it is answered."""

    def __init__(self, name: str, title: str, flags: Sequence[str]) -> None:
        super().__init__(name, title)
        self._flags = list(flags)
        self._port = 0

    def start(self, folder: Path) -> None:
        """See `Server`. Raises NotHere without redis-server."""
        program = shutil.which("redis-server")
        if program is None:
            raise NotHere("redis-server is not here: apt-get install redis-server")
        self._port = free_ports(1)
        line = [program, "--port", str(self._port), "--bind", LOOPBACK, "--dir", str(folder)]
        self.launch([*line, "--save", "", *self._flags], folder)
        self.until(lambda: ask(self._port, "PING") == "PONG")

    def port(self, via: str = "leader") -> int:
        """See `Server`."""
        return self._port

    def processes(self) -> dict[str, int]:
        """See `Server`."""
        return {"redis-server": self.programs[0].pid}


class Ours(Server):
    """Nodes of this package; `program` is run instead of `pyraft-fast` for handlers of its own."""

    def __init__(
        self, name: str, title: str, nodes: int, flags: Sequence[str] = (), program: str = ""
    ) -> None:
        super().__init__(name, title)
        self.nodes = nodes
        self._flags = ["-loglevel", "warning", *flags]
        self._module = program or "pyraft_fast"
        self._folder = Path()
        self._ports: list[int] = []

    def start(self, folder: Path) -> None:
        """See `Server`: until every node is a voter and answers linearizable reads."""
        self._folder = folder
        first = free_ports(2 * self.nodes)
        self._ports = [first + 2 * n for n in range(self.nodes)]
        for index in range(self.nodes):
            self.launch(self._line(index), self._node_folder(index))
        for port in self._ports:
            self.until(lambda port=port: self._ready(port))  # type: ignore[misc]

    def _node_folder(self, index: int) -> Path:
        return self._folder / f"node{index + 1}"

    def _line(self, index: int) -> list[str]:
        others = [f"{n + 1}/{LOOPBACK}:{p}" for n, p in enumerate(self._ports) if n != index]
        line = [sys.executable, "-m", self._module, "-i", str(index + 1)]
        line += ["-a", f"{LOOPBACK}:{self._ports[index]}", "--dir", str(self._node_folder(index))]
        line += ["-e", ",".join(others)] if others else []
        return line + self._flags

    def _ready(self, port: int) -> bool:
        with Client(port) as client:
            client.ask("GET", "ready?")
            return len(client.info()["raft_voters"].split(",")) == self.nodes

    def _leader(self) -> int:
        """Index of the node that leads."""
        found = [-1]

        def leads() -> bool:
            for index, port in enumerate(self._ports):
                with Client(port) as client:
                    if client.info()["raft_role"] == "leader":
                        found[0] = index
            return found[0] >= 0

        self.until(leads)
        return found[0]

    def port(self, via: str = "leader") -> int:
        """See `Server`."""
        leader = self._leader()
        return self._ports[leader if via == "leader" else (leader + 1) % self.nodes]

    def processes(self) -> dict[str, int]:
        """See `Server`: both processes of each node, the leader's named first."""
        leader = self._leader()
        order = [leader, *(n for n in range(self.nodes) if n != leader)]
        found = {}
        for index in order:
            pid = self.programs[index].pid
            role = "leader" if index == leader else f"follower {order.index(index)}"
            found[f"{role} serving"] = pid
            for child in children_of(pid):  # a snapshot is written by another child
                with contextlib.suppress(OSError):
                    if CONSENSUS in Path(f"/proc/{child}/cmdline").read_bytes():
                        found[f"{role} consensus"] = child
        return found

    def counters(self) -> dict[str, float]:
        """See `Server`. Nodes tell their disk's counters now and then, so these are as of then."""
        fsyncs = 0.0
        batches = 0.0
        for port in self._ports:
            with Client(port) as client:
                info = client.info()
            fsyncs += float(info.get("wal_fsyncs", 0))
            batches = max(batches, float(info.get("raft_applied_index", 0)))
        return {"fsyncs": fsyncs, "batches": batches}

    def crash(self, index: int = 0) -> None:
        """kill -9 one node."""
        self.programs[index].kill()

    def start_again(self, index: int = 0) -> float:
        """Start a node that was ended; returns the seconds until it answers a read."""
        began = time.monotonic()
        with uninterrupted():
            self.programs[index] = Program(self._line(index), self._node_folder(index), self.env)
        port = self._ports[index]
        self.until(lambda: self._ready(port))
        return time.monotonic() - began


def ask(port: int, *words: str) -> str:
    """One command over a connection of its own."""
    with Client(port) as client:
        return client.ask(*words)
