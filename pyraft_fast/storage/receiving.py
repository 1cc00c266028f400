"""A snapshot that arrives from a peer in chunks.

What has arrived lies in a `.part` file named after the snapshot, so a transfer that was cut off
goes on where it stopped, after a restart too. Nothing in it is believed before `finish` has
checked every byte; then it becomes an ordinary snapshot in one step.
"""

from __future__ import annotations

import contextlib

from pyraft_fast.errors import DamagedFile
from pyraft_fast.storage import names
from pyraft_fast.storage.disk import OS_DISK, Disk, failed, write_all
from pyraft_fast.storage.snapshot import snapshot_path, verify_snapshot


class PartialSnapshot:
    """The snapshot (index, term) of `total_bytes`, as far as it has arrived.

    Opening it removes the parts of other snapshots: there is one transfer at a time. One thread.
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
