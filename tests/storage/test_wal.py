"""The log's writer in plain use, and beside readers and the segment maker."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest

from pyraft_fast import limits
from pyraft_fast._entry import HEADER_SIZE
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.errors import InvariantError, StorageError
from pyraft_fast.storage import names, reader
from pyraft_fast.storage.segments import HardState
from pyraft_fast.storage.spares import Spare, Spares

from .fakedisk import FakeDisk
from .model import (
    CLUSTER,
    FOLDER,
    INCARNATION,
    NID,
    SEGMENT_BYTES,
    config,
    fill,
    opened,
    record,
)

# Plain use


def test_a_new_log_is_empty_and_counts_its_starts():
    disk = FakeDisk()
    wal, found = Wal.open(FOLDER, NID, cluster=CLUSTER, incarnation=INCARNATION, disk=disk)
    assert (found.fresh, found.first, found.last, found.last_term) == (True, 1, 0, 0)
    assert (found.start, found.reset, found.torn, found.configs) == (1, None, None, [])
    wal.close()
    wal, found = Wal.open(FOLDER, NID, disk=disk)
    assert (found.fresh, found.start, found.identity) == (False, 2, (CLUSTER, NID, INCARNATION))
    assert Wal.identity(FOLDER, NID, disk) == (CLUSTER, NID, INCARNATION)
    assert Wal.identity(FOLDER, "other", disk) is None
    wal.close()


def test_a_new_log_needs_an_identity_and_an_old_one_keeps_its_own():
    disk = FakeDisk()
    with pytest.raises(InvariantError):
        Wal.open(FOLDER, NID, disk=disk)
    opened(disk).close()
    with pytest.raises(StorageError, match="incarnation"):
        Wal.open(FOLDER, NID, cluster=CLUSTER, incarnation=INCARNATION + 1, disk=disk)


def test_entries_come_back_whole_over_many_segments():
    driver = opened(FakeDisk())
    fill(driver, 200)
    assert len(names.segments(driver.disk.listdir(FOLDER), NID)) > 3
    driver.close()
    found = driver.open()
    assert (found.first, found.last, found.last_term) == (1, 200, 1)


def test_a_staged_group_is_written_by_the_caller():
    driver = opened(FakeDisk())
    disk, wal = driver.disk, driver.wal
    for index in range(1, 6):
        piece = wal.stage(HardState(1, NID, 0), [record(index, 1)], True)
        assert piece is not None
        disk.pwrite(piece.fd, piece.data, piece.offset)
        disk.fdatasync(piece.fd)
        wal.landed(True)
    assert [entry.index for entry in wal.read(1, 6, 10_000)] == [1, 2, 3, 4, 5]
    disk.reboot()
    assert Wal.open(FOLDER, NID, disk=disk, segment_bytes=SEGMENT_BYTES)[1].last == 5


def test_what_is_more_than_one_synced_write_is_not_staged():
    driver = opened(FakeDisk())
    wal = driver.wal
    state = HardState(1, NID, 0)
    wal.append(state, [record(1, 1)])
    assert wal.stage(state, [record(2, 1)], True) is None  # entry 1 is not durable
    assert wal.stage(state, [record(2, 1, b"x" * SEGMENT_BYTES)], False) is None  # no room
    assert wal.last == 1
    wal.sync()
    assert wal.stage(state, [record(2, 1)], True) is not None


def test_a_staged_group_that_is_lost_ends_the_log():
    wal = opened(FakeDisk()).wal
    assert wal.stage(HardState(1, NID, 0), [record(1, 1)], True) is not None
    assert "cannot append to" in str(wal.lost(OSError(5, "Input/output error")))
    with pytest.raises(StorageError, match="Input/output error"):
        wal.stage(HardState(1, NID, 0), [record(2, 1)], True)


def test_entries_written_again_replace_their_tail():
    driver = opened(FakeDisk())
    fill(driver, 100)
    driver.append(HardState(2, "", 0), [record(50, 2), record(51, 2)], 50)
    driver.sync()
    assert [entry.term for entry in driver.wal.read(49, 60, 1 << 20)] == [1, 2, 2]
    driver.close()
    found = driver.open()
    assert (found.last, found.last_term) == (51, 2)


def test_segments_with_the_same_first_index_get_different_names():
    driver = opened(FakeDisk())
    for term in range(1, 8):
        data = record(1, term, bytes([term]) * 6000)
        driver.append(HardState(term, "", 0), [data], 1)
    driver.sync()
    listed = names.segments(driver.disk.listdir(FOLDER), NID)
    assert len(listed) == 7
    assert {name.first_index for name in listed} == {1}
    driver.close()
    assert driver.open().last_term == 7


def test_long_entries_are_read_together_as_far_as_they_fit():
    driver = opened(FakeDisk(), 1 << 20)
    fill(driver, 5, size=200_000)
    for bytes_max, count in ((1, 1), (300_000, 1), (500_000, 2), (700_000, 3), (1 << 20, 5)):
        found = driver.wal.read(1, 6, bytes_max)
        assert [entry.index for entry in found] == list(range(1, count + 1))


@pytest.mark.parametrize("ahead", [HEADER_SIZE, 500, 65536])
def test_entries_of_any_length_are_read_as_far_as_they_fit(ahead, monkeypatch):
    monkeypatch.setattr(reader, "READ_AHEAD_BYTES", ahead)
    rng = random.Random(ahead)
    driver = opened(FakeDisk(), 8192)
    for _ in range(100):
        fill(driver, 1, size=rng.choice([1, 50, 500, 3000, 9000]))
    kept = driver.log.entries
    for _ in range(1000):
        lo, bytes_max = rng.randint(1, 100), rng.choice([0, 300, 4000, 20_000, 1 << 20])
        hi = rng.randint(lo + 1, 101)
        end, total = lo + 1, len(kept[lo])
        while end < hi and total + len(kept[end]) <= bytes_max:
            total += len(kept[end])
            end += 1
        found = driver.wal.read(lo, hi, bytes_max)
        assert [bytes(entry.record) for entry in found] == [kept[at] for at in range(lo, end)]


def test_a_record_longer_than_a_segment_gets_one_of_its_size():
    driver = opened(FakeDisk())
    fill(driver, 3)
    big = record(4, 1, bytes(range(256)) * 400)
    driver.append(HardState(1, NID, 0), [big], 4)
    fill(driver, 3)
    driver.close()
    found = driver.open()
    assert found.last == 7
    assert bytes(driver.wal.read(4, 5, 1)[0].record) == big


def test_reset_forgets_everything_and_goes_on_behind_the_snapshot():
    driver = opened(FakeDisk())
    fill(driver, 100)
    driver.reset(500, 9, HardState(9, "", 500))
    assert len(names.segments(driver.disk.listdir(FOLDER), NID)) == 1
    assert (driver.wal.first, driver.wal.last) == (501, 500)
    driver.close()
    found = driver.open()
    assert (found.reset, found.first, found.last, found.last_term) == ((500, 9), 501, 500, 9)
    driver.append(HardState(9, "", 500), [record(501, 9)], 501)
    driver.close()
    assert driver.open().last == 501


def test_compact_deletes_only_whole_segments_without_needed_entries():
    driver = opened(FakeDisk())
    fill(driver, 200)
    state = driver.log.state
    assert driver.wal.compact(1) == 0
    driver.compact(120)
    assert 1 < driver.wal.first <= 120
    assert driver.wal.read(driver.wal.first - 1, 150, 1 << 20) == []
    assert driver.wal.read(120, 121, 1)[0].index == 120
    driver.compact(10_000)

    driver.wal.delete_old()
    assert len(names.segments(driver.disk.listdir(FOLDER), NID)) == 1
    assert not driver.wal._old.are_there
    driver.close()
    found = driver.open()
    assert found.state == state
    assert found.last == 200


@pytest.mark.parametrize("seed", range(8))
def test_compact_keeps_what_only_unsynced_entries_replace(seed):
    disk = FakeDisk(seed)
    driver = opened(disk, 4096)
    fill(driver, 4)
    driver.append(HardState(2, "", 0), [record(1, 2, b"z" * 5000)], 1)  # in a new segment
    driver.compact(1)
    disk.reboot()
    driver.open()


def test_configs_are_found_unless_they_were_replaced():
    driver = opened(FakeDisk())
    driver.append(HardState(1, "", 0), [config(1, 1), record(2, 1), config(3, 1)], 1)
    driver.close()
    assert [entry.index for entry in driver.open().configs] == [1, 3]
    driver.append(HardState(2, "", 0), [record(3, 2)], 3)
    driver.close()
    assert [entry.index for entry in driver.open().configs] == [1]


def test_read_keeps_to_its_bounds():
    driver = opened(FakeDisk())
    fill(driver, 60, size=200)
    size = len(record(1, 1, b"x" * 200))
    wal = driver.wal
    assert [entry.index for entry in wal.read(10, 20, 1 << 20)] == list(range(10, 20))
    assert len(wal.read(10, 60, 1)) == 1
    assert len(wal.read(10, 60, 5 * size)) == 5
    assert len(wal.read(10, 60, 5 * size + size - 1)) == 5
    assert wal.read(61, 70, 1 << 20) == []
    assert wal.read(0, 5, 1 << 20) == []
    assert [entry.index for entry in wal.read(58, 100, 1 << 20)] == [58, 59, 60]


@pytest.mark.parametrize(
    ("records", "first"),
    [
        ([record(12, 1)], "a gap"),
        ([record(11, 1), record(13, 1)], "a gap inside"),
        ([record(5, 2)], "a committed entry replaced"),
        ([record(11, 1) + b"\0"], "not one record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_append_refuses_what_replay_would_refuse(records, first):
    driver = opened(FakeDisk())
    fill(driver, 10)
    driver.append(HardState(2, "", 6), [])
    with pytest.raises(InvariantError):
        driver.wal.append(HardState(2, "", 6), records)


def test_append_refuses_an_older_term():
    driver = opened(FakeDisk())
    driver.append(HardState(5, "", 0), [])
    with pytest.raises(InvariantError):
        driver.wal.append(HardState(4, "", 0), [])


def test_readers_may_run_beside_the_writer_and_the_segment_maker():
    driver = opened(FakeDisk())
    fill(driver, 20)
    done = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                first = driver.wal.first
                for entry in driver.wal.read(first, first + 30, 4000):
                    assert entry.record
        except BaseException as error:
            problems.append(error)

    def prepare() -> None:
        try:
            while not done.is_set():
                driver.wal.prepare_next()
                driver.wal.delete_old()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=read), threading.Thread(target=prepare)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            fill(driver, 20)
            driver.compact(driver.log.last - 50)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert problems == []
    driver.close()
    driver.open()


def test_a_prepared_segment_is_used_and_leftovers_are_removed():
    disk = FakeDisk()
    driver = opened(disk)
    assert driver.wal.wants_upkeep()
    driver.wal.prepare_next()
    assert not driver.wal.wants_upkeep()
    made = [name for name in disk.listdir(FOLDER) if name.endswith(".tmp")]
    assert len(made) == 1
    before = len(disk.calls)
    fill(driver, 100)
    creates = [call for call in disk.calls[before:] if call.startswith("create")]
    listed = names.segments(disk.listdir(FOLDER), NID)
    assert len(creates) == len(listed) - 2
    driver.wal.prepare_next()
    driver.close()
    assert not [name for name in disk.listdir(FOLDER) if name.endswith(".tmp")]
    for nid in (NID, "other"):
        disk.close(disk.create(f"{FOLDER}/{names.temporary_segment_name(nid, 3)}"))
    driver.open()
    assert [name for name in disk.listdir(FOLDER) if name.endswith(".tmp")] == [
        names.temporary_segment_name("other", 3)
    ]


def test_the_first_segment_of_a_log_is_short_and_the_next_is_not():
    disk = FakeDisk()
    driver = opened(disk, limits.SEGMENT_BYTES)
    state = HardState(1, NID, 0)
    for index in range(1, 5):
        driver.append(state, [record(index, 1, b"x" * (limits.FIRST_SEGMENT_BYTES // 3))], index)
    driver.sync()
    sizes = [disk.size(disk.open(f"{FOLDER}/{name}")) for name in sorted(disk.listdir(FOLDER))]
    assert sizes == [limits.FIRST_SEGMENT_BYTES, limits.SEGMENT_BYTES]
    driver.close()
    assert driver.open().last == 4


class Gated(FakeDisk):
    """Syncs of any thread but the one that made it wait until `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = threading.get_ident()
        self.reached = threading.Event()
        self.gate = threading.Event()

    def fdatasync(self, fd: int) -> None:
        if threading.get_ident() != self.owner:
            self.reached.set()
            assert self.gate.wait(30)
        super().fdatasync(fd)


def taken_while_one_is_made(disk: Gated) -> Spare:
    """What a writer gets that comes while another thread makes a segment; both have ended."""
    spares = Spares(disk, FOLDER, NID, SEGMENT_BYTES)

    def prepare() -> None:
        with contextlib.suppress(StorageError):
            spares.prepare()

    maker = threading.Thread(target=prepare)
    maker.start()
    try:
        assert disk.reached.wait(30)
        wait = spares._made_one.wait

        def open_gate_and_wait() -> None:
            disk.gate.set()
            wait()

        spares._made_one.wait = open_gate_and_wait  # type: ignore[method-assign,assignment]
        return spares.take(SEGMENT_BYTES)
    finally:
        disk.gate.set()
        maker.join()


def test_a_writer_waits_for_the_segment_that_is_being_made():
    disk = Gated()
    taken = taken_while_one_is_made(disk)
    assert [call for call in disk.calls if call.startswith("create")] == [f"create {taken.path}"]
    assert taken.size_bytes == SEGMENT_BYTES


def test_a_writer_that_waited_in_vain_makes_a_segment_itself():
    disk = Gated()
    disk.fail("fdatasync")
    taken = taken_while_one_is_made(disk)
    assert len([call for call in disk.calls if call.startswith("create")]) == 2
    assert disk.size(taken.fd) == SEGMENT_BYTES
    assert disk.listdir(FOLDER) == [taken.path.rpartition("/")[2]]


def test_the_last_bytes_of_a_log_are_counted_by_segments():
    driver = opened(FakeDisk(), 8192)
    fill(driver, 300)
    wal, positions = driver.wal, driver.wal._positions
    sizes = {file.head.sequence: file.head.size_bytes for file in wal._files}
    assert len(sizes) > 4
    for index in (1, 2, 150, 299, 300):
        for bytes_max in (0, 1, 8192, 20_000, 1 << 20):
            begin = wal.begin_of_last(bytes_max, index)
            last, held = positions.locate(index)
            first = positions.locate(begin)[0]
            assert begin == 1 or positions.locate(begin - 1)[0] == first - 1
            behind = [sizes[number] for number in range(first + 1, last)] if first < last else []
            whole = held + sum(behind) + (sizes[first] if first < last else 0)
            assert whole >= bytes_max or begin == 1
            assert first == last or whole - sizes[first] < bytes_max
    assert wal.begin_of_last(1, 0) == wal.begin_of_last(1, 301) == 0
