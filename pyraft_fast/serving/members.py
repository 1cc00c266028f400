"""The membership as the serving side sees it: who is in, and whose sessions count.

The payload of a membership entry is `[cluster, [[nid, addr, incarnation, role], ...], removed
incarnations, bootstrap]` in msgpack. What it means for elections is no business of this room.
"""

from __future__ import annotations

from typing import NamedTuple

from pyraft_fast._entry import unpackb
from pyraft_fast.errors import ProtocolError


class Member(NamedTuple):
    """One member; `role` is voter or learner."""

    nid: str
    addr: str
    incarnation: int
    role: str


class Members(NamedTuple):
    """Everyone in the cluster, and the incarnations that were removed from it."""

    cluster: int
    members: tuple[Member, ...]
    removed: tuple[int, ...]


NOBODY = Members(0, (), ())


def read_members(payload: bytes) -> Members:
    """Read a membership payload; b"" is nobody. Raises ProtocolError for anything malformed."""
    if not payload:
        return NOBODY
    try:
        cluster, members, removed, _ = unpackb(payload)
        return Members(cluster, tuple(Member(*member) for member in members), tuple(removed))
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a membership entry is malformed: {error}") from error
