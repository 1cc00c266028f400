"""The log writer: one sync per group, order kept, runs of indexes kept apart, errors told."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

import pytest

from pyraft_fast._entry import KIND_COMMANDS, seal
from pyraft_fast._pen import Pen
from pyraft_fast.consensus import diskwork
from pyraft_fast.consensus.diskwork import ALWAYS, EVERYSEC, NEVER, After, Call, LogWriter, Write
from pyraft_fast.consensus.wal import Piece, Wal
from pyraft_fast.core.work import HardState
from pyraft_fast.errors import ConfigError, StorageError
from pyraft_fast.storage.groups import State


class FakeWal:
    """Records what it is told; `gate` holds up every sync until it is set.

    It has no pieces for the pen, so all of it happens on the helper thread; see RealWal.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def stage(self, state: State, records: Sequence[bytes], synced: bool) -> Piece | None:
        return None

    def append(self, state: State, records: Sequence[bytes]) -> None:
        if self.broken:
            raise StorageError("the disk is full")
        self.calls.append(("append", state.term, *records))

    def sync(self) -> None:
        self.gate.wait(20)
        self.calls.append(("sync",))

    def seal(self) -> None:
        self.calls.append(("seal",))

    def wants_upkeep(self) -> bool:
        return False


def run(
    test: Callable[[FakeWal, LogWriter, list[object]], Awaitable[None]], fsync: str = ALWAYS
) -> FakeWal:
    wal = FakeWal()

    async def main() -> None:
        heard: list[object] = []
        disk = LogWriter(cast(Wal, wal), fsync, heard.append, heard.append)
        try:
            await asyncio.wait_for(test(wal, disk, heard), 20)
        finally:
            wal.gate.set()
            if not disk._is_stopped:
                assert disk.stop(20)

    asyncio.run(main())
    return wal


def write(first: int, *records: bytes, term: int = 1, done: Callable[[], None]) -> Write:
    return Write(HardState(term, "n1", 0), records, first, done)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_what_waits_behind_a_sync_becomes_one_group() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
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


def gathering(first: int, done: Callable[[], None]) -> Write:
    return Write(HardState(1, "n1", 0), [b"%d" % first], first, done, may_gather=True)


def test_writes_that_can_wait_for_more_gather_up_to_a_number() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        for index in range(1, diskwork.GATHERED_JOBS_MAX):
            disk.submit(gathering(index, partial(heard.append, index)))
            assert disk.is_gathering
            assert not disk.is_idle
        assert wal.calls == []
        wal.gate.clear()
        disk.submit(gathering(4, partial(heard.append, 4)))
        assert not disk.is_gathering
        for index in (5, 6):  # these gather while the others are written, and then go on
            disk.submit(gathering(index, partial(heard.append, index)))
        wal.gate.set()
        await until(lambda: len(heard) >= 4)
        disk.submit(write(7, b"7", done=partial(heard.append, 7)))
        await until(lambda: disk.is_idle)
        assert heard == [1, 2, 3, 4, 5, 6, 7]

    wal = run(test)
    assert wal.calls[:2] == [("append", 1, b"1", b"2", b"3", b"4"), ("sync",)]
    assert [word for call in wal.calls[2:] for word in call[2:]] == [b"5", b"6", b"7"]


def test_what_gathers_does_not_wait_for_long() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        for index in (1, 2, 3):
            disk.submit(gathering(index, partial(heard.append, index)))
            await until(lambda: disk.is_idle)
        assert heard == [1, 2, 3]

    wal = run(test)
    assert len(wal.calls) == 6


