"""Writes snapshots from a forked child, so that the parent keeps serving meanwhile.

The fork happens between two log entries: what the child sees is the data at exactly one index.
The child closes every descriptor but its result pipe first, so that no socket, lock or pipe
outlives the parent through it; it takes no lock, logs nothing and leaves by `os._exit`, which
flushes nothing a second time. It looks before each record whether its parent still lives. One
snapshot is written at a time.

A failure is loud, names its cause (a key that cannot be encoded, a full disk) and costs nothing
but the attempt: the log is kept, and the next attempt comes later.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from pyraft_fast import common
from pyraft_fast.common import Future
from pyraft_fast.errors import RaftException, StorageError
from pyraft_fast.limits import MIB, SNAPSHOT_ENTRIES_MAX
from pyraft_fast.link.policy import run_as_batch
from pyraft_fast.storage.snapshot import Meta, snapshot_path, write_snapshot

logger = logging.getLogger(__name__)

RESULT_BYTES_MAX: Final = 64 * 1024
RETRY_SECONDS: Final = 60.0  # before the next automatic attempt after a failure
REAP_SECONDS: Final = 0.01
NICENESS: Final = 5  # of the writing process: about a third of a contended processor
DONE: Final = b"ok"

LOG_BYTES_MIN: Final = 64 * MIB  # of log between two snapshots, or as much as the last one has
LOG_BYTES_MAX: Final = 1024 * MIB

Taken = Callable[[str, int, int], None]
Waiter = tuple[Future, str | None]  # who wants the path, and where the file is to be copied before


class SnapshotWriter:
    """At most one child that writes; loop thread only.

    `taken(path, index, term)` is called when a snapshot is durable.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, folder: str, nid: str, taken: Taken
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._nid = nid
        self._taken = taken
        self._pid = 0
        self._pipe = -1
        self._meta: Meta | None = None
        self._path = ""
        self._result = b""
        self._waiters: list[Waiter] = []
        self._not_before = 0.0
        self.failures = 0
        self.last_error = ""
        self.last_seconds = 0.0
        self.last_bytes = 0  # of the newest file
        self._began = 0.0

    @property
    def busy(self) -> bool:
        """Whether a child writes now."""
        return self._pid != 0

    @property
    def may_start(self) -> bool:
        """Whether an automatic snapshot may begin now."""
        return self._pid == 0 and self._loop.time() >= self._not_before

    def start(self, meta: Meta, items: Callable[[], Iterable[Any]]) -> None:
        """Fork a child that writes `items()`, which must be the data at `meta.index`."""
        if self.busy:
            return
        self._began = self._loop.time()
        path = snapshot_path(self._folder, self._nid, int(time.time()), meta.index)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._finish(f"cannot make a pipe: {error.strerror}")
            return
        try:
            pid = fork()
        except OSError as error:
            os.close(reader)
            os.close(writer)
            self._finish(f"cannot fork: {error.strerror}")
            return
        if pid == 0:
            write_and_exit(writer, path, meta, items)
        os.close(writer)
        self._pid, self._pipe, self._meta, self._path = pid, reader, meta, path
        self._result = b""
        self._loop.add_reader(reader, self._readable)

    def is_due(self, commands: int, log_bytes: int, entries: int, commands_max: int | None) -> bool:
        """Whether the log behind the newest snapshot asks for another one, which may begin now.

        By commands; where nobody chose `commands_max`, the log must also be worth a snapshot. By
        entries in any case, since the log must reach back to the newest snapshot.
        """
        if not self.may_start:
            return False
        if entries >= SNAPSHOT_ENTRIES_MAX:
            return True
        if commands_max or common.CONF_LOG_MAX != common.LOG_MAX_DEFAULT:
            return commands >= (commands_max or common.CONF_LOG_MAX)
        if log_bytes >= LOG_BYTES_MAX:
            return True  # a few commands with large values make a long log, too
        log_bytes_min = max(LOG_BYTES_MIN, self.last_bytes)
        return commands >= common.LOG_MAX_DEFAULT and log_bytes >= log_bytes_min

    def measure(self, path: str) -> None:
        """Take the file at `path` for the newest snapshot."""
        with contextlib.suppress(OSError):
            self.last_bytes = os.path.getsize(path)

    def wait(self, waiters: list[Waiter]) -> None:
        """Answer each future with the path when the snapshot that begins now is done."""
        self._waiters += waiters

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe, RESULT_BYTES_MAX)
        except BlockingIOError:
            return
        if data and len(self._result) < RESULT_BYTES_MAX:
            self._result += data
            return
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        self._reap()

    def _reap(self) -> None:
        """The child has closed its pipe and is about to be gone."""
        if not self._pid:  # stopped meanwhile
            return
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # the user's program reaps children itself
            pid, status = self._pid, 0
        if pid == 0:
            self._loop.call_later(REAP_SECONDS, self._reap)
            return
        self._pid = 0
        if self._result == DONE:
            self._finish("")
        elif self._result:
            self._finish(self._result.decode("utf-8", "replace"))
        else:
            self._finish(
                f"the writing process ended with status {os.waitstatus_to_exitcode(status)}"
            )

    def _finish(self, error: str) -> None:
        waiters, self._waiters = self._waiters, []
        meta, self._meta = self._meta, None
        self.last_error = error
        self.last_seconds = self._loop.time() - self._began
        if error or meta is None:
            self.failures += 1
            self._not_before = self._loop.time() + RETRY_SECONDS
            logger.error("snapshot failed, the log is kept: %s", error)
            tell_all(waiters, StorageError(f"snapshot failed: {error}"))
            return
        self.measure(self._path)
        self._taken(self._path, meta.index, meta.term)
        for future, copy_to in waiters:
            if copy_to is None:
                future.set(self._path)
            else:
                self._loop.run_in_executor(None, copy_and_tell, self._path, copy_to, future)

    def stop(self) -> None:
        """Kill a child that still writes; who waits is told."""
        if self._pipe >= 0:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0
        waiters, self._waiters = self._waiters, []
        tell_all(waiters, StorageError("the node stopped before the snapshot was written"))


