"""Snapshot files: everything applied up to one index, written once and never changed.

    META record | CHUNK record ... | END record

Records have the header of log records (length, checksum, kind). META says of which cluster, index
and term the snapshot is; a CHUNK holds items [key, type code, value, deadline], the value packed by
itself; END holds how many items there are and a checksum of
all bytes before it, so that a file with a record missing, doubled or moved is refused as well.

What has no room in a record is written as several items [key, type code, part, deadline, number,
more]: the parts, one behind the other, are the packed value; they are numbered from 0, the last has
no more behind it, and only the first has the deadline. Readers are given the whole.

A file gets its name when it is durable to its last byte, so under that name it is whole, or it was
damaged later. It is never executed: items are plain msgpack.

What a value means is the caller's business; here it only has to be encodable.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from pyraft_fast._entry import (
    HEADER_SIZE,
    KIND_CHUNK,
    KIND_END,
    KIND_META,
    SNAPSHOT_ITEM_BYTES_MAX,
    Chunks,
    crc32c,
    header,
    packb,
    seal,
    unpackb,
    verify,
)
from pyraft_fast.errors import (
    CommandError,
    DamagedFile,
    ProtocolError,
    SnapshotError,
    StorageError,
)
from pyraft_fast.limits import RECORD_BYTES_MAX, SNAPSHOT_CHUNK_BYTES, SNAPSHOTS_KEPT
from pyraft_fast.storage import names
from pyraft_fast.storage.disk import OS_DISK, Disk, failed, read_exactly, write_all
from pyraft_fast.storage.parts import Joiner

MAGIC = "pyraft-fast snapshot"
VERSION = 1

_SYNC_BYTES = 1 << 20


class Meta(NamedTuple):
    """What a snapshot says about itself before its items.

    `membership` is `Membership.encode()`; `sessions` maps a node's incarnation to (start, last
    batch applied); `time_ms` is the cluster clock; `keys` how many items the writer announced;
    `digests` the running sums of the divergence guard (none in older files, and without guard).
    """

    cluster: int
    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody calls
    term: int
    time_ms: int
    membership: bytes
    sessions: dict[int, tuple[int, int]]
    keys: int
    digests: tuple[int, ...] = ()


class Item(NamedTuple):
    """One key: `code` names its type, `deadline_ms` is absolute cluster time or None."""

    key: Any
    code: int
    value: Any
    deadline_ms: int | None


@runtime_checkable
class Keyed(Protocol):
    """Items of two dicts, whose texts are encoded without a call, or even a touch, for each.

    First come the entries of `data`, each with its deadline and what `freeze(key, value)` makes of
    it: (type code, plain value); every text stays as it is, under one code. Then comes `rest()`.
    """

    data: dict[Any, Any]
    deadlines: dict[Any, int]

    def freeze(self, key: Any, value: Any) -> tuple[int, Any]:
        """Type code and plain value of an entry."""

    def rest(self) -> Iterable[tuple[Any, int, Any, int | None]]:
        """The items behind those of `data`."""


class Found(NamedTuple):
    """A snapshot whose every byte is right."""

    path: str
    meta: Meta


def snapshot_path(folder: str, nid: str, epoch_seconds: int, index: int) -> str:
    """Where a snapshot of everything up to `index`, taken at `epoch_seconds`, belongs."""
    return names.joined(folder, names.snapshot_name(nid, epoch_seconds, index))


# Writing

_Items: TypeAlias = Iterable[tuple[Any, int, Any, int | None]] | Keyed


def write_snapshot(
    path: str,
    meta: Meta,
    items: _Items,
    disk: Disk = OS_DISK,
    look: Callable[[], None] | None = None,
) -> int:
    """Write a snapshot durably under `path`; returns its size in bytes.

    Fit for a forked child: no threads, no logging. Memory is bounded by a record, one element of a
    value, and the references in one value.
    What it wrote is removed if it fails. The folder must be that of the final name. `look` is
    called before each record: a writer may find that nobody wants the file any more.

    Raises SnapshotError naming the key that cannot be encoded, StorageError for the disk.
    """
    temporary = path + names.TEMPORARY
    try:
        fd = disk.create(temporary)
    except OSError as error:
        raise failed("make", temporary, error) from error
    try:
        size = _write_records(disk, fd, meta, items, look)
        disk.fdatasync(fd)
        disk.close(fd)
        fd = -1
        disk.rename(temporary, path)
        disk.fsync_dir(os.path.dirname(path) or ".")
    except BaseException as error:
        if fd >= 0:
            disk.close(fd)
        with contextlib.suppress(OSError):  # what went wrong first is what matters
            disk.unlink(temporary)
        if isinstance(error, OSError):
            raise failed("write", path, error) from error
        raise
    return size


def _write_records(
    disk: Disk, fd: int, meta: Meta, items: _Items, look: Callable[[], None] | None
) -> int:
    offset = synced = 0
    checksum = 0
    count = 0
    for kind, number, payload in _payloads(meta, items):
        if look is not None:
            look()
        record = seal(kind, meta.index, meta.term, meta.time_ms, 0, 0, 0, number, payload)
        write_all(disk, fd, record, offset)
        offset += len(record)
        if offset - synced >= _SYNC_BYTES:  # a large flush holds up the log's
            disk.fdatasync(fd)
            synced = offset
        checksum = crc32c(record, checksum)
        count += number
    end = packb([count, checksum])
    record = seal(KIND_END, meta.index, meta.term, meta.time_ms, 0, 0, 0, 0, end)
    write_all(disk, fd, record, offset)
    return offset + len(record)


def _payloads(meta: Meta, items: _Items) -> Iterator[tuple[int, int, bytes]]:
    """(kind, item count, payload) of every record but END."""
    yield KIND_META, 0, _encode_meta(meta)
    if isinstance(items, Keyed):
        parts = (items.data, items.deadlines, items.freeze)
        rest = items.rest()
        chunks = Chunks(rest, SNAPSHOT_CHUNK_BYTES, *parts, item_bytes_max=SNAPSHOT_ITEM_BYTES_MAX)
    else:
        chunks = Chunks(items, SNAPSHOT_CHUNK_BYTES, item_bytes_max=SNAPSHOT_ITEM_BYTES_MAX)
    count, payload = chunks.take()
    while count:
        yield KIND_CHUNK, count, payload
        count, payload = chunks.take()


def _encode_meta(meta: Meta) -> bytes:
    sessions = [[origin, start, batch] for origin, (start, batch) in sorted(meta.sessions.items())]
    values = meta._asdict() | {"magic": MAGIC, "version": VERSION, "sessions": sessions}
    try:
        return packb(values)
    except CommandError as error:
        raise SnapshotError(f"the head of the snapshot cannot be encoded: {error}") from error


# Reading


def read_meta(path: str, disk: Disk = OS_DISK) -> Meta:
    """The head of a snapshot alone, checked by itself. Raises StorageError, DamagedFile."""
    for record in _records(path, disk):
        return _decode_meta(path, record)
    raise _damaged(path, 0, "it is empty")


def read_items(path: str, disk: Disk = OS_DISK) -> Iterator[Item]:
    """All items, streaming, in the order they were written.

    Items come before the end of the file is checked: use none of them unless the iterator
    finishes. Raises StorageError, DamagedFile.
    """
    joiner = Joiner()
    try:
        for record in _checked_records(path, disk):
            if header(record).kind == KIND_CHUNK:
                for item in unpackb(record[HEADER_SIZE:]):
                    if len(item) == 4 and not joiner.waits:
                        key, code, value, deadline_ms = item
                        yield Item(key, code, unpackb(value), deadline_ms)
                    elif (whole := joiner.add(item)) is not None:
                        yield Item(*whole)
                        whole = None  # it may be large
        joiner.end()
    except (ProtocolError, TypeError, ValueError) as error:
        raise _damaged(path, 0, f"a chunk cannot be understood ({error})") from error


def verify_snapshot(path: str, disk: Disk = OS_DISK) -> Meta:
    """Check every byte of a snapshot without decoding items. Raises StorageError, DamagedFile."""
    meta: Meta | None = None
    for record in _checked_records(path, disk):
        if meta is None:
            meta = _decode_meta(path, record)
    if meta is None:
        raise _damaged(path, 0, "it is empty")
    return meta


def newest_valid(folder: str, nid: str, disk: Disk = OS_DISK) -> tuple[Found | None, list[str]]:
    """The newest snapshot whose every byte is right (or None), and a line per damaged one.

    Raises StorageError when the folder or a file cannot be read at all.
    """
    complaints: list[str] = []
    for name in _list(folder, nid, disk):
        path = names.joined(folder, name.name)
        try:
            meta = verify_snapshot(path, disk)
        except DamagedFile as error:
            complaints.append(str(error))
            continue
        if meta.index == name.index:
            return Found(path, meta), complaints
        complaints.append(f"{path}: it says it is of index {meta.index}")
    return None, complaints


def prune(folder: str, nid: str, keep: int = SNAPSHOTS_KEPT, disk: Disk = OS_DISK) -> list[str]:
    """Delete all but the `keep` newest snapshots; returns the paths that went.

    Raises StorageError.
    """
    gone: list[str] = []
    for name in _list(folder, nid, disk)[max(keep, 1) :]:
        path = names.joined(folder, name.name)
        try:
            disk.unlink(path)
        except OSError as error:
            raise failed("delete", path, error) from error
        gone.append(path)
    return gone


def remove_leftovers(folder: str, nid: str, disk: Disk = OS_DISK) -> list[str]:
    """Delete half written snapshots; only while none is being written. Raises StorageError."""
    try:
        gone = [
            names.joined(folder, name)
            for name in names.temporary_snapshots(disk.listdir(folder), nid)
        ]
        for path in gone:
            disk.unlink(path)
    except OSError as error:
        raise failed("clean up", folder, error) from error
    return gone


# Receiving


class PartialSnapshot:
    """The snapshot (index, term) of `total_bytes` from a peer, as far as its chunks have arrived.

    They lie in a `.part` file, so a transfer that was cut off goes on where it stopped, after a
    restart too. Nothing in it is believed before `finish` has checked every byte. Opening one
    removes the parts of other snapshots: there is one transfer at a time. One thread.
    Methods raise StorageError when the disk fails; what arrived before is kept.
    """

    def __init__(
        self,
        folder: str,
        nid: str,
        index: int,
        term: int,
        total_bytes: int,
        disk: Disk = OS_DISK,
    ) -> None:
        self.index = index
        self.term = term
        self.total_bytes = total_bytes
        self._folder = folder
        self._nid = nid
        self._disk = disk
        name = names.partial_name(nid, index, term, total_bytes)
        self._path = names.joined(folder, name)
        try:
            known = names.partials(disk.listdir(folder), nid)
            for other in known:
                if other.name != name:
                    disk.unlink(names.joined(folder, other.name))
            exists = any(other.name == name for other in known)
            self._fd = disk.open(self._path, writable=True) if exists else disk.create(self._path)
            self._offset = disk.size(self._fd)
        except OSError as error:
            raise failed("receive", self._path, error) from error

    @property
    def offset(self) -> int:
        """How many bytes have arrived; the next chunk begins here."""
        return self._offset

    def write(self, offset: int, data: bytes | memoryview) -> bool:
        """Take a chunk. False (nothing done) if it begins elsewhere than at `self.offset`, or is
        longer than what is missing: tell the sender where to go on.
        """
        if offset != self._offset or offset + len(data) > self.total_bytes:
            return False
        try:
            write_all(self._disk, self._fd, data, offset)
        except OSError as error:
            raise failed("write", self._path, error) from error
        self._offset += len(data)
        return True

    def finish(self) -> str:
        """Verify everything, make it durable, give it its name; returns the path.

        Raises DamagedFile when it is not the snapshot it should be: what arrived is removed, and
        the transfer begins again at 0 with a new PartialSnapshot.
        """
        try:
            if self._offset != self.total_bytes:
                raise DamagedFile(f"{self._path} has {self._offset} of {self.total_bytes} bytes")
            meta = verify_snapshot(self._path, self._disk)
            if (meta.index, meta.term) != (self.index, self.term):
                raise DamagedFile(f"{self._path} is of index {meta.index}, term {meta.term}")
        except DamagedFile:
            self.discard()
            raise
        # The name takes the time of the data: a receiver's own clock says nothing about it.
        path = snapshot_path(self._folder, self._nid, meta.time_ms // 1000, self.index)
        try:
            self._disk.fdatasync(self._fd)
            self.close()
            self._disk.rename(self._path, path)
            self._disk.fsync_dir(self._folder)
        except OSError as error:
            raise failed("keep", self._path, error) from error
        return path

    def close(self) -> None:
        """Stop receiving and keep what arrived."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                self._disk.close(fd)

    def discard(self) -> None:
        """Stop receiving and remove what arrived."""
        self.close()
        with contextlib.suppress(OSError):
            self._disk.unlink(self._path)