@pytest.mark.parametrize("how", ["write", "call", "after", "hurry"])
def test_what_gathers_goes_with_what_cannot_wait(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskwork, "GATHER_SECONDS", 60)

    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        disk.submit(gathering(1, partial(heard.append, 1)))
        disk.submit(gathering(2, partial(heard.append, 2)))
        more = partial(heard.append, 3)
        if how == "write":
            disk.submit(write(3, b"3", done=more))
        elif how == "call":
            disk.submit(Call(lambda: wal.calls.append(("call",)), more))
        elif how == "after":
            disk.submit(After(more))
        else:
            disk.hurry()
            await until(lambda: disk.is_idle)
            disk.hurry()  # nothing waits
            more()
        assert not disk.is_gathering
        await until(lambda: disk.is_idle)
        assert heard == [1, 2, 3]

    wal = run(test)
    assert wal.calls[0][:4] == ("append", 1, b"1", b"2")


def test_what_gathers_is_written_when_the_log_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskwork, "GATHER_SECONDS", 60)

    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        disk.submit(gathering(1, partial(heard.append, 1)))
        assert disk.stop(20)

    assert run(test).calls == [("append", 1, b"1"), ("sync",)]


def test_a_replaced_tail_is_written_apart_and_calls_stand_between() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
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
        ("sync",),
        ("append", 2, b"3'"),
        ("sync",),
        ("call",),
        ("append", 2, b"4"),
        ("sync",),
    ]


def test_without_syncs_a_new_vote_is_synced_all_the_same() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        for term, index in ((1, 1), (1, 2), (2, 3)):
            disk.submit(write(index, b"x", term=term, done=lambda i=index: heard.append(i)))
            await until(lambda i=index: i in heard)

    wal = run(test, NEVER)
    kinds = [call[0] for call in wal.calls]
    assert kinds[:5] == ["append", "sync", "append", "append", "sync"]


def test_an_idle_log_is_sealed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskwork, "REST_SECONDS", 0.01)

    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        for index in (1, 2):
            disk.submit(write(index, b"x", done=lambda: heard.append(0)))
            await until(lambda: ("seal",) in wal.calls)
            assert disk.is_idle
            wal.calls.clear()
        disk.submit(Call(lambda: None, lambda: heard.append("last")))
        await until(lambda: "last" in heard)

    wal = run(test)
    assert wal.calls == []


def test_once_a_second_is_synced_under_load_and_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskwork, "REST_SECONDS", 0.01)
    monkeypatch.setattr(diskwork, "SYNC_SECONDS", 0.05)

    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        index = 0
        while wal.calls.count(("sync",)) < 4:  # the first one for the new term
            index += 1
            disk.submit(write(index, b"x", done=lambda i=index: heard.append(i)))
            await until(lambda i=index: i in heard)
        assert index > 20
        await until(lambda: wal.calls[-2:] == [("sync",), ("seal",)])

    run(test, EVERYSEC)


def test_stop_carries_out_what_was_handed_over() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        wal.gate.clear()
        for index in (1, 2, 3):
            disk.submit(write(index, b"%d" % index, done=lambda: heard.append("done")))
        disk.submit(Call(lambda: wal.calls.append(("close",)), lambda: heard.append("done")))
        await until(lambda: wal.calls)
        threading.Timer(0.02, wal.gate.set).start()
        assert disk.stop(20)
        assert heard == []

    wal = run(test)
    assert wal.calls == [
        ("append", 1, b"1"),
        ("sync",),
        ("append", 1, b"2"),
        ("sync",),
        ("append", 1, b"3"),
        ("sync",),
        ("close",),
    ]


def test_a_disk_that_hangs_does_not_hold_up_the_end() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        wal.gate.clear()
        disk.submit(write(1, b"1", done=lambda: heard.append("done")))
        await until(lambda: wal.calls)
        assert not disk.stop(0.05)
        wal.gate.set()

    run(test)


# Through the pen, into files


def opened(folder: Path, segment_bytes: int = 1 << 16) -> Wal:
    return Wal.open(
        str(folder), "n1", cluster=1, incarnation=5, segment_bytes=segment_bytes
    )[0]  # fmt: skip


def record(index: int, term: int, size: int) -> bytes:
    return seal(KIND_COMMANDS, index, term, 1, 5, 1, index, 1, b"x" * size)


