"""The log's way to the disk: what waits is written as one group, with one sync.

Jobs are handed over in order and heard of in the same order. While one group is written and
synced, further jobs gather and become the next, so a slower disk makes larger groups and not a
longer queue. An error is final: after a failed write or sync nobody knows what the disk holds, so
the log stops and the node with it.

Who does the work: groups go to the pen, which gives each to the kernel or to a thread outside the
interpreter, in one system call. What takes more than that (a new segment, calls of the caller,
syncs of what was written unsynced) goes to the helper, a thread of Python's. Only one of the two
works at a time; that is what lets both use the Wal, which is made for one writer.

A job may say that it can wait for more: others' disks are enough to commit it. Such jobs gather,
a few of them and for a moment at most, since one write costs nearly the same however much it holds.

A job may say that the loop may wait for it. Then a small group is written by the loop itself, as
long as groups are quick on average: waking the pen, and being woken by it, costs more than such a
write. Where a disk is slow, or has been lately, and for jobs that do not say so, the loop does not
wait.

Modes, by what a loss of power may cost (a killed process costs nothing in any of them):
`always` nothing; `everysec` up to a second of acknowledged writes; `never` whatever the kernel had
not written. A new term or vote is synced in every mode: forgetting one could elect two leaders.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Final, NamedTuple

from pyraft_fast._pen import Pen
from pyraft_fast.consensus.clocks import monotonic
from pyraft_fast.consensus.helper import Helper, tell
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.errors import ConfigError, StorageError
from pyraft_fast.link.ring import clear, make_bell
from pyraft_fast.storage.groups import State

ALWAYS: Final = "always"
EVERYSEC: Final = "everysec"
NEVER: Final = "never"
SYNC_SECONDS: Final = 1.0
REST_SECONDS: Final = 0.3  # without jobs, then the log is sealed
PREPARE_AGAIN_SECONDS: Final = 5.0
QUICK_US_MAX: Final = 1000  # the loop waits for a group if the last ones took no longer
QUICK_BYTES_MAX: Final = 1 << 16  # and if it is no larger
GATHERED_JOBS_MAX: Final = 4  # of those that can wait for more
GATHER_SECONDS: Final = 0.004  # and no longer than this
SLOW_US: Final = 50_000  # what took longer counts as this, so that 40 quick ones make up for it


@dataclass(slots=True)
class Write:
    """Append one group of records (indexes ascending by one) under a hard state."""

    state: State
    records: Sequence[bytes]
    first_index: int  # of records[0]; unused when there are none
    done: Callable[[], None]
    may_wait: bool = False  # the loop may, for a moment
    may_gather: bool = False  # it can wait for more


class Call(NamedTuple):
    """Run `call` on the helper thread between groups, then `done` on the loop."""

    call: Callable[[], object]
    done: Callable[[], None]


class After(NamedTuple):
    """Nothing to write, but what `done` does must wait for everything handed over before."""

    done: Callable[[], None]


Job = Write | Call | After


class WalStats(NamedTuple):
    """Counts since start; times in microseconds, of groups that were written and synced."""

    groups: int
    fsyncs: int
    fsync_us_mean: int
    fsync_us_max: int


@dataclass(slots=True)
class Group:
    """Jobs that are carried out together: one write, or none at all."""

    jobs: list[Job]
    state: State | None
    records: Sequence[bytes]
    may_wait: bool = False


NO_JOBS: Final = Group([], None, [])


class LogWriter:
    """Carries out Write and Call jobs in order. Loop thread only."""

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
        self._loop = asyncio.get_running_loop()
        self._bell = make_bell()
        self._pen = Pen(self._bell, blank_behind=True)  # the log is filled with zeros ahead
        self._helper = Helper(self._helped)
        self._loop.add_reader(self._bell, self._written)
        self._jobs: deque[Job] = deque()
        self._waiting = 0  # jobs handed over and not yet reported
        self._group: Group | None = None  # under way; a helper's call has one, too
        self._is_writing = False  # the pen, not the helper
        self._is_synced = False  # the piece under the pen
        self._usual_us = 2.0 * QUICK_US_MAX  # what a piece takes; unknown yet
        self._is_stopped = self._is_finished = False
        self._is_lost = False  # something could not be carried out
        self._vote: tuple[int, str] | None = None
        self._dirty_since: float | None = None  # when the oldest unsynced group was written
        self._is_sealed = True
        self._written_at = 0.0
        self._look_timer: asyncio.TimerHandle | None = None
        self._gather_timer: asyncio.TimerHandle | None = None
        self._upkeep: Thread | None = None
        self._upkeep_not_before = 0.0
        self._groups = self._fsyncs = self._fsync_us_sum = self._fsync_us_max = 0

    @property
    def is_idle(self) -> bool:
        """True when every job handed over has been reported."""
        return self._waiting == 0

    @property
    def is_gathering(self) -> bool:
        """True while jobs wait for more."""
        return self._group is None and bool(self._jobs)

    def submit(self, job: Job) -> None:
        """Hand over a job; returns at once."""
        self._waiting += 1
        self._jobs.append(job)
        if self._group is None and not self._may_gather():
            self._advance()

    def hurry(self) -> None:
        """What waits for more waits no longer."""
        if self._group is None:
            self._advance()

    def stats(self) -> WalStats:
        """Counts for INFO."""
        mean = self._fsync_us_sum // self._fsyncs if self._fsyncs else 0
        return WalStats(self._groups, self._fsyncs, mean, self._fsync_us_max)

    def stop(self, seconds_max: float) -> bool:
        """Finish what was handed over, unreported, and end; False when that took too long."""
        self._is_stopped = True
        self._loop.remove_reader(self._bell)
        if self._look_timer is not None:
            self._look_timer.cancel()
        if self._gather_timer is not None:
            self._gather_timer.cancel()
        self._helper.run(partial(self._finish, seconds_max))
        is_over = self._helper.stop(seconds_max) and self._pen.stop(seconds_max)
        is_over = is_over and self._is_finished
        if self._upkeep is not None:
            self._upkeep.join(seconds_max)
            is_over = is_over and not self._upkeep.is_alive()
        return is_over

    # The next group

    def _may_gather(self) -> bool:
        """Can all that is there wait for more? Then see to it that it does not wait for long."""
        jobs = self._jobs
        if not jobs or len(jobs) >= GATHERED_JOBS_MAX:
            return False
        for job in jobs:
            if not (isinstance(job, Write) and job.may_gather):
                return False
        if self._gather_timer is None:
            self._gather_timer = self._loop.call_later(GATHER_SECONDS, self._gathered)
        return True

    def _gathered(self) -> None:
        self._gather_timer = None
        self.hurry()

    def _advance(self) -> None:
        """Begin what comes next, unless something is under way."""
        while self._group is None and self._jobs and not self._is_stopped:
            job = self._jobs[0]
            if self._is_sync_due():
                self._help(NO_JOBS, self._sync)
            elif isinstance(job, Call):
                self._jobs.popleft()
                self._help(Group([job], None, []), partial(self._call, job.call))
            else:
                self._begin(self._gather())

    def _gather(self) -> Group:
        """As many of the next jobs as one write can take."""
        if len(self._jobs) == 1:
            job = self._jobs.popleft()
            if isinstance(job, Write):
                return Group([job], job.state, job.records, job.may_wait)
            return Group([job], None, [])
        jobs: list[Job] = []
        may_wait = True
        state: State | None = None
        records: list[bytes] = []
        next_index = 0
        while self._jobs:
            job = self._jobs[0]
            if isinstance(job, Call):
                break
            if isinstance(job, Write):
                if job.records:
                    if records and job.first_index != next_index:
                        break  # it replaces some of these
                    next_index = job.first_index + len(job.records)
                    records.extend(job.records)
                state = job.state
                may_wait = may_wait and job.may_wait
            jobs.append(self._jobs.popleft())
        return Group(jobs, state, records, may_wait)

    def _begin(self, group: Group) -> None:
        state = group.state
        if state is None:
            self._report(group)
            return
        synced = self._must_sync(state)
        try:
            piece = self._wal.stage(state, group.records, synced)
        except BaseException as error:
            self._fail(error)
            return
        if piece is None:
            self._help(group, partial(self._append, state, group.records, synced))
            return
        self._group = group
        self._is_writing, self._is_synced = True, synced
        waits = (
            group.may_wait and self._usual_us <= QUICK_US_MAX and len(piece.data) <= QUICK_BYTES_MAX
        )
        write = self._pen.write_here if waits else self._pen.write
        write(piece.fd, piece.data, piece.offset, synced)
        if waits and self._is_landed(group):
            self._group = None

    def _must_sync(self, state: State) -> bool:
        """Asked once for each group, in order: a new term or vote is synced in every mode."""
        vote = (state.term, state.vote)
        is_new = vote != self._vote
        self._vote = vote
        return is_new or self._fsync == ALWAYS

    def _help(self, group: Group, call: Callable[[], None]) -> None:
        """Let the helper run `call`; the group is reported when it has."""
        self._group = group
        self._helper.run(partial(self._carry_out, call))

    # What the two threads report

    def _written(self) -> None:
        """The pen's bell."""
        clear(self._bell)
        group = self._group
        if self._is_writing and group is not None and self._is_landed(group):
            self._loop.call_soon(self._go_on)

    def _is_landed(self, group: Group) -> bool:
        """Report the group under the pen, or that it is lost."""
        error = self._take()
        if error is not None:
            self._fail(error)
            return False
        self._report(group)
        return True

    def _go_on(self) -> None:
        """After this turn of the loop, so that what it brings is in the next group."""
        self._group = None
        if not self._may_gather():
            self._advance()

    def _take(self) -> StorageError | None:
        """What became of the piece under the pen; the error that the log is lost by."""
        try:
            took_us = self._pen.take()
        except OSError as error:
            return self._wal.lost(error)
        self._is_writing = False
        self._usual_us += (min(took_us, SLOW_US) - self._usual_us) / 8
        self._wal.landed(self._is_synced)
        if self._is_synced:
            self._groups += 1
            self._is_sealed = False
            self._count_sync(took_us)
        else:
            self._count_group()
        return None

    def _helped(self, error: BaseException | None) -> None:
        group, self._group = self._group, None
        if self._is_stopped:
            return
        if error is not None:
            self._fail(error)
        elif group is not None:
            self._report(group)
            self._advance()

    def _report(self, group: Group) -> None:
        self._waiting -= len(group.jobs)
        if group.state is not None:
            self._written_at = monotonic()
            if self._look_timer is None:
                self._watch()
        if self._wal.wants_upkeep():
            self._keep_up()
        for job in group.jobs:
            job.done()

    def _fail(self, error: BaseException) -> None:
        """Nothing is carried out or reported any more."""
        self._is_stopped = self._is_lost = True
        self._on_error(error)

    def _count_group(self) -> None:
        """A group was written and is not synced yet."""
        self._groups += 1
        self._is_sealed = False
        if self._dirty_since is None:
            self._dirty_since = monotonic()

    def _count_sync(self, took_us: int) -> None:
        """All that was written is synced now."""
        self._dirty_since = None
        self._fsyncs += 1
        self._fsync_us_sum += took_us
        if took_us > self._fsync_us_max:
            self._fsync_us_max = took_us

    # On the helper thread

    def _carry_out(self, call: Callable[[], None]) -> None:
        """Remember a failure before the loop hears of it: nothing may be written behind it."""
        try:
            call()
        except BaseException:
            self._is_lost = True
            raise

    def _call(self, call: Callable[[], object]) -> None:
        """Run a caller's `call`, with everything before it durable."""
        self._sync()
        call()

    def _append(self, state: State, records: Sequence[bytes], synced: bool) -> None:
        self._wal.append(state, records)
        self._count_group()
        if synced:
            self._sync()

    def _sync(self) -> None:
        if self._dirty_since is None:
            return
        started = monotonic()
        self._wal.sync()
        self._count_sync(int((monotonic() - started) * 1e6))

    def _seal(self) -> None:
        """The log fell idle: let it say that everything so far is synced."""
        self._wal.seal()
        self._is_sealed = True

    def _finish(self, seconds_max: float) -> None:
        """Carry out everything that is left; the loop waits for it."""
        if not self._pen.wait(seconds_max) or self._is_lost:
            return
        if self._is_writing and self._take() is not None:
            return
        while self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, Call):
                self._call(job.call)
            elif isinstance(job, Write):
                self._append(job.state, job.records, self._must_sync(job.state))
        self._sync()
        self._is_finished = True

    # Idle times

    def _is_sync_due(self) -> bool:
        since = self._dirty_since
        return self._fsync == EVERYSEC and since is not None and monotonic() >= since + SYNC_SECONDS

    def _watch(self) -> None:
        """See to it that what was just written is synced and sealed in time."""
        if self._fsync != NEVER:
            self._look_timer = self._loop.call_later(REST_SECONDS, self._look)

    def _look(self) -> None:
        self._look_timer = None
        if self._is_stopped or self._is_sealed:
            return
        if self._group is None and not self._jobs:
            if self._is_sync_due():
                self._help(NO_JOBS, self._sync)
            elif monotonic() >= self._written_at + REST_SECONDS and self._dirty_since is None:
                self._help(NO_JOBS, self._seal)
                return
        self._look_timer = self._loop.call_later(REST_SECONDS, self._look)

    def _keep_up(self) -> None:
        """Make and delete segments beside the writing: it takes longer than many groups."""
        if self._upkeep is not None and self._upkeep.is_alive():
            return
        if monotonic() < self._upkeep_not_before:
            return
        self._upkeep = Thread(target=self._tidy, name="log upkeep", daemon=True)
        self._upkeep.start()

    def _tidy(self) -> None:
        try:
            self._wal.delete_old()
            self._prepare_next()
        except BaseException as error:
            tell(self._loop, self._fail, error)

    def _prepare_next(self) -> None:
        try:
            self._wal.prepare_next()
        except StorageError as error:  # nothing is lost: the current segment still has room
            self._upkeep_not_before = monotonic() + PREPARE_AGAIN_SECONDS
            tell(self._loop, self._on_note, f"the next log segment cannot be made yet: {error}")
