"""Peers from elsewhere: etcd over its JSON gateway, PyPI's pyraft, pysyncobj inside itself.

Neither is a dependency: pyraft and pysyncobj are looked for in the Python interpreter named by
`--peer-python`, and whatever is not there is named with its package and left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from pyraft_fast.bench.generator import etcd_request
from pyraft_fast.bench.model import Point
from pyraft_fast.bench.peers import LOOPBACK, NotHere, Server, ask, free_ports, until
from pyraft_fast.bench.replies import end_of_response

DRIVE_SECONDS = 300.0
DRIVER = Path(__file__).with_name("syncobj_driver.py")


def need_module(python: str, module: str) -> None:
    """Raises NotHere when an interpreter cannot import a module."""
    line = [python, "-c", f"import {module}"]
    try:
        done = subprocess.run(line, capture_output=True, cwd="/").returncode
    except OSError as error:
        raise NotHere(f"{python} cannot be started: {error}") from None
    if done:
        raise NotHere(f"{module} is not here: pip install --no-deps {module} (or --peer-python)")


def exchange(port: int, request: bytes) -> bytes:
    """One HTTP request and its whole response."""
    with socket.create_connection((LOOPBACK, port), 5) as connection:
        connection.sendall(request)
        data = b""
        while end_of_response(data, 0) < 0:
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        return data


class Etcd(Server):
    """etcd, a cluster of three, spoken to through its JSON gateway."""

    protocol = "etcd"
    works = ("SET", "GET")

    def __init__(self, name: str, nodes: int) -> None:
        super().__init__(name, f"etcd, {nodes} nodes (JSON gateway)")
        self.nodes = nodes
        self._ports: list[int] = []

    def start(self, folder: Path) -> None:
        """See `Server`. Raises NotHere without etcd."""
        program = shutil.which("etcd")
        if program is None:
            raise NotHere("etcd is not here: apt-get install etcd-server")
        first = free_ports(2 * self.nodes)
        self._ports = [first + 2 * n for n in range(self.nodes)]
        cluster = ",".join(f"n{p}=http://{LOOPBACK}:{p + 1}" for p in self._ports)
        for port in self._ports:
            mine = folder / f"node{port}"
            client, peer = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{port + 1}"
            line = [program, "--name", f"n{port}", "--data-dir", str(mine / "data")]
            line += ["--listen-client-urls", client, "--advertise-client-urls", client]
            line += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            line += ["--initial-cluster", cluster, "--initial-cluster-token", folder.name]
            self.launch([*line, "--log-level", "error"], mine)
        self.until(self._ready)

    def _ready(self) -> bool:
        request = etcd_request(["SET", "ready?", "yes"])
        return all(b" 200 " in exchange(port, request)[:16] for port in self._ports)

    def port(self, via: str = "leader") -> int:
        """See `Server`: the node that leads, or another."""
        request = (
            b"POST /v3/maintenance/status HTTP/1.1\r\nHost: bench\r\nContent-Length: 2\r\n\r\n{}"
        )
        for port in self._ports:
            said = json.loads(exchange(port, request).partition(b"\r\n\r\n")[2])
            if (said["header"]["member_id"] == said["leader"]) == (via == "leader"):
                return port
        return self._ports[0]


class Pyraft(Server):
    """PyPI's pyraft, nothing on disk; its members find each other by -e."""

    plain_redis = False  # redis-benchmark stumbles over its error lines
    works = ("SET", "GET")

    def __init__(self, name: str, nodes: int, python: str) -> None:
        super().__init__(name, f"PyPI's pyraft, {nodes} node{'s' if nodes > 1 else ''}")
        self.nodes = nodes
        self._python = python
        self._ports: list[int] = []

    def start(self, folder: Path) -> None:
        """See `Server`. Raises NotHere when it cannot be imported."""
        need_module(self._python, "pyraft")
        first = free_ports(2 * self.nodes)
        self._ports = [first + 2 * n for n in range(self.nodes)]
        for index, port in enumerate(self._ports):
            others = [f"{n + 1}/{LOOPBACK}:{p}" for n, p in enumerate(self._ports) if n != index]
            line = [self._python, "-m", "pyraft.run_raft", "-i", str(index + 1)]
            line += ["-a", f"{LOOPBACK}:{port}", "-loglevel", "error"]
            line += ["-e", ",".join(others)] if others else []
            self.launch(line, folder / f"node{index + 1}")
        self.until(lambda: all(ask(p, "SET", "ready?", "yes") for p in self._ports))
        self.until(self._find_leader)

    def _find_leader(self) -> int:
        for port in self._ports:
            with contextlib.suppress(ValueError):
                if json.loads(ask(port, "INFO").replace("None", "null"))["state"] == "l":
                    return port
        return 0

    def port(self, via: str = "leader") -> int:
        """See `Server`."""
        leader = self._find_leader() or self._ports[0]
        if via == "leader":
            return leader
        return next(port for port in self._ports if port != leader)

    def stop(self) -> None:
        """End all; its threads take no notice of a polite signal for long."""
        for program in self.programs:
            program.kill()
        self.programs = []


class Pysyncobj(Server):
    """pysyncobj, three processes, nothing on disk; its leader makes the load inside itself."""

    protocol = "driver"
    works = ("SET",)

    def __init__(self, name: str, nodes: int, python: str) -> None:
        super().__init__(name, f"pysyncobj, {nodes} nodes (driven from inside)")
        self.nodes = nodes
        self._python = python
        self._folder = Path()

    def start(self, folder: Path) -> None:
        """See `Server`. Raises NotHere when it cannot be imported."""
        need_module(self._python, "pysyncobj")
        self._folder = folder
        first = free_ports(self.nodes)
        members = [f"{LOOPBACK}:{first + n}" for n in range(self.nodes)]
        for number, member in enumerate(members):
            others = [other for other in members if other != member]
            line = [self._python, str(DRIVER), str(folder / f"node{number}"), member, *others]
            self.launch(line, folder / f"node{number}")
        self.until(lambda: self._leader() is not None)

    def _leader(self) -> Path | None:
        """The folder of the node that leads: it holds a file that says so."""
        found = [p for p in self._folder.glob("node*/leads") if p.read_text() == "yes"]
        return found[0].parent if found else None

    def port(self, via: str = "leader") -> int:
        """See `Server`: no load comes from outside."""
        return 0

    def drive(self, point: Point) -> dict[str, Any]:
        """Have the leader do the point's requests; returns what it measured.

        Raises RuntimeError when it does not come to an end.
        """
        leader = self._leader()
        if leader is None:
            raise RuntimeError("no node leads")
        result = leader / "result"
        with contextlib.suppress(FileNotFoundError):
            result.unlink()
        in_flight = point.clients * point.pipeline
        order = {"requests": point.requests, "in_flight": in_flight, "size": point.size,
                 "keys": point.keys}  # fmt: skip
        (leader / "order.new").write_text(json.dumps(order))
        os.replace(leader / "order.new", leader / "order")
        until(result.exists, self.tails, DRIVE_SECONDS)
        said: dict[str, Any] = json.loads(result.read_text())
        return said
