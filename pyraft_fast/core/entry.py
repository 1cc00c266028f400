"""One entry of the log, as the rules see it.

The sealed record is what goes to the disk, to the peers and into the ring, byte for byte. The rules
read its place, its term and its kind, and never look into the payload of commands.
"""

from __future__ import annotations

from pyraft_fast._entry import HEADER_SIZE, header, seal


class Entry:
    """An entry of the log; never changed after it is made.

    `record` holds header and payload with their checksum, `size` its length in bytes, `kind` one of
    `_entry.KIND_*`, `time_ms` the cluster time it was stamped with.
    """

    __slots__ = ("index", "kind", "record", "size", "term", "time_ms")

    def __init__(self, index: int, term: int, kind: int, record: bytes, time_ms: int = 0) -> None:
        self.index = index
        self.term = term
        self.kind = kind
        self.record = record
        self.size = len(record)
        self.time_ms = time_ms

    @classmethod
    def from_record(cls, record: bytes) -> Entry:
        """The entry in a sealed record. The checksum is the caller's to verify."""
        head = header(record)
        return cls(head.index, head.term, head.kind, record, head.time_ms)

    @classmethod
    def make(cls, kind: int, index: int, term: int, time_ms: int, payload: bytes) -> Entry:
        """Seal an entry that no serving process proposed (term start, membership)."""
        record = seal(kind, index, term, time_ms, 0, 0, 0, 0, payload)
        return cls(index, term, kind, record, time_ms)

    @property
    def payload(self) -> bytes:
        """The bytes behind the header."""
        return self.record[HEADER_SIZE:]

    def __repr__(self) -> str:
        return f"Entry({self.index}@{self.term}, kind {self.kind}, {self.size} bytes)"
