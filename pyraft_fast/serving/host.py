"""What the engine needs of the node it serves, so that tests can hand it something smaller."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pyraft_fast.worker.store import Store

logger = logging.getLogger(__name__)


class Host(Protocol):
    """The node as its engine sees it.

    Callbacks are methods of the names in `callbacks.EVENTS`; each is optional.
    """

    @property
    def nid(self) -> str:
        """The node's id, for names of threads and log lines."""

    @property
    def store(self) -> Store:
        """The state machine."""

    @property
    def data_lock(self) -> AbstractContextManager[Any]:
        """Held while handlers run; re-entrant."""

    @property
    def worker_map(self) -> Mapping[int, Any]:
        """Workers (handler tables) by offset; 0 is the main one."""

    def log_info(self, msg: str) -> None:
        """Log with the node's prefix."""

    def log_warn(self, msg: str) -> None:
        """Log with the node's prefix."""

    def log_error(self, msg: str) -> None:
        """Log with the node's prefix."""

    def fail(self, text: str, status: int) -> None:
        """The node cannot go on: log `text`, stop without waiting, exit with `status`."""


def say(host: Host, level: int, text: str) -> None:
    """Log a line that consensus sent, with the node's prefix."""
    if level >= logging.ERROR:
        host.log_error(text)
    elif level >= logging.WARNING:
        host.log_warn(text)
    elif level >= logging.INFO:
        host.log_info(text)
    else:
        logger.debug("%s", text)
