"""Judges whether this node's data are those of the majority, from what nodes tell of digests.

It decides nothing but that: no I/O, no clock, no handlers. Every node judges for itself. Each
voter is, as far as is known here, in agreement with this node, different from it, or unheard of.
A node must stop when those that are not different are no majority of the voters any more: then
either a majority knows better, or nobody does, and serving on would give wrong data.

What is heard may be late, early, repeated or missing. Digests of entries that are not applied
yet wait here, bounded; what is too old to be compared is ignored. A difference stays until the
sums of both nodes agree from the same beginning (the other was set up anew) or it leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Final, NamedTuple

from pyraft_fast._entry import packb, unpackb
from pyraft_fast._quorum import commit_index
from pyraft_fast.errors import ProtocolError
from pyraft_fast.serving.track import ALL, ENTRIES_MAX, MODES, OFF, WORD, Sum, Track

VERSION: Final = 1  # of the digests and of how they are told; others are not compared
PAIRS_MAX: Final = 512  # digests told at once
WAITING_MAX: Final = 64  # sums of a node that is ahead
REPORT: Final = 0
ASK: Final = 1
ANSWER: Final = 2
NEVER: Final = (1 << 63) - 1


class Report(NamedTuple):
    """What a node tells: how far it is, its sums there, and digests of its last entries."""

    mode: str
    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody calls
    sampled: Sum
    every: Sum | None
    pairs: list[tuple[int, int]]


class Ask(NamedTuple):
    """Digests of these entries are wanted; of a single one also its commands'."""

    low: int
    high: int


class Answer(NamedTuple):
    """What is still known of the entries that were asked for."""

    low: int
    high: int
    pairs: list[tuple[int, int]]
    commands: list[int]


def encode(note: Report | Ask | Answer) -> bytes:
    """A note as bytes; msgpack."""
    if isinstance(note, Report):
        sums = [*note.sampled, *(note.every or ())]
        flat = [word for pair in note.pairs for word in pair]
        return packb([REPORT, VERSION, MODES.index(note.mode), note.index, sums, flat])
    if isinstance(note, Ask):
        return packb([ASK, VERSION, note.low, note.high])
    flat = [word for pair in note.pairs for word in pair]
    return packb([ANSWER, VERSION, note.low, note.high, flat, note.commands])


def decode(data: bytes) -> Report | Ask | Answer | None:
    """The note in bytes of another node; None for one of another version.

    Raises ProtocolError for anything malformed.
    """
    fields = unpackb(data)
    try:
        kind, version, first, second, *rest = fields
        if version != VERSION:
            return None
        low, high = _number(first), _number(second)
        if kind == REPORT:
            sums, pairs = _words(rest[0]), _pairs(rest[1])
            every = Sum(sums[2], sums[3]) if len(sums) == 4 else None
            return Report(MODES[low], high, Sum(sums[0], sums[1]), every, pairs)
        if kind == ASK:
            return Ask(low, high)
        if kind == ANSWER:
            return Answer(low, high, _pairs(rest[0]), _words(rest[1]))
    except (TypeError, ValueError, IndexError) as error:
        raise ProtocolError(f"a note about digests is malformed: {error}") from error
    raise ProtocolError(f"a note about digests of kind {kind!r:.40}")


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= WORD:
        raise ValueError(f"{value!r:.40} is no 64-bit number")
    return value


def _words(value: object) -> list[int]:
    if not isinstance(value, list):
        raise TypeError("no list of numbers")
    return [_number(word) for word in value]


def _pairs(value: object) -> list[tuple[int, int]]:
    words = _words(value)
    return list(zip(words[::2], words[1::2], strict=True))


class Peer:
    """Another node, as far as digests tell."""

    __slots__ = ("_bases", "agreed", "differs", "early", "exact", "mode", "waiting")

    def __init__(self) -> None:
        self.mode = ""  # unheard of
        self.agreed = 0  # the newest index at which its data were this node's
        self.differs = 0  # the first index at which they were known not to be; 0: never
        self.exact = False  # that very entry had another digest there
        self.early: dict[int, int] = {}  # digests of entries that are not applied here yet
        self.waiting: list[Report] = []  # sums at such indexes
        # Differences of sums that began at different places: (over all entries, begins) -> words
        self._bases: dict[tuple[bool, int, int], int] = {}

    def same_sums(self, mine: Sum, theirs: Sum, every: bool) -> tuple[bool, bool]:
        """(whether the sums agree, whether that speaks for all of the past)."""
        apart = (mine.total - theirs.total) & WORD
        if mine.since == theirs.since:
            return apart == 0, True
        if len(self._bases) > WAITING_MAX:
            self._bases.clear()
        base = self._bases.setdefault((every, mine.since, theirs.since), apart)
        return base == apart, False

    def differ(self, index: int, exact: bool) -> None:
        """Take note of a difference; the first one counts, an exact one more."""
        if not self.differs or (exact and not self.exact) or (exact and index < self.differs):
            self.differs, self.exact = index, exact


class Verdict(NamedTuple):
    """This node must stop: the first entry known to differ (`exact`) or the first index at which
    a difference showed, behind `agreed`; `others` are those whose data differ."""

    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody calls
    exact: bool
    agreed: int
    others: list[str]
    known: bool  # they are a majority


