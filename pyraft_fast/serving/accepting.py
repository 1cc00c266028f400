"""The client port: connections come from its listener and are served by a hub.

It decides how many are let in during one turn of the loop, and what happens when the process has
no descriptor left: nobody is let in for a moment, since a listener that stays ready would make the
loop spin, and those who wait in the listener's queue may come in when others have left.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from pyraft_fast._hub import Hub

logger = logging.getLogger(__name__)

ACCEPTED_MAX: Final = 64  # in one turn of the loop
PAUSE_SECONDS: Final = 0.2  # when nobody can be let in
# What only the connection at the head of the queue died of (accept(2)); the next one may be well.
PASSING: Final = frozenset(
    {
        errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN,
        errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH,
    }
)  # fmt: skip


class ClientPort:
    """Lets connections in from construction on. Loop thread only.

    `listener` listens already and is closed by `stop_accepting`; `protocol` makes one for each
    connection. Raises OSError when no descriptor is left for the hub.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        protocol: Callable[[], asyncio.BufferedProtocol],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._protocol = protocol
        self._hub = Hub(loop)
        self._is_open = True
        self._is_full = False  # and that was said
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        """Let in who waits, up to a bound: those who are in must be served, too."""
        for _ in range(ACCEPTED_MAX):
            if not self._is_open:  # a connection that was made here has stopped the node
                return
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                self._is_full = False
                return
            except OSError as error:
                if error.errno in PASSING:
                    continue
                self._wait(error)
                return
            self._let_in(sock)

    def _let_in(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            self._hub.attach(sock, self._protocol())
        except BaseException:
            sock.close()
            raise

    def _wait(self, error: OSError) -> None:
        """No descriptor or no memory: try again a little later."""
        if not self._is_full:
            self._is_full = True
            logger.warning("no more clients can be let in for now: %s", error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop_accepting(self) -> None:
        """Let nobody in any more; who is in stays."""
        if not self._is_open:
            return
        self._is_open = False
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def close(self) -> None:
        """End it all; what is unsent by now is dropped. The protocols hear of it from the loop."""
        self.stop_accepting()
        self._hub.close()
