"""Removed nodes: told once it is certain, and silent from then on.

A removed node does not get the entry that removes it, so it would start elections for ever. Whoever
knows that its incarnation is gone, by a committed membership, says so whenever it speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import Role

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft


def notice_own_removal(raft: Raft) -> None:
    """Stop for good if it is certain that this node was removed."""
    if raft.incarnation in raft.log.committed_membership().removed:
        _leave(raft)


def on_removed(raft: Raft, message: Message) -> None:
    """A member says that this node was removed."""
    if message.to_incarnation == raft.incarnation:
        _leave(raft)


def _leave(raft: Raft) -> None:
    if raft.role is not Role.REMOVED:
        raft.become_follower(raft.term, "")
        raft.move(Role.REMOVED)


def tell_removed(raft: Raft, nid: str, incarnation: int) -> None:
    """Tell a node that it was removed."""
    raft.send_now.append(
        Message(
            MessageKind.REMOVED,
            raft.nid,
            nid,
            raft.term,
            clock_ms=raft.clock_ms,
            incarnation=raft.incarnation,
            to_incarnation=incarnation,
        )
    )