def tell_all(waiters: list[Waiter], error: RaftException) -> None:
    """Answer everybody with `error`."""
    for future, _ in waiters:
        future.set(error)


def copy_and_tell(path: str, copy_to: str, future: Future) -> None:
    """Copy a snapshot to where the caller wants it, whole or not at all."""
    try:
        shutil.copyfile(path, copy_to + ".tmp")
        os.replace(copy_to + ".tmp", copy_to)
    except OSError as error:
        future.set(StorageError(f"snapshot {path} cannot be copied to {copy_to}: {error.strerror}"))
    else:
        future.set(copy_to)


def fork() -> int:
    """`os.fork` without the warning about threads: the child takes no lock of another thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def give_way() -> None:
    """Let those go first who have clients waiting; a snapshot may take longer."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    run_as_batch()


def write_and_exit(
    writer: int, path: str, meta: Meta, items: Callable[[], Iterable[Any]]
) -> NoReturn:
    """The child: write the snapshot, report through the pipe, leave without cleaning up."""
    status = 1
    try:
        gc.disable()  # a collection would copy every page it marks
        give_way()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.closerange(3, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.set_blocking(writer, True)
        try:
            write_snapshot(path, meta, items(), look=parent_watch())
        except RaftException as error:
            os.write(writer, str(error).encode("utf-8", "replace")[:RESULT_BYTES_MAX])
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            os.write(writer, text.encode("utf-8", "replace")[:RESULT_BYTES_MAX])
        else:
            os.write(writer, DONE)
            status = 0
    finally:
        os._exit(status)


def parent_watch() -> Callable[[], None]:
    """A look that ends the process when its parent is gone, since nobody wants the file then."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent:
            os._exit(1)

    return look
