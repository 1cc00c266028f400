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

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import Membership
from pyraft_fast.errors import ProtocolError


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
_NUMBERS_ON_WIRE: Final = frozenset(int(kind) for kind in MessageKind) - {MessageKind.SNAPSHOT}


class Message:
    """One message. See the table above for what each field means."""

    __slots__ = (
        "clock_ms",
        "commit",
        "context",
        "entries",
        "flag",
        "hint",
        "incarnation",
        "index",
        "kind",
        "log_term",
        "membership",
        "sender",
        "term",
        "to",
        "to_incarnation",
    )

    def __init__(
        self,
        kind: MessageKind,
        sender: str,
        to: str,
        term: int,
        index: int = 0,
        log_term: int = 0,
        commit: int = 0,
        flag: bool = False,
        hint: int = 0,
        context: int = 0,
        clock_ms: int = 0,
        entries: Sequence[Entry] = (),
        incarnation: int = 0,
        to_incarnation: int = 0,
        membership: Membership | None = None,
    ) -> None:
        self.kind = kind
        self.sender = sender
        self.to = to
        self.term = term
        self.index = index
        self.log_term = log_term
        self.commit = commit
        self.flag = flag
        self.hint = hint
        self.context = context
        self.clock_ms = clock_ms
        self.entries = entries
        self.incarnation = incarnation
        self.to_incarnation = to_incarnation
        self.membership = membership

    def wire(self) -> list[int]:
        """The header fields as they are sent; the entries' records follow it as raw bytes."""
        return [
            int(self.kind),
            self.term,
            self.index,
            self.log_term,
            self.commit,
            1 if self.flag else 0,
            self.hint,
            self.context,
            self.clock_ms,
            self.to_incarnation,
        ]

    def __repr__(self) -> str:
        parts = [f"{self.kind.name} {self.sender}->{self.to} t{self.term}"]
        for name in ("index", "log_term", "commit", "flag", "hint", "context"):
            if getattr(self, name):
                parts.append(f"{name}={getattr(self, name)}")
        if self.entries:
            parts.append(f"entries={self.entries[0].index}..{self.entries[-1].index}")
        return f"<{' '.join(parts)}>"


def read_message(
    fields: object, sender: str, incarnation: int, to: str, entries: Sequence[Entry] = ()
) -> Message:
    """The message whose `wire()` was received from `sender` (as the link knows it) for `to`.

    `entries` are the verified records behind it. Raises ProtocolError for fields of the wrong type
    or range, and for entries that do not follow `index` one by one or whose terms fall.
    """
    if not isinstance(fields, list) or len(fields) != 10:
        raise ProtocolError("a message from a peer does not have ten fields")
    for value in fields:
        if type(value) is not int or not 0 <= value < 2**64:
            raise ProtocolError(f"a message from a peer has a bad field: {value!r:.80}")
    kind, term, index, log_term, commit, flag, hint, context, clock_ms, to_incarnation = fields
    if kind not in _NUMBERS_ON_WIRE:
        raise ProtocolError(f"a message from a peer has the unknown kind {kind}")
    if entries and kind != MessageKind.APPEND:
        raise ProtocolError(f"a message of kind {kind} from a peer carries entries")
    place, newest = index, log_term
    for entry in entries:
        place += 1
        if entry.index != place or not newest <= entry.term <= term:
            raise ProtocolError(f"entry {entry.index} from a peer stands in the wrong place")
        newest = entry.term
    return Message(
        MessageKind(kind),
        sender,
        to,
        term,
        index,
        log_term,
        commit,
        flag != 0,
        hint,
        context,
        clock_ms,
        entries,
        incarnation,
        to_incarnation,
    )
