"""The log as the rules use it: a window in memory, older entries on disk, and who is a member when.

It decides what is in the log and which term stands where; it does not know how entries get here,
nor when the disk is done (it is told). Invariants:

- indexes ascend by one, terms never fall; what is committed is never truncated;
- every entry that was appended and is not known to be on disk (`stable`) and committed is in the
  window, so older ones may be read from storage at any time, whatever is on its way to the disk;
- the membership in force is the newest one in the log, so truncation takes a change back
  (thesis section 4.1).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from pyraft_fast._entry import KIND_CONFIG
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import Membership
from pyraft_fast.errors import check
from pyraft_fast.limits import LOG_CACHE_BYTES_MAX, LOG_CACHE_ENTRIES_MAX

UNKNOWN: Final = -1  # the term of an entry this node no longer has


class Storage(Protocol):
    """Where entries that left the window are read."""

    def read(self, lo: int, hi: int, bytes_max: int, /) -> Sequence[Entry]:
        """Entries from `lo`, before `hi`: at least one, then as many as `bytes_max` allows; none
        where `lo` is not there any more.
        """
        ...


class _Job:
    """Entries handed to the disk: when done, the log is on disk up to `proves`."""

    __slots__ = ("index", "proves", "term")

    def __init__(self, index: int, term: int) -> None:
        self.index = index
        self.term = term
        self.proves = index


class RaftLog:
    """The log of one node.

    On `storage` lie entries `first`..`last` (none where `last < first`); `last_term` is the term of
    entry `last`, or of what was right before the log. `snapshot` is (index, term) of the newest
    snapshot on disk, (0, 0) for none. `configs` are the membership entries on storage.
    """

    __slots__ = (
        "_bytes_max",
        "_dropped_bytes",
        "_ends",
        "_handed",
        "_jobs",
        "_run_starts",
        "_run_terms",
        "_storage",
        "_window",
        "_window_first",
        "base_term",
        "commit",
        "config_index",
        "configs",
        "first",
        "last",
        "last_term",
        "membership",
        "stable",
    )

    def __init__(
        self,
        storage: Storage,
        first: int = 1,
        last: int = 0,
        last_term: int = 0,
        snapshot: tuple[int, int] = (0, 0),
        configs: Iterable[Entry] = (),
        bytes_max: int = LOG_CACHE_BYTES_MAX,
    ) -> None:
        snapshot_index, snapshot_term = snapshot
        check(first >= 1 and last >= first - 1, "a log is a range", first, last)
        check(first - 1 <= snapshot_index <= last, "log joins snapshot", first, snapshot, last)
        self._storage = storage
        self._bytes_max = bytes_max
        self.first = first
        self.last = last
        self.last_term = last_term
        self.stable = last
        self.commit = snapshot_index
        if last < first:
            self.base_term = last_term
        else:
            self.base_term = snapshot_term if first - 1 == snapshot_index else UNKNOWN
        self._run_starts: list[int] = [last]  # where terms begin, as far as known
        self._run_terms: list[int] = [last_term]
        self._window: list[Entry] = []
        self._window_first = last + 1
        self._ends: list[int] = []  # bytes appended up to each entry of the window
        self._dropped_bytes = 0  # the same for the entry before the window
        self._handed = last  # handed to the disk up to here
        self._jobs: deque[_Job] = deque()
        self.configs: list[tuple[int, Membership]] = [
            (entry.index, Membership.decode(entry.payload))
            for entry in configs
            if snapshot_index < entry.index <= last
        ]
        self.membership = Membership(0)
        self.config_index = 0

    # Members

    def found(self, membership: Membership) -> None:
        """Put the snapshot's membership under those of the log. Once, before all else."""
        self.configs.insert(0, (self.commit, membership))
        self._take_newest_config()

    def committed_membership(self) -> Membership:
        """The newest membership whose entry is committed."""
        for index, membership in reversed(self.configs):
            if index <= self.commit:
                return membership
        return self.configs[0][1]

    def _take_newest_config(self) -> None:
        self.config_index, self.membership = self.configs[-1]

    # Looking

    def term(self, index: int) -> int:
        """The term of entry `index`, or UNKNOWN where this node no longer has or never had it."""
        if index == self.last:
            return self.last_term
        if index > self.last or index < self.first - 1:
            return UNKNOWN
        if index == self.first - 1:
            return self.base_term
        if index >= self._run_starts[0]:
            return self._run_terms[bisect_right(self._run_starts, index) - 1]
        return self._term_on_disk(index)

    def _term_on_disk(self, index: int) -> int:
        found = self._storage.read(index, index + 1, 1)
        if not found:
            return UNKNOWN
        term = found[0].term
        if term == self._run_terms[0]:  # terms never fall: so it is the same all the way
            self._run_starts[0] = index
        return term

    def find_agreement(self, index: int, term: int, floor: int) -> int:
        """The highest place, at most `index`, whose entry has at most `term`; at least `floor`.

        Above it no entry can be one of a log that has `term` at `index`: a whole term is skipped
        in one step instead of one entry (Raft paper, section 5.3).
        """
        index = min(index, self.last)
        while index > floor and index >= self._run_starts[0]:
            run = bisect_right(self._run_starts, index) - 1
            if self._run_terms[run] <= term:
                return index
            index = self._run_starts[run] - 1
        low = max(floor, self.first - 1)
        if index <= low:
            return max(index, floor)
        if self.term(index) <= term:
            return index
        while index - low > 1:
            middle = (index + low) // 2
            if self.term(middle) <= term:
                low = middle
            else:
                index = middle
        return low

    def read(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        """Entries from `lo`, before `hi`: at least one, then as many as `bytes_max` allows.

        Empty where `lo` is not in the log. Reads the disk for what has left the window.
        """
        if lo > self.last or lo < self.first:
            return []
        place = lo - self._window_first
        if place < 0:
            return self._storage.read(lo, min(hi, self._window_first), bytes_max)
        ends = self._ends
        before = ends[place - 1] if place else self._dropped_bytes
        upto = bisect_right(ends, before + bytes_max, place)
        return self._window[place : max(place + 1, min(upto, hi - self._window_first))]

    def newest_time_ms(self) -> int:
        """The cluster's time in the last entry; 0 where there is none."""
        newest = self.read(self.last, self.last + 1, 1)
        return newest[0].time_ms if newest else 0

    def uncommitted_bytes(self) -> int:
        """Size of the entries that were appended in this life and are not committed."""
        return self.bytes_from(self.commit + 1)

    def bytes_from(self, index: int) -> int:
        """Size of the entries from `index` on, as far as they are in the window."""
        ends = self._ends
        if not ends:
            return 0
        place = index - 1 - self._window_first
        return ends[-1] - (ends[place] if place >= 0 else self._dropped_bytes)

    # Changing

    def append(self, entry: Entry) -> None:
        """One new entry behind the last."""
        check(entry.index == self.last + 1, "no gap in the log", entry, self.last)
        term = entry.term
        if term != self.last_term:
            check(term > self.last_term, "terms never fall", entry, self.last_term)
            self._begin_run(entry.index, term)
        self.last = entry.index
        ends = self._ends
        ends.append((ends[-1] if ends else self._dropped_bytes) + entry.size)
        self._window.append(entry)
        if entry.kind == KIND_CONFIG:
            self._append_config(entry)

    def _begin_run(self, index: int, term: int) -> None:
        if self.last < self.first:  # what stood there was before the log
            del self._run_starts[:], self._run_terms[:]
        self._run_starts.append(index)
        self._run_terms.append(term)
        self.last_term = term

    def _append_config(self, entry: Entry) -> None:
        membership = Membership.decode(entry.payload)
        membership.check_follows(self.membership)
        self.configs.append((entry.index, membership))
        self._take_newest_config()

    def truncate(self, last: int) -> None:
        """Forget everything behind `last`; a membership in there is taken back."""
        check(self.commit <= last < self.last, "committed entries stay", last, self.commit)
        term = self.term(last)
        check(term != UNKNOWN, "the log ends with a known term", last, self.first)
        keep = max(last + 1 - self._window_first, 0)
        del self._window[keep:], self._ends[keep:]
        if not keep:
            self._window_first = last + 1
            self._dropped_bytes = 0
        while self._run_starts and self._run_starts[-1] > last:
            self._run_starts.pop()
            self._run_terms.pop()
        if not self._run_starts:
            self._run_starts.append(last)
            self._run_terms.append(term)
        self.last = last
        self.last_term = term
        self.stable = min(self.stable, last)
        self._handed = min(self._handed, last)
        for job in self._jobs:
            job.proves = min(job.proves, last)
        while len(self.configs) > 1 and self.configs[-1][0] > last:
            self.configs.pop()
        self._take_newest_config()

    def restart(self, index: int, term: int, membership: Membership) -> None:
        """Forget all entries: the log goes on behind a snapshot at `index`."""
        check(index > self.commit, "a snapshot goes forward", index, self.commit)
        self.first = index + 1
        self.last = self.stable = self.commit = self._handed = index
        self.last_term = self.base_term = term
        self._run_starts[:] = [index]
        self._run_terms[:] = [term]
        del self._window[:], self._ends[:]
        self._window_first = index + 1
        self._dropped_bytes = 0
        for job in self._jobs:
            job.proves = 0
        self.configs[:] = [(index, membership)]
        self._take_newest_config()

    def compact(self, index: int) -> None:
        """Entries up to `index` are gone from storage, or soon will be: a snapshot has them."""
        if index < self.first:
            return
        check(index <= min(self.commit, self.stable), "only what is safe is forgotten", index)
        term = self.term(index)
        self.base_term = term
        self.first = index + 1
        self._drop(index + 1 - self._window_first)
        run = bisect_right(self._run_starts, index) - 1
        if run > 0:
            del self._run_starts[:run], self._run_terms[:run]
        while len(self.configs) > 1 and self.configs[1][0] <= index:
            del self.configs[0]

    def _drop(self, count: int) -> None:
        """Drop the oldest `count` entries of the window, as many as there are."""
        count = min(count, len(self._window))
        if count > 0:
            self._dropped_bytes = self._ends[count - 1]
            del self._window[:count], self._ends[:count]
            self._window_first += count

    # The disk

    def hand_out(self) -> Sequence[Entry]:
        """Entries not yet handed to the disk; `persisted` tells when they are there."""
        if self._handed == self.last:
            return ()
        entries = self._window[self._handed + 1 - self._window_first :]
        self._handed = self.last
        self._jobs.append(_Job(self.last, self.last_term))
        return entries

    def persisted(self, index: int, term: int) -> bool:
        """The disk has what was handed out up to (index, term), and all before it.

        Jobs are reported in order. What was truncated meanwhile proves nothing, even if the same
        entry has come back since: the disk may yet write what stood between. True when `stable`
        has moved.
        """
        jobs = self._jobs
        if not any(job.index == index and job.term == term for job in jobs):
            return False
        before = self.stable
        while True:
            job = jobs.popleft()
            self.stable = max(self.stable, job.proves)
            if job.index == index and job.term == term:
                break
        if self._ends and (
            self._ends[-1] - self._dropped_bytes > self._bytes_max
            or len(self._ends) > LOG_CACHE_ENTRIES_MAX
        ):
            self._trim()
        return self.stable > before

    def _trim(self) -> None:
        """Leave three quarters of the bound in the window, and what is not on disk or committed."""
        bound = self._ends[-1] - self._bytes_max * 3 // 4
        count = max(
            bisect_right(self._ends, bound), len(self._ends) - LOG_CACHE_ENTRIES_MAX * 3 // 4
        )
        self._drop(min(count, min(self.stable, self.commit) + 1 - self._window_first))
