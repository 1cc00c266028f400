"""Whoever sends commands and gets their answers in order: a client connection or a caller.

The ordering law lives here as two facts about an origin. `waiting` counts its unanswered
commands; the reads that wait for a read index (`reads`) are always the newest of them, because a
write that arrives behind unexecuted reads takes them along into its batch. So the next answer an
origin gets from a batch is always the one for its oldest unanswered command.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyraft_fast.errors import RaftException
    from pyraft_fast.serving.reads import Level, ReadGroup
    from pyraft_fast.serving.rows import Row

    WaitingRead = tuple[ReadGroup, Row, list[Any]]


class Origin:
    """The part of a connection or an in-process call that batches and reads deal with."""

    __slots__ = ("batch_serial", "dirty", "level", "out", "reads", "waiting")

    level: Level  # how current its reads are; set before the first

    def __init__(self) -> None:
        self.waiting = 0
        self.reads: deque[WaitingRead] = deque()
        self.batch_serial = -1  # serial number of the batch that holds the newest write
        self.out = bytearray()  # encoded answers, not yet written
        self.dirty = False  # answered since its output was last written

    def answer(self, value: Any) -> None:
        """Take the answer to the oldest unanswered command."""
        raise NotImplementedError

    def settle(self) -> None:
        """End of a turn in which answers came: write them out, go on with what was held."""
        raise NotImplementedError

    def lapse(self, error: RaftException) -> None:
        """What was answered and has not left yet must never leave; `error` says why."""
        raise NotImplementedError

    def crowded(self) -> bool:
        """Called when `out` is large: write it; True when no more should be produced now."""
        return False

    @property
    def ready_to_read(self) -> bool:
        """Whether every command before the waiting reads is answered, and answers have room."""
        return self.waiting == len(self.reads)
