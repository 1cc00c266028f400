"""What one command costs the serving loop, without sockets, disk or network.

    python -m tests.bench.serving [commands] [--digests off|sampled|all]

Connections are fed bytes and their output is thrown away; consensus answers in the same loop.
So the figures hold parsing, dispatch, batch encoding and decoding, the handler and the reply.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyraft_fast import _resp
from pyraft_fast.link.loop import new_loop
from pyraft_fast.serving.callbacks import Callbacks
from pyraft_fast.serving.connection import Connection
from pyraft_fast.serving.service import Service
from tests.serving.fake import FakeConsensus, FakeNode


class Sink:
    """A transport that counts what is written."""

    def __init__(self) -> None:
        self.replies = 0

    def write(self, data: bytearray) -> None:
        self.replies += data.count(b"\r\n") - data.count(b"$")

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        """As a transport does."""

    def pause_reading(self) -> None:
        """As a transport does."""

    resume_reading = pause_reading


def feed(connection: Connection, data: bytes) -> None:
    room = connection.get_buffer(len(data))
    room[: len(data)] = data
    connection.buffer_updated(len(data))


async def run(
    service: Service, clients: int, depth: int, total: int, command: Callable[[int], list[str]]
) -> float:
    """Seconds of this thread for `total` commands over `clients` connections, `depth` deep."""
    pairs = []
    for _ in range(clients):
        connection, sink = Connection(service.desk), Sink()
        connection.connection_made(sink)  # type: ignore[arg-type]
        pairs.append((connection, sink))
    data = b"".join(_resp.encode_command(command(number)) for number in range(depth))
    rounds = max(1, total // (clients * depth))
    began = time.thread_time()
    for number in range(1, rounds + 1):
        for connection, _ in pairs:
            feed(connection, data)
        while pairs[-1][1].replies < number * depth:
            await asyncio.sleep(0)
    spent = time.thread_time() - began
    for connection, sink in pairs:
        assert sink.replies == rounds * depth, (sink.replies, rounds * depth)
        connection.connection_lost(None)
    return spent / (rounds * clients * depth)


async def bench(service: Service, total: int) -> None:
    cases: list[tuple[str, Callable[[int], list[str]]]] = [
        ("SET", lambda number: ["SET", f"key:{number:012d}", "xxx"]),
        ("GET", lambda number: ["GET", f"key:{number:012d}"]),
        ("PING", lambda number: ["PING"]),
        ("INCR", lambda number: ["INCR", "counter"]),
    ]
    for clients, depth in ((50, 1), (50, 16), (1, 1), (1, 100)):
        for name, command in cases:
            count = total if clients * depth > 1 else total // 10
            seconds = await run(service, clients, depth, count, command)
            sys.stdout.write(
                f"{name:5} clients {clients:3} pipeline {depth:3}: {seconds * 1e6:6.2f} us\n"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="?", type=int, default=200_000)
    parser.add_argument("--digests", default="sampled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = FakeNode(Path(folder), digests=options.digests)
        loop = new_loop()

        def spawn(loop: asyncio.AbstractEventLoop, events: Any) -> FakeConsensus:
            node.log.records.clear()
            return FakeConsensus(node.log, loop, events)

        service = Service(node, node.engine.settings, Callbacks(node), loop, spawn)
        asyncio.set_event_loop(loop)
        service._start_consensus()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.run_until_complete(bench(service, options.commands))
        loop.close()


if __name__ == "__main__":
    main()
