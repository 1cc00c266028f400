"""The pipe to the serving process: its messages become calls, ours become frames.

The serving process is this one's reason to live: when it is gone (the pipe ends, or another process
is this one's parent) this one ends at once, without ceremony, because the log on disk is all that
matters and it is always in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Final, Protocol, cast

from pyraft_fast.errors import ConfigError, ProtocolError, RaftException, StartError
from pyraft_fast.link import pipe

ORPHAN_SECONDS: Final = 0.25  # between looks at whose child this is
LAST_WORDS_SECONDS: Final = 0.1  # for a FATAL message to leave
EXIT_ORPHAN: Final = 3
EXIT_CONFIG: Final = 2
EXIT_FAILURE: Final = 1


class Served(Protocol):
    """What the serving side may ask for; see node.Node."""

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> None: ...
    def look(self) -> None: ...
    def read(self, context: int, by_lease: bool) -> None: ...
    def applied(self, index: int) -> None: ...
    def snapshot_taken(self, path: str, index: int, term: int) -> None: ...
    def change(self, request_id: int, op: str, nid: str, addr: str) -> None: ...
    def transfer(self, request_id: int, nid: str) -> None: ...
    def status(self, request_id: int) -> None: ...
    def digests(self, nid: str, note: bytes) -> None: ...


class ParentPipe(asyncio.BufferedProtocol):
    """This process' end of the pipe.

    `on_start` gets the settings of the first message and returns who serves the others;
    `on_shutdown` is called for the last one. `describe` gives the state for a FATAL text, and
    `hear` tells the serving side how many bytes were read.
    """

    def __init__(
        self,
        on_start: Callable[[dict[str, object]], Served],
        on_shutdown: Callable[[], None],
        describe: Callable[[], str],
        hear: Callable[[int], None],
    ) -> None:
        self._on_start = on_start
        self._on_shutdown = on_shutdown
        self._describe = describe
        self._hear = hear
        self._decoder = pipe.Decoder()
        self._transport: asyncio.Transport | None = None
        self._served: Served | None = None
        self._is_failing = False

    # The pipe as asyncio sees it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        os._exit(EXIT_ORPHAN)

    def eof_received(self) -> bool:
        os._exit(EXIT_ORPHAN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._hear(nbytes)
        try:
            self._decoder.buffer_updated(nbytes)
            for message in self._decoder.messages():
                self._take(message)
        except Exception as error:
            self.fatal(error)

    def _take(self, message: pipe.Message) -> None:
        if self._is_failing:
            return
        served = self._served
        if isinstance(message, pipe.Start):
            if served is not None:
                raise ProtocolError("the serving side starts twice")
            self._served = self._on_start(message.settings)
        elif served is None:
            raise ProtocolError(f"{type(message).__name__} came before START")
        elif isinstance(message, pipe.SlotFilled):
            served.look()
        elif isinstance(message, pipe.Propose):
            served.propose(message.start, message.batch, message.count, message.payload)
        elif isinstance(message, pipe.Read):
            served.read(message.context, message.by_lease)
        elif isinstance(message, pipe.Applied):
            served.applied(message.index)
        elif isinstance(message, pipe.SnapshotTaken):
            served.snapshot_taken(message.path, message.index, message.term)
        elif isinstance(message, pipe.Digests):
            served.digests(message.nid, message.note)
        elif isinstance(message, pipe.Shutdown):
            served.look()  # a turn for what lies in the slot comes before the end
            self._on_shutdown()
        else:
            self._take_request(served, message)

    def _take_request(self, served: Served, message: pipe.Message) -> None:
        if isinstance(message, pipe.Change):
            served.change(message.request_id, message.op, message.nid, message.addr)
        elif isinstance(message, pipe.Transfer):
            served.transfer(message.request_id, message.nid)
        elif isinstance(message, pipe.Status):
            served.status(message.request_id)
        else:
            raise ProtocolError(f"{type(message).__name__} is not for this process")

    def _send(self, message: pipe.Message) -> None:
        if self._transport is not None:
            self._transport.write(pipe.encode(message))

    # What the node tells

    def ready(self, info: dict[str, object]) -> None:
        """See node.Parent."""
        self._send(pipe.Ready(**info))  # type: ignore[arg-type]

    def role(
        self, role: str, term: int, leader_nid: str, leader_addr: str, serving_ok: bool
    ) -> None:
        """See serving_side.Serving."""
        self._send(pipe.Role(role, term, leader_nid, leader_addr, serving_ok))

    def resend(self) -> None:
        """See serving_side.Serving."""
        self._send(pipe.Resend())

    def digests(self, nid: str, note: bytes) -> None:
        """See node.Parent."""
        self._send(pipe.DigestsFrom(nid, note))

    def done(self, request_id: int, value: object, code: str, text: str) -> None:
        """See node.Parent."""
        self._send(pipe.Done(request_id, value, code, text))

    def log(self, level: int, text: str) -> None:
        """One line for the log of the node."""
        self._send(pipe.Log(level, text))

    def fatal(self, error: BaseException) -> None:
        """Say why this process must not go on, and end it."""
        if self._is_failing:
            return
        self._is_failing = True
        status = EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE
        text = str(error)
        if not isinstance(error, RaftException):
            text = f"consensus stops: {type(error).__name__}: {error}"
            self.log(logging.ERROR, _where(error))
        if not isinstance(error, ConfigError | StartError):
            text = f"{text} [{self._describe()}]"
        self._send(pipe.Fatal(status, text))
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, os._exit, status)


def _where(error: BaseException) -> str:
    """File and line of each call that led to `error`."""
    steps: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        steps.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(steps[-8:])}"


async def watch_parent(parent_pid: int) -> None:
    """End this process when another one has become its parent."""
    while os.getppid() == parent_pid:
        await asyncio.sleep(ORPHAN_SECONDS)
    os._exit(EXIT_ORPHAN)
