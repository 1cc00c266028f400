"""Reading the log's segments back (full text follows with the implementation)."""

from __future__ import annotations

from typing import NamedTuple

from pyraft_fast.core.entry import Entry


class HardState(NamedTuple):
    """What must survive a crash beside the entries; `vote` is "" where none was given."""

    term: int
    vote: str
    commit: int


class Identity(NamedTuple):
    """Whose log this is."""

    cluster: int
    nid: str
    incarnation: int


class Recovered(NamedTuple):
    """What a log held when it was opened.

    The log has entries `first`..`last`; it is empty when `last < first`. `last_term` is the term
    of `last` (of the reset point in a log emptied by one, 0 in a new log). `reset` is the
    (index, term) of the snapshot the log was last restarted behind, None if never or forgotten.
    `configs` are the membership entries among `first`..`last`. `start` counts how often this log
    was opened, this time included; it is durable. `torn` tells in words what was cut off the end
    (bytes no one was promised), None if nothing was.
    """

    fresh: bool
    identity: Identity
    state: HardState
    first: int
    last: int
    last_term: int
    reset: tuple[int, int] | None
    configs: list[Entry]
    start: int
    torn: str | None