def _list(folder: str, nid: str, disk: Disk) -> list[names.SnapshotName]:
    try:
        return names.snapshots(disk.listdir(folder), nid)
    except OSError as error:
        raise failed("list", folder, error) from error


def _records(path: str, disk: Disk) -> Iterator[bytes]:
    """The records of a file one by one, each verified. Raises StorageError, DamagedFile."""
    try:
        fd = disk.open(path)
        try:
            size = disk.size(fd)
            offset = 0
            while offset < size:
                record = _read_record(disk, fd, path, offset, size)
                yield record
                offset += len(record)
        finally:
            disk.close(fd)
    except OSError as error:
        raise failed("read", path, error) from error


def _read_record(disk: Disk, fd: int, path: str, offset: int, size: int) -> bytes:
    head = read_exactly(disk, fd, HEADER_SIZE, offset)
    if len(head) < HEADER_SIZE:
        raise _damaged(path, offset, "it ends inside a record")
    length = header(head).length
    if not HEADER_SIZE <= length <= min(RECORD_BYTES_MAX, size - offset):
        raise _damaged(path, offset, f"a record of {length} bytes cannot be there")
    record = read_exactly(disk, fd, length, offset)
    if len(record) < length or not verify(record):
        raise _damaged(path, offset, "a record is not whole")
    return record