@pytest.mark.parametrize("fsync", [ALWAYS, EVERYSEC, NEVER])
def test_groups_over_many_segments_are_found_again(tmp_path: Path, fsync: str) -> None:
    async def main() -> None:
        wal = opened(tmp_path)
        heard: list[object] = []
        disk = LogWriter(wal, fsync, heard.append, heard.append)
        for index in range(1, 301):
            term = 1 + index // 100
            records = [record(index, term, 1 + index * 7 % 2000)]
            done = partial(heard.append, index)
            disk.submit(Write(HardState(term, "n1", index - 1), records, index, done))
            if index % 3 == 0:
                await until(lambda: disk.is_idle)
        await until(lambda: disk.is_idle)
        assert heard == list(range(1, 301))
        stats = disk.stats()
        assert 0 < stats.fsyncs <= stats.groups <= 300
        assert (stats.fsyncs == stats.groups) == (fsync == ALWAYS)
        disk.submit(Call(wal.close, lambda: None))
        assert disk.stop(20)

    asyncio.run(main())
    wal, found = Wal.open(str(tmp_path), "n1", segment_bytes=1 << 16)
    assert (found.first, found.last, found.last_term, found.state.term) == (1, 300, 4, 4)
    assert found.torn is None
    wal.close()


def test_a_replaced_tail_through_the_pen(tmp_path: Path) -> None:
    async def main() -> None:
        wal = opened(tmp_path)
        heard: list[object] = []
        disk = LogWriter(wal, ALWAYS, heard.append, heard.append)
        state = HardState(1, "n1", 0)
        for first, term in ((1, 1), (2, 1), (2, 2), (3, 2)):
            records = [record(first, term, 10), record(first + 1, term, 10)]
            done = partial(heard.append, (first, term))
            disk.submit(Write(state._replace(term=term), records, first, done))
        await until(lambda: disk.is_idle)
        assert heard == [(1, 1), (2, 1), (2, 2), (3, 2)]
        assert [entry.term for entry in wal.read(1, 5, 10_000)] == [1, 2, 2, 2]
        assert disk.stop(20)

    asyncio.run(main())


class TimedPen:
    """A pen that says how long its writes took, whatever they did, and who made them."""

    took_us = 0
    made: ClassVar[list[str]] = []

    def __init__(self, bell: int, blank_behind: bool) -> None:
        self._pen = Pen(bell, blank_behind)
        self.stop, self.wait = self._pen.stop, self._pen.wait
        self.made.clear()

    def write(self, fd: int, data: bytes, offset: int, synced: bool) -> None:
        self.made.append("pen")
        self._pen.write(fd, data, offset, synced)

    def write_here(self, fd: int, data: bytes, offset: int, synced: bool) -> None:
        self.made.append("loop")
        self._pen.write_here(fd, data, offset, synced)

    def take(self) -> int:
        self._pen.take()
        return self.took_us


