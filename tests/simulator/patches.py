"""What of the operating system the product touches, replaced while a simulation runs.

Only names at the border are replaced (clocks, files, threads, processes, bells) and the classes
that checks look into are derived from the product's own. Everything else is the product as it is,
so a test that patches a function of the product finds its patch obeyed here.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pyraft_fast import _wire
from pyraft_fast.consensus import (
    __main__,
    announcing,
    diskwork,
    driver,
    node,
    parent,
    recovery,
    settings,
    snapshots,
)
from pyraft_fast.core import log, replication, sparing
from pyraft_fast.core.work import Config
from pyraft_fast.errors import RaftException
from pyraft_fast.link import pipe, ring
from pyraft_fast.serving import child, propose, reads, requests, service
from pyraft_fast.serving import snapshot as serving_snapshot
from pyraft_fast.serving.snapshot import SnapshotWriter
from pyraft_fast.storage import reader
from pyraft_fast.storage import snapshot as storage_snapshot
from pyraft_fast.storage.disk import OS_DISK, OsDisk, write_all
from tests import SHIPPED_SIZES
from tests.simulator import checks
from tests.simulator.loop import PowerLoss, Process, World
from tests.simulator.machine import ProcessExit, SimChild
from tests.simulator.shape import Shape

if TYPE_CHECKING:
    from tests.simulator.run import Simulation

ACTIVE: list[Simulation] = []
DISK_METHODS = (
    "create", "open", "close", "size", "pread", "pwrite", "fdatasync", "rename", "unlink",
    "fsync_dir", "listdir",
)  # fmt: skip


def current() -> Process:
    """The process whose code runs now."""
    return ACTIVE[-1].world.current


class SimTime:
    """Stands for the module `time`: the clocks of the machine whose code runs."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME
    CLOCK_MONOTONIC = time.CLOCK_MONOTONIC

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.current.monotonic()

    perf_counter = monotonic

    def clock_gettime(self, clock: int) -> float:
        process = self._world.current
        if clock == self.CLOCK_BOOTTIME:
            return process.clock.boottime(process.now())
        return process.monotonic()

    def clock_gettime_ns(self, clock: int) -> int:
        return int(self.clock_gettime(clock) * 1e9)

    def time_ns(self) -> int:
        process = self._world.current
        return process.clock.wall_ns(process.now())

    def time(self) -> float:
        return self.time_ns() / 1e9


