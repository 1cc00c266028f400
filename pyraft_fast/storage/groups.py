"""One group of log records as it lies in a segment, and what its bytes prove.

A segment is a file of fixed length, full of zeros and durable before it gets its name:

    SEGMENT record | group | group | ... | zeros

A group is what one write puts there, and counts as a whole or not at all:

    STATE record | records, each padded with zeros to 8 bytes | trailer, 8 bytes of A5

The STATE record says: term, vote, commit; how many bytes of this segment were known to be durable
when it was written; the start number of the writer; how long the group is. It also repeats
where it belongs (incarnation, segment sequence, offset), so that a copy of it elsewhere, say
inside a value, proves nothing.

The question this file answers is whether bad bytes are *torn* (a crash interrupted a write that no
one was told of) or *damaged* (they were acknowledged and are now wrong). A disk writes sectors of
512 bytes whole or not at all, and what was not written here is zeros. So a torn group shows at
least one sector, or part of one at its ends, that is all zeros. To let nothing else look like
that, the writer sees to it that the parts at both ends of a group cannot be zeros (its first eight
bytes hold a length and a checksum, its last eight the trailer), and lists in the STATE record the
full sectors that hold zeros, or one byte short of zeros, by right. So one changed byte in a group
can never pass for a torn write. What no single copy can tell from a torn write is a last group
whose whole sector came back as zeros; the next group or `Wal.seal` closes that gap, because it
claims the bytes before it.

Groups are made by `_entry.seal_group`, in compiled code, since every write makes one; they are read
here, when a log is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from pyraft_fast._entry import (
    HEADER_SIZE,
    KIND_COMMANDS,
    KIND_CONFIG,
    KIND_NOOP,
    KIND_RESET,
    KIND_SEGMENT,
    KIND_STATE,
    Header,
    header,
    packb,
    seal,
    seal_group,
    unpackb,
    verify,
)
from pyraft_fast.errors import ProtocolError, StorageError
from pyraft_fast.storage.disk import SECTOR_BYTES

MAGIC = "pyraft-fast log"
VERSION = 1
ALIGN_BYTES = 8
TRAILER = b"\xa5" * ALIGN_BYTES
KINDS_IN_LOG = frozenset((KIND_NOOP, KIND_COMMANDS, KIND_CONFIG, KIND_RESET))

_STATE_BYTES_MAX = 1024  # a STATE record with room for a list of blank sectors
_STATE_MARK = bytes((KIND_STATE, VERSION, 0, 0))  # the last four bytes of a STATE header


class HardState(NamedTuple):
    """What must survive a crash beside the entries; `vote` is "" where none was given."""

    term: int
    vote: str
    commit: int


class State(Protocol):
    """What a group needs of a hard state; `vote` is "" where none was given. Never changed."""

    @property
    def term(self) -> int: ...
    @property
    def vote(self) -> str: ...
    @property
    def commit(self) -> int: ...


class Identity(NamedTuple):
    """Whose log this is."""

    cluster: int
    nid: str
    incarnation: int


class Head(NamedTuple):
    """The first record of a segment. `last_term` is the term of entry `first_index - 1`."""

    identity: Identity
    sequence: int
    first_index: int
    last_term: int
    size_bytes: int


class Group(NamedTuple):
    """A whole group: where it lies, what its STATE says, and where its records are."""

    offset: int
    end: int
    state: HardState
    start: int
    durable_offset: int
    records: list[tuple[int, Header]]


class Broken(NamedTuple):
    """No whole group begins at `offset`, though something is there.

    `blank` is true if a part that must not be zeros is: the mark of a write cut short.
    """

    offset: int
    reason: str
    blank: bool


class _State(NamedTuple):
    """A STATE record, decoded; `end` is where its group ends."""

    state: HardState
    start: int
    durable_offset: int
    end: int
    blanks: list[tuple[int, int]]


def padded(length: int) -> int:
    """`length` rounded up to the alignment of records."""
    return -(-length // ALIGN_BYTES) * ALIGN_BYTES


def encode_head(head: Head) -> bytes:
    """The SEGMENT record, padded."""
    identity = head.identity
    payload = packb(
        {
            "magic": MAGIC,
            "version": VERSION,
            "cluster": identity.cluster,
            "nid": identity.nid,
            "incarnation": identity.incarnation,
            "sequence": head.sequence,
            "first_index": head.first_index,
            "last_term": head.last_term,
            "size": head.size_bytes,
        }
    )
    record = seal(
        KIND_SEGMENT, head.first_index, 0, 0, identity.incarnation, head.sequence, 0, 0, payload
    )
    return record.ljust(padded(len(record)), b"\0")


def decode_head(data: bytes) -> tuple[Head, int]:
    """The SEGMENT record at the start of `data`, and where the first group begins.

    Raises StorageError with the reason (no path) when there is none.
    """
    if len(data) < HEADER_SIZE or not verify(data, 0):
        raise StorageError("its first record is not whole")
    found = header(data, 0)
    if found.kind != KIND_SEGMENT:
        raise StorageError("it does not begin with a segment record")
    try:
        values: Any = unpackb(data[HEADER_SIZE : found.length])
        if values["magic"] != MAGIC:
            raise StorageError("it is not a log of this program")
        if values["version"] != VERSION:
            raise StorageError(f"its format {values['version']} is not known to this program")
        identity = Identity(int(values["cluster"]), str(values["nid"]), int(values["incarnation"]))
        head = Head(
            identity,
            int(values["sequence"]),
            int(values["first_index"]),
            int(values["last_term"]),
            int(values["size"]),
        )
    except (ProtocolError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"its segment record cannot be understood ({error})") from error
    return head, padded(found.length)


def encode_group(
    head: Head,
    offset: int,
    state: State,
    start: int,
    durable_offset: int,
    records: Sequence[bytes],
) -> tuple[bytes, list[int]]:
    """One group that will lie at `offset` of the segment `head`.

    Returns its bytes, and where in the segment each of `records` will lie.
    """
    return seal_group(
        records,
        head.identity.incarnation,
        head.sequence,
        offset,
        start,
        durable_offset,
        state.term,
        state.vote,
        state.commit,
    )


def parse_group(data: bytes, head: Head, offset: int) -> Group | Broken | None:
    """What begins at `offset` of a segment read whole into `data`; None: nothing but zeros."""
    if len(data) - offset < HEADER_SIZE:
        return None if not any(data[offset:]) else Broken(offset, "no room for a record", False)
    if not any(data[offset : offset + HEADER_SIZE]):
        if data.count(0, offset) == len(data) - offset:
            return None
        return Broken(offset, "nothing is here but something behind it", True)
    state = _parse_state(data, head, offset)
    if isinstance(state, Broken):
        return state
    begin = offset + padded(header(data, offset).length)
    end = state.end
    if end > len(data):
        return Broken(offset, "the group is longer than the file", False)
    records = list(_walk(data, begin, end - ALIGN_BYTES))
    count = header(data, offset).count
    behind = records[-1][0] + padded(records[-1][1].length) if records else begin
    if len(records) == count and behind + ALIGN_BYTES == end and data[behind:end] == TRAILER:
        return Group(offset, end, state.state, state.start, state.durable_offset, records)
    reason = f"record {len(records) + 1} of {count} in the group is not whole"
    return Broken(offset, reason, _has_blank_part(data, begin, end, state.blanks))


def claims_beyond(data: bytes, head: Head, offset: int) -> int | None:
    """Where a STATE record behind `offset` says that bytes behind `offset` were durable."""
    hit = data.find(_STATE_MARK, offset)
    while hit >= 0:
        at = hit + len(_STATE_MARK) - HEADER_SIZE
        if at > offset and at % ALIGN_BYTES == 0:
            state = _parse_state(data, head, at)
            if isinstance(state, _State) and state.durable_offset > offset:
                return at
        hit = data.find(_STATE_MARK, hit + 1)
    return None


def _parse_state(data: bytes, head: Head, offset: int) -> _State | Broken:
    """The STATE record at `offset`, if it is whole and belongs there."""
    found = header(data, offset)
    if not verify(data, offset):
        end = offset + HEADER_SIZE
        if found.length == found.time_ms and HEADER_SIZE < found.length <= _STATE_BYTES_MAX:
            end = offset + found.length
        blank = _has_blank_part(data, offset, end, [])
        return Broken(offset, "the group's state record is not whole", blank)
    place = (found.kind, found.origin, found.start, found.batch)
    if place != (KIND_STATE, head.identity.incarnation, head.sequence, offset):
        return Broken(offset, "a record is here that belongs elsewhere", False)
    try:
        values: Any = unpackb(data[offset + HEADER_SIZE : offset + found.length])
        term, vote, commit, durable_offset, start, body_bytes, blanks, _ = values
        end = offset + padded(found.length) + body_bytes
        pairs = list(zip(blanks[::2], blanks[1::2], strict=True))
        return _State(HardState(term, vote, commit), start, durable_offset, end, pairs)
    except (ProtocolError, TypeError, ValueError) as error:
        return Broken(offset, f"a state record cannot be understood ({error})", False)


def _walk(data: bytes, offset: int, end: int) -> Iterator[tuple[int, Header]]:
    """The whole records from `offset` on, until `end` or the first that is not whole."""
    while end - offset >= HEADER_SIZE and verify(data, offset):
        found = header(data, offset)
        behind = offset + padded(found.length)
        if behind > end or found.kind not in KINDS_IN_LOG:
            return
        yield offset, found
        offset = behind


def _has_blank_part(data: bytes, begin: int, end: int, blanks: list[tuple[int, int]]) -> bool:
    """Is some sector, as far as it lies in `begin`..`end`, all zeros and not so by right?"""
    offset = begin
    while offset < end:
        sector = offset // SECTOR_BYTES
        behind = min((sector + 1) * SECTOR_BYTES, end)
        if not any(data[offset:behind]) and not any(
            first <= sector < first + count for first, count in blanks
        ):
            return True
        offset = behind
    return False
