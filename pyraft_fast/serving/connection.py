"""One client connection: bytes in, commands to the desk, answers out in the order of commands.

Received bytes land in the parser's own buffer; answers are encoded into one bytearray and written
once per turn. What happens for every command is in `_turn.Line`; here is what happens once in a
connection's life, and what an answer does that is more than a value. It refuses to know what a
command does.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

from pyraft_fast._resp import Parser, encode_into
from pyraft_fast._turn import Line, bounds
from pyraft_fast.errors import RaftException
from pyraft_fast.serving.connection_commands import MUTE, SKIP, SPEAK

KEEPALIVE_SECONDS: Final = 300  # of silence, before a client is asked whether it is there
CONTROLS: Final = frozenset({"bypass", "quit", "quit_after_send"})


class Connection(Line, asyncio.BufferedProtocol):
    """A client; `proto`, `name` and the like are changed by the connection commands."""

    __slots__ = ("born", "id", "last_command", "lib_name", "lib_ver", "name", "peer")

    def __init__(self, desk: Any) -> None:
        super().__init__(desk)
        self.id = 0
        self.peer = self.name = self.lib_name = self.lib_ver = self.last_command = ""
        self.born = 0.0

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        where = transport.get_extra_info("peername")
        if isinstance(where, tuple):
            host = f"[{where[0]}]" if ":" in where[0] else where[0]
            self.peer = f"{host}:{where[1]}"
        self.transport.set_write_buffer_limits(high=bounds.output_bytes_pause)
        refusal = self.desk.admit(self)
        if refusal is not None:
            self.emit(refusal)
            self.close()
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.closing = True
        if self.idle_writes:  # who wrote and left meant it, whatever was guessed here
            self.desk.proposer.take_waiting(self)
        self.waiting -= len(self.reads)
        self.reads.clear()
        self.late.clear()
        self.held = []
        self.full = False
        self.out = bytearray()
        self.parser = Parser()
        self.desk.forget(self)

    def eof_received(self) -> bool:
        """The client sends no more (`printf ... | nc`): what it sent is still answered.

        Reading is paused while commands are held back, so none is left when this comes.
        """
        self.close()
        return self.waiting > 0 or self.owed > 0

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.settle()

    # Answers

    def cut(self) -> None:
        """Give up a client whose unread answers pass all bounds."""
        self.out = bytearray()
        self.closing = True
        if self.transport is not None:
            self.desk.log_overrun(self)
            self.transport.abort()
            self.transport = None  # what else is answered goes nowhere

    def reply(self, value: Any) -> None:
        """Answer the newest command at once: now, or behind the answers that must come first."""
        if self.waiting:
            self.late.append((self.answered + self.waiting, value))
        else:
            self.emit(value)

    def emit_late(self) -> None:
        late, answered = self.late, self.answered
        while late and late[0][0] <= answered:
            self.emit(late.popleft()[1])

    def emit(self, value: Any) -> None:
        if self.transport is None:
            return
        if value.__class__ is dict and len(value) == 1 and self._control(value):
            return
        if self.mute:
            if self.mute == SKIP:
                self.mute = SPEAK
            return
        encode_into(self.out, value, self.proto)

    def _control(self, value: dict[Any, Any]) -> bool:
        """Obey a one-key control dict of a handler; False when it is an ordinary map."""
        ((key, wanted),) = value.items()
        if not isinstance(key, str) or key not in CONTROLS:
            return False
        if key == "bypass":
            raw = wanted if isinstance(wanted, (bytes, bytearray)) else str(wanted).encode()
            self.out += raw
            return True
        if key == "quit_after_send":
            encode_into(self.out, wanted, self.proto)
        self.mute = MUTE  # commands that were pipelined behind it get no answer
        self.close()
        return True

    def release(self, answer: bytearray) -> None:
        """Of `holding.Receiver`: write what was on hold."""
        self.owed -= 1
        if self.transport is not None:
            self.transport.write(answer)
            self.flush()

    def lapse(self, error: RaftException) -> None:
        """Of `holding.Receiver`: close at once; a client must take that for UNCERTAIN."""
        self.out = bytearray()
        self.closing = True
        if self.transport is not None:
            self.transport.abort()
            self.transport = None  # what else is answered goes nowhere

    def close(self) -> None:
        """Take no more commands; the answers that are still due are written first."""
        if not self.closing:
            self.closing = True
            self.held = []
            self.full = False
            if self.transport is not None and self.reading:
                self.reading = False
                self.transport.pause_reading()

    def crowded(self) -> bool:
        """Write what is there; True when the client must read before more is produced."""
        self.flush()
        return self.writing_paused

    def block(self) -> None:
        """Take no further command until `unblock`: a command with an answer to come runs."""
        self.blocked = True
        self.waiting += 1

    def unblock(self, value: Any) -> None:
        """The answer of the command that blocked is there; go on."""
        self.blocked = False
        self.answer(value)
        self.settle()