@pytest.mark.parametrize("fsync", [ALWAYS, EVERYSEC, NEVER])
def test_the_loop_writes_while_the_disk_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: str
) -> None:
    """The pen has the first writes, those behind a slow one for a while, and the large ones."""
    monkeypatch.setattr(diskwork, "Pen", TimedPen)
    stall, large = diskwork.SLOW_US * 100, diskwork.QUICK_BYTES_MAX
    steps = [
        *[(0, True, 9, "pen")] * 6, (0, True, 9, "loop"), (stall, True, 9, "loop"),
        *[(0, True, 9, "pen")] * 14,
        *[(diskwork.QUICK_US_MAX // 2, True, 9, "")] * 40,
        *[(diskwork.QUICK_US_MAX // 2, True, 9, "loop")] * 3,
        (0, False, 9, "pen"), (0, True, large, "pen"), (0, True, 9, "loop"),
        *[(2 * diskwork.QUICK_US_MAX, True, 9, "")] * 40,
        *[(2 * diskwork.QUICK_US_MAX, True, 9, "pen")] * 3,
    ]  # fmt: skip

    async def main() -> None:
        wal = opened(tmp_path, 1 << 20)
        heard: list[object] = []
        disk = LogWriter(wal, fsync, heard.append, heard.append)
        for index, (took_us, may_wait, size, who) in enumerate(steps, start=1):
            monkeypatch.setattr(TimedPen, "took_us", took_us)
            job = Write(
                HardState(1, "n1", 0), [record(index, 1, size)], index,
                partial(heard.append, index), may_wait,
            )  # fmt: skip
            disk.submit(job)
            assert who in ("", TimedPen.made[-1]), index
            assert (heard[-1:] == [index]) == (TimedPen.made[-1] == "loop")
            await until(lambda: disk.is_idle and disk._group is None)
        assert heard == list(range(1, len(steps) + 1))
        disk.submit(Call(wal.close, lambda: None))
        assert disk.stop(20)

    asyncio.run(main())
    wal, found = Wal.open(str(tmp_path), "n1", segment_bytes=1 << 20)
    assert (found.last, found.torn) == (len(steps), None)
    wal.close()


@pytest.mark.parametrize("by_loop", [False, True])
def test_a_write_that_fails_ends_the_log(tmp_path: Path, by_loop: bool) -> None:
    async def main() -> None:
        wal = opened(tmp_path)
        heard: list[object] = []
        disk = LogWriter(wal, ALWAYS, heard.append, heard.append)
        if by_loop:
            disk._usual_us = 0
        os.close(wal._files[-1].fd)
        state = HardState(1, "n1", 0)
        for index in (1, 2):
            disk.submit(Write(state, [record(index, 1, 9)], index, heard.clear, by_loop))
        await until(lambda: heard)
        assert len(heard) == 1
        assert isinstance(heard[0], StorageError)
        assert "cannot append to" in str(heard[0])
        with pytest.raises(StorageError, match="cannot be written"):
            wal.sync()
        assert not disk.stop(20)

    asyncio.run(main())


@pytest.mark.parametrize("is_heard", [True, False])
def test_nothing_is_written_behind_a_group_that_was_lost(tmp_path: Path, is_heard: bool) -> None:
    """Else the log could hold the end of a replaced tail without its beginning."""

    async def main() -> None:
        wal = opened(tmp_path, 8192)
        heard: list[object] = []
        disk = LogWriter(wal, ALWAYS, heard.append, heard.append)
        state = HardState(1, "n1", 0)
        first = [record(index, 1, 10) for index in range(1, 10)]
        disk.submit(Write(state, first, 1, lambda: None))
        await until(lambda: disk.is_idle)

        def full(*_: object) -> None:
            raise StorageError("the disk is full")

        wal._rotate = full  # type: ignore[method-assign]
        new = state._replace(term=2)
        lost = [record(5, 2, 4000), record(6, 2, 4000)]  # need a new segment
        disk.submit(Write(new, lost, 5, lambda: heard.append("done")))
        disk.submit(Write(new, [record(7, 2, 10)], 7, lambda: heard.append("done")))
        if is_heard:
            await until(lambda: heard)
        disk.submit(Call(wal.close, lambda: None))
        assert not disk.stop(20)
        assert "done" not in heard

    asyncio.run(main())
    wal, found = Wal.open(str(tmp_path), "n1", segment_bytes=8192)
    assert (found.last, found.last_term) == (9, 1)
    wal.close()


def test_an_error_is_told_and_nothing_is_reported_done() -> None:
    async def test(wal: FakeWal, disk: LogWriter, heard: list[object]) -> None:
        wal.broken = True
        disk.submit(write(1, b"1", done=lambda: heard.append("done")))
        await until(lambda: heard)
        assert len(heard) == 1
        assert isinstance(heard[0], StorageError)

    run(test)


def test_unknown_modes_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError):
            LogWriter(cast(Wal, FakeWal()), "mostly", print, print)

    asyncio.run(main())
