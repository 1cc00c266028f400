"""The log's writer in plain use, and beside readers and the segment maker."""

from __future__ import annotations

import threading

import pytest

from pyraft_fast.consensus.wal import Wal
from pyraft_fast.errors import InvariantError, StorageError
from pyraft_fast.storage import names
from pyraft_fast.storage.segments import HardState

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
