"""One client connection: bytes in, commands to the desk, answers out in the order of commands.

Received bytes land in the parser's own buffer; answers are encoded into one bytearray and
written once per turn. The connection decides when it reads no further: too many unanswered
commands, too much unread output, a command that must wait for the ones before it, or
back-pressure from the desk. It refuses to know what a command does.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from pyraft_fast._resp import Parser, encode_into
from pyraft_fast.errors import ProtocolError, RaftException
from pyraft_fast.limits import (
    COMMAND_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    OUTPUT_BYTES_PAUSE,
    PIPELINE_COMMANDS_MAX,
)
from pyraft_fast.serving.connection_commands import MUTE, SKIP, SPEAK
from pyraft_fast.serving.origin import Origin

if TYPE_CHECKING:
    from pyraft_fast.serving.dispatch import Desk

TAKE_MAX: Final = 1024  # commands taken from the parser at a time
KEEPALIVE_SECONDS: Final = 300  # of silence, before a client is asked whether it is there
UNANSWERED_BYTES_MAX: Final = 2 * COMMAND_BYTES_MAX  # of commands, then they are answered first
CONTROLS: Final = frozenset({"bypass", "quit", "quit_after_send"})


class Connection(Origin, asyncio.BufferedProtocol):
    """A client; `proto`, `name` and the like are changed by the connection commands."""

    __slots__ = (
        "answered", "authenticated", "blocked", "born", "closing", "desk", "full", "held", "id",
        "last_command", "late", "lib_name", "lib_ver", "mute", "name", "owed", "parser", "peer",
        "proto", "reading", "seen", "transport", "unanswered", "writing_paused",
    )  # fmt: skip

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.level = desk.gate.default
        self.parser = Parser()
        self.transport: asyncio.Transport | None = None
        self.proto = 2
        self.mute = SPEAK
        self.held: list[list[str]] = []  # taken from the parser, not yet dispatched
        self.late: deque[tuple[int, Any]] = deque()  # (answers that come first, value)
        self.answered = 0
        self.unanswered = 0  # bytes that came since everything was answered
        self.blocked = False  # a command runs whose effect later ones must see
        self.full = False  # the parser may hold more commands
        self.closing = False
        self.reading = True
        self.writing_paused = False
        self.owed = 0  # pieces of output on hold, see `holding`
        self.authenticated = desk.password is None
        self.id = 0
        self.peer = self.name = self.lib_name = self.lib_ver = self.last_command = ""
        self.born = self.seen = 0.0

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
        self.transport.set_write_buffer_limits(high=OUTPUT_BYTES_PAUSE)
        refusal = self.desk.admit(self)
        if refusal is not None:
            self._emit(refusal)
            self.close()
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.closing = True
        self.waiting -= len(self.reads)
        self.reads.clear()
        self.late.clear()
        self.held = []
        self.full = False
        self.out = bytearray()
        self.parser = Parser()
        self.desk.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.parser.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self.parser.buffer_updated(nbytes)
        desk = self.desk
        desk.stats.bytes_in += nbytes
        self.unanswered = self.unanswered + nbytes if self.waiting else nbytes
        self.seen = desk.now()
        self.pump()

    def eof_received(self) -> bool:
        """The client sends no more (`printf ... | nc`): what it sent is still answered.

        Reading is paused while commands are held back, so none is left when this comes.
        """
        self.close()
        return self.waiting > 0

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.settle()

    # Commands

    def pump(self) -> None:
        """Dispatch what has arrived, as far as it may be, and write the answers."""
        if not (self.blocked or self.closing or self.writing_paused):
            try:
                self._dispatch()
            except ProtocolError as error:
                self.reply(error)
                self.close()
        self.flush()

    def _dispatch(self) -> None:
        desk = self.desk
        while True:
            commands = self.held
            if commands:
                self.held = []
            else:
                room = PIPELINE_COMMANDS_MAX - self.waiting - len(self.late)
                if room <= 0:
                    self.full = True
                    return
                commands = self.parser.take(min(room, TAKE_MAX))
                self.full = len(commands) == min(room, TAKE_MAX)
                if not commands:
                    return
            done = desk.run(self, commands)
            self.held = commands[done:]
            if self.closing or self.blocked or desk.proposer.full:
                return
            if len(self.out) > OUTPUT_BYTES_PAUSE:
                self.flush()
                if self.writing_paused:
                    return
            elif self.held:  # behind answers that are still due
                return

    def _gauge(self) -> None:
        """Read from the socket only while nothing is held back."""
        transport = self.transport
        if transport is None or self.closing:
            return
        full = self.desk.proposer.full
        if full:
            self.desk.starved[self] = None
        crammed = self.waiting > 0 and self.unanswered > UNANSWERED_BYTES_MAX
        want = not (
            self.held or self.full or self.blocked or self.writing_paused or full or crammed
        )
        if want != self.reading:
            self.reading = want
            if want:
                transport.resume_reading()
            else:
                transport.pause_reading()

    # Answers

    def answer(self, value: Any) -> None:
        self.waiting -= 1
        self.answered += 1
        if value.__class__ is dict or self.mute or self.closing:
            self._emit(value)
        else:
            encode_into(self.out, value, self.proto)
        if len(self.out) > OUTPUT_BYTES_MAX:
            self._cut()
        if self.late:
            self._emit_late()

    def _cut(self) -> None:
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
            self._emit(value)

    def _emit_late(self) -> None:
        late, answered = self.late, self.answered
        while late and late[0][0] <= answered:
            self._emit(late.popleft()[1])

    def _emit(self, value: Any) -> None:
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

    def settle(self) -> None:
        self.dirty = False
        if self.transport is None:
            return
        if self.reads and not self.writing_paused:
            self.desk.run_reads(self)
        if self.held or self.full or not self.reading:
            self.pump()
        else:
            self.flush()

    def flush(self) -> None:
        """Write what was answered; close when that was asked for, or when too much is unread."""
        out, transport = self.out, self.transport
        if transport is None:
            return
        if out:
            self.out = bytearray()
            self.desk.stats.bytes_out += len(out)
            holder = self.desk.holder
            if holder is not None and holder.hold(self, out, len(out)):
                self.owed += 1
            else:
                transport.write(out)
                if self.writing_paused and transport.get_write_buffer_size() > OUTPUT_BYTES_MAX:
                    self._cut()
                    return
        if self.closing:
            if not (self.waiting or self.owed):
                transport.close()
        else:
            self._gauge()

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
