"""Socket pairs on a hub, and protocols that write down what they were told."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyraft_fast._hub import Hub, Transport

SECONDS = 10.0  # after which what a test waits for will not come

BIG = bytes(range(256)) * 16384  # 4 MiB: no socket takes that at once


class Recorder(asyncio.BufferedProtocol):
    """Keeps what comes. `on[name]` is called with it when the hub calls `name`; it may raise."""

    def __init__(self, room: int = 65536, **on: Callable[[Recorder], Any]) -> None:
        self.room = bytearray(room)
        self.on = on
        self.got = bytearray()
        self.reads = 0
        self.told: list[str] = []
        self.lost: list[Exception | None] = []
        self.transport: Any = None

    def _note(self, name: str) -> Any:
        self.told.append(name)
        return self.on[name](self) if name in self.on else None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("connection_made")

    def get_buffer(self, sizehint: int) -> bytearray:
        if "get_buffer" in self.on:
            self._note("get_buffer")
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.reads += 1
        self.got += self.room[:nbytes]
        self._note("buffer_updated")

    def eof_received(self) -> Any:
        return self._note("eof_received")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._note("connection_lost")


class World:
    """A hub in a loop that runs only while somebody waits for something."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.hub = Hub(loop)
        self.reports: list[dict[str, Any]] = []
        self.peers: list[socket.socket] = []
        loop.set_exception_handler(lambda _, context: self.reports.append(context))

    def connect(self, protocol: Recorder, tcp: bool = False) -> tuple[Transport, socket.socket]:
        """A transport with `protocol`, and the socket of the other side."""
        here, there = tcp_pair() if tcp else socket.socketpair()
        here.setblocking(False)
        there.settimeout(SECONDS)
        self.peers.append(there)
        return self.hub.attach(here, protocol), there

    def run_until(self, condition: Callable[[], Any]) -> None:
        """Let the loop run until `condition` holds."""
        self.loop.run_until_complete(self.wait(condition))

    async def wait(self, condition: Callable[[], Any]) -> None:
        """The same where the loop runs already."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it does not come"
            await asyncio.sleep(0)

    def run_a_while(self) -> None:
        """Let everything happen that is due."""
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def receive_all(self, there: socket.socket) -> bytes:
        """What comes out at the other side until its end, with the loop running meanwhile."""
        there.setblocking(False)
        data = bytearray()

        def ended() -> bool:
            try:
                part = there.recv(1 << 20)
            except BlockingIOError:
                return False
            data.extend(part)
            return not part

        self.run_until(ended)
        return bytes(data)

    @property
    def is_busy(self) -> bool:
        """Whether the hub's descriptor is ready, so that the loop would call it again and again."""
        poll = select.poll()
        poll.register(self.hub.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        here, _ = listener.accept()
    return here, there


@contextmanager
def world_on(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[World]:
    """A world, and the end of it all afterwards."""
    loop = new_loop()
    world = World(loop)
    try:
        yield world
    finally:
        world.hub.close()
        world.run_a_while()
        loop.close()
        for peer in world.peers:
            peer.close()


def fail(_: Recorder) -> Any:
    """A callback of a protocol that raises."""
    raise ValueError("odd")
