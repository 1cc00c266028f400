"""A network that can be cut between real nodes, without root: a proxy before every peer port.

Each node listens on 127.0.0.1 and tells the others an address of its own in 127.0.0.0/8
(`-a 127.0.0.12:PORT --bind 127.0.0.1`), where this proxy takes its peer connections and passes
them on. The greeting on a connection says who dialled, so that each direction between each two
nodes can be treated by itself. Clients connect past the proxy: they sit beside their node.

A way that is CUT swallows what is sent, as a real partition does: connections stay and say
nothing, new ones hang, and the end of one side is not seen on the other. HELD ways keep what is
sent, to deliver it late. `heal` opens all ways, delivers what was held, and resets the connections
that lost something. Questions of nodes that have no link yet do not say who asks: they are cut off
from a node as soon as all the others are.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

from pyraft_fast._wire import FrameReader
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import read_hello
from pyraft_fast.errors import ProtocolError
from tests.process.cluster import LOOPBACK, Node

FIRST_HOST: Final = 11  # of 127.0.0.0/24
STRANGER: Final = ""  # a caller that has not said, or will not say, who it is
HELD_BYTES_MAX: Final = 64 << 20
ANSWER_SECONDS: Final = 10.0
RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
Way = tuple[str, str]  # from this node to that one
T = TypeVar("T")


class Fate(enum.Enum):
    """What becomes of bytes on a way."""

    OPEN = "open"
    CUT = "cut"
    HELD = "held"


def both(ones: Iterable[str], others: Iterable[str]) -> list[Way]:
    """Every way between two groups, in both directions."""
    pairs = list(itertools.product(ones, others))
    return [*pairs, *((b, a) for a, b in pairs)]


class Network:
    """The proxies of one cluster, on a thread of their own. Use `serve` before a node starts."""

    def __init__(self) -> None:
        self._fates: dict[Way, Fate] = {}
        self._names: list[str] = []
        self._wires: set[_Wire] = set()
        self._servers: dict[str, asyncio.Server] = {}
        self._open_sides = 0
        self.swallowed_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS)

    def serve(self, node: Node) -> None:
        """Stand before the peer port of `node`, which is known at an address of ours from now on.

        The node's id must be a number.
        """
        node.host = f"127.0.0.{FIRST_HOST + int(node.nid)}"
        self._do(self._serve(node.nid, node.host, node.port + 1))

    async def _serve(self, nid: str, host: str, port: int) -> None:
        def take() -> _Side:
            return _Wire(self, nid, port).callers

        self._servers[nid] = await self._loop.create_server(take, host, port)
        self._names.append(nid)

    def leave(self, nid: str) -> None:
        """Nobody stands before that node any more."""
        self._do(self._leave(nid))

    async def _leave(self, nid: str) -> None:
        self._names.remove(nid)
        self._servers.pop(nid).close()
        for wire in [wire for wire in self._wires if wire.target == nid]:
            wire.end(reset=True)

    def cut(self, ways: Iterable[Way]) -> None:
        """Swallow what is sent on these ways, whatever held before on any other."""
        self._set(dict.fromkeys(ways, Fate.CUT))

    def hold(self, ways: Iterable[Way]) -> None:
        """Keep back what is sent on these ways."""
        self._set(dict.fromkeys(ways, Fate.HELD))

    def heal(self) -> None:
        """Open all ways."""
        self._set({})

    def _set(self, fates: dict[Way, Fate]) -> None:
        async def change() -> None:
            self._fates = fates
            for wire in list(self._wires):
                wire.changed()

        self._do(change())

    def fate(self, way: Way) -> Fate:
        """What becomes of bytes on `way` now."""
        if STRANGER not in way:
            return self._fates.get(way, Fate.OPEN)
        known = way[1] if way[0] == STRANGER else way[0]
        fates = {
            self._fates.get((nid, known) if way[0] == STRANGER else (known, nid), Fate.OPEN)
            for nid in self._names
            if nid != known
        }
        return fates.pop() if len(fates) == 1 else Fate.OPEN

    def close(self) -> None:
        """End all connections and the thread."""

        async def end() -> None:
            for server in self._servers.values():
                server.close()
            dials = asyncio.all_tasks() - {cast(Any, asyncio.current_task())}
            await asyncio.gather(*dials, return_exceptions=True)
            for wire in list(self._wires):
                wire.end(reset=True)
            while self._open_sides:  # a transport that was ended closes in a later turn
                await asyncio.sleep(0)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_SECONDS)

    # Of the wires

    def opened(self, wire: _Wire) -> None:
        """A wire began, with the side that dialled."""
        self._wires.add(wire)

    def closed(self, wire: _Wire) -> None:
        """A wire is over."""
        self._wires.discard(wire)

    def count(self, sides: int) -> None:
        """So many sides opened; fewer than none: closed."""
        self._open_sides += sides

    def dial(self, wire: _Wire, port: int) -> None:
        """Connect the other half of a wire to the node itself."""
        self._loop.create_task(self._dial(wire, port))

    async def _dial(self, wire: _Wire, port: int) -> None:
        try:
            await self._loop.create_connection(lambda: wire.targets, LOOPBACK, port)
        except OSError:
            wire.end(reset=True)


class _Wire:
    """One peer connection: the side that dialled and the side that was dialled."""

    def __init__(self, network: Network, target: str, port: int) -> None:
        self.network = network
        self.target = target
        self.caller: str | None = None  # None until the first frame is there
        self._port = port
        self._over = False
        self.callers = _Side(self)
        self.targets = _Side(self)

    def way(self, side: _Side) -> Way:
        """The way of what `side` sends."""
        caller = self.caller or STRANGER
        return (caller, self.target) if side is self.callers else (self.target, caller)

    def other(self, side: _Side) -> _Side:
        """The side that is not `side`."""
        return self.targets if side is self.callers else self.callers

    def up(self, side: _Side) -> None:
        """A side is connected; the other half follows the first."""
        if side is self.callers:
            self.network.opened(self)
            self.network.dial(self, self._port)
        if self._over:
            self.end(reset=True)
        self.changed()

    def received(self, side: _Side) -> None:
        """Pass on what `side` sent, as its way allows."""
        if self.caller is None:
            if side is not self.callers:
                return
            self.caller = _caller_in(side.sent)
            if self.caller is None:
                return
        fate = self.network.fate(self.way(side))
        to = self.other(side)
        if fate is Fate.HELD and len(side.sent) < HELD_BYTES_MAX:
            return
        if fate is Fate.OPEN and not side.spoiled:
            if to.transport is not None and side.sent:
                to.transport.write(bytes(side.sent))
                side.sent.clear()
            return
        side.spoiled = side.spoiled or bool(side.sent)
        self.network.swallowed_bytes += len(side.sent)
        side.sent.clear()

    def changed(self) -> None:
        """The fates of ways changed, or a side came up or ended."""
        sides = (self.callers, self.targets)
        for side in sides:
            self.received(side)
        for side in sides:
            fate = self.network.fate(self.way(side))
            if side.spoiled and fate is not Fate.CUT:
                self.end(reset=True)
            if side.ended and (fate is Fate.OPEN or self.other(side).ended):
                self.end(reset=False)

    def end(self, reset: bool) -> None:
        """End both sides: what is on its way arrives first, or the connection is reset."""
        self._over = True
        for side in (self.callers, self.targets):
            if side.transport is None:
                continue
            if reset:
                sock = side.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                side.transport.abort()
            else:
                side.transport.close()
        self.network.closed(self)


class _Side(asyncio.Protocol):
    """One end of a wire; what it sent and nobody was given yet is in `sent`."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self.transport: asyncio.Transport | None = None
        self.sent = bytearray()
        self.ended = False
        self.spoiled = False  # some of what it sent was lost: the rest would make no sense

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._wire.network.count(1)
        self._wire.up(self)

    def data_received(self, data: bytes) -> None:
        self.sent += data
        self._wire.received(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.ended = True
        self._wire.network.count(-1)
        self._wire.changed()

    def pause_writing(self) -> None:
        self._read(lambda transport: transport.pause_reading())

    def resume_writing(self) -> None:
        self._read(lambda transport: transport.resume_reading())

    def _read(self, act: Callable[[asyncio.Transport], None]) -> None:
        """This side takes no more for now, or again: so the other is read or not."""
        other = self._wire.other(self).transport
        if other is not None and not other.is_closing():
            act(other)


def _caller_in(data: bytes | bytearray) -> str | None:
    """Who the first frame of a connection says is calling; None while it is not all there."""
    reader = FrameReader()
    reader.feed(bytes(data))
    try:
        frame = next(reader.frames(), None)
        if frame is None:
            return None
        return read_hello(frame.header).caller.nid if frame.type == FrameType.HELLO else STRANGER
    except ProtocolError:
        return STRANGER


def isolate(nid: str, names: Sequence[str]) -> list[Way]:
    """Every way to and from one node."""
    return both([nid], [name for name in names if name != nid])
