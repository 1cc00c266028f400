"""Questions to the consensus process that wait for its DONE: changes, transfers, status."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pyraft_fast import errors
from pyraft_fast.common import Future
from pyraft_fast.errors import RaftException, Uncertain
from pyraft_fast.serving.propose import ANSWER_SECONDS


def error_of(code: str, text: str) -> RaftException:
    """The error a code word stands for; membership is what is mostly refused with plain ERR."""
    for kind in (
        errors.TryAgain, errors.ClusterDown, errors.Uncertain, errors.Loading,
    ):  # fmt: skip
        if kind.code == code:
            return kind(text)
    return errors.MembershipError(text)


class Requests:
    """Open questions by id. Loop thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, arm: Callable[[], None]) -> None:
        self._loop = loop
        self._arm = arm
        self._open: dict[int, tuple[Future, float]] = {}
        self._ids = 0

    @property
    def idle(self) -> bool:
        """Whether no question is open."""
        return not self._open

    def add(self, future: Future) -> int:
        """File a question; returns the id to send along."""
        self._ids += 1
        self._open[self._ids] = (future, self._loop.time() + ANSWER_SECONDS)
        self._arm()
        return self._ids

    def done(self, request_id: int, value: Any, code: str, text: str) -> None:
        """An answer came; one that came too late is ignored."""
        future, _ = self._open.pop(request_id, (None, 0.0))
        if future is not None:
            future.set(error_of(code, text) if code else value)

    def drop(self) -> None:
        """The consensus process is gone."""
        dropped, self._open = self._open, {}
        for future, _ in dropped.values():
            future.set(Uncertain("the consensus process ended before it answered"))

    def sweep(self, now: float) -> None:
        """Answer what has waited too long."""
        for request_id, (future, deadline) in list(self._open.items()):
            if deadline <= now:
                del self._open[request_id]
                future.set(Uncertain("no answer from the cluster in time; it may still happen"))