class Judge:
    """What is known about the other nodes' data. One thread."""

    def __init__(self, nid: str, track: Track) -> None:
        self._nid = nid
        self._track = track
        self._peers: dict[str, Peer] = {}
        self._incarnations: dict[str, int] = {}
        self._voters: list[str] = []
        self.waits = False  # something was heard of entries that are not applied here yet
        # Some node holds its answers until others have told of every entry.
        self.is_asked_for_all = track.mode == ALL

    def members(self, members: Iterable[tuple[str, int, bool]]) -> None:
        """The membership: (node, incarnation, whether it votes), this node included."""
        now = list(members)
        self._voters = [nid for nid, _, votes in now if votes]
        incarnations = {nid: incarnation for nid, incarnation, _ in now if nid != self._nid}
        for nid in list(self._peers):
            if self._incarnations.get(nid) != incarnations.get(nid):
                del self._peers[nid]
        self._incarnations = incarnations
        self._look()

    def _look(self) -> None:
        peers = self._peers.values()
        self.waits = any(peer.early or peer.waiting for peer in peers)
        self.is_asked_for_all = ALL in (self._track.mode, *(peer.mode for peer in peers))

    @property
    def alone(self) -> bool:
        """Whether there is nobody to compare with."""
        return not self._incarnations

    def heard(self, nid: str, report: Report) -> None:
        """Another node told of its digests. Who is no member is not heard."""
        if nid not in self._incarnations or not self._track.every:
            return
        peer = self._peers.get(nid)
        if peer is None:
            peer = self._peers[nid] = Peer()
        peer.mode = report.mode
        if report.mode == OFF:
            return
        for index, digest in report.pairs[-PAIRS_MAX:]:
            if index > self._track.index:
                if len(peer.early) < ENTRIES_MAX:
                    peer.early[index] = digest
            else:
                self._compare(peer, index, digest)
        if report.index <= self._track.index:
            self._compare_sums(peer, report)
        elif len(peer.waiting) < WAITING_MAX:
            peer.waiting.append(report._replace(pairs=[]))
        self._look()

    def applied(self) -> None:
        """Entries were applied here: compare what others had told of them before."""
        index = self._track.index
        for peer in self._peers.values():
            for at in list(takewhile(lambda at: at <= index, peer.early)):
                self._compare(peer, at, peer.early.pop(at))
            if peer.waiting:
                due = [report for report in peer.waiting if report.index <= index]
                peer.waiting = [report for report in peer.waiting if report.index > index]
                for report in due:
                    self._compare_sums(peer, report)
        self._look()

    def _compare(self, peer: Peer, index: int, digest: int) -> None:
        mine = self._track.digest_of(index)
        if mine is not None and mine != digest:
            peer.differ(index, True)

    def _compare_sums(self, peer: Peer, report: Report) -> None:
        mine = self._track.at(report.index)
        if mine is None:
            return
        if mine.every is not None and report.every is not None:
            same, whole = peer.same_sums(mine.every, report.every, True)
        else:
            same, whole = peer.same_sums(mine.sampled, report.sampled, False)
        if not same:
            peer.differ(report.index, False)
        elif whole or not peer.differs:
            peer.agreed = max(peer.agreed, report.index)
            if whole and report.index > peer.differs:
                peer.differs, peer.exact = 0, False

    # What follows

    def verdict(self) -> Verdict | None:
        """Why this node must stop, if it must."""
        differing = self.differing()
        if not differing:
            return None
        voters = [nid for nid in differing if nid in self._voters]
        majority = len(self._voters) // 2 + 1
        if len(self._voters) - len(voters) >= majority:
            return None
        first = min(voters, key=lambda nid: (not differing[nid].exact, differing[nid].differs))
        peer = differing[first]
        return Verdict(
            peer.differs, peer.exact, peer.agreed, sorted(voters), len(voters) >= majority
        )

    def differing(self) -> dict[str, Peer]:
        """The nodes whose data are known to be others than this node's."""
        return {nid: peer for nid, peer in self._peers.items() if peer.differs}

    def agreed(self) -> int:
        """The highest index up to which a majority is known to have this node's data.

        A node that digests nothing cannot object.
        """
        if not self._voters:
            return self._track.index
        return int(commit_index(self._agreed_of(nid) for nid in self._voters))

    def agreed_by_all(self) -> int:
        """The highest index up to which every voter is known to have this node's data."""
        return min((self._agreed_of(nid) for nid in self._voters), default=self._track.index)

    def _agreed_of(self, nid: str) -> int:
        if nid == self._nid:
            return self._track.index
        peer = self._peers.get(nid)
        if peer is None:
            return 0
        return NEVER if peer.mode == OFF else peer.agreed

    def report(self) -> Report:
        """What this node tells of itself."""
        track = self._track
        pairs = track.take_fresh(PAIRS_MAX)
        return Report(track.mode, track.index, track.sampled, track.all, pairs)


def first_difference(mine: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> int:
    """The first index that both know with different digests; 0 when there is none."""
    known = dict(mine)
    return next((index for index, digest in theirs if known.get(index, digest) != digest), 0)


def first_command(mine: Iterable[int], theirs: Iterable[int]) -> int:
    """The place of the first command with another digest; -1 when there is none."""
    pairs = enumerate(zip(mine, theirs, strict=False))
    return next((at for at, (one, other) in pairs if one != other), -1)
