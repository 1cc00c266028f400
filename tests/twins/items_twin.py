"""The chunks of a snapshot's items once more, slow and plain: the judge of `_entry.Chunks`.

Written from the description in `storage/snapshot.py`: bytes of items in a list, joined at the end.
What is too long for one item is packed as a whole, and then cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyraft_fast.errors import CommandError, SnapshotError
from pyraft_fast.limits import RECORD_BYTES_MAX
from tests.twins.entry_twin import HEADER, packb, packb_long

ARRAY_HEAD_BYTES = 5  # dd and a big-endian u32: an array in its longest form
ITEM_BYTES_MAX = RECORD_BYTES_MAX - HEADER.size - ARRAY_HEAD_BYTES
AROUND_BYTES = 64
SHARE_MIN = 16


def chunks(
    items: Iterable[Any], bytes_max: int, item_bytes_max: int = ITEM_BYTES_MAX
) -> Iterator[tuple[int, bytes]]:
    parts: list[bytes] = []
    size = ARRAY_HEAD_BYTES
    for item in items:
        for data in encoded(*item, bytes_max, item_bytes_max):
            if parts and size + len(data) > bytes_max:
                yield len(parts), join(parts)
                parts = []
                size = ARRAY_HEAD_BYTES
            parts.append(data)
            size += len(data)
    if parts:
        yield len(parts), join(parts)


def join(parts: list[bytes]) -> bytes:
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def encoded(
    key: Any, code: Any, value: Any, deadline_ms: Any, bytes_max: int, item_bytes_max: int
) -> Iterator[bytes]:
    """An item, or the parts of one that is too long."""
    data = encode(key, code, value, deadline_ms)
    if len(data) <= item_bytes_max:
        yield data
        return
    around = sum(len(packb_long(part)) for part in (key, code, deadline_ms)) + AROUND_BYTES
    if item_bytes_max - around < item_bytes_max // SHARE_MIN:
        why = f"it leaves no room for its value in records of {RECORD_BYTES_MAX} bytes"
        raise SnapshotError(f"key {key!r:.200} cannot be put into a snapshot: {why}")
    room = min(item_bytes_max - around, max(bytes_max, 2 * around))
    whole = packb_long(value)
    for number, start in enumerate(range(0, len(whole), room)):
        more = start + room < len(whole)
        due = None if number else deadline_ms
        yield packb([key, code, whole[start : start + room], due, number, more])


def encode(key: Any, code: Any, value: Any, deadline_ms: Any) -> bytes:
    try:
        return packb_long([key, code, packb_long(value), deadline_ms])
    except CommandError as error:
        raise SnapshotError(f"key {key!r} cannot be put into a snapshot: {error}") from error
