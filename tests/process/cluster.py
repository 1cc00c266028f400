"""Real nodes for black-box tests: each a `pyraft-fast` of its own, on free loopback ports.

Nothing here knows the inside of a node: it starts programs, talks RESP to them and reads INFO.
Every process that was started is ended by its pid when the test is over.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02
MOMENT_SECONDS = 0.3
LOOPBACK = "127.0.0.1"
GIVEN: set[int] = set()  # ports of this process' nodes, past and to come
T = TypeVar("T")


def eventually(
    condition: Callable[[], T],
    seconds: float = 20.0,
    what: str | Callable[[], str] = "",
    poll_seconds: float = POLL_SECONDS,
) -> T:
    """Await a true result of `condition`; errors of a node that is not there yet count as no.

    `what` says what was awaited; as a function it is asked when the time is over.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (redis.RedisError, OSError, EOFError) as error:
            last = error
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {seconds} s: {said or condition} (last: {last!r})")
        time.sleep(poll_seconds)


def moment(dice: random.Random) -> None:
    """Let a drawn time pass, so that what follows falls anywhere among what nodes do."""
    until = time.monotonic() + dice.uniform(0, MOMENT_SECONDS)
    eventually(lambda: time.monotonic() >= until, poll_seconds=0.0005)


def ports() -> range:
    """Where this process may look for P, with P + 1; tests that run side by side share none.

    Below the range that the kernel hands out by itself.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % workers
    share = (32_000 - 10_000) // workers
    first = 10_000 + worker * share
    return range(first, first + share - 1)


def free_port() -> int:
    """A port P with P and P + 1 free now.

    Never one that was given to somebody here before, who may be about to use it.
    """
    for _ in range(1000):
        port = random.choice(ports())
        if GIVEN.intersection((port, port + 1)):
            continue
        with contextlib.ExitStack() as held:
            try:
                for number in (port, port + 1):
                    probe = held.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            GIVEN.update((port, port + 1))
            return port
    raise AssertionError("no two neighbouring free ports found")


def children_of(pid: int) -> list[int]:
    """The pids of the direct children of a process (none when it is gone)."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found.extend(int(word) for word in text.split())
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connect(port: int, **options: object) -> redis.Redis:
    """A client that never retries by itself and gives up after 6 s."""
    given: dict[str, object] = {"host": LOOPBACK, "socket_timeout": 6, "protocol": 2}
    given.update({"decode_responses": True, **options})
    return redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **given)


class Node:
    """One node: its program, its folder, its output."""

    def __init__(
        self,
        nid: str,
        folder: Path,
        port: int | None = None,
        program: Sequence[str] = ("-m", "pyraft_fast"),
    ) -> None:
        self.nid = nid
        self.host = LOOPBACK  # where others are told to find it
        self.bind = LOOPBACK  # where it listens, for clients too
        self.launcher: list[str] = []  # what the program is started with
        self.port = port or free_port()
        self.folder = folder
        self.program = list(program)
        self.process: subprocess.Popen[bytes] | None = None
        self.output = folder.with_name(folder.name + ".out")
        self.flags: list[str] = []
        self.env: dict[str, str] = {}  # beside the usual, at every start
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def addr(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the node was never started"
        return self.process.pid

    def start(self, *flags: str, env: dict[str, str] | None = None) -> Node:
        """Start the program; flags given here are kept for later restarts."""
        if flags:
            self.flags = list(flags)
        command = [*self.launcher, sys.executable, *self.program, "-i", self.nid, "-a", self.addr]
        command += [] if self.host == self.bind else ["--bind", self.bind]
        command += ["--dir", str(self.folder), *self.flags]
        given = {**self.env, **(env or {})}
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=self.folder.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **given},
            )
        return self

    def client(self, **options: object) -> redis.Redis:
        return connect(self.port, host=self.bind, **options)

    def info(self, section: str = "raft") -> dict[str, str]:
        with self.client() as client:
            client.set_response_callback("INFO", str)  # as it is: redis-py would guess types
            lines = client.execute_command("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def role(self) -> str:
        return self.info()["raft_role"]

    def consensus_pid(self) -> int:
        """The pid of the consensus process."""
        for pid in children_of(self.pid):
            with contextlib.suppress(OSError):
                if b"pyraft_fast.consensus" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def answers(self) -> bool:
        with self.client() as client:
            return bool(client.ping())

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and the node's consensus process is awaited too."""
        assert self.process is not None
        child = self.consensus_pid()
        self.process.kill()
        self.process.wait(10)
        if child:
            eventually(lambda: not alive(child), 5, f"consensus process {child} of {self.nid} gone")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """End the node in order; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def cleanup(self) -> None:
        if self.process is None:
            return
        pids = [self.process.pid, *children_of(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


class Cluster:
    """Nodes of one cluster, started together with their ids in `-e`."""

    def __init__(
        self, folder: Path, count: int, program: Sequence[str] = ("-m", "pyraft_fast")
    ) -> None:
        self.nodes = [Node(str(n), folder / f"n{n}", program=program) for n in range(1, count + 1)]

    def start(self, *flags: str, env: dict[str, str] | None = None) -> Cluster:
        for node in self.nodes:
            others = ",".join(f"{o.nid}/{o.addr}" for o in self.nodes if o is not node)
            given = ["-e", others] if others else []
            node.start(*given, *flags, env=env)
        self.wait_ready()
        return self

    def running(self) -> list[Node]:
        return [n for n in self.nodes if n.process is not None and n.process.poll() is None]

    def leader(self, seconds: float = 20.0) -> Node:
        """The one node that all running nodes hold for the leader."""

        def agreed() -> Node | None:
            views = {node.info()["raft_leader_id"] for node in self.running()}
            if len(views) != 1:
                return None
            (nid,) = views
            found = [n for n in self.running() if n.nid == nid and n.role() == "leader"]
            return found[0] if found else None

        return eventually(agreed, seconds, lambda: f"one leader\n{self.tails()}")

    def follower(self) -> Node:
        leader = self.leader()
        return next(node for node in self.running() if node is not leader)

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Until every running node is a voter that serves linearizable reads."""
        count = str(len(self.nodes))

        def ready(node: Node) -> bool:
            info = node.info()
            with node.client() as client:
                client.get("ready?")
            return len(info["raft_voters"].split(",")) == int(count)

        for node in self.running():
            eventually(
                lambda n=node: ready(n),
                seconds,
                lambda n=node: f"node {n.nid} ready\n{self.tails()}",
            )

    def tails(self) -> str:
        """The last lines of every node's output, for messages of failed tests."""
        parts = []
        for node in self.nodes:
            parts.append(f"--- node {node.nid}\n" + "\n".join(node.text().splitlines()[-15:]))
        return "\n".join(parts)

    def cleanup(self) -> None:
        for node in self.nodes:
            node.cleanup()


@contextlib.contextmanager
def cluster(
    folder: Path, count: int, *flags: str, program: Sequence[str] = ("-m", "pyraft_fast")
) -> Iterator[Cluster]:
    """A started cluster that is gone at the end."""
    made = Cluster(folder, count, program)
    try:
        yield made.start(*flags)
    finally:
        made.cleanup()
