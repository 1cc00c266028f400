"""Entries read from open segments by their remembered places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyraft_fast._entry import HEADER_SIZE, header, verify
from pyraft_fast.core.entry import Entry
from pyraft_fast.storage.disk import Disk, failed, read_exactly
from pyraft_fast.storage.groups import Head
from pyraft_fast.storage.segments import Positions, damaged

READ_AHEAD_BYTES = 64 * 1024  # so that the last entry of a run mostly needs no second read


class OpenSegment(NamedTuple):
    """A segment of the log and its descriptor."""

    fd: int
    path: str
    head: Head


def read_entries(
    disk: Disk,
    files: Sequence[OpenSegment],
    positions: Positions,
    lo: int,
    hi: int,
    bytes_max: int,
) -> list[Entry]:
    """Entries `lo` up to `hi` (excluded): at least one, then as many as `bytes_max` allows.

    `files` are oldest first and without a gap. [] where `lo` is not in the log. Raises
    DamagedFile, StorageError.
    """
    entries: list[Entry] = []
    if lo < positions.first:
        return entries
    hi = min(hi, positions.last + 1)
    while lo < hi:
        sequence, _ = positions.locate(lo)
        file = files[sequence - files[0].head.sequence]
        part = _read_run(disk, file, positions, lo, hi, bytes_max, not entries)
        if not part:
            break
        entries += part
        bytes_max -= sum(entry.size for entry in part)
        lo += len(part)
    return entries


def _read_run(
    disk: Disk,
    file: OpenSegment,
    positions: Positions,
    lo: int,
    hi: int,
    bytes_max: int,
    anyhow: bool,
) -> list[Entry]:
    """Entries from one segment with one read, as far as they lie close together and fit.

    `anyhow`: one entry at least, however long.
    """
    sequence, begin = positions.locate(lo)
    newest_sequence, newest_begin = positions.locate(hi - 1)
    span = newest_begin - begin if newest_sequence == sequence else bytes_max
    data = _pread(disk, file, max(min(span, bytes_max), 0) + READ_AHEAD_BYTES, begin)
    length = header(data, 0).length if len(data) >= HEADER_SIZE else 0
    if len(data) < length and (anyhow or length <= bytes_max):
        data = _pread(disk, file, length, begin)
    found: list[Entry] = []
    for index in range(lo, hi):
        at_sequence, offset = positions.locate(index)
        at = offset - begin
        if at_sequence != sequence or at + HEADER_SIZE > len(data):
            break
        length = header(data, at).length
        if length > bytes_max and (found or not anyhow):
            break
        if found and at + length > len(data):
            break
        if not verify(data, at) or header(data, at).index != index:
            raise damaged(file.path, offset, f"entry {index} is not whole any more")
        bytes_max -= length
        found.append(Entry.from_record(data[at : at + length]))
    return found


def _pread(disk: Disk, file: OpenSegment, size: int, offset: int) -> bytes:
    try:
        return read_exactly(disk, file.fd, min(size, file.head.size_bytes - offset), offset)
    except OSError as error:
        raise failed("read", file.path, error) from error
