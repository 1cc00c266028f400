"""The log thread: one sync per group, order kept, runs of indexes kept apart, errors told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from pyraft_fast.consensus.diskwork import ALWAYS, NEVER, After, Call, DiskThread, Write
from pyraft_fast.consensus.wal import State, Wal
from pyraft_fast.core.work import HardState
from pyraft_fast.errors import ConfigError, StorageError


class FakeWal:
    """Records what it is told; `gate` holds up every sync until it is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def append(self, state: State, records: Sequence[bytes]) -> None:
        if self.broken:
            raise StorageError("the disk is full")
        self.calls.append(("append", state.term, *records))

    def sync(self) -> None:
        self.gate.wait(20)
        self.calls.append(("sync",))

    def seal(self) -> None:
        return

    def wants_next(self) -> bool:
        return False


def run(
    test: Callable[[FakeWal, DiskThread, list[object]], Awaitable[None]], fsync: str = ALWAYS
) -> FakeWal:
    wal = FakeWal()

    async def main() -> None:
        heard: list[object] = []
        disk = DiskThread(cast(Wal, wal), fsync, heard.append, heard.append)
        try:
            await asyncio.wait_for(test(wal, disk, heard), 20)
        finally:
            wal.gate.set()
            assert disk.stop(20)

    asyncio.run(main())
    return wal


def write(first: int, *records: bytes, term: int = 1, done: Callable[[], None]) -> Write:
    return Write(HardState(term, "n1", 0), records, first, done)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_what_waits_behind_a_sync_becomes_one_group() -> None:
    async def test(wal: FakeWal, disk: DiskThread, heard: list[object]) -> None:
        wal.gate.clear()
        disk.submit(write(1, b"1", done=lambda: heard.append(1)))
        await until(lambda: wal.calls)
        for index in (2, 3, 4):
            disk.submit(write(index, b"%d" % index, done=lambda i=index: heard.append(i)))
        assert heard == []
        wal.gate.set()
        await until(lambda: disk.is_idle)
        assert heard == [1, 2, 3, 4]

    wal = run(test)
    assert wal.calls == [
        ("append", 1, b"1"),
        ("sync",),
        ("append", 1, b"2", b"3", b"4"),
        ("sync",),
    ]


def test_a_replaced_tail_is_written_apart_and_calls_stand_between() -> None:
    async def test(wal: FakeWal, disk: DiskThread, heard: list[object]) -> None:
        wal.gate.clear()
        disk.submit(write(1, b"1", done=lambda: heard.append("a")))
        await until(lambda: wal.calls)
        disk.submit(write(2, b"2", b"3", done=lambda: heard.append("b")))
        disk.submit(write(3, b"3'", term=2, done=lambda: heard.append("c")))
        disk.submit(Call(lambda: wal.calls.append(("call",)), lambda: heard.append("d")))
        disk.submit(After(lambda: heard.append("e")))
        disk.submit(write(4, b"4", term=2, done=lambda: heard.append("f")))
        wal.gate.set()
        await until(lambda: disk.is_idle)
        assert heard == ["a", "b", "c", "d", "e", "f"]

    wal = run(test)
    assert wal.calls[2:] == [
        ("append", 1, b"2", b"3"),
        ("append", 2, b"3'"),
        ("sync",),
        ("call",),
        ("append", 2, b"4"),
        ("sync",),
    ]


def test_without_syncs_a_new_vote_is_synced_all_the_same() -> None:
    async def test(wal: FakeWal, disk: DiskThread, heard: list[object]) -> None:
        for term, index in ((1, 1), (1, 2), (2, 3)):
            disk.submit(write(index, b"x", term=term, done=lambda i=index: heard.append(i)))
            await until(lambda i=index: i in heard)

    wal = run(test, NEVER)
    kinds = [call[0] for call in wal.calls]
    assert kinds[:5] == ["append", "sync", "append", "append", "sync"]


def test_an_error_is_told_and_nothing_is_reported_done() -> None:
    async def test(wal: FakeWal, disk: DiskThread, heard: list[object]) -> None:
        wal.broken = True
        disk.submit(write(1, b"1", done=lambda: heard.append("done")))
        await until(lambda: heard)
        assert len(heard) == 1
        assert isinstance(heard[0], StorageError)

    run(test)


def test_unknown_modes_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError):
            DiskThread(cast(Wal, FakeWal()), "mostly", print, print)

    asyncio.run(main())
