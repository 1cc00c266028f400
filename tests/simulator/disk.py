"""A machine's disk in memory: what is seen, and what survives a loss of power.

Between two syncs of a file each 512-byte sector may arrive in any of its versions, independently of
the others; changes of the folder arrive in any subset until the folder is synced. A machine may
end at any operation: before it, in the middle of it, or after it (`arm`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.simulator.loop import PowerLoss

SECTOR = 512
OPERATIONS = ("create", "write", "sync", "rename", "unlink", "sync folder")
BEFORE, DURING, AFTER = "before", "during", "after"
PHASES = (BEFORE, DURING, AFTER)


class File:
    """One file; `pending` are the writes since the last sync."""

    __slots__ = ("durable", "live", "pending")

    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes]] = []


class Trap(NamedTuple):
    """Where the machine (`power`) or the process will end."""

    phase: str
    power: bool


class Disk:
    """Implements `pyraft_fast.storage.disk.Disk` for one folder of one machine."""

    def __init__(
        self, rng: Random, count: Callable[[str], None], ended: Callable[[str, Trap], None]
    ) -> None:
        self.random = rng
        self.count = count  # called when a fault strikes
        self.ended = ended  # called when a trap springs, with what was being done
        self.files: dict[str, File] = {}
        self.durable_names: dict[str, File] = {}
        self.changes: list[tuple[str, str, File]] = []  # (removed, added, file), unsynced
        self.open_files: dict[int, File] = {}
        self.next_fd = 1000
        self.capacity: int | None = None
        self.short_writes = 0.0
        self.sync_failures = 0
        self.traps: dict[str, list[int | Trap]] = {}
        self.is_dead = False
        self.faults: list[tuple[str, str]] = []  # (file, error) that this node has met
        self.rotten: list[str] = []  # files with a bit that changed by itself

    # Faults

    def arm(self, operation: str, count: int, trap: Trap) -> None:
        """Let the `count`-th next `operation` be the last."""
        self.traps[operation] = [count, trap]

    def disarm(self) -> None:
        """No more faults."""
        self.traps.clear()
        self.capacity = None
        self.short_writes = 0.0
        self.sync_failures = 0

    def _fault(self, number: int, path: str) -> OSError:
        """The error of a fault that is let loose now."""
        error = OSError(number, os.strerror(number))
        self.faults.append((path, error.strerror))
        return error

    def fill(self, room: int) -> None:
        """From now on only so many more bytes fit."""
        self.capacity = sum(len(file.live) for file in self.files.values()) + room

    def rot(self) -> str:
        """Change one synced byte of one file; says where, or "" if there is nothing."""
        names = [name for name in sorted(self.files) if self.files[name].durable]
        if not names:
            return ""
        name = self.random.choice(names)
        file = self.files[name]
        end = len(bytes(file.durable).rstrip(b"\0")) or len(file.durable)
        offset = self.random.randrange(end)
        mask = 1 << self.random.randrange(8)
        file.durable[offset] ^= mask
        if offset < len(file.live):
            file.live[offset] ^= mask
        self.rotten.append(name)
        return f"{os.path.basename(name)} at {offset}"

    def drop_descriptors(self) -> None:
        """The processes are gone; the machine is not."""
        self.open_files.clear()
        self.is_dead = False

    def lose_power(self) -> None:
        """Keep what is durable and an arbitrary part of the rest."""
        rng = self.random
        names = dict(self.durable_names)
        way = rng.random()
        for removed, added, file in self.changes:
            if way < 0.3 or rng.random() < 0.5:
                if removed:
                    names.pop(removed, None)
                if added:
                    names[added] = file
        files: dict[int, File] = {id(file): file for file in self.files.values()}
        files.update((id(file), file) for file in names.values())
        for file in files.values():
            self._settle(file)
        self.files = names
        self.durable_names = dict(names)
        self.changes.clear()
        self.drop_descriptors()

    def _settle(self, file: File) -> None:
        """Decide which version of each unsynced sector is on the platter."""
        if not file.pending:
            file.live = bytearray(file.durable)
            return
        rng = self.random
        way = rng.random()
        versions: dict[int, list[bytes]] = {}
        seen = bytearray(file.durable)
        for offset, data in file.pending:
            end = offset + len(data)
            if len(seen) < end:
                seen.extend(bytes(end - len(seen)))
            seen[offset:end] = data
            for sector in range(offset // SECTOR, (end - 1) // SECTOR + 1):
                content = bytes(seen[sector * SECTOR : (sector + 1) * SECTOR])
                versions.setdefault(sector, []).append(content)
        file.pending.clear()
        durable = file.durable
        for sector, contents in versions.items():
            if way < 0.15:
                data = contents[-1]
            elif way < 0.3:
                continue
            else:
                data = rng.choice([b"", *contents])
            if data:
                begin = sector * SECTOR
                if len(durable) < begin:
                    durable.extend(bytes(begin - len(durable)))
                durable[begin : begin + len(data)] = data
        file.live = bytearray(durable)

    def wipe(self) -> None:
        """The operator empties the folder."""
        self.files.clear()
        self.rotten.clear()
        self.durable_names.clear()
        self.changes.clear()

    def _trap(self, operation: str, name: str) -> Trap | None:
        """The trap that springs at this operation."""
        if self.is_dead:
            raise PowerLoss
        armed = self.traps.get(operation)
        if armed is None:
            return None
        armed[0] -= 1  # type: ignore[operator]
        if armed[0] > 0:  # type: ignore[operator]
            return None
        del self.traps[operation]
        trap = armed[1]
        assert isinstance(trap, Trap)
        self.is_dead = True
        self.ended(f"{trap.phase} a {operation} of {os.path.basename(name)}", trap)
        if trap.phase == BEFORE:
            raise PowerLoss
        return trap

    def _is_half(self, trap: Trap | None) -> bool:
        """Does the operation have no effect after all?"""
        return trap is not None and trap.phase == DURING and self.random.random() < 0.5

    # The interface

    def create(self, path: str) -> int:
        trap = self._trap("create", path)
        if path in self.files:
            raise FileExistsError(errno.EEXIST, "exists", path)
        if self.capacity is not None and self._used() >= self.capacity:
            self.count("full disk")
            raise self._fault(errno.ENOSPC, path)
        file = File()
        if not self._is_half(trap):
            self.files[path] = file
            self.changes.append(("", path, file))
        if trap is not None:
            raise PowerLoss
        return self._descriptor(file)

    def open(self, path: str, *, writable: bool = False) -> int:
        if self.is_dead:
            raise PowerLoss
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._descriptor(self.files[path])

    def _descriptor(self, file: File) -> int:
        self.next_fd += 1
        self.open_files[self.next_fd] = file
        return self.next_fd

    def close(self, fd: int) -> None:
        self.open_files.pop(fd, None)

    def size(self, fd: int) -> int:
        return len(self.open_files[fd].live)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if self.is_dead:
            raise PowerLoss
        if self.short_writes and size > 1 and self.random.random() < self.short_writes:
            self.count("short read")
            size = self.random.randrange(1, size)
        return bytes(self.open_files[fd].live[offset : offset + size])

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        file = self.open_files.get(fd)
        trap = self._trap("write", self._name(file) if self.traps else "")
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        chunk = bytes(data)
        if self.capacity is not None:
            chunk = self._fitting(file, chunk, offset)
        if self.short_writes and len(chunk) > 1 and self.random.random() < self.short_writes:
            whole = len(chunk)
            chunk = self._torn(chunk, offset) or chunk  # systems copy by the page
            if len(chunk) < whole:
                self.count("short writes")
        if trap is not None and trap.phase == DURING:
            chunk = self._torn(chunk, offset)
        live = file.live
        end = offset + len(chunk)
        if len(live) < offset:
            live.extend(bytes(offset - len(live)))
        live[offset:end] = chunk
        if chunk:
            file.pending.append((offset, chunk))
        if trap is not None:
            raise PowerLoss
        return len(chunk)

    def _torn(self, chunk: bytes, offset: int) -> bytes:
        """The beginning of a write: whole sectors, or of a killed process whole pages."""
        end = offset + self.random.randrange(len(chunk) + 1)
        return chunk[: max(0, end // SECTOR * SECTOR - offset)]

    def _used(self) -> int:
        return sum(len(file.live) for file in self.files.values())

    def _fitting(self, file: File, chunk: bytes, offset: int) -> bytes:
        capacity = self.capacity or 0
        grown = offset + len(chunk) - len(file.live)
        room = max(0, capacity - self._used())
        if grown <= room:
            return chunk
        self.count("full disk")
        fits = len(chunk) - (grown - room)
        if fits <= 0:
            raise self._fault(errno.ENOSPC, self._name(file))
        return chunk[:fits]

    def fdatasync(self, fd: int) -> None:
        file = self.open_files.get(fd)
        trap = self._trap("sync", self._name(file) if self.traps else "")
        if file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.sync_failures:
            self.sync_failures -= 1
            self.count("failed sync")
            seen = bytearray(file.live)  # the system takes the bytes for clean and shows them
            self._settle(file)
            file.live = seen
            raise self._fault(errno.EIO, self._name(file))
        if not self._is_half(trap):
            self._harden(file)
        if trap is not None:
            raise PowerLoss

    def _harden(self, file: File) -> None:
        durable = file.durable
        for offset, data in file.pending:
            if len(durable) < offset:
                durable.extend(bytes(offset - len(durable)))
            durable[offset : offset + len(data)] = data
        file.pending.clear()
        if len(durable) < len(file.live):
            durable.extend(bytes(len(file.live) - len(durable)))

    def rename(self, old: str, new: str) -> None:
        trap = self._trap("rename", new)
        if old not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        if not self._is_half(trap):
            file = self.files.pop(old)
            self.files[new] = file
            self.changes.append((old, new, file))
        if trap is not None:
            raise PowerLoss

    def unlink(self, path: str) -> None:
        trap = self._trap("unlink", path)
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if not self._is_half(trap):
            self.changes.append((path, "", self.files.pop(path)))
        if trap is not None:
            raise PowerLoss

    def fsync_dir(self, folder: str) -> None:
        trap = self._trap("sync folder", folder)
        if not self._is_half(trap):
            self.durable_names = dict(self.files)
            self.changes.clear()
        if trap is not None:
            raise PowerLoss

    def listdir(self, folder: str) -> list[str]:
        if self.is_dead:
            raise PowerLoss
        found = [os.path.basename(path) for path in self.files]
        self.random.shuffle(found)
        return found

    def _name(self, file: File | None) -> str:
        return next((name for name, known in self.files.items() if known is file), "?")
