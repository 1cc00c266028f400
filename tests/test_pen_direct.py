"""Writes past the page cache: the file is as if they had gone through it."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_pen import Bench

BLOCK = 4096
UNWILLING = Path(__file__).with_name("unwilling_kernel.c")
AT_FDCWD = -100
STATX_DIOALIGN = 0x2000
FILE_BYTES = 1 << 20


class Log(Bench):
    """A pen, and a file of zeros that is written from its beginning on."""

    def __init__(self, folder: Path) -> None:
        before = set(os.listdir("/proc/self/task"))
        super().__init__(folder, blank_behind=True)
        (self.thread,) = set(os.listdir("/proc/self/task")) - before
        self.folder = folder
        self.files = 0
        self.begin()

    def begin(self, size_bytes: int = FILE_BYTES) -> None:
        """Go on in a new file, under the same descriptor."""
        self.files += 1
        self.path = self.folder / str(self.files)
        made = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(made, bytes(size_bytes))
        os.fsync(made)
        os.dup2(made, self.fd)
        os.close(made)
        self.size_bytes = size_bytes
        self.written = bytearray()

    def send(self, data: bytes) -> None:
        self.pen.write(self.fd, data, len(self.written), True)
        self.written += data

    def append(self, data: bytes) -> None:
        self.write(data, len(self.written))
        self.written += data

    def append_here(self, data: bytes) -> None:
        self.write_here(data, len(self.written))
        self.written += data

    def append_through_cache(self, data: bytes) -> None:
        """What the helper does."""
        os.pwrite(self.fd, data, len(self.written))
        self.written += data

    def is_as_written(self) -> bool:
        blank = bytes(max(self.size_bytes - len(self.written), 0))
        return self.path.read_bytes() == self.written + blank

    def thread_wakes(self) -> int:
        """How often the pen's thread went to sleep so far."""
        status = Path(f"/proc/self/task/{self.thread}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return int(lines["voluntary_ctxt_switches"])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.close()


def passes_the_cache(folder: Path) -> bool:
    """Does the kernel say so of files here? (STATX_DIOALIGN, Linux 6.1)"""
    found = (ctypes.c_uint32 * 64)()
    statx = getattr(ctypes.CDLL(None), "statx", None)
    if statx is None or statx(AT_FDCWD, os.fsencode(folder / "1"), 0, STATX_DIOALIGN, found) != 0:
        return False
    return bool(found[0] & STATX_DIOALIGN) and found[38] != 0


@pytest.mark.parametrize("seed", range(8))
def test_whoever_writes_the_file_is_the_same(log: Log, seed: int) -> None:
    """Lengths around blocks and sectors, three ways to write, and a new file now and then."""
    dice = random.Random(seed)
    for _ in range(120):
        length = dice.choice(
            [1, 8, 511, 512, 513, BLOCK - 1, BLOCK, BLOCK + 1, dice.randint(1, 3 * BLOCK)]
        )
        if len(log.written) + length > log.size_bytes or dice.random() < 0.02:
            assert log.is_as_written()
            log.begin()
        way = dice.choice([log.append, log.append, log.append_here, log.append_through_cache])
        way(dice.randbytes(length))
    assert log.is_as_written()


def test_a_write_to_the_very_end_fits_and_one_byte_more_makes_the_file_longer(log: Log) -> None:
    log.begin(3 * BLOCK - 100)
    log.append(b"a" * BLOCK)
    log.append(b"b" * (2 * BLOCK - 100))
    assert log.is_as_written() and log.path.stat().st_size == 3 * BLOCK - 100
    log.append(b"c")
    log.append_here(b"d")
    assert log.is_as_written() and log.path.stat().st_size == 3 * BLOCK - 98


def test_a_block_that_was_filled_exactly_is_left_alone(log: Log) -> None:
    for letter in b"abc":
        log.append(bytes([letter]) * BLOCK)
    log.append_here(b"d")
    assert log.is_as_written()


def test_a_file_that_was_written_before_keeps_what_stands_before(log: Log) -> None:
    """As after a restart: the pen has never seen the beginning of the block."""
    log.append_through_cache(os.urandom(BLOCK + 700))
    log.append_here(b"x" * 10)
    assert log.is_as_written()


def test_the_thread_sleeps_while_the_kernel_writes(log: Log, tmp_path: Path) -> None:
    if not passes_the_cache(tmp_path):
        pytest.skip("this file system has no way past its cache")
    log.append(b"first, by the thread")
    until = time.monotonic() + 30
    # On a busy machine the kernel may be slow to take one, and is not asked for a while.
    while True:
        wakes = log.thread_wakes()
        for number in range(20):
            log.append(bytes([number]) * 300)
        assert log.is_as_written()
        if log.thread_wakes() == wakes:
            break
        assert time.monotonic() < until, "the thread wrote in all that time"
        if len(log.written) + 20 * 300 > log.size_bytes:
            log.begin()
            log.append(b"first again")


def test_what_was_sent_is_waited_for(log: Log) -> None:
    log.append(b"first")
    log.send(os.urandom(300_000))
    assert log.pen.wait(20)
    log.pen.take()
    assert log.is_as_written()


def test_stop_finishes_what_was_sent(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.append(b"first")
    log.send(os.urandom(900_000))
    log.close()
    assert log.is_as_written()


def test_a_write_that_fails_on_its_way_is_told(tmp_path: Path) -> None:
    """Past a limit of the process: by the kernel alone, by the caller, and what follows is well."""
    program = f"""
import os, resource, select, signal
from pyraft_fast._pen import Pen
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, bytes(1 << 16))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
bell = os.eventfd(0, os.EFD_NONBLOCK)
pen = Pen(bell, True)
def write(data, offset):
    pen.write(fd, data, offset, True)
    select.select([bell], [], [])
    os.eventfd_read(bell)
    pen.take()
write(b"a" * 100, 0)
for way in (write, lambda *job: pen.write_here(fd, *job, True) or pen.take()):
    try:
        way(b"b" * 100, 12_000)
    except OSError as error:
        print(error.errno)
write(b"c" * 100, 100)
print(os.pread(fd, 300, 0) == b"a" * 100 + b"c" * 100 + bytes(100))
print(not any(os.pread(fd, 1 << 16, 4096)))
assert pen.stop(20)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == 2 * [str(errno.EFBIG)] + 2 * ["True"], ran.stderr


@pytest.mark.parametrize("how", ["setup", "submit", "slow"])
def test_an_unwilling_kernel_leaves_it_to_the_thread(tmp_path: Path, how: str) -> None:
    """Past the cache all the same; and whoever was held up once does not ask for a while."""
    library = tmp_path / "unwilling.so"
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-shared", "-fPIC", "-o", str(library), str(UNWILLING), "-ldl"]
    subprocess.run([*compiler, *flags], check=True)
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from tests.test_pen_direct import Log
log = Log(Path({str(tmp_path)!r}))
wakes = []
for number in range(12):
    log.append(bytes([number]) * 300)
    wakes.append(log.thread_wakes())
print(wakes[-1] - wakes[1] >= 9, log.is_as_written())
log.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LD_PRELOAD": str(library), "UNWILLING": how},
    )
    assert ran.stdout.split() == ["True", "True"], ran.stderr


@pytest.mark.parametrize("policy", [os.SCHED_BATCH, os.SCHED_OTHER])
def test_the_caller_is_scheduled_as_before(tmp_path: Path, policy: int) -> None:
    program = f"""
import os
from pyraft_fast._pen import Pen
os.sched_setscheduler(0, {policy}, os.sched_param(0))
os.nice(2)
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, bytes(1 << 16))
pen = Pen(os.eventfd(0), True)
pen.write_here(fd, b"x", 0, True)
pen.take()
print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
assert pen.stop(20)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == [str(policy), "2"], ran.stderr
