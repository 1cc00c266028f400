"""Our own load: open loop at a fixed rate, or closed loop, over plain sockets.

    python -m pyraft_fast.bench.generator --port PORT --work SET --rate 20000 --requests 100000

In the open loop a request is due at its time whether or not the server has answered the earlier
ones, and its latency counts from the time it was due, not from when it was sent: a server that
stands still for 100 ms is charged for every request of these 100 ms (no coordinated omission).
What the generator itself came too late is reported (`lag_p99_ms`), and how much of a processor
it used. One thread, requests encoded beforehand, waits of microseconds instead of the
milliseconds that epoll rounds to. The result is one line of JSON.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gc
import json
import random
import resource
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from pyraft_fast.bench.model import percentile
from pyraft_fast.bench.replies import HttpReplies, Replies, RespReplies, encode
from pyraft_fast.bench.works import DATA, RANDOM, WORKS, value

POOL_BYTES: Final = 32 << 20  # of requests encoded beforehand
POOL_REQUESTS: Final = 50_000
STALL_SECONDS: Final = 30.0  # without any answer: give up
RECEIVE_BYTES: Final = 1 << 18


def requests_of(protocol: str, work: str, keys: int, size: int, total: int) -> list[bytes]:
    """Requests with random keys, ready to be sent; they repeat when a run needs more.

    Raises ValueError for a work the protocol cannot do.
    """
    dice = random.Random(1)
    data = value(size)
    count = max(1, min(POOL_REQUESTS, total, POOL_BYTES // (size + 100)))
    made = []
    for _ in range(count):
        words = [
            word.replace(RANDOM, f"{dice.randrange(keys):012d}").replace(DATA, data)
            for word in WORKS[work].words
        ]
        made.append(encode(*words) if protocol == "resp" else etcd_request(words))
    return made


def etcd_request(words: Sequence[str]) -> bytes:
    """A SET or GET for etcd's JSON gateway (v3). Raises ValueError for anything else."""
    if words[0] not in {"SET", "GET"}:
        raise ValueError(f"etcd cannot do {words[0]}")
    body = {"key": base64.b64encode(words[1].encode()).decode()}
    if words[0] == "SET":
        body["value"] = base64.b64encode(words[2].encode()).decode()
    path = "put" if words[0] == "SET" else "range"
    text = json.dumps(body)
    return (
        f"POST /v3/kv/{path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


class Connection:
    """One client: its socket, what it still has to send, when its requests were due."""

    def __init__(self, port: int, protocol: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.replies: Replies = RespReplies() if protocol == "resp" else HttpReplies()
        self.due: deque[float] = deque()
        self.out = bytearray()
        self.waiting = False  # for the socket to take more

    def flush(self) -> None:
        """Send as much as the socket takes now."""
        with contextlib.suppress(BlockingIOError):
            sent = self.socket.send(self.out)
            del self.out[:sent]

    def receive(self) -> int:
        """Read what is there; returns how many requests were answered."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("the server closed a connection")
        return self.replies.feed(data)


class Load:
    """Connections under load until `total` requests were answered."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.waiter = select.epoll()  # first, so that select() can take its number
        self.total: int = args.requests
        self.depth: int = args.pipeline
        self.rate: float = args.rate
        self.pool = requests_of(args.protocol, args.work, args.keys, args.size, args.requests)
        self.connections = [Connection(args.port, args.protocol) for _ in range(args.clients)]
        self.by_number = {c.socket.fileno(): c for c in self.connections}
        for number in self.by_number:
            self.waiter.register(number, select.EPOLLIN)
        self.latencies = array("d")
        self.lags = array("d")
        self.sent = 0

    def run(self) -> dict[str, Any]:
        """Carry the load out; returns the result as plain data."""
        gc.collect()
        gc.disable()
        used = _cpu_seconds()
        self.began = self.last_answer = time.perf_counter()
        if not self.rate:
            for connection in self.connections:
                self._send_batch(connection)
        while len(self.latencies) < self.total:
            wait = self._send_due() if self.rate else 0.5
            self._wait(wait)
            if time.perf_counter() - self.last_answer > STALL_SECONDS:
                break
        seconds = self.last_answer - self.began
        return self._result(seconds, (_cpu_seconds() - used) / max(seconds, 1e-9))

    def _send_batch(self, connection: Connection) -> None:
        """Closed loop: one pipeline's worth of requests."""
        count = min(self.depth, self.total - self.sent)
        now = time.perf_counter()
        for _ in range(count):
            connection.out += self.pool[self.sent % len(self.pool)]
            connection.due.append(now)
            self.sent += 1
        if count:
            self._flush(connection)

    def _send_due(self) -> float:
        """Open loop: everything that is due now; returns the seconds until the next is."""
        now = time.perf_counter()
        until = min(self.total, int((now - self.began) * self.rate) + 1)
        touched: dict[int, Connection] = {}
        while self.sent < until:
            slot = self.sent % len(self.connections)
            connection = touched[slot] = self.connections[slot]
            due = self.began + self.sent / self.rate
            connection.out += self.pool[self.sent % len(self.pool)]
            connection.due.append(due)
            self.lags.append(now - due)
            self.sent += 1
        for connection in touched.values():
            self._flush(connection)
        if self.sent == self.total:
            return 0.5
        return max(0.0, self.began + self.sent / self.rate - time.perf_counter())

    def _flush(self, connection: Connection) -> None:
        connection.flush()
        if bool(connection.out) != connection.waiting:
            connection.waiting = not connection.waiting
            wanted = select.EPOLLIN | (select.EPOLLOUT if connection.waiting else 0)
            self.waiter.modify(connection.socket.fileno(), wanted)

    def _wait(self, seconds: float) -> None:
        """Take answers that are there, or that come within the time."""
        select.select([self.waiter.fileno()], [], [], seconds)
        for number, what in self.waiter.poll(0):
            connection = self.by_number[number]
            if what & select.EPOLLOUT:
                self._flush(connection)
            if not what & ~select.EPOLLOUT:
                continue
            count = connection.receive()
            now = time.perf_counter()
            for _ in range(count):
                self.latencies.append(now - connection.due.popleft())
            if count:
                self.last_answer = now
                if not self.rate and not connection.due:
                    self._send_batch(connection)

    def _result(self, seconds: float, cpu: float) -> dict[str, Any]:
        ordered = sorted(self.latencies)
        first = next((c.replies.first_error for c in self.connections if c.replies.errors), b"")
        result: dict[str, Any] = {
            "requests": len(ordered),
            "unanswered": self.total - len(ordered),
            "errors": sum(c.replies.errors for c in self.connections),
            "first_error": first.decode(errors="replace"),
            "seconds": seconds,
            "rate": len(ordered) / seconds if ordered else None,
            "generator_cpu": cpu,
            "lag_p99_ms": percentile(sorted(self.lags), 0.99) * 1e3 if self.lags else None,
        }
        shares = (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0))
        for name, share in shares:
            result[name] = percentile(ordered, share) * 1e3 if ordered else None
        return result


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 1 when the server could not be spoken to."""
    parser = argparse.ArgumentParser(prog="python -m pyraft_fast.bench.generator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=("resp", "etcd"), default="resp")
    parser.add_argument("--work", choices=sorted(WORKS), default="SET")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="bytes of a value")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=0, help="a second; 0: closed loop")
    args = parser.parse_args(argv)
    try:
        result = Load(args).run()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"generator: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
