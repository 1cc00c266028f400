"""Answers on hold: in digest mode `all` they leave when a majority agrees on what they came from.

An answer is due at the entry that was applied last when it was made. It leaves, in order, once
a majority of the voters is known to have the same data up to there. One that nobody confirms in
time never leaves: what it says may be wrong, so its connection is closed, which tells a client
as much as UNCERTAIN does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from pyraft_fast.errors import Uncertain
from pyraft_fast.limits import OUTPUT_BYTES_MAX
from pyraft_fast.serving.propose import ANSWER_SECONDS

LAPSED: Final = (
    "no majority confirmed in time that it has the same data (--digests all); the command may "
    "have been executed"
)


class Receiver(Protocol):
    """Whoever an answer is for."""

    def release(self, answer: Any) -> None:
        """The answer may leave."""

    def lapse(self, error: Uncertain) -> None:
        """It never may."""


class Held(NamedTuple):
    """One answer on hold until `due` is agreed on."""

    due: int
    deadline: float
    receiver: Receiver
    answer: Any
    nbytes: int


class Holder:
    """Answers of one node on hold, oldest first. Loop thread only.

    `applied` and `agreed` tell how far this node and a majority are; `arm` asks for `sweep`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        applied: Callable[[], int],
        agreed: Callable[[], int],
        arm: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._applied = applied
        self._agreed = agreed
        self._arm = arm
        self._held: deque[Held] = deque()
        self._nbytes = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is on hold."""
        return not self._held

    def hold(self, receiver: Receiver, answer: Any, nbytes: int = 0) -> bool:
        """Keep an answer back; False when it may leave at once."""
        due = self._applied()
        if not self._held and self._agreed() >= due:
            return False
        if self._nbytes + nbytes > OUTPUT_BYTES_MAX:
            receiver.lapse(Uncertain(LAPSED))
            return True
        self._nbytes += nbytes
        deadline = self._loop.time() + ANSWER_SECONDS
        self._held.append(Held(due, deadline, receiver, answer, nbytes))
        self._arm()
        return True

    def release(self) -> None:
        """Let go what is agreed on by now."""
        held = self._held
        if not held:
            return
        agreed = self._agreed()
        while held and held[0].due <= agreed:
            first = held.popleft()
            self._nbytes -= first.nbytes
            first.receiver.release(first.answer)

    def sweep(self, now: float) -> None:
        """Give up what has waited too long."""
        while self._held and self._held[0].deadline <= now:
            self._lapse_first()

    def drop(self) -> None:
        """Give up everything."""
        while self._held:
            self._lapse_first()

    def _lapse_first(self) -> None:
        first = self._held.popleft()
        self._nbytes -= first.nbytes
        first.receiver.lapse(Uncertain(LAPSED))
