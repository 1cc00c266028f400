"""The writer of the log (full text follows with the implementation)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pyraft_fast.core.entry import Entry
from pyraft_fast.limits import SEGMENT_BYTES
from pyraft_fast.storage.disk import OS_DISK, Disk
from pyraft_fast.storage.segments import Identity, Recovered


class State(Protocol):
    """What `append` needs of a hard state."""

    @property
    def term(self) -> int: ...
    @property
    def vote(self) -> str: ...
    @property
    def commit(self) -> int: ...


class Wal:
    """The log on disk of one node: one writer thread, readers anywhere."""

    @staticmethod
    def identity(folder: str, nid: str, disk: Disk = OS_DISK) -> Identity | None:
        """Whose log lies in `folder`; None if there is none yet."""
        raise NotImplementedError

    @classmethod
    def open(
        cls,
        folder: str,
        nid: str,
        *,
        cluster: int = 0,
        incarnation: int = 0,
        disk: Disk = OS_DISK,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Wal, Recovered]:
        """Recover the log, or make a new one for (cluster, incarnation) where there is none."""
        raise NotImplementedError

    @property
    def first(self) -> int:
        """Index of the oldest entry `read` can give. Any thread."""
        raise NotImplementedError

    @property
    def last(self) -> int:
        """Index of the newest entry appended. Any thread."""
        raise NotImplementedError

    def append(self, state: State, records: Sequence[bytes]) -> None:
        """Write one group: the hard state and `records` (sealed, indexes ascending by one).

        A record with an index already in the log replaces it and all behind it.
        Not durable before `sync`. Writer thread. Raises StorageError.
        """
        raise NotImplementedError

    def sync(self) -> None:
        """Make everything appended durable. Writer thread. Raises StorageError, for good."""
        raise NotImplementedError

    def reset(self, index: int, term: int, state: State) -> None:
        """Forget all entries: the log goes on behind the snapshot (index, term). Durable.

        Writer thread. Raises StorageError.
        """
        raise NotImplementedError

    def compact(self, keep_from: int) -> int:
        """Delete the oldest segments that hold nothing from `keep_from` on; returns how many.

        Writer thread. Raises StorageError.
        """
        raise NotImplementedError

    def wants_next(self) -> bool:
        """Is no segment prepared for when the current one is full? Any thread."""
        raise NotImplementedError

    def prepare_next(self) -> None:
        """Make the next segment ahead of need (writes and syncs 16 MiB). One background thread."""
        raise NotImplementedError

    def read(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Entries `lo`..`hi` (hi excluded), at least one, then as many as `bytes_max` allows.

        [] when `lo` is no longer (or not yet) in the log. Any thread. Raises DamagedFile.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Seal and close the log. Writer thread, nothing else may run."""
        raise NotImplementedError
