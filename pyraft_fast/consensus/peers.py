"""Links to the other members: one outgoing connection each, dialled for ever, never waited for.

Messages are dropped when a link is down, because Raft sends again; what this module promises is
that a slow, dead or lying peer costs the others nothing. Each link has its own task for dialling
and its own bounded queue (the transport's buffer): past PEER_QUEUE_BYTES_MAX it takes no more, and
where none of that leaves for STUCK_SECONDS the link is cut and the node is told. A member may move:
besides the address in the membership a link tries the address with which that node last called
here, and the ones given as hints at start.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pyraft_fast._wire import FrameReader, encode_frame
from pyraft_fast.consensus.dialing import Unreachable, connect, look_up
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.identity import Hello, PeerHost, Refusal
from pyraft_fast.errors import ProtocolError
from pyraft_fast.limits import PEER_QUEUE_BYTES_MAX

WELCOME_SECONDS_MAX: Final = 2.0
BACKOFF_SECONDS_MIN: Final = 0.03
BACKOFF_SECONDS_MAX: Final = 1.0
STUCK_SECONDS: Final = 2.0  # a full queue of which nothing leaves for so long
SAME_TROUBLE_SECONDS: Final = 30.0  # one log line per link and reason in this time


class Target(NamedTuple):
    """A member to keep a link to."""

    nid: str
    addr: str
    incarnation: int


class _Channel(asyncio.BufferedProtocol):
    """The connection under a link: reads the answer to the greeting, then only watches."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self.welcome: asyncio.Future[Refusal | Exception | None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.buffer_updated(nbytes)
        try:
            for frame in self._reader.frames():
                if self.welcome.done():
                    raise ProtocolError("the called node spoke out of turn")
                self.welcome.set_result(_read_welcome(frame.type, frame.header))
        except ProtocolError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Unreachable("the connection closed"))

    def _fail(self, error: Exception) -> None:
        if not self.welcome.done():
            self.welcome.set_result(error)
        if not self.lost.done():
            self.lost.set_result(None)


def _read_welcome(kind: int, header: object) -> Refusal | None:
    if kind == FrameType.WELCOME:
        return None
    if kind != FrameType.REFUSE:
        raise ProtocolError("the called node answered a greeting with something else")
    fields = Fields(header, "a refusal")
    return Refusal(fields.text("code", 32), fields.text("reason", 2048))


