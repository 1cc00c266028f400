"""Snapshot files (full text follows with the implementation)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pyraft_fast.storage.disk import OS_DISK, Disk


class Meta(NamedTuple):
    """What a snapshot says about itself before its items.

    `membership` is `Membership.encode()`; `sessions` maps a node's incarnation to
    (start, last batch applied); `time_ms` is the cluster clock.
    """

    cluster: int
    index: int
    term: int
    time_ms: int
    membership: bytes
    sessions: dict[int, tuple[int, int]]
    keys: int


class Item(NamedTuple):
    """One key: `code` names its type, `deadline_ms` is absolute cluster time or None."""

    key: Any
    code: int
    value: Any
    deadline_ms: int | None


class Found(NamedTuple):
    """The newest valid snapshot, and in words the damaged ones that were passed over."""

    path: str
    meta: Meta
    damaged: list[str]


def snapshot_path(folder: str, nid: str, epoch_seconds: int, index: int) -> str:
    """Where a snapshot of `index` belongs."""
    raise NotImplementedError


def write_snapshot(
    path: str,
    meta: Meta,
    items: Iterable[tuple[Any, int, Any, int | None]],
    disk: Disk = OS_DISK,
) -> int:
    """Write a snapshot durably under `path`; returns its size in bytes.

    Meant for a forked child: no threads, no logging, memory bounded by the largest item.
    Raises SnapshotError naming the key that cannot be encoded, StorageError for the disk.
    """
    raise NotImplementedError


def read_meta(path: str, disk: Disk = OS_DISK) -> Meta:
    """The head of a snapshot alone. Raises StorageError, DamagedFile."""
    raise NotImplementedError


def read_items(path: str, disk: Disk = OS_DISK) -> Iterator[Item]:
    """All items, streaming. Raises DamagedFile, at the latest behind the last item."""
    raise NotImplementedError


def verify(path: str, disk: Disk = OS_DISK) -> Meta:
    """Check every byte of a snapshot without decoding items. Raises DamagedFile."""
    raise NotImplementedError


def newest_valid(folder: str, nid: str, disk: Disk = OS_DISK) -> tuple[Found | None, list[str]]:
    """The newest snapshot whose every byte is right (or None), and a line per damaged one."""
    raise NotImplementedError


def prune(folder: str, nid: str, keep: int = 2, disk: Disk = OS_DISK) -> list[str]:
    """Delete all but the `keep` newest snapshots; returns the paths that went."""
    raise NotImplementedError


def remove_leftovers(folder: str, nid: str, disk: Disk = OS_DISK) -> list[str]:
    """Delete half written snapshots. Only while no snapshot is being written."""
    raise NotImplementedError


class PartialSnapshot:
    """A snapshot being received in chunks; what has arrived survives a restart of the transfer."""

    def __init__(
        self,
        folder: str,
        nid: str,
        index: int,
        term: int,
        total_bytes: int,
        disk: Disk = OS_DISK,
    ) -> None:
        raise NotImplementedError

    @property
    def offset(self) -> int:
        """How many bytes have arrived; the next chunk begins here."""
        raise NotImplementedError

    def write(self, offset: int, data: bytes | memoryview) -> bool:
        """Take a chunk; False (nothing done) if it does not begin at `self.offset`."""
        raise NotImplementedError

    def finish(self) -> str:
        """Verify everything, make it durable, give it its name; returns the path.

        Raises DamagedFile (the partial file is gone then: begin again), StorageError.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Stop receiving and keep what arrived."""
        raise NotImplementedError

    def discard(self) -> None:
        """Stop receiving and remove what arrived."""
        raise NotImplementedError
