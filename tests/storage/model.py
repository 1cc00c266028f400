"""The log as a dict: what `Wal` must give back, without files, groups or syncs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG, seal
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.storage.segments import HardState, Recovered

from .fakedisk import FakeDisk

FOLDER = "/d"
NID = "n_1"
CLUSTER = 77
INCARNATION = 1234
NEW = HardState(0, "", 0)
SEGMENT_BYTES = 8192


def record(index: int, term: int, payload: bytes = b"payload", kind: int = KIND_COMMANDS) -> bytes:
    return seal(kind, index, term, 1000 + index, INCARNATION, 1, index, 1, payload)


def config(index: int, term: int) -> bytes:
    return record(index, term, b"members", KIND_CONFIG)


@dataclass(frozen=True)
class Log:
    """One state of the log; `entries` keeps what was compacted too."""

    state: HardState = NEW
    entries: dict[int, bytes] = field(default_factory=dict)
    last: int = 0
    reset: tuple[int, int] | None = None

    def appended(self, state: HardState, records: list[bytes], first: int) -> Log:
        entries = dict(self.entries)
        last = self.last
        if records:
            for index in range(first, last + 1):
                entries.pop(index, None)
            for offset, each in enumerate(records):
                entries[first + offset] = each
            last = first + len(records) - 1
        return replace(self, state=state, entries=entries, last=last)

    def restarted(self, index: int, term: int, state: HardState) -> Log:
        return Log(state, {}, index, (index, term))


class Driver:
    """Does the same to a Wal and to the model, and remembers every state and what is synced."""

    def __init__(self, disk: FakeDisk, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = disk
        self.segment_bytes = segment_bytes
        self.history = [Log()]
        self.synced = 0  # position in history that must survive
        self.keep_from = 1
        self.start = 0
        self.wal: Wal | None = None

    @property
    def log(self) -> Log:
        return self.history[-1]

    def open(self) -> Recovered:
        """Open, and hold that the result is one of the states from the last synced one on."""
        self.wal, found = Wal.open(
            FOLDER,
            NID,
            cluster=CLUSTER,
            incarnation=INCARNATION,
            disk=self.disk,
            segment_bytes=self.segment_bytes,
        )
        shown = {entry.index: bytes(entry.record) for entry in read_all(self.wal)}
        candidates = self.history[self.synced :]
        matching = [log for log in candidates if self._same(log, found, shown)]
        assert matching, (found, sorted(shown), [(c.state, c.last) for c in candidates])
        assert found.first <= max(self.keep_from, (found.reset or (0, 0))[0] + 1)
        assert found.start > self.start
        assert found.identity == (CLUSTER, NID, INCARNATION)
        self.start = found.start
        self.history = [matching[-1]]
        self.synced = 0
        return found

    def _same(self, log: Log, found: Recovered, shown: dict[int, bytes]) -> bool:
        kept = {index: data for index, data in log.entries.items() if index >= found.first}
        # A log deleted up to its reset no longer knows of it.
        return found.state == log.state and found.last == log.last and shown == kept

    def append(self, state: HardState, records: list[bytes], first: int = 0) -> None:
        assert self.wal is not None
        self.history.append(self.log.appended(state, records, first))
        self.wal.append(state, records)

    def sync(self) -> None:
        assert self.wal is not None
        self.wal.sync()
        self.synced = len(self.history) - 1

    def reset(self, index: int, term: int, state: HardState) -> None:
        assert self.wal is not None
        self.history.append(self.log.restarted(index, term, state))
        self.wal.reset(index, term, state)
        self.synced = len(self.history) - 1

    def compact(self, keep_from: int) -> None:
        assert self.wal is not None
        self.keep_from = max(self.keep_from, keep_from)
        self.wal.compact(keep_from)
        if self.disk.random.random() < 0.5:  # else the files lie about for a while
            self.wal.delete_old()

    def close(self) -> None:
        assert self.wal is not None
        self.wal.close()
        self.synced = len(self.history) - 1


def read_all(wal: Wal) -> list:  # type: ignore[type-arg]
    return wal.read(wal.first, wal.last + 1, 1 << 30)


def opened(disk: FakeDisk, segment_bytes: int = SEGMENT_BYTES) -> Driver:
    driver = Driver(disk, segment_bytes)
    driver.open()
    return driver


def fill(driver: Driver, count: int, term: int = 1, size: int = 100) -> None:
    for _ in range(count):
        index = driver.log.last + 1
        data = bytes([index % 255 + 1]) * size
        driver.append(HardState(term, NID, 0), [record(index, term, data)], index)
    driver.sync()
