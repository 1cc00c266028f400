"""Passes notes about digests between the guards of the members, beside everything Raft says.

The notes are bytes to this process: what they mean is known to the serving sides alone. They
ride on the links that are there, are never waited for, and are lost where a link is down.
"""

from __future__ import annotations

from pyraft_fast._wire import Frame, encode_frame
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.peers import PeerLinks
from pyraft_fast.core.membership import Membership
from pyraft_fast.limits import DIGESTS_BYTES_MAX


def send_note(links: PeerLinks, membership: Membership, nid: str, note: bytes) -> None:
    """Send a note to member `nid`, or to all members if ""."""
    if len(note) > DIGESTS_BYTES_MAX:
        return
    frame = [encode_frame(FrameType.DIGESTS, {"note": note})]
    for member in membership.members:  # there is no link to this node itself
        if nid in ("", member.nid):
            links.send(member.nid, frame)


def read_note(frame: Frame) -> bytes:
    """The note in a frame; raises ProtocolError."""
    return Fields(frame.header, "a digest").blob("note", DIGESTS_BYTES_MAX)
