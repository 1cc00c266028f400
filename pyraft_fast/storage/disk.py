"""The few file operations this program needs, behind one small interface.

`Disk` is the whole border between what we promise about durability and what an operating system
does. The product uses `OsDisk`; tests put in its place a disk that loses unsynced sectors, tears
and shortens writes, runs full and rots. So the rules of writing files safely stand in the callers
and are tested there; nothing in here retries, buffers or repairs.

What callers may rely on, and must not rely on more:

- `pwrite` may write less than asked; nothing written is durable before `fdatasync` returned.
- Unsynced data may reach the disk in any order, sector (512 bytes) by sector; a sector arrives
  as a whole or not at all.
- `create`, `rename` and `unlink` are durable only after `fsync_dir` of the folder; `rename`
  replaces its target in one step.
- After `fdatasync` or `fsync_dir` has failed once, nobody knows what is on disk. Linux drops the
  dirty pages and reports success the next time, so a second try proves nothing.
"""

from __future__ import annotations

import os
from typing import Protocol

from pyraft_fast.errors import StorageError

SECTOR_BYTES = 512
ZERO_BYTES = bytes(1 << 20)


class Disk(Protocol):
    """What storage asks of a file system. Every method may raise OSError."""

    def create(self, path: str) -> int:
        """Make a new empty file, open for reading and writing; FileExistsError if it exists."""
        ...

    def open(self, path: str, *, writable: bool = False) -> int:
        """Open an existing file."""
        ...

    def close(self, fd: int) -> None:
        """Give the descriptor back; says nothing about durability."""
        ...

    def size(self, fd: int) -> int:
        """Length of the file in bytes."""
        ...

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer than asked only at the end of the file or by chance."""
        ...

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write at `offset`, growing the file if need be; returns how many bytes were taken."""
        ...

    def fdatasync(self, fd: int) -> None:
        """Make the file's bytes and its length durable."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give the file its new name, in place of whatever had that name."""
        ...

    def unlink(self, path: str) -> None:
        """Remove the name; open descriptors stay usable."""
        ...

    def fsync_dir(self, folder: str) -> None:
        """Make every create, rename and unlink in `folder` durable."""
        ...

    def listdir(self, folder: str) -> list[str]:
        """The names in `folder`, in any order."""
        ...


class OsDisk:
    """The real file system, one system call per method."""

    def create(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def open(self, path: str, *, writable: bool = False) -> int:
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def fsync_dir(self, folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def listdir(self, folder: str) -> list[str]:
        return os.listdir(folder)


OS_DISK: Disk = OsDisk()


def failed(doing: str, path: str, error: OSError) -> StorageError:
    """`error` as ours: says what was being done to which file, and keeps the errno."""
    reason = error.strerror or str(error)
    return StorageError(f"cannot {doing} {path}: {reason}", errno=error.errno)


def write_all(disk: Disk, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write every byte of `data`, asking again after a short write. Raises OSError."""
    done = disk.pwrite(fd, data, offset)
    if done == len(data):
        return
    rest = memoryview(data)
    while done < len(rest):
        taken = disk.pwrite(fd, rest[done:], offset + done)
        if taken <= 0:
            raise OSError(f"the file takes no more bytes at {offset + done}")
        done += taken


def write_zeros(disk: Disk, fd: int, offset: int, end: int) -> None:
    """Write zeros from `offset` to `end` with real writes. Raises OSError.

    Reserving blocks (fallocate) is not enough: the first write to a reserved block still has to
    be recorded by the file system, which doubles the cost of every later fdatasync.
    """
    zeros = memoryview(ZERO_BYTES)
    while offset < end:
        step = min(len(zeros), end - offset)
        write_all(disk, fd, zeros[:step], offset)
        offset += step


def read_exactly(disk: Disk, fd: int, size: int, offset: int) -> bytes:
    """Read `size` bytes; fewer only where the file ends. Raises OSError."""
    data = disk.pread(fd, size, offset)
    if len(data) == size:
        return data
    parts = [data]
    got = len(data)
    while got < size and parts[-1]:
        parts.append(disk.pread(fd, size - got, offset + got))
        got += len(parts[-1])
    return b"".join(parts)
