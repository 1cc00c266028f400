"""The chunks of a snapshot's items once more, slow and plain: the judge of `_entry.Chunks`.

Written from the description in `storage/snapshot.py`: bytes of items in a list, joined at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyraft_fast.errors import CommandError, SnapshotError
from pyraft_fast.limits import RECORD_BYTES_MAX
from tests.twins.entry_twin import HEADER, packb

ARRAY_HEAD_BYTES = 5  # dd and a big-endian u32: an array in its longest form


def chunks(items: Iterable[Any], bytes_max: int) -> Iterator[tuple[int, bytes]]:
    parts: list[bytes] = []
    size = ARRAY_HEAD_BYTES
    for item in items:
        data = encode(*item)
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


def encode(key: Any, code: Any, value: Any, deadline_ms: Any) -> bytes:
    why = f"key {key!r} cannot be put into a snapshot: "
    try:
        data = packb([key, code, packb(value), deadline_ms])
    except CommandError as error:
        raise SnapshotError(f"{why}{error}") from error
    if len(data) > RECORD_BYTES_MAX - HEADER.size - ARRAY_HEAD_BYTES:
        more = f"it takes {len(data)} bytes, and a record has at most {RECORD_BYTES_MAX}"
        raise SnapshotError(f"{why}{more}")
    return data
