"""A disk in memory that can lose power, tear and shorten writes, run full, fail and rot.

It keeps apart what the running system sees and what survives a loss of power. Between two syncs of
a file each 512-byte sector may arrive in any of its versions, independently of the others. Changes
of the folder arrive in any subset until the folder is synced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

SECTOR = 512


class PowerLoss(BaseException):
    """The machine stopped; nothing works any more until `FakeDisk.reboot`."""


@dataclass
class Inode:
    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    versions: dict[int, list[bytes]] = field(default_factory=dict)  # sector -> since last sync


@dataclass
class Fault:
    countdown: int
    error: int
    times: int


class FakeDisk:
    """Implements `pyraft_fast.storage.disk.Disk`; one flat folder."""

    def __init__(self, seed: int = 0, capacity: int | None = None) -> None:
        self.random = Random(seed)
        self.capacity = capacity
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.folder_changes: list[Callable[[dict[str, Inode]], None]] = []
        self.fds: dict[int, Inode] = {}
        self.next_fd = 100
        self.steps = 0  # operations that change something, so far
        self.crash_at: int | None = None  # the step at which power is lost
        self.dead = False
        self.short_writes = False
        self.faults: dict[str, Fault] = {}
        self.calls: list[str] = []

    # Faults

    def fail(self, operation: str, calls: int = 1, error: int = errno.EIO, times: int = 1) -> None:
        """Let the `calls`-th next call of `operation`, and `times - 1` after it, raise."""
        self.faults[operation] = Fault(calls, error, times)

    def rot(self, path: str, offset: int, mask: int) -> None:
        """Change one byte, as it is seen and as it lies on disk."""
        inode = self.names[path]
        inode.live[offset] ^= mask
        inode.durable[offset] ^= mask

    def reboot(self) -> None:
        """Lose power now: keep what is durable and an arbitrary part of the rest."""
        chosen = dict(self.durable_names)
        keep_all = self.random.random() < 0.3
        for change in self.folder_changes:
            if keep_all or self.random.random() < 0.5:
                change(chosen)
        inodes = {id(inode): inode for inode in [*chosen.values(), *self.names.values()]}
        for inode in inodes.values():
            self._settle(inode)
        self.names = dict(chosen)
        self.durable_names = dict(chosen)
        self.folder_changes = []
        self.fds = {}
        self.dead = False
        self.crash_at = None
        self.faults = {}

    def _settle(self, inode: Inode) -> None:
        way = self.random.random()
        for sector, versions in inode.versions.items():
            if way < 0.15:
                data = versions[-1]
            elif way < 0.3:
                continue
            else:
                data = self.random.choice([b"", *versions])
            if not data:
                continue
            begin = sector * SECTOR
            if len(inode.durable) < begin:
                inode.durable.extend(bytes(begin - len(inode.durable)))
            inode.durable[begin : begin + len(data)] = data
        inode.versions = {}
        inode.live = bytearray(inode.durable)

    def _step(self, operation: str, target: str = "") -> None:
        if self.dead:
            raise PowerLoss
        self.calls.append(f"{operation} {target}")
        self.steps += 1
        if self.crash_at is not None and self.steps >= self.crash_at:
            self.dead = True
        fault = self.faults.get(operation)
        if fault is not None:
            fault.countdown -= 1
            if fault.countdown <= 0:
                fault.times -= 1
                if fault.times <= 0:
                    del self.faults[operation]
                raise OSError(fault.error, os.strerror(fault.error))

    def _finish(self) -> None:
        """Power may be lost before an operation did anything, or after it did all of it."""
        if self.dead:
            raise PowerLoss

    def _half(self) -> bool:
        return self.dead and self.random.random() < 0.5

    # The interface

    def create(self, path: str) -> int:
        self._step("create", path)
        if path in self.names:
            raise FileExistsError(errno.EEXIST, "exists", path)
        inode = Inode()
        if not self._half():
            self._change(lambda names: names.__setitem__(path, inode))
        self._finish()
        return self._descriptor(inode)

    def open(self, path: str, *, writable: bool = False) -> int:
        if self.dead:
            raise PowerLoss
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._descriptor(self.names[path])

    def close(self, fd: int) -> None:
        del self.fds[fd]

    def size(self, fd: int) -> int:
        return len(self.fds[fd].live)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if self.dead:
            raise PowerLoss
        if self.short_writes and size > 1 and self.random.random() < 0.3:
            size = self.random.randrange(1, size)
        return bytes(self.fds[fd].live[offset : offset + size])

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        inode = self.fds[fd]
        chunk = bytes(data)
        try:
            self._step("pwrite", str(offset))
        except OSError:
            # A write that fails may all the same have put down some of its bytes.
            self._put(inode, chunk[: self.random.randrange(len(chunk) + 1)], offset)
            raise
        if self.capacity is not None:
            used = sum(len(each.live) for each in self.names.values())
            grown = max(0, offset + len(chunk) - len(inode.live))
            if grown > self.capacity - used:
                fits = len(chunk) - (grown - max(0, self.capacity - used))
                if fits <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                chunk = chunk[:fits]
        if self.short_writes and len(chunk) > 1 and self.random.random() < 0.3:
            chunk = chunk[: self.random.randrange(1, len(chunk))]
        if self.dead:
            # The system fills whole pages before any of them goes to disk.
            end = offset + self.random.randrange(len(chunk) + 1)
            chunk = chunk if self._half() else chunk[: max(0, end // SECTOR * SECTOR - offset)]
        self._put(inode, chunk, offset)
        self._finish()
        return len(chunk)

    def _put(self, inode: Inode, data: bytes, offset: int) -> None:
        if not data:
            return
        if len(inode.live) < offset:
            inode.live.extend(bytes(offset - len(inode.live)))
        inode.live[offset : offset + len(data)] = data
        for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
            content = bytes(inode.live[sector * SECTOR : (sector + 1) * SECTOR])
            inode.versions.setdefault(sector, []).append(content)

    def fdatasync(self, fd: int) -> None:
        inode = self.fds[fd]
        try:
            self._step("fdatasync")
        except OSError:
            # As on Linux: the system takes the bytes for clean and shows them, but they are lost.
            seen = bytes(inode.live)
            self._settle(inode)
            inode.live = bytearray(seen)
            raise
        if not self._half():
            inode.durable.extend(bytes(max(0, len(inode.live) - len(inode.durable))))
            for sector in inode.versions:  # what the system takes for clean is not written
                part = slice(sector * SECTOR, (sector + 1) * SECTOR)
                inode.durable[part] = inode.live[part]
            inode.versions = {}
        self._finish()

    def rename(self, old: str, new: str) -> None:
        self._step("rename", new)
        inode = self.names[old]

        def change(names: dict[str, Inode]) -> None:
            names.pop(old, None)
            names[new] = inode

        if not self._half():
            self._change(change)
        self._finish()

    def unlink(self, path: str) -> None:
        self._step("unlink", path)
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if not self._half():
            self._change(lambda names: names.pop(path, None))
        self._finish()

    def fsync_dir(self, folder: str) -> None:
        self._step("fsync_dir", folder)
        if not self._half():
            self.durable_names = dict(self.names)
            self.folder_changes = []
        self._finish()

    def listdir(self, folder: str) -> list[str]:
        if self.dead:
            raise PowerLoss
        found = [os.path.basename(path) for path in self.names]
        self.random.shuffle(found)
        return found

    def _change(self, change: Callable[[dict[str, Inode]], object]) -> None:
        change(self.names)
        self.folder_changes.append(change)

    def _descriptor(self, inode: Inode) -> int:
        self.next_fd += 1
        self.fds[self.next_fd] = inode
        return self.next_fd
