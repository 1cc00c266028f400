"""The writing thread: what it wrote is there, and what failed is told."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyraft_fast._pen import Pen
from pyraft_fast.errors import InvariantError


class Bench:
    """A pen, its bell and a file."""

    def __init__(self, folder: Path, blank_behind: bool = False) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pen = Pen(self.bell, blank_behind)
        self.path = folder / "file"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)

    def write(self, data: bytes, offset: int = 0, synced: bool = True, fd: int = -1) -> int:
        self.pen.write(self.fd if fd < 0 else fd, data, offset, synced)
        assert select.select([self.bell], [], [], 20)[0]
        assert os.eventfd_read(self.bell) == 1
        return self.pen.take()

    def write_here(self, data: bytes, offset: int = 0, synced: bool = True, fd: int = -1) -> int:
        self.pen.write_here(self.fd if fd < 0 else fd, data, offset, synced)
        assert not select.select([self.bell], [], [], 0)[0]
        return self.pen.take()

    def close(self) -> None:
        assert self.pen.stop(20)
        os.close(self.fd)
        os.close(self.bell)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("synced", [True, False])
def test_what_was_written_is_there(bench: Bench, synced: bool) -> None:
    expected = bytearray()
    for number in range(50):
        data = bytes([number]) * (1 + 97 * number)
        assert bench.write(data, len(expected), synced) >= 0
        expected += data
    assert bench.path.read_bytes() == expected
    bench.write(b"over", 10, synced)
    expected[10:14] = b"over"
    assert bench.path.read_bytes() == expected


@pytest.mark.parametrize("synced", [True, False])
def test_the_caller_and_the_thread_take_turns(bench: Bench, synced: bool) -> None:
    expected = bytearray()
    for number in range(60):
        data = bytes([number]) * (1 + 97 * number)
        write = bench.write_here if number % 3 else bench.write
        assert write(data, len(expected), synced) >= 0
        expected += data
    assert bench.path.read_bytes() == expected


def test_a_failed_write_of_the_caller_is_told_when_it_is_taken(bench: Bench) -> None:
    with pytest.raises(OSError) as caught:
        bench.write_here(b"x", fd=bench.bell + 10_000)
    assert caught.value.errno == errno.EBADF
    bench.write_here(b"good")
    assert bench.path.read_bytes() == b"good"


def test_the_caller_writes_only_when_nothing_is_under_way_or_untaken(bench: Bench) -> None:
    bench.pen.write_here(bench.fd, b"a", 0, False)
    for write in (bench.pen.write, bench.pen.write_here):
        with pytest.raises(InvariantError):
            write(bench.fd, b"b", 0, False)
    bench.pen.take()
    assert bench.path.read_bytes() == b"a"


def test_a_large_write_is_whole(bench: Bench) -> None:
    data = os.urandom(1 << 20) * 24
    bench.write(data, 4096)
    assert bench.path.read_bytes() == bytes(4096) + data


def test_nothing_to_write_is_done_at_once(bench: Bench) -> None:
    bench.write(b"")
    assert bench.path.read_bytes() == b""


def test_a_failed_write_says_why_and_the_pen_goes_on(bench: Bench) -> None:
    for synced in (True, False):
        with pytest.raises(OSError) as caught:
            bench.write(b"x", 0, synced, fd=bench.bell + 10_000)
        assert caught.value.errno == errno.EBADF
        bench.write(b"good", 0, synced)
    assert bench.path.read_bytes() == b"good"


def test_a_full_disk_is_told(bench: Bench) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            bench.write(b"x", 0, False, fd=full)
    finally:
        os.close(full)
    assert caught.value.errno == errno.ENOSPC


def test_a_write_that_only_fits_in_part_is_an_error(tmp_path: Path) -> None:
    """Past a limit of the process the first write is short, and the rest fails."""
    program = f"""
import os, resource, select, signal
from pyraft_fast._pen import Pen
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
bell = os.eventfd(0, os.EFD_NONBLOCK)
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT, 0o600)
for synced in (True, False):
    pen = Pen(bell)
    pen.write(fd, b"y" * 20_000, 0, synced)
    select.select([bell], [], [])
    os.eventfd_read(bell)
    try:
        pen.take()
    except OSError as error:
        print(error.errno, os.fstat(fd).st_size)
    assert pen.stop(20)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == 2 * [str(errno.EFBIG), "10000"], ran.stderr


def test_where_a_write_cannot_be_synced_by_itself_the_file_is(bench: Bench) -> None:
    """This file knows no RWF_DSYNC: it is written all the same, and then fdatasync is refused."""
    path = Path("/proc/self/oom_score_adj")
    before = path.read_text().encode()
    odd = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            bench.write(before, 0, True, fd=odd)
        assert caught.value.errno == errno.EINVAL
        bench.write(before, 0, False, fd=odd)
    finally:
        os.close(odd)
    bench.write(b"good", 0, True)
    assert bench.path.read_bytes() == b"good"


def test_one_write_at_a_time(bench: Bench) -> None:
    bench.pen.write(bench.fd, b"a", 0, False)
    with pytest.raises(InvariantError, match="one write at a time"):
        bench.pen.write(bench.fd, b"b", 0, False)
    assert bench.pen.wait(20)
    with pytest.raises(InvariantError, match="one write at a time"):
        bench.pen.write(bench.fd, b"b", 0, False)
    bench.pen.take()
    with pytest.raises(InvariantError, match="no write is finished"):
        bench.pen.take()
    assert bench.path.read_bytes() == b"a"


def test_stop_finishes_the_write_under_way(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    made.pen.write(made.fd, b"z" * 5_000_000, 0, True)
    assert made.pen.stop(20)
    assert made.path.read_bytes() == b"z" * 5_000_000
    os.close(made.fd)
    os.close(made.bell)


def test_signals_are_left_to_the_other_threads(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/task"))
    made = Bench(tmp_path)
    (thread,) = set(os.listdir("/proc/self/task")) - before
    with open(f"/proc/self/task/{thread}/status") as status:
        lines = dict(line.split(":", 1) for line in status if ":" in line)
    blocked = int(lines["SigBlk"], 16)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        assert blocked >> (number - 1) & 1
    made.close()


def test_a_pen_that_was_not_started_is_refused() -> None:
    with pytest.raises(InvariantError, match="not started"):
        Pen.__new__(Pen).take()
