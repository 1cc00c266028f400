"""Any file of a node as readable lines (full text follows with the implementation)."""

from __future__ import annotations

from collections.abc import Iterator

from pyraft_fast.storage.disk import OS_DISK, Disk


def lines(path: str, disk: Disk = OS_DISK) -> Iterator[str]:
    """Readable lines for a log segment, a snapshot or the original pyraft's snapshot text.

    Raises StorageError when the file cannot be read or is none of these. Damage inside a file
    does not raise: it is a line of its own, and the last one.
    """
    raise NotImplementedError