class SimOs:
    """Stands for the module `os` where a process ends itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def _exit(status: int) -> None:
        process = current()
        process.machine.consensus_exits(status)
        raise ProcessExit(status)

    @staticmethod
    def getppid() -> int:
        return 0


class SimThread:
    """A helper thread: its work happens at one moment, a little later."""

    def __init__(self, target: Callable[[], None], name: str = "", daemon: bool = False) -> None:
        self._target = target
        self._is_done = True

    def start(self) -> None:
        process = current()
        self._is_done = False
        process.after(process.world.random.random() * 0.005, self._run)

    def _run(self) -> None:
        self._is_done = True
        self._target()

    def is_alive(self) -> bool:
        return not self._is_done

    def join(self, timeout: float | None = None) -> None:
        """Nothing to wait for: the process ends with this."""


class SimWork:
    """What a thread at the disk does: as slow as the disk, and told a little later."""

    def __init__(self) -> None:
        self._process = current()
        self._told_at = 0.0

    def _begin(self, work: Callable[[], None]) -> None:
        low, high = self._process.machine.disk_delay
        self._process.after(low + self._process.world.random.random() * (high - low), work)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        """What is on disk may not be told for a while, and never if the process ends."""
        process = self._process
        rng = process.world.random
        delay = rng.random() * (0.02 if rng.random() < 0.05 else 0.0001)
        self._told_at = max(self._told_at, process.now() + delay)
        process.at(self._told_at, function, *arguments)


class SimPen(SimWork):
    """The pen: writes at one moment, and rings its bell."""

    def __init__(self, bell: int, blank_behind: bool) -> None:
        super().__init__()
        assert blank_behind
        self._bell = bell
        self._job: tuple[int, bytes, int, bool] | None = None
        self._error: OSError | None = None
        self._is_done = False
        self._took_us = 50

    def write(self, fd: int, data: bytes, offset: int, synced: bool) -> None:
        assert self._job is None and not self._is_done, "one write at a time"
        self._job = (fd, data, offset, synced)
        self._begin(self._work)

    def write_here(self, fd: int, data: bytes, offset: int, synced: bool) -> None:
        assert self._job is None and not self._is_done, "one write at a time"
        self._job = (fd, data, offset, synced)
        self._carry_out()

    def _work(self) -> None:
        if self._job is None:  # stop was quicker
            return
        self._carry_out()
        self._tell(self._ring)

    def _carry_out(self) -> None:
        assert self._job is not None
        fd, data, offset, synced = self._job
        self._job = None
        self._is_done = True
        file = self._process.machine.disk.open_files.get(fd)
        assert not (synced and file and file.pending), "a synced write syncs only itself"
        try:
            write_all(OS_DISK, fd, data, offset)
            if synced:
                OS_DISK.fdatasync(fd)
        except OSError as error:
            self._error = error

    def _ring(self) -> None:
        reader = self._process.loop.readers.get(self._bell)
        if reader is not None:
            reader()

    def take(self) -> int:
        assert self._is_done, "a write is finished"
        error, self._error, self._is_done = self._error, None, False
        if error is not None:
            raise error
        rng = self._process.world.random
        if rng.random() < 0.03:  # a disk is quick enough to wait for, or not, for a while
            self._took_us = rng.choice((50, 50, 5000))
        return self._took_us

    def wait(self, seconds: float) -> bool:
        if self._job is not None:
            self._carry_out()
        return True

    def stop(self, seconds: float) -> bool:
        return self.wait(seconds)


class SimHelper(SimWork):
    """The helper thread: each call happens at one moment."""

    def __init__(self, told: Callable[[BaseException | None], None]) -> None:
        super().__init__()
        self._told = told
        self._calls: deque[Callable[[], None]] = deque()

    def run(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        self._begin(self._work)

    def _work(self) -> None:
        if self._calls:
            self._tell(self._told, self._carry_out())

    def _carry_out(self) -> BaseException | None:
        try:
            self._calls.popleft()()
        except PowerLoss:
            raise
        except BaseException as error:
            return error
        return None

    def stop(self, seconds_max: float) -> bool:
        while self._calls:
            self._carry_out()
        return True


class SimSnapshotWriter(SnapshotWriter):
    """Writes what a fork would have seen, some time later."""

    def start(self, meta: Any, items: Callable[[], Any]) -> None:
        if self.busy:
            return
        process = current()
        self._began = self._loop.time()
        seconds = int(serving_snapshot.time.time())
        path = serving_snapshot.snapshot_path(self._folder, self._nid, seconds, meta.index)
        self._pid, self._meta, self._path = 1, meta, path
        frozen = list(items())
        process.after(process.world.random.random() * 0.05, self._write, meta, frozen)

    def _write(self, meta: Any, items: list[Any]) -> None:
        if not self.busy:
            return
        try:
            serving_snapshot.write_snapshot(self._path, meta, items)
        except RaftException as error:
            self._pid = 0
            self._finish(str(error))
        else:
            self._pid = 0
            self._finish("")

    def stop(self) -> None:
        self._pid = 0
        super().stop()


class SimClientPort:
    """No socket: clients of a simulation hand their commands to the service."""

    def __init__(self, *_: Any) -> None:
        pass

    def stop_accepting(self) -> None:
        """Nobody comes."""

    def close(self) -> None:
        """Nobody came."""


def wake(bell: int) -> None:
    """Ring a doorbell."""
    ACTIVE[-1].bells[bell].ring_bell(bell)


def clear(bell: int) -> None:
    """Silence a doorbell."""
    child = ACTIVE[-1].bells.get(bell)
    if child is not None:  # a pen's bell rings in its own process
        child.rung.pop(bell, None)


def start_child(machine: Any, _: int, *, ring_bytes: int) -> SimChild:
    """Start the consensus process of a machine."""
    return SimChild(machine)


def _config(shape: Shape) -> Callable[..., Config]:
    def config(*values: Any, **named: Any) -> Config:
        named.update(append_bytes_max=shape.append_bytes, inflight_messages_max=shape.inflight)
        named.update(spare_commands_min=shape.spare_commands)
        return Config(*values, **named)

    return config


def _disk_method(name: str) -> Callable[..., Any]:
    def method(_: OsDisk, *arguments: Any, **named: Any) -> Any:
        return getattr(current().machine.disk, name)(*arguments, **named)

    return method


def replacements(simulation: Simulation) -> Iterator[tuple[object, str, Any]]:
    """(where, name, what) to put in place."""
    world, shape = simulation.world, simulation.shape
    clock = SimTime(world)
    for name, module in sorted(sys.modules.items()):
        if name.startswith("pyraft_fast.") and getattr(module, "time", None) is time:
            yield module, "time", clock
    for name in DISK_METHODS:
        yield OsDisk, name, _disk_method(name)
    dice = SimpleNamespace(Random=lambda: random.Random(world.random.getrandbits(64)))
    yield announcing, "random", dice
    yield diskwork, "Pen", SimPen
    yield diskwork, "Helper", SimHelper
    yield diskwork, "make_bell", lambda: -world.next_number()  # no descriptor of another
    yield diskwork, "Thread", SimThread
    yield node, "ThreadPoolExecutor", lambda *_, **__: object()
    yield node, "Raft", checks.CheckedRaft
    yield node, "Driver", checks.CheckedDriver
    yield node, "Config", _config(shape)
    yield recovery, "Wal", checks.CheckedWal
    yield service, "Applier", checks.CheckedApplier
    yield service, "SnapshotWriter", SimSnapshotWriter
    yield service, "ClientPort", SimClientPort
    yield parent, "os", SimOs()
    yield __main__, "os", SimOs()
    yield child, "start_child", start_child
    for module in (ring, child, __main__, diskwork):
        for name, function in (("wake", wake), ("clear", clear)):
            if hasattr(module, name):
                yield module, name, function
    for module, name, value in (
        (propose, "ANSWER_SECONDS", shape.answer_seconds),
        (reads, "ANSWER_SECONDS", shape.answer_seconds),
        (requests, "ANSWER_SECONDS", shape.answer_seconds),
        (serving_snapshot, "RETRY_SECONDS", 0.5),
        (settings, "SEGMENT_BYTES_MIN", 4096),
        (snapshots, "SNAPSHOT_CHUNK_BYTES", shape.chunk_bytes),
        (storage_snapshot, "SNAPSHOT_CHUNK_BYTES", shape.chunk_bytes),
        (_wire, "READ_BYTES", shape.read_bytes),
        (reader, "READ_AHEAD_BYTES", shape.read_ahead),
        (pipe, "READ_BYTES", shape.read_bytes),
        (propose, "PENDING_BATCHES_MAX", shape.pending_batches),
        *(() if os.environ.get(SHIPPED_SIZES) else compiled_sizes(shape)),
    ):
        yield module, name, value


def compiled_sizes(shape: Shape) -> Iterator[tuple[object, str, Any]]:
    """Sizes that only sources take from a test."""
    yield log, "LOG_CACHE_ENTRIES_MAX", shape.cache_entries
    yield replication, "APPEND_ENTRIES_MAX", shape.append_entries
    yield sparing, "COMMITS_MIN", 1  # there is little load
    yield driver, "TAIL_ENTRIES", shape.tail_entries
    yield driver, "TAIL_ENTRIES_MAX", 20 * shape.tail_entries + 20


@contextmanager
def patched(simulation: Simulation) -> Iterator[None]:
    """Put the replacements in place, and take them away again."""
    found = list(replacements(simulation))
    olds = [(where, name, vars_of(where)[name]) for where, name, _ in found]
    ACTIVE.append(simulation)
    for where, name, value in found:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, old in olds:
            setattr(where, name, old)
        ACTIVE.pop()


def vars_of(where: object) -> Mapping[str, Any]:
    """The names of a module or class."""
    return vars(where)
