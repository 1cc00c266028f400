"""The thread that writes the log: it takes everything that waits as one group, with one sync.

The loop never waits for the disk. It hands over jobs in order and hears of each, in the same order,
through one wake-up per group. While a sync runs, further jobs gather and become the next group, so
a slower disk makes larger groups and not a longer queue. An error is final: after a failed write or
sync nobody knows what the disk holds, so the thread stops and the node with it.

Modes, by what a loss of power may cost (a killed process costs nothing in any of them):
`always` nothing; `everysec` up to a second of acknowledged writes; `never` whatever the kernel had
not written. A new term or vote is synced in every mode: forgetting one could elect two leaders.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pyraft_fast.consensus.wal import State, Wal
from pyraft_fast.errors import ConfigError, StorageError

ALWAYS: Final = "always"
EVERYSEC: Final = "everysec"
NEVER: Final = "never"
SYNC_SECONDS: Final = 1.0
REST_SECONDS: Final = 0.3  # without jobs, then the log is sealed
PREPARE_AGAIN_SECONDS: Final = 5.0


class Write(NamedTuple):
    """Append one group of records (indexes ascending by one) under a hard state."""

    state: State
    records: Sequence[bytes]
    first_index: int  # of records[0]; unused when there are none
    done: Callable[[], None]


class Call(NamedTuple):
    """Run `call` on the writer thread between groups, then `done` on the loop."""

    call: Callable[[], object]
    done: Callable[[], None]


class After(NamedTuple):
    """Nothing to write, but what `done` does must wait for everything handed over before."""

    done: Callable[[], None]


Job = Write | Call | After


class WalStats(NamedTuple):
    """Counts since start; times in microseconds."""

    groups: int
    fsyncs: int
    fsync_us_mean: int
    fsync_us_max: int


class DiskThread:
    """Runs Write and Call jobs in order on a thread of its own."""

    def __init__(
        self,
        wal: Wal,
        fsync: str,
        on_error: Callable[[BaseException], None],
        on_note: Callable[[str], None],
    ) -> None:
        if fsync not in (ALWAYS, EVERYSEC, NEVER):
            raise ConfigError(f"fsync must be always, everysec or never, not {fsync!r}")
        self._wal = wal
        self._fsync = fsync
        self._on_error = on_error
        self._on_note = on_note
        self._prepare_not_before = 0.0
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting = 0  # jobs handed over and not yet reported; the loop's own count
        self._preparing: threading.Thread | None = None
        self._vote: tuple[int, str] | None = None
        self._dirty_since: float | None = None
        self._is_sealed = True
        self._groups = self._fsyncs = self._fsync_us_sum = self._fsync_us_max = 0
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """True when every job handed over has been reported."""
        return self._waiting == 0

    def submit(self, job: Job) -> None:
        """Hand over a job. Loop only; returns at once."""
        self._waiting += 1
        self._jobs.put(job)

    def stop(self, seconds_max: float) -> bool:
        """Finish what is queued and end the thread; False when that took too long."""
        self._jobs.put(None)
        self._thread.join(seconds_max)
        if self._preparing is not None:
            self._preparing.join(seconds_max)
            if self._preparing.is_alive():
                return False
        return not self._thread.is_alive()

    def stats(self) -> WalStats:
        """Counts for INFO; read without a lock, so they may be one group apart."""
        mean = self._fsync_us_sum // self._fsyncs if self._fsyncs else 0
        return WalStats(self._groups, self._fsyncs, mean, self._fsync_us_max)

    # Everything below runs on the writer thread, except _report.

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            self._tell(self._on_error, error)

    def _turn(self) -> bool:
        """Carry out one group; False when the thread is to end."""
        group, more = self._gather()
        if more and not group:
            self._rest()
            return True
        must_sync = self._write(group)
        if must_sync or not more or self._is_due():
            self._sync()
        finished = [job.done for job in group]
        if finished:
            self._tell(self._report, finished)
        if self._wal.wants_next():
            self._prepare()
        return more

    def _gather(self) -> tuple[list[Job], bool]:
        group: list[Job] = []
        try:
            job = self._jobs.get(timeout=self._patience())
            while job is not None:
                group.append(job)
                job = self._jobs.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _patience(self) -> float | None:
        """How long to wait for jobs before something else is to be done; None for ever."""
        if self._fsync == NEVER or self._is_sealed:
            return None
        return self._due_in() if self._fsync == EVERYSEC else REST_SECONDS

    def _due_in(self) -> float:
        if self._dirty_since is None:
            return REST_SECONDS
        return max(0.0, self._dirty_since + SYNC_SECONDS - time.monotonic())

    def _is_due(self) -> bool:
        return self._fsync == EVERYSEC and self._due_in() == 0.0

    def _rest(self) -> None:
        """The log fell idle: let it say that everything so far is synced."""
        self._sync()
        self._wal.seal()
        self._is_sealed = True

    def _write(self, group: Sequence[Job]) -> bool:
        """Write all of `group` in as few pieces as order allows; True when it must be synced."""
        state: State | None = None
        records: list[bytes] = []
        next_index = 0
        must_sync = False
        for job in group:
            if isinstance(job, Call):
                self._append(state, records)
                state, records = None, []
                self._sync()
                job.call()
                continue
            if isinstance(job, After):
                continue
            if job.records:
                if records and job.first_index != next_index:
                    self._append(state, records)
                    records = []
                next_index = job.first_index + len(job.records)
                records.extend(job.records)
            state = job.state
            must_sync = must_sync or self._fsync == ALWAYS or self._is_new_vote(state)
        self._append(state, records)
        return must_sync

    def _is_new_vote(self, state: State) -> bool:
        vote = (state.term, state.vote)
        is_new = vote != self._vote
        self._vote = vote
        return is_new

    def _append(self, state: State | None, records: list[bytes]) -> None:
        if state is None:
            return
        self._wal.append(state, records)
        self._groups += 1
        self._is_sealed = False
        if self._dirty_since is None:
            self._dirty_since = time.monotonic()

    def _sync(self) -> None:
        if self._dirty_since is None:
            return
        started = time.monotonic()
        self._wal.sync()
        took_us = int((time.monotonic() - started) * 1e6)
        self._dirty_since = None
        self._fsyncs += 1
        self._fsync_us_sum += took_us
        self._fsync_us_max = max(self._fsync_us_max, took_us)

    def _prepare(self) -> None:
        """Zero-fill the next segment beside the writing: it takes longer than many groups."""
        if self._preparing is not None and self._preparing.is_alive():
            return
        if time.monotonic() < self._prepare_not_before:
            return
        self._preparing = threading.Thread(
            target=self._prepare_next, name="log segment maker", daemon=True
        )
        self._preparing.start()

    def _prepare_next(self) -> None:
        try:
            self._wal.prepare_next()
        except StorageError as error:  # nothing is lost: the current segment still has room
            self._prepare_not_before = time.monotonic() + PREPARE_AGAIN_SECONDS
            self._tell(self._on_note, f"the next log segment cannot be made yet: {error}")
        except BaseException as error:
            self._tell(self._on_error, error)

    def _tell(self, function: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:
            return  # the loop is closed: the process is ending

    def _report(self, finished: Sequence[Callable[[], None]]) -> None:
        self._waiting -= len(finished)
        for done in finished:
            done()