class PeerLink:
    """The way to one member. `send` never blocks; False means the frame was dropped."""

    def __init__(self, host: PeerHost, target: Target, rng: random.Random) -> None:
        self.target = target
        self.hints: list[str] = []
        self._host = host
        self._rng = rng
        self._transport: asyncio.Transport | None = None
        self._kick = asyncio.Event()
        self._said: tuple[str, float] = ("", 0.0)
        self._given = 0  # bytes of the frames that had to wait
        self._stuck = (-1, 0.0)  # how many of them had left, and when, as a frame found no room
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    @property
    def is_up(self) -> bool:
        """True while frames can be sent."""
        return self._transport is not None

    def queued_bytes(self) -> int:
        """Bytes not yet taken by the kernel."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def moved_bytes(self) -> int:
        """How many bytes of those that had to wait have left so far; it grows while any leave."""
        return self._given - self.queued_bytes()

    def send(self, parts: Sequence[bytes]) -> bool:
        """Queue one frame, given as its pieces; False when the link is down or has no room."""
        transport = self._transport
        if transport is None or transport.is_closing():  # its end is noticed in a moment
            return False
        if transport.get_write_buffer_size() > PEER_QUEUE_BYTES_MAX:
            self._cut_if_stuck(transport)
            return False
        transport.writelines(parts)
        if transport.get_write_buffer_size():
            self._given += sum(map(len, parts))
        return True

    def _cut_if_stuck(self, transport: asyncio.Transport) -> None:
        """A frame found no room: does the peer read at all?"""
        now, moved = asyncio.get_running_loop().time(), self.moved_bytes()
        if moved != self._stuck[0]:
            self._stuck = (moved, now)
        elif now - self._stuck[1] > STUCK_SECONDS:
            self._host.log(
                logging.WARNING, f"link to {self.target.nid} cut: it does not read what it is sent"
            )
            self._down()
            transport.abort()

    def kick(self) -> None:
        """Dial now instead of waiting for the next attempt (the peer was just heard of)."""
        self._kick.set()

    def close(self) -> None:
        """End the link and its dialling."""
        self._task.cancel()
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._host.crash(task.exception() or RuntimeError("link"))

    async def _run(self) -> None:
        backoff = BACKOFF_SECONDS_MIN
        attempt = 0
        while True:
            addresses = list(dict.fromkeys([*self.hints, self.target.addr]))
            address = addresses[attempt % len(addresses)]
            attempt += 1
            try:
                if await self._dial(address):
                    backoff, attempt = BACKOFF_SECONDS_MIN, 0
            except (Unreachable, ProtocolError) as error:
                self._say(f"no link to {self.target.nid}: {error}", logging.INFO)
            self._kick.clear()
            pause = backoff * self._rng.uniform(0.5, 1.5)
            backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)
            try:
                await asyncio.wait_for(self._kick.wait(), pause)
                backoff = BACKOFF_SECONDS_MIN
            except asyncio.TimeoutError:
                continue

    async def _dial(self, address: str) -> bool:
        """One attempt, and the life of the link if it succeeds (then True at its end)."""
        was_up = False
        for client_address in await look_up(address):
            transport, channel = await connect(_Channel(), client_address)
            try:
                if await self._greet(transport, channel):
                    was_up = True
                    await self._live(transport, channel)
            finally:
                transport.abort()
        return was_up

    async def _greet(self, transport: asyncio.Transport, channel: _Channel) -> bool:
        if transport.is_closing():
            raise Unreachable("the connection closed at once")
        hello = Hello(self._host.identity, self.target.nid, self.target.incarnation)
        transport.write(encode_frame(FrameType.HELLO, hello.header()))
        try:
            refusal = await asyncio.wait_for(channel.welcome, WELCOME_SECONDS_MAX)
        except asyncio.TimeoutError as error:
            raise Unreachable("it does not answer the greeting") from error
        if isinstance(refusal, Exception):
            raise refusal
        if refusal is not None:
            self._say(f"{self.target.nid} refused the link: {refusal.reason}", logging.WARNING)
            self._host.link_refused(self.target.nid, refusal)
        return refusal is None

    async def _live(self, transport: asyncio.Transport, channel: _Channel) -> None:
        self._given, self._stuck = 0, (-1, 0.0)
        transport.set_write_buffer_limits(high=PEER_QUEUE_BYTES_MAX)
        self._transport = transport
        self._said = ("", 0.0)
        self._host.log(logging.INFO, f"link to {self.target.nid} at {self.target.addr} is up")
        self._host.link_up(self.target.nid)
        try:
            await channel.lost
        finally:
            if self._transport is transport:
                self._host.log(logging.INFO, f"link to {self.target.nid} is down")
                self._down()

    def _down(self) -> None:
        self._transport = None
        self._host.link_down(self.target.nid)

    def _say(self, text: str, level: int) -> None:
        now = asyncio.get_running_loop().time()
        if self._said[0] != text or now - self._said[1] > SAME_TROUBLE_SECONDS:
            self._said = (text, now)
            self._host.log(level, text)


class PeerLinks:
    """The outgoing links of a node; they follow the membership."""

    def __init__(self, host: PeerHost, rng: random.Random) -> None:
        self._host = host
        self._rng = rng
        self._links: dict[str, PeerLink] = {}
        self._hints: dict[str, str] = {}

    def follow(self, targets: Iterable[Target]) -> None:
        """Keep links to exactly these nodes (this node itself must not be among them)."""
        wanted = {target.nid: target for target in targets}
        for nid in [nid for nid in self._links if nid not in wanted]:
            self._links.pop(nid).close()
            self._host.link_down(nid)
        for nid, target in wanted.items():
            link = self._links.get(nid)
            if link is not None and link.target.incarnation != target.incarnation:
                link.close()
                self._host.link_down(nid)
                link = None
            if link is None:
                link = self._links[nid] = PeerLink(self._host, target, self._rng)
            link.target = target
            self._give_hint(link)

    def hint(self, nid: str, addr: str) -> None:
        """Node `nid` was heard of at `addr`: try that address first, and now."""
        self._hints[nid] = addr
        link = self._links.get(nid)
        if link is not None:
            self._give_hint(link)
            link.kick()

    def _give_hint(self, link: PeerLink) -> None:
        addr = self._hints.get(link.target.nid)
        link.hints = [] if addr is None or addr == link.target.addr else [addr]

    def send(self, nid: str, parts: Sequence[bytes]) -> bool:
        """Queue one frame to `nid`; False when it cannot be sent now."""
        link = self._links.get(nid)
        return link is not None and link.send(parts)

    def is_up(self, nid: str) -> bool:
        """True while the link to `nid` carries frames."""
        link = self._links.get(nid)
        return link is not None and link.is_up

    def queued_bytes(self, nid: str) -> int:
        """Unsent bytes on the link to `nid`."""
        link = self._links.get(nid)
        return 0 if link is None else link.queued_bytes()

    def moved_bytes(self, nid: str) -> int:
        """Bytes of those that had to wait for `nid` that have left; it grows while any leave."""
        link = self._links.get(nid)
        return 0 if link is None else link.moved_bytes()

    def close(self) -> None:
        """End all links."""
        for link in self._links.values():
            link.close()
        self._links.clear()
