"""Groups of log records once more, slow and plain: the judge of what `_entry` says of groups.

Written from the description in `storage/groups.py`: parts in lists, `bytes.find` for zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyraft_fast.errors import InvariantError, check
from tests.twins.entry_twin import HEADER, header, packb, seal

KIND_STATE = 16
ALIGN_BYTES = 8
TRAILER = b"\xa5" * ALIGN_BYTES
SECTOR_BYTES = 512
STATE_BYTES_MAX = 1024
BLANK_RANGES_MAX = 32
BLANK_RUN = bytes(SECTOR_BYTES // 2 - 1)


def check_records(records: Sequence[bytes], last: int, commit: int) -> tuple[int, int]:
    if not records:
        return last + 1, 0
    first_index = index = header(records[0])["index"]
    rule = "entries ascend by one, and committed ones stay"
    check(min(last, commit) < index <= last + 1, rule, index, last, commit)
    for record in records:
        found = header(record)
        check(found["index"] == index, rule, found["index"], index)
        check(found["length"] == len(record), "a record is whole", found["length"], len(record))
        index += 1
    return first_index, header(records[-1])["term"]


def seal_group(
    records: Sequence[bytes],
    incarnation: int,
    sequence: int,
    offset: int,
    start: int,
    durable_offset: int,
    term: int,
    vote: str,
    commit: int,
) -> tuple[bytes, list[int]]:
    for number in (incarnation, sequence, offset, start, durable_offset, term, commit):
        if not 0 <= number < 2**64:
            raise OverflowError("a number does not fit its field")
    if offset >= 2**63:
        raise OverflowError("no file is that long")
    parts: list[bytes] = []
    for record in records:
        parts.append(record)
        if gap := -len(record) % ALIGN_BYTES:
            parts.append(bytes(gap))
    parts.append(TRAILER)
    body = b"".join(parts)
    blanks: list[int] = []
    long = BLANK_RUN in body
    if long:
        blanks = _blank_ranges(body, offset + STATE_BYTES_MAX)
    values = [term, vote, commit, durable_offset, start, len(body), blanks]
    payload = _pack_to_length(values, STATE_BYTES_MAX - HEADER.size if long else 0)
    length = HEADER.size + len(payload)
    count = len(records)
    state = seal(
        KIND_STATE, commit, term, length, incarnation, sequence, offset, count, payload
    )  # fmt: skip
    places = []
    at = offset + length
    for record in records:
        places.append(at)
        at += -(-len(record) // ALIGN_BYTES) * ALIGN_BYTES
    return state + body, places


def _pack_to_length(values: list[Any], length: int) -> bytes:
    bare = len(packb([*values, ""]))
    if length:
        filler = length - bare - 2
        check(filler >= 256, "room for the list of blank sectors", bare)
    else:
        filler = ALIGN_BYTES + -bare % ALIGN_BYTES
    payload = packb([*values, "." * filler])
    if len(payload) % ALIGN_BYTES or (length and len(payload) != length):
        raise InvariantError("not a payload of a STATE record")
    return payload


def _blank_ranges(body: bytes, offset: int) -> list[int]:
    ranges: list[tuple[int, int]] = []
    sector = -(-offset // SECTOR_BYTES)
    while (hit := body.find(BLANK_RUN, sector * SECTOR_BYTES - offset)) >= 0:
        sector = (offset + hit) // SECTOR_BYTES
        begin = sector * SECTOR_BYTES - offset
        part = body[begin : begin + SECTOR_BYTES]
        if len(part) < SECTOR_BYTES:
            break
        if part.count(0) >= SECTOR_BYTES - 1:
            if ranges and (sum(ranges[-1]) == sector or len(ranges) == BLANK_RANGES_MAX):
                first = ranges[-1][0]
                ranges[-1] = (first, sector + 1 - first)
            else:
                ranges.append((sector, 1))
        sector += 1
    return [number for pair in ranges for number in pair]
