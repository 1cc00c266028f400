"""The peer network: connections between machines as seen by asyncio protocols, with faults.

Each write of one side is one delivery at the other. Raft messages on a link may be lost, repeated
or overtake each other; everything else keeps its order and comes, or the connection breaks: that
is what TCP gives. Where a direction is cut, frames wait for its end or are lost with the
connection; both ends notice on their own, or not at all before it is mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.simulator.loop import Process, World

MESSAGE = 4  # frame type of core messages
TYPE_AT = 4  # its place in a frame
KEEP_CUT = 0.3  # share of messages that wait while their way is cut


@dataclass
class Way:
    """One direction between two machines."""

    is_cut: bool = False
    loss: float = 0.0
    repeat: float = 0.0
    overtake: float = 0.0
    delay: float = 0.001
    jitter: float = 0.001


class Stream:
    """One end of a connection; the transport that its protocol sees."""

    def __init__(self, network: Network, process: Process, host: str, name: tuple[str, int]):
        self.network = network
        self.process = process
        self.host = host
        self.peername = name
        self.protocol: Any = None
        self.other: Stream | None = None
        self.is_closed = False
        self.is_over = self.is_breaking = False
        self.last = 0.0  # when the newest delivery arrives at the other end
        self.held: list[tuple[bytes, bool]] = []

    # What asyncio promises of a transport

    def write(self, data: bytes) -> None:
        self.network.send(self, bytes(data))

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.network.send(self, b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return sum(len(data) for data, _ in self.held)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing pauses here."""

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.peername if name == "peername" else default

    def close(self) -> None:
        self.network.close(self)

    abort = close

    # Arrivals

    def deliver(self, data: bytes) -> None:
        if self.is_closed:
            self.network.reset(self)
            return
        at = 0
        while at < len(data):
            view = self.protocol.get_buffer(-1)
            count = min(len(view), len(data) - at)
            view[:count] = data[at : at + count]
            self.protocol.buffer_updated(count)
            if self.is_closed:
                return
            at += count

    def lost(self) -> None:
        """The connection ended at the other side, or was given up."""
        if not self.is_closed:
            self.is_closed = True
            self.over()

    def over(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.network.streams.pop(self, None)
            if self.protocol is not None:
                self.protocol.connection_lost(None)


class Listener:
    """What create_server gives."""

    def __init__(self, network: Network, process: Process, factory: Any, address: tuple[str, int]):
        self.network = network
        self.process = process
        self.factory = factory
        self.address = address

    def close(self) -> None:
        if self.network.listeners.get(self.address) is self:
            del self.network.listeners[self.address]


class Network:
    """All machines' addresses, the ways between them, and the connections."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.ways: dict[tuple[str, str], Way] = {}
        self.make_way: Callable[[], Way] = Way
        self.streams: dict[Stream, None] = {}
        self.counts: dict[str, int] = {}
        self.ports = 40_000

    def way(self, one: str, other: str) -> Way:
        found = self.ways.get((one, other))
        if found is None:
            found = self.ways[one, other] = self.make_way()
        return found

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # Opening

    def listen(self, process: Process, factory: Any, address: tuple[str, int]) -> Listener:
        listener = Listener(self, process, factory, address)
        self.listeners[address] = listener
        return listener

    async def dial(self, process: Process, factory: Any, host: str, port: int) -> Any:
        """Connect as TCP does: refused, never answered, or made after a round trip."""
        mine = process.loop.host
        there, back = self.way(mine, host), self.way(host, mine)
        await asyncio.sleep(there.delay + back.delay + self.random.random() * there.jitter)
        listener = self.listeners.get((host, port))
        if there.is_cut or back.is_cut:
            await asyncio.sleep(30.0)  # the caller's patience ends before
            raise OSError("no answer")
        if listener is None or listener.process.is_dead:
            if self.random.random() < 0.2:
                await asyncio.sleep(30.0)
            raise ConnectionRefusedError("refused")
        self.ports += 1
        near = Stream(self, process, mine, (host, port))
        far = Stream(self, listener.process, host, (mine, self.ports))
        near.other, far.other = far, near
        near.protocol = factory()
        self.streams[near] = self.streams[far] = None
        near.protocol.connection_made(near)
        far.last = near.last = self.world.now + there.delay
        far.process.at(far.last, self._accept, far, listener)
        return near, near.protocol

    def _accept(self, far: Stream, listener: Listener) -> None:
        if far.is_closed:
            return
        far.protocol = listener.factory()
        far.protocol.connection_made(far)

    # Sending

    def send(self, stream: Stream, data: bytes) -> None:
        """One write of one side, on its way to the other."""
        other = stream.other
        if stream.is_closed or other is None or stream.process.is_dead:
            return
        if other.process.is_dead and not stream.is_breaking:
            stream.is_breaking = True
            self.break_stream(stream, self.random.uniform(0.001, 1.0))
        way = self.way(stream.host, other.host)
        message = len(data) > TYPE_AT and data[TYPE_AT] == MESSAGE
        rng = self.random
        if way.is_cut or stream.held:
            if message and rng.random() >= KEEP_CUT:
                self.count("message lost in a cut")
                return
            stream.held.append((data, message))
            return
        if message and way.loss and rng.random() < way.loss:
            self.count("message lost")
            return
        self._carry(stream, other, data, message, way)
        if message and way.repeat and rng.random() < way.repeat:
            self.count("message repeated")
            self._carry(stream, other, data, message, way)

    def _carry(self, stream: Stream, other: Stream, data: bytes, message: bool, way: Way) -> None:
        now = stream.process.now()
        arrival = now + way.delay + self.random.random() * way.jitter
        if message and way.overtake and self.random.random() < way.overtake:
            self.count("message overtaken")
            arrival += self.random.random() * 10 * (way.delay + way.jitter)
        elif arrival < stream.last:
            arrival = stream.last
            stream.last = arrival
        else:
            stream.last = arrival
        other.process.at(arrival, other.deliver, data)

    # Closing and breaking

    def close(self, stream: Stream) -> None:
        """One side closes: it hears so at once, the other behind what is under way."""
        if stream.is_closed:
            return
        stream.is_closed = True
        stream.process.soon(stream.over)
        self._tell_other(stream)

    def _tell_other(self, stream: Stream) -> None:
        other = stream.other
        if other is None:
            return
        way = self.way(stream.host, other.host)
        arrival = max(stream.last, self.world.now + way.delay)
        if way.is_cut:
            arrival += self.random.uniform(0.5, 3.0)
        other.process.at(arrival, other.lost)

    def reset(self, stream: Stream) -> None:
        """Something came for an end that is gone: the sender is told."""
        other = stream.other
        if other is not None and not other.is_closed:
            way = self.way(stream.host, other.host)
            if not way.is_cut:
                other.process.after(way.delay, other.lost)

    def break_stream(self, stream: Stream, seconds: float) -> None:
        """One side's kernel gives the connection up after a while."""
        stream.process.after(seconds, stream.lost)

    def process_died(self, process: Process, silently: bool) -> None:
        """Its connections end: with a word where the machine lives on, else by their silence."""
        for stream in [stream for stream in self.streams if stream.process is process]:
            del self.streams[stream]
            stream.is_closed = stream.is_over = True
            other = stream.other
            if other is None or other.is_closed:
                continue
            if silently:
                self.break_stream(other, self.random.uniform(0.01, 3.0))
            else:
                self._tell_other(stream)
        for address in [a for a, found in self.listeners.items() if found.process is process]:
            del self.listeners[address]

    def cut(self, one: str, other: str) -> None:
        """Cut one direction. Some connections over it are given up, some wait for its end."""
        self.way(one, other).is_cut = True
        for stream in self.streams:
            there = stream.other
            if there is None or {stream.host, there.host} != {one, other}:
                continue
            if self.random.random() < 0.5:
                self.break_stream(stream, self.random.uniform(0.02, 3.0))

    def mend(self, one: str, other: str) -> None:
        """End a cut: what waited comes now."""
        way = self.way(one, other)
        way.is_cut = False
        for stream in list(self.streams):
            there = stream.other
            if there is not None and stream.host == one and there.host == other and stream.held:
                held, stream.held = stream.held, []
                for data, message in held:
                    self._carry(stream, there, data, message, way)
