"""The ring in plain Python: same layout, same answers, no atomics. One thread, two ends.

It judges `pyraft_fast._ring`: either side of a ring may be played by either implementation, and
both must give the same answers to the same calls. It follows the frame rules literally and keeps
no copies of the other side's positions.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import RECORD_BYTES_MAX

CONTROL_BYTES = 4096
MAGIC = int.from_bytes(b"raftring", "little")
VERSION = 3
HEAD, TAIL, SLEEPS, WAITS, TURN, HEARD = 128, 256, 384, 512, 640, 768
NOTICE = TURN + 8
WHOLE, FIRST, MIDDLE, LAST, PAD = range(5)


class TwinRing:
    """One side of a ring, as pyraft_fast._ring.Ring."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.map = mmap.mmap(fd, os.fstat(fd).st_size)
        self.size = len(self.map) - CONTROL_BYTES
        self.head = self.get(HEAD)
        self.tail = self.taken = self.get(TAIL)
        self.told = self.get(HEARD)
        self.record: object = None
        self.offset = 0
        self.parts: list[bytes] | None = None

    @classmethod
    def create(cls, size: int) -> TwinRing:
        fd = os.memfd_create("ring twin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, CONTROL_BYTES + size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        os.pwrite(fd, struct.pack("<QIIQ", MAGIC, VERSION, 0, size), 0)
        return cls(fd)

    @classmethod
    def attach(cls, fd: int) -> TwinRing:
        return cls(os.dup(fd))

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)

    def get(self, at: int, form: str = "<Q") -> int:
        return struct.unpack_from(form, self.map, at)[0]

    def put(self, at: int, value: int, form: str = "<Q") -> None:
        struct.pack_into(form, self.map, at, value)

    # The writing half

    def publish(self, record: bytes) -> bool:
        if self.record is not None and self.record is not record:
            raise InvariantError("another record before the rest of one")
        if not 0 < len(record) <= RECORD_BYTES_MAX:
            raise InvariantError(f"a record of {len(record)} bytes")
        if 8 + -(-len(record) // 8) * 8 <= self.size // 4:
            return self.put_frame(WHOLE, record)
        while self.offset < len(record):
            chunk = min(len(record) - self.offset, self.size // 4 - 8)
            to_end = self.size - self.head % self.size
            if to_end > 8:
                chunk = min(chunk, to_end - 8)
            end = self.offset + chunk
            flags = FIRST if not self.offset else LAST if end == len(record) else MIDDLE
            if not self.put_frame(flags, record[self.offset : end]):
                self.record = record if self.offset else None
                return False
            self.offset = end
        self.record, self.offset = None, 0
        return True

    def put_frame(self, flags: int, data: bytes) -> bool:
        frame = 8 + -(-len(data) // 8) * 8
        to_end = self.size - self.head % self.size
        pad = to_end if frame > to_end else 0
        if self.size - (self.head - self.get(TAIL)) < pad + frame:
            self.put(WAITS, self.size // 2, "<I")
            return False
        self.put(WAITS, 0, "<I")
        if pad:
            struct.pack_into("<II", self.map, self.place(self.head), pad - 8, PAD)
        at = self.place(self.head + pad)
        struct.pack_into("<II", self.map, at, len(data), flags)
        self.map[at + 8 : at + 8 + len(data)] = data
        self.head += pad + frame
        self.put(HEAD, self.head)
        return True

    def place(self, position: int) -> int:
        return CONTROL_BYTES + position % self.size

    def wake_needed(self) -> bool:
        slept = self.get(SLEEPS, "<I")
        self.put(SLEEPS, 0, "<I")
        return slept == 1

    def post(self, *words: int) -> None:
        self.put(TURN, (self.get(TURN) + 2) % 2**64)
        struct.pack_into("<3Q", self.map, NOTICE, *words)

    def hear(self, count: int) -> None:
        self.told += count
        self.put(HEARD, self.told)

    # The reading half

    def heard(self) -> int:
        return self.get(HEARD)

    def posted(self) -> tuple[int, ...] | None:
        if self.get(TURN) % 2:
            return None
        return struct.unpack_from("<3Q", self.map, NOTICE)

    def take(self, bytes_max: int) -> list[bytes]:
        records: list[bytes] = []
        start, head = self.taken, self.get(HEAD)
        if head < self.taken or head - self.tail > self.size or head % 8:
            raise InvariantError("head")
        while self.taken != head:
            try:
                self.take_frame(head, records)
            except InvariantError:
                if not records:
                    raise
                break
            if self.taken - start >= bytes_max:
                break
        return records

    def take_frame(self, head: int, records: list[bytes]) -> None:
        at = self.place(self.taken)
        length, flags = struct.unpack_from("<II", self.map, at)
        frame = 8 + -(-length // 8) * 8
        to_end = self.size - self.taken % self.size
        if flags > PAD or frame > min(to_end, head - self.taken):
            raise InvariantError("frame")
        data = self.map[at + 8 : at + 8 + length]
        if flags == PAD:
            if frame != to_end:
                raise InvariantError("pad")
            self.taken += frame
            return
        if not length or frame > self.size // 4:
            raise InvariantError("length")
        if (flags in (WHOLE, FIRST)) != (self.parts is None):
            raise InvariantError("order")
        if flags == WHOLE:
            records.append(data)
        else:
            self.parts = [*(self.parts or []), data]
            if flags == LAST:
                records.append(b"".join(self.parts))
                self.parts = None
        self.taken += frame

    def release(self) -> bool:
        if self.taken == self.tail:
            return False
        self.tail = self.taken
        self.put(TAIL, self.tail)
        wanted = self.get(WAITS, "<I")
        if not wanted or self.size - (self.get(HEAD) - self.tail) < wanted:
            return False
        self.put(WAITS, 0, "<I")
        return True

    def sleep(self) -> bool:
        if self.taken != self.tail:
            raise InvariantError("sleep before release")
        if self.get(HEAD) != self.taken:
            return False
        self.put(SLEEPS, 1, "<I")
        return True
