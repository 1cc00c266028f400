"""What nodes say to each other: one flat class, one number per kind.

Fields by kind (what is not named is 0 and means nothing). Every message carries the sender's term
and the latest cluster time it has seen (`clock_ms`), and names both incarnations, for a name alone
proves nothing. `sender` and `incarnation` come from the link, never from the message's own bytes.

    APPEND           index, log_term: the entry before `entries`; commit
    APPEND_REPLY     flag: accepted. Then index: the log agrees up to there. Else index: the place
                     refused; hint, log_term: a place at or before which the logs may agree
    HEARTBEAT        commit: not above what the receiver is known to hold; flag: answer this;
                     context: the newest read round; hint: the leader's steady clock, in ms;
                     index: how many transfers it has given up in this term
    HEARTBEAT_REPLY  context, hint: as asked; index: the sender's last entry
    PREVOTE          term: the one the sender would begin; index, log_term: its last entry
    PREVOTE_REPLY    flag: granted, then term is the one asked about
    VOTE             index, log_term: the sender's last entry; flag: the leader asked for this,
                     then context: as in its TIMEOUT_NOW
    VOTE_REPLY       flag: granted
    READ             context: the sender's own number for a bundle of reads; flag: a lease will do
    READ_REPLY       flag: granted, then index: apply up to there first; context: as asked
    SNAPSHOT         never on the wire: a node's driver says it has a whole snapshot file on disk.
                     index, log_term: where it stands; membership, clock_ms: what it says
    TIMEOUT_NOW      begin an election at once; context: how many transfers were given up before
    REMOVED          the receiver was voted out of the cluster
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyraft_fast import _wire
from pyraft_fast._wire import Message

__all__ = ["REPLIES", "Message", "MessageKind"]


class MessageKind(IntEnum):
    """What a message is; the number is on the wire."""

    APPEND = 1
    APPEND_REPLY = 2
    HEARTBEAT = 3
    HEARTBEAT_REPLY = 4
    PREVOTE = 5
    PREVOTE_REPLY = 6
    VOTE = 7
    VOTE_REPLY = 8
    READ = 9
    READ_REPLY = 10
    SNAPSHOT = 11
    TIMEOUT_NOW = 12
    REMOVED = 13


REPLIES: Final = frozenset(
    {
        MessageKind.APPEND_REPLY,
        MessageKind.HEARTBEAT_REPLY,
        MessageKind.PREVOTE_REPLY,
        MessageKind.VOTE_REPLY,
        MessageKind.READ_REPLY,
    }
)

_wire.know(kind for kind in MessageKind if kind is not MessageKind.SNAPSHOT)
