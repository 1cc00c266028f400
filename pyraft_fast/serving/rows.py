"""The handler tables as the serving loop uses them: one dictionary look-up per command.

A row is what is left of a table entry once its letters are read. Rows are found under the name
as typed, so a client that always writes `SET` costs no `lower()`; what is remembered is thrown
away when a worker says that its tables changed, or when too many spellings appear.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from pyraft_fast import _turn
from pyraft_fast._digest import Noted
from pyraft_fast.errors import HandlerError
from pyraft_fast.serving.connection_commands import AT_ONCE, CONNECTION_COMMANDS
from pyraft_fast.serving.host import Host
from pyraft_fast.worker import table
from pyraft_fast.worker.idle import idle_answer_of

logger = logging.getLogger(__name__)

SPELLINGS_MAX: Final = 4096
UNLIMITED: Final = sys.maxsize


class Row(_turn.Row):
    """One command: `least` and `most` count words, the name included.

    At most one of `write`, `read`, `connection` is set; a row with none runs on this node at
    once. `at_once` marks connection commands that need not wait for the commands before them.
    """

    __slots__ = ("failures", "noted")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        least: int,
        most: int,
        failures: dict[str, int],
    ) -> None:
        self.name = name
        self.function = function
        self.least = least
        self.most = most
        self.failures = failures
        self.noted: Noted | None = None  # what runs in its place where the guard looks

    def failure(self, error: BaseException) -> HandlerError:
        """The error value for an exception of the handler; the first is logged in full."""
        failures = self.failures
        failures[self.name] = failures.get(self.name, 0) + 1
        if failures[self.name] == 1:
            logger.warning("handler %r failed", self.name, exc_info=error)
        try:
            text = str(error)
        except Exception:  # of the user's own class
            text = "(no text)"
        return HandlerError(f"handler {self.name!r} failed: {type(error).__name__}: {text}")


def shown_rows() -> list[table.Row]:
    """The connection commands as COMMAND shows them."""
    return [
        table.Row(name, [function, "a", least - 1, max(0, most - 1)])
        for name, (function, least, most) in CONNECTION_COMMANDS.items()
    ]


def connection_rows(failures: dict[str, int]) -> dict[str, Row]:
    """The rows of the commands that concern the connection alone."""
    rows = {}
    for name, (function, least, most) in CONNECTION_COMMANDS.items():
        row = Row(name, function, least, most if most >= 0 else UNLIMITED, failures)
        row.connection = True
        row.at_once = name in AT_ONCE
        rows[name] = row
    return rows


class Rows:
    """Rows by worker offset and name, as far as they were looked up.

    `known` is the network's way in, where connection commands come first; `logged` is offset 0
    for the log and for in-process commands, which have no connection: there, what a table says
    must not depend on what clients of this node typed before.
    """

    __slots__ = (
        "_connection", "_host", "_known", "_version", "_watched", "failures", "known", "logged",
    )  # fmt: skip

    def __init__(self, host: Host) -> None:
        self._host = host
        self.failures: dict[str, int] = {}  # exceptions by handler
        self._connection = connection_rows(self.failures)
        self.known: dict[str, Row] = {}
        self.logged: dict[str, Row] = {}
        self._known: dict[int, dict[str, Row]] = {0: self.logged}
        self._watched: dict[int, Any] = {}
        self._version = 0
        host.worker_map[0].extra_rows = shown_rows()

    def find(self, name: str) -> Row | None:
        """The row for a name in any case; None when no table has it."""
        version = self._version
        row = self._connection.get(name.lower()) or self.find_at(0, name)
        if row is not None:
            remember(self.known, name, row)
        if version != self._version:
            self._changed()
        return row

    def find_at(self, offset: int, name: Any) -> Row | None:
        """The row of one worker's table, for commands that come from the log or in-process."""
        if not isinstance(name, str):
            return None
        known = self._known.get(offset)
        row = known.get(name) if known is not None else None
        return row or self._resolve(offset, name)

    def _resolve(self, offset: int, name: str) -> Row | None:
        worker: Any = self._host.worker_map.get(offset)
        if worker is None:
            return None
        if self._watched.get(offset) is not worker:
            self._watched[offset] = worker
            worker.watch(self._changed)
        version = self._version
        entry = worker.table.resolve(name)
        if entry is None:
            return None
        row = Row(
            entry.name,
            entry.function,
            entry.min + 1,
            entry.max + 1 if entry.max > 0 else UNLIMITED,
            self.failures,
        )
        row.write = entry.logged
        if row.write:
            row.idle = idle_answer_of(entry.function)
        row.read = not entry.logged and not entry.local
        remember(self._known.setdefault(offset, {}), name, row)
        if version != self._version:  # a table changed in another thread meanwhile
            self._changed()
        return row

    def _changed(self) -> None:
        self._version += 1
        for known in [self.known, *self._known.values()]:
            known.clear()


def remember(known: dict[str, Row], name: str, row: Row) -> None:
    """Keep a row under the name as typed; too many spellings begin anew."""
    if len(known) >= SPELLINGS_MAX:
        known.clear()
    known[name] = row
