"""When the serving side is asked to send again what may be lost on its way to the leader."""

from __future__ import annotations

import asyncio
from typing import Final

from pyraft_fast.consensus.peers import PeerLinks
from pyraft_fast.consensus.serving_side import Serving
from pyraft_fast.core.raft import Raft
from pyraft_fast.limits import MIB

WAIT_SECONDS: Final = 0.05  # after another node refused a batch of ours
WAIT_SECONDS_MAX: Final = 0.8  # the wait doubles up to this, while it goes on refusing
UNSENT_BYTES_MAX: Final = 1 * MIB  # for the leader: behind more, copies would only pile up


class Resending:
    """Asks for pending batches again: now, or in a while."""

    def __init__(
        self, raft: Raft, links: PeerLinks, serving: Serving, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._raft = raft
        self._links = links
        self._serving = serving
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = WAIT_SECONDS

    def now(self) -> None:
        """The leader takes batches; those that are still on their way to it go on first."""
        if self._links.queued_bytes(self._raft.leader) > UNSENT_BYTES_MAX:
            self.later()
        else:
            self._serving.resend()

    def later(self) -> None:
        """The leader refused one: it may take it in a moment."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._again)
            self._seconds = min(2 * self._seconds, WAIT_SECONDS_MAX)

    def begin_anew(self) -> None:
        """There is another leader, or a change of whether it takes batches: be quick again."""
        self._seconds = WAIT_SECONDS

    def close(self) -> None:
        """Ask for nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._timer = None
        self.now()
