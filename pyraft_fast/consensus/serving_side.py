"""The serving side of this node, as its driver sees it: what it is told, and where its batches lie.

A batch grows in the slot until it is taken. So it is taken when the driver gets to it and not
before: all that is done once for each batch is then done for all that has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pyraft_fast.consensus.forward import Proposal
from pyraft_fast.consensus.identity import PeerHost


class Serving(Protocol):
    """What the driver tells the serving side."""

    def role(
        self, role: str, term: int, leader_nid: str, leader_addr: str, serving_ok: bool
    ) -> None:
        """The node's part in the cluster, as it is now."""
        ...

    def resend(self) -> None:
        """Batches under way may be lost: send the pending ones again, in order."""
        ...


class Slot(Protocol):
    """The taking half of `_slot.Slot`."""

    def take(self) -> tuple[int, int, int, bytes] | None:
        """The batch that lies there; None: this side is told of the next one."""
        ...


class Intake:
    """Proposes what lies in the slot."""

    def __init__(self, slot: Slot, host: PeerHost, propose: Callable[[Proposal], None]) -> None:
        self._slot = slot
        self._host = host
        self._propose = propose

    def take(self) -> None:
        """Take all that lies there."""
        while (batch := self._slot.take()) is not None:
            self._offer(*batch)

    def propose(self, start: int, number: int, count: int, payload: bytes) -> None:
        """A batch that did not go through the slot; what lies there is older."""
        self.take()
        self._offer(start, number, count, payload)

    def _offer(self, start: int, number: int, count: int, payload: bytes) -> None:
        origin = self._host.identity.incarnation
        self._propose(Proposal(origin, start, number, count, payload))
