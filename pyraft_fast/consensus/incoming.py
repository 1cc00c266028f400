"""The accepting side of the peer port: links other nodes opened, and one-shot requests.

A connection begins with HELLO (then it is a link, and only read) or with REQUEST (then it gets one
RESPONSE and is closed). Until that first frame a connection may hold only a few kilobytes and a few
seconds. Bytes that are not frames close the connection they came on, and touch nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, cast

from pyraft_fast._wire import VERSION, Frame, FrameReader, encode_frame
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.identity import Identity, PeerHost, Refusal, read_hello
from pyraft_fast.errors import ProtocolError, RaftException
from pyraft_fast.limits import PEER_FRAME_BYTES_MAX

FIRST_FRAME_SECONDS_MAX: Final = 5.0
CALLERS_MAX: Final = 256  # connections on the peer port, links and strangers together
LOG_LINES_MAX: Final = 20  # about bad connections, in each LOG_SECONDS
LOG_SECONDS: Final = 10.0


class PeerServer:
    """Accepts connections on the peer port and keeps one link per calling node."""

    def __init__(self, host: PeerHost) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: dict[_Caller, None] = {}  # in the order they came
        self._links: dict[str, _Caller] = {}
        self._lines_left = LOG_LINES_MAX
        self._lines_from = 0.0

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept on an already bound and listening socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_caller, sock=listener)

    def close(self) -> None:
        """Stop accepting and drop every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drop()

    def callers(self) -> dict[str, Identity]:
        """The nodes whose links to this one are open, by nid."""
        return {nid: link.caller for nid, link in self._links.items() if link.caller is not None}

    def drop(self, nid: str) -> None:
        """Close the link that node `nid` opened, if any."""
        link = self._links.get(nid)
        if link is not None:
            link.drop()

    def _new_caller(self) -> _Caller:
        return _Caller(self, self._host)

    def opened(self, connection: _Caller) -> bool:
        """Count a new connection; False when there are too many."""
        if len(self._connections) >= CALLERS_MAX:
            return False
        self._connections[connection] = None
        return True

    def greeted(self, connection: _Caller, caller: Identity) -> None:
        """`connection` is now the link of `caller`; an older one of the same node is closed."""
        old = self._links.get(caller.nid)
        self._links[caller.nid] = connection
        if old is not None and old is not connection:
            old.drop()

    def closed(self, connection: _Caller) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)
        caller = connection.caller
        if caller is not None and self._links.get(caller.nid) is connection:
            del self._links[caller.nid]

    def complain(self, text: str) -> None:
        """Log a bad connection, at most a few lines every few seconds."""
        now = asyncio.get_running_loop().time()
        if now - self._lines_from > LOG_SECONDS:
            self._lines_from, self._lines_left = now, LOG_LINES_MAX
        if self._lines_left > 0:
            self._lines_left -= 1
            self._host.log(logging.WARNING, text)


class _Caller(asyncio.BufferedProtocol):
    """One accepted connection."""

    def __init__(self, server: PeerServer, host: PeerHost) -> None:
        self._server = server
        self._host = host
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.caller: Identity | None = None
        self.address = "?"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.address = f"{name[0]}:{name[1]}"
        _watch_silence(transport.get_extra_info("socket"))
        if not self._server.opened(self):
            self._server.complain(f"too many connections on the peer port; {self.address} dropped")
            self.drop()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(FIRST_FRAME_SECONDS_MAX, self.drop)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()
        self._server.closed(self)

    def drop(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._reader.buffer_updated(nbytes)
            is_part = True
            for frame in self._reader.frames():
                is_part = False
                if self._transport is None:
                    return
                self._take(frame)
            if is_part and self.caller is not None:
                self._host.peer_part(self.caller)
        except ProtocolError as error:
            who = self.address if self.caller is None else f"{self.caller.nid} ({self.address})"
            self._server.complain(f"connection from {who} closed: {error}")
            self.drop()
        except Exception as error:
            self._host.crash(error)

    def _take(self, frame: Frame) -> None:
        if self.caller is not None:
            self._host.peer_frame(self.caller, frame)
        elif self._task is not None:
            raise ProtocolError("a second frame after a request")
        elif frame.type == FrameType.HELLO:
            self._greet(frame)
        elif frame.type == FrameType.REQUEST:
            self._request(frame)
        else:
            raise ProtocolError("the first frame is neither a greeting nor a request")

    def _greet(self, frame: Frame) -> None:
        hello = read_hello(frame.header)
        refusal = self._host.judge(hello)
        if refusal is not None:
            self._refuse(refusal)
            return
        self.caller = hello.caller
        self._stop_deadline()
        self._reader.frame_bytes_max = PEER_FRAME_BYTES_MAX
        me = self._host.identity
        self._send(FrameType.WELCOME, {"nid": me.nid, "incarnation": me.incarnation})
        self._server.greeted(self, hello.caller)
        self._host.caller_up(hello.caller)

    def _refuse(self, refusal: Refusal) -> None:
        me = self._host.identity
        self._send(
            FrameType.REFUSE,
            {
                "code": refusal.code,
                "reason": refusal.reason,
                "cluster": me.cluster,
                "nid": me.nid,
                "incarnation": me.incarnation,
            },
        )
        self._close()

    def _request(self, frame: Frame) -> None:
        fields = Fields(frame.header, "a request")
        if fields.number("version") != VERSION:
            raise ProtocolError(f"a request of version {fields.number('version')}")
        op, args = fields.text("op", 32), fields.table("args")
        self._stop_deadline()
        self._task = asyncio.get_running_loop().create_task(self._answer(op, args))

    async def _answer(self, op: str, args: dict[str, object]) -> None:
        try:
            value = await self._host.answer(op, args)
            self._send(FrameType.RESPONSE, {"ok": True, "value": value})
        except ProtocolError as error:
            self._server.complain(f"request {op!r} from {self.address} refused: {error}")
        except RaftException as error:
            self._send(FrameType.RESPONSE, {"ok": False, "code": error.code, "text": str(error)})
        except Exception as error:
            self._host.crash(error)
        self._close()

    def _send(self, kind: FrameType, header: dict[str, object]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(kind, header))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _watch_silence(sock: socket.socket | None) -> None:
    """Let the kernel notice a caller that vanished without a word: links are only read here."""
    if sock is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    except OSError:
        return  # a refinement only: the caller's next link replaces this one anyway
