"""Any file of a node as readable lines, for people with a problem.

Damage does not stop it before everything readable has been shown: a log is shown up to the first
bad byte, and the last line says what is there and where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyraft_fast._entry import (
    HEADER_SIZE,
    KIND_COMMANDS,
    KIND_CONFIG,
    KIND_NOOP,
    KIND_RESET,
    decode_record,
    header,
)
from pyraft_fast.core.membership import Membership
from pyraft_fast.errors import DamagedFile, RaftException, StorageError
from pyraft_fast.storage import legacy, names, snapshot
from pyraft_fast.storage.disk import OS_DISK, Disk, failed, read_exactly
from pyraft_fast.storage.groups import Broken, Group, claims_beyond, decode_head, parse_group

_SHOWN_CHARACTERS = 200
_HEAD_BYTES = 4096
_NAMES = {
    KIND_NOOP: "noop",
    KIND_COMMANDS: "commands",
    KIND_CONFIG: "config",
    KIND_RESET: "reset",
}


def lines(path: str, disk: Disk = OS_DISK) -> Iterator[str]:
    """Readable lines for a log segment, a snapshot or the original pyraft's snapshot text.

    Raises StorageError when the file cannot be read or is none of these. Damage inside a file
    does not raise: it is a line that begins with DAMAGED, and the last one.
    """
    try:
        fd = disk.open(path)
        try:
            top = read_exactly(disk, fd, _HEAD_BYTES, 0)
        finally:
            disk.close(fd)
    except OSError as error:
        raise failed("read", path, error) from error
    if top.lstrip()[:1] == b"{":
        return _legacy_lines(path)
    if snapshot.MAGIC.encode() in top or path.endswith(names.SNAPSHOT):
        return _snapshot_lines(path, disk)
    if b"pyraft-fast log" in top or path.endswith(names.LOG):
        return _log_lines(path, disk)
    raise StorageError(f"{path} is neither a log nor a snapshot of this program")


def _log_lines(path: str, disk: Disk) -> Iterator[str]:
    data = _read_all(path, disk)
    try:
        head, offset = decode_head(data)
    except StorageError as error:
        yield f"DAMAGED at 0: {error}"
        return
    identity = head.identity
    yield (
        f"log of node {identity.nid!r}, cluster {identity.cluster}, incarnation "
        f"{identity.incarnation}, segment {head.sequence}, first index {head.first_index}, "
        f"{head.size_bytes} bytes"
    )
    if len(data) != head.size_bytes:
        yield f"DAMAGED: the file has {len(data)} bytes"
    while (group := parse_group(data, head, offset)) is not None:
        if isinstance(group, Broken):
            claim = claims_beyond(data, head, offset)
            torn = group.blank and claim is None
            yield (
                f"{'TORN' if torn else 'DAMAGED'} at {offset}: {group.reason}"
                + (f"; a group at {claim} says it was synced" if claim is not None else "")
                + ("; cut off at the next start if no newer segment follows" if torn else "")
            )
            return
        yield from _group_lines(data, group)
        offset = group.end
    yield f"{offset:>10} end, {head.size_bytes - offset} bytes free"


def _group_lines(data: bytes, group: Group) -> Iterator[str]:
    state = group.state
    yield (
        f"{group.offset:>10} state term={state.term} vote={state.vote!r} commit={state.commit} "
        f"start={group.start} durable={group.durable_offset} records={len(group.records)}"
    )
    for offset, found in group.records:
        yield (
            f"{offset:>10} {_NAMES.get(found.kind, found.kind)} index={found.index} "
            f"term={found.term} time={found.time_ms} from={found.origin}/{found.start}/"
            f"{found.batch} count={found.count} bytes={found.length}"
        )
        record = data[offset : offset + found.length]
        try:
            for text in _content(record):
                yield f"{'':>12}{text}"
        except RaftException as error:
            yield f"{'':>12}cannot be decoded: {error}"


def _content(record: bytes) -> Iterator[str]:
    """What is inside a record, a line each."""
    kind = header(record).kind
    if kind == KIND_COMMANDS:
        for worker, words in decode_record(record):
            yield _short(" ".join(_word(word) for word in words), f"{worker}: ")
    elif kind == KIND_CONFIG:
        membership = Membership.decode(record[HEADER_SIZE:])
        yield _short(repr(membership))


def _snapshot_lines(path: str, disk: Disk) -> Iterator[str]:
    try:
        meta = snapshot.read_meta(path, disk)
        yield (
            f"snapshot of cluster {meta.cluster}: index {meta.index}, term {meta.term}, "
            f"time {meta.time_ms}, {meta.keys} keys"
        )
        yield f"membership {_membership(meta.membership)}"
        for origin, (start, batch) in sorted(meta.sessions.items()):
            yield f"session {origin}: start {start}, last batch {batch}"
        count = 0
        for item in snapshot.read_items(path, disk):
            deadline = "" if item.deadline_ms is None else f" until {item.deadline_ms}"
            yield _short(f"{_word(item.key)} [{item.code}]{deadline} {item.value!r}")
            count += 1
        yield f"end, {count} keys, every checksum is right"
    except DamagedFile as error:
        yield f"DAMAGED: {error}"


def _membership(data: bytes) -> str:
    try:
        return _short(repr(Membership.decode(data)))
    except RaftException as error:
        return f"cannot be decoded: {error}"


def _legacy_lines(path: str) -> Iterator[str]:
    found = legacy.read(path)
    yield f"snapshot of the original pyraft, {len(found.items)} keys"
    for key, value in found.meta.items():
        yield _short(f"{key} = {value!r}")
    for key, value in found.items.items():
        deadline = f" until {found.ttl[key]}" if key in found.ttl else ""
        yield _short(f"{_word(key)}{deadline} {value!r}")


def _read_all(path: str, disk: Disk) -> bytes:
    try:
        fd = disk.open(path)
        try:
            return read_exactly(disk, fd, disk.size(fd), 0)
        finally:
            disk.close(fd)
    except OSError as error:
        raise failed("read", path, error) from error


def _word(word: Any) -> str:
    """A word as a person would type it; anything unusual as Python shows it."""
    text = str(word)
    plain = isinstance(word, (str, int, float)) and text.isprintable() and " " not in text
    return text if plain and text else repr(word)


def _short(text: str, lead: str = "") -> str:
    """One line of bounded length: the text, or its beginning and how long it is."""
    text = (
        text.encode("ascii", "backslashreplace").decode("ascii") if not text.isprintable() else text
    )
    if len(text) <= _SHOWN_CHARACTERS:
        return lead + text
    return f"{lead}{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
