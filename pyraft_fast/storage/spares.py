"""Making segments: files of full length, all zeros, durable, still without a name in the log.

Zero-filling costs milliseconds and makes every later sync cheaper, so one file is kept ready by a
background thread. Nothing here knows what a segment will hold.
"""

from __future__ import annotations

import contextlib
import threading
from typing import NamedTuple

from pyraft_fast.storage import names
from pyraft_fast.storage.disk import Disk, failed, write_zeros

BLOCK_BYTES = 4096
SYNC_STEP_BYTES = 1 << 17  # more at once holds up the log's syncs behind it


class Spare(NamedTuple):
    """A zero-filled, durable file under a temporary name."""

    fd: int
    path: str
    size_bytes: int


class Spares:
    """Makes segments and keeps at most one ready.

    `prepare` may run in one background thread while the writer calls `take`; the lock is held for
    the exchange only, never while a file is written. A writer that comes too early waits for the
    file that is being made: two at a time would take it longer.
    """

    def __init__(self, disk: Disk, folder: str, nid: str, size_bytes: int) -> None:
        self._disk = disk
        self._folder = folder
        self._nid = nid
        self._size_bytes = _whole_blocks(size_bytes)
        self._lock = threading.Lock()
        self._made_one = threading.Condition(self._lock)
        self._ready: Spare | None = None
        self._busy = False
        self._closed = False
        self._made = 0

    def wanted(self) -> bool:
        """True if none is ready and none is being made; by a glance, `prepare` looks closer."""
        return self._ready is None and not self._busy and not self._closed

    def prepare(self) -> None:
        """Make one ready, unless one is. Raises StorageError (nothing is left behind then)."""
        if not self._begin():
            return
        try:
            made = self._make(self._size_bytes)
        except BaseException:
            self._finish(None)
            raise
        self._finish(made)

    def _begin(self) -> bool:
        with self._lock:
            if self._ready is not None or self._busy or self._closed:
                return False
            self._busy = True
            return True

    def _finish(self, made: Spare | None) -> None:
        with self._lock:
            self._busy = False
            late = self._closed
            if not late:
                self._ready = made
            self._made_one.notify()
        if late and made is not None:
            self.discard(made)

    def take(self, size_bytes: int) -> Spare:
        """A file of at least `size_bytes`: the ready one if it is long enough, else a new one.

        Raises StorageError with errno (nothing is left behind then).
        """
        with self._lock:
            while self._busy and self._size_bytes >= size_bytes:
                self._made_one.wait()
            ready = self._ready
            if ready is not None and ready.size_bytes >= size_bytes:
                self._ready = None
                return ready
        return self._make(_whole_blocks(size_bytes))

    def discard(self, spare: Spare) -> None:
        """Close and remove a file that was not used after all."""
        with contextlib.suppress(OSError):
            self._disk.close(spare.fd)
        with contextlib.suppress(OSError):
            self._disk.unlink(spare.path)

    def close(self) -> None:
        """Remove what is ready; one still being made is removed when it is done."""
        with self._lock:
            self._closed = True
            ready, self._ready = self._ready, None
        if ready is not None:
            self.discard(ready)

    def _make(self, size_bytes: int) -> Spare:
        with self._lock:
            self._made += 1
            name = names.temporary_segment_name(self._nid, self._made)
        path = names.joined(self._folder, name)
        try:
            fd = self._disk.create(path)
        except OSError as error:
            raise failed("make", path, error) from error
        spare = Spare(fd, path, size_bytes)
        try:
            for begin in range(0, size_bytes, SYNC_STEP_BYTES):
                write_zeros(self._disk, fd, begin, min(begin + SYNC_STEP_BYTES, size_bytes))
                self._disk.fdatasync(fd)
        except OSError as error:
            self.discard(spare)
            raise failed("fill", path, error) from error
        return spare


def remove_temporary(disk: Disk, folder: str, nid: str) -> None:
    """Remove half made segments an earlier process left. Raises StorageError."""
    try:
        for name in names.temporary_segments(disk.listdir(folder), nid):
            disk.unlink(names.joined(folder, name))
    except OSError as error:
        raise failed("clean up", folder, error) from error


def _whole_blocks(size_bytes: int) -> int:
    return max(-(-size_bytes // BLOCK_BYTES), 1) * BLOCK_BYTES
