"""Batches of writes on their way through the log, and the session that makes them exactly-once.

A batch gathers what one turn of the loop brought. Its `ops` list tells who is answered from it:
an origin for each command of the payload, and a `Ride` for each read that a connection sent
between its own writes; rides are executed here, at their place in the batch, and are no part of
the payload.

Invariants: batch numbers of a session have no gap, and a sent batch keeps its payload and its
place until the log has applied it, answered or not; so re-sending everything in order is always
allowed, and is what closes a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pyraft_fast import _turn
from pyraft_fast._entry import Batch
from pyraft_fast._turn import OpenBatch, Origin
from pyraft_fast.errors import RaftException, TryAgain

if TYPE_CHECKING:
    from pyraft_fast._turn import Row


class Ride(NamedTuple):
    """A read that is executed between the commands of a batch."""

    origin: Origin
    row: Row
    words: list[Any]


def new_batch(born: float) -> OpenBatch:
    """An empty batch; `born` is the loop time of its first command."""
    return OpenBatch(Batch(), born)


def refusal(row: Row, error: RaftException) -> Row:
    """A row in the place of `row` that answers with `error`."""

    def function(node: object, words: list[Any]) -> None:
        raise error

    refusing = _turn.Row()
    refusing.name, refusing.function, refusing.read = row.name, function, True
    return refusing


def refuse(ops: list[Origin | Ride], error: RaftException, dirty: list[Origin]) -> None:
    """Answer everybody in a batch with `error`; a riding read is told to try again."""
    retry = TryAgain("the read was behind a write without an answer; it was not executed")
    for op in ops:
        if isinstance(op, Ride):
            origin = op.origin
            origin.answer(retry)
        else:
            origin = op
            origin.answer(error)
        if not origin.dirty:
            origin.dirty = True
            dirty.append(origin)