def _checked_records(path: str, disk: Disk) -> Iterator[bytes]:
    """META and all CHUNKs, then a check that they are all there, in order, and nothing else."""
    checksum = count = offset = 0
    end: bytes | None = None
    for record in _records(path, disk):
        kind = header(record).kind
        if end is not None:
            raise _damaged(path, offset, "something follows its end")
        if kind == KIND_END:
            end = record
        elif kind == (KIND_CHUNK if offset else KIND_META):
            yield record
            checksum = crc32c(record, checksum)
            count += header(record).count
        else:
            raise _damaged(path, offset, f"a record of kind {kind} cannot be there")
        offset += len(record)
    if end is None:
        raise _damaged(path, offset, "its end is missing")
    if unpackb(end[HEADER_SIZE:]) != [count, checksum]:
        raise _damaged(path, offset - len(end), "it is not made of the records it was written of")


def _decode_meta(path: str, record: bytes) -> Meta:
    try:
        if header(record).kind != KIND_META:
            raise StorageError("it does not begin like a snapshot")
        values: Any = unpackb(record[HEADER_SIZE:])
        if values["magic"] != MAGIC:
            raise StorageError("it is not a snapshot of this program")
        if values["version"] != VERSION:
            raise StorageError(f"its format {values['version']} is not known to this program")
        sessions = {origin: (start, batch) for origin, start, batch in values["sessions"]}
        values["sessions"] = sessions
        values["digests"] = tuple(int(word) for word in values.get("digests", ()))
        return Meta(**{name: values[name] for name in Meta._fields})
    except (StorageError, ProtocolError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, 0, f"its head cannot be understood ({error})") from error


def _damaged(path: str, offset: int, reason: str) -> DamagedFile:
    return DamagedFile(f"snapshot {path} is damaged at offset {offset}: {reason}")
