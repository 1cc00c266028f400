"""Opening connections to other nodes: names looked up anew each time, every step bounded in time.

`ask` is the one-shot request that a node uses before it has links (joining) or towards whoever
leads (membership changes asked of a follower). A name may stand for several machines, so looking
up returns all of them.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, TypeVar

from pyraft_fast._wire import VERSION, FrameReader, encode_frame
from pyraft_fast.address import Address, parse_address
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.errors import (
    ClusterDown,
    ConfigError,
    MembershipError,
    ProtocolError,
    RaftException,
    TryAgain,
)
from pyraft_fast.limits import KIB

CONNECT_SECONDS_MAX: Final = 1.5
LOOKUP_SECONDS_MAX: Final = 5.0
USER_TIMEOUT_MS: Final = 3000  # unacknowledged bytes for this long end a connection
NOT_SENT_BYTES_MAX: Final = 256 * KIB  # that the kernel takes: what waits here shows what moves

Connected = TypeVar("Connected", bound=asyncio.BaseProtocol)


class Unreachable(RaftException):
    """A node did not answer; nothing follows from that about its state."""


async def look_up(text: str) -> list[Address]:
    """The client addresses that `host:port` stands for now, each an IP, without repeats.

    Raises Unreachable when the name stands for nothing.
    """
    try:
        address = parse_address(text)
    except ConfigError as error:
        raise Unreachable(str(error)) from error
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM),
            LOOKUP_SECONDS_MAX,
        )
    except (OSError, UnicodeError, asyncio.TimeoutError) as error:
        raise Unreachable(f"{address.host} cannot be looked up: {error}") from error
    hosts = dict.fromkeys(str(info[4][0]) for info in found)
    return [Address(host, address.port) for host in hosts]


async def connect(
    protocol: Connected, client_address: Address
) -> tuple[asyncio.Transport, Connected]:
    """Connect `protocol` to the peer port beside `client_address` (an IP).

    Raises Unreachable when that fails or takes longer than CONNECT_SECONDS_MAX.
    """
    host, port = client_address.peer
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await asyncio.wait_for(
            loop.create_connection(lambda: protocol, host, port), CONNECT_SECONDS_MAX
        )
    except (OSError, asyncio.TimeoutError) as error:
        reason = str(error) or "no answer"
        raise Unreachable(f"{client_address.peer} cannot be reached: {reason}") from error
    sock = transport.get_extra_info("socket")
    try:
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES_MAX)
    except OSError as error:
        transport.abort()
        raise Unreachable(f"{client_address.peer} closed the connection at once") from error
    return transport, protocol


class _Question(asyncio.BufferedProtocol):
    """One request on a connection of its own, and the wait for its response."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[object] = loop.create_future()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.buffer_updated(nbytes)
        try:
            for frame in self._reader.frames():
                if frame.type != FrameType.RESPONSE:
                    raise ProtocolError("a request was answered by something else")
                if not self.response.done():
                    self.response.set_result(frame.header)
        except ProtocolError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Unreachable("the connection closed before the answer"))

    def _fail(self, error: Exception) -> None:
        if not self.response.done():
            self.response.set_result(error)


async def ask(
    address: Address, op: str, args: dict[str, object], seconds: float
) -> dict[str, object]:
    """Send one request to the node beside `address` (an IP) and return the value it answers.

    Raises Unreachable, ProtocolError, or the error the other node answered, as its class.
    """
    transport, question = await connect(_Question(), address)
    try:
        transport.write(
            encode_frame(FrameType.REQUEST, {"version": VERSION, "op": op, "args": args})
        )
        header = await asyncio.wait_for(question.response, seconds)
    except RuntimeError as error:  # the transport noticed the end before its protocol did
        raise Unreachable(f"{address.peer} closed the connection") from error
    except asyncio.TimeoutError as error:
        raise Unreachable(f"{address.peer} did not answer within {seconds} s") from error
    finally:
        transport.abort()
    if isinstance(header, Exception):
        raise header
    fields = Fields(header, "a response")
    if fields.flag("ok"):
        return fields.table("value")
    raise _error_of(fields.text("code", 32), fields.text("text"))


_ANSWERED: Final[dict[str, type[RaftException]]] = {
    TryAgain.code: TryAgain,
    ClusterDown.code: ClusterDown,
}


def _error_of(code: str, text: str) -> RaftException:
    if code in _ANSWERED:
        return _ANSWERED[code](text)
    return MembershipError(text)


async def ask_any(text: str, op: str, args: dict[str, object], seconds: float) -> dict[str, object]:
    """`ask` the addresses `text` stands for, one after the other, until one is reached."""
    last: RaftException = Unreachable(f"{text} stands for no address")
    for address in await look_up(text):
        try:
            return await ask(address, op, args, seconds)
        except Unreachable as error:
            last = error
    raise last
