"""Signs of life of peers while a message is on its way that takes longer than an election.

A message goes over a link whole, and heartbeats and their answers wait behind it. An entry may
have 64 MB, which a network of 1 Gbit/s moves in half a second: without a word in between,
followers would call for an election, the leader would step down, and the next one would begin to
send the same entry. So bytes that move count, too. Only who waits for whom follows from them, no
lease and no promise: those need a whole message.
"""

from __future__ import annotations

from typing import Final

from pyraft_fast.consensus.identity import Identity
from pyraft_fast.consensus.peers import PeerLinks
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.replication import hear_part
from pyraft_fast.limits import KIB

LONG_BYTES_MIN: Final = 64 * KIB  # queued for a peer: less is gone before anybody wonders


class Transfers:
    """What moves on the links of a node, told to its rules."""

    def __init__(self, raft: Raft, links: PeerLinks) -> None:
        self._raft = raft
        self._links = links
        self._seen: dict[str, tuple[int, int]] = {}  # queued bytes, and moved, at the last tick

    def came(self, caller: Identity) -> None:
        """Part of a message came from that node."""
        hear_part(self._raft, caller.nid, caller.incarnation)

    def tick(self) -> None:
        """See which links have taken some of a long message since the last tick."""
        for nid, peer in self._raft.progress.items():
            queued, moved = self._links.queued_bytes(nid), self._links.moved_bytes(nid)
            was_queued, had_moved = self._seen.get(nid, (0, 0))
            if was_queued >= LONG_BYTES_MIN and moved > had_moved:
                hear_part(self._raft, nid, peer.incarnation)
            self._seen[nid] = (queued, moved)
