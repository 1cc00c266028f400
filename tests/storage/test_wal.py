"""The log's writer: after any crash exactly what was synced, or more of the same, is found."""

from __future__ import annotations

import errno
import threading
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyraft_fast.consensus.wal import Wal
from pyraft_fast.errors import InvariantError, StorageError
from pyraft_fast.storage import names
from pyraft_fast.storage.segments import HardState

from .fakedisk import FakeDisk, PowerLoss
from .model import (
    CLUSTER,
    FOLDER,
    INCARNATION,
    NID,
    SEGMENT_BYTES,
    Driver,
    config,
    read_all,
    record,
)


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
    assert driver.wal.wants_next()
    driver.wal.prepare_next()
    assert not driver.wal.wants_next()
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


# Faults


def test_a_failed_write_is_taken_back_and_may_be_repeated():
    disk = FakeDisk(3)
    driver = opened(disk)
    fill(driver, 5)
    for _ in range(20):
        index = driver.log.last + 1
        disk.fail("pwrite", error=errno.ENOSPC)
        with pytest.raises(StorageError) as raised:
            driver.wal.append(HardState(1, NID, 0), [record(index, 1, b"never" * 300)])
        assert raised.value.errno == errno.ENOSPC
        fill(driver, 1)
        disk.reboot()
        driver.open()


@pytest.mark.parametrize("seed", range(60))
def test_nothing_of_a_failed_write_mixes_with_the_next(seed):
    disk = FakeDisk(seed)
    driver = opened(disk)
    fill(driver, 5)
    disk.fail("pwrite", error=errno.ENOSPC)
    with pytest.raises(StorageError):
        driver.wal.append(HardState(1, NID, 0), [record(6, 1, b"never" * 400)])
    driver.append(HardState(1, NID, 0), [record(6, 1, b"other" * 200)], 6)
    disk.reboot()
    driver.open()


@pytest.mark.parametrize("seed", range(20))
def test_a_segment_whose_name_was_not_durable_is_after_the_next_start(seed):
    """The process ends between giving a name and syncing the folder; the machine goes on."""
    disk = FakeDisk(seed)
    driver = opened(disk)
    fill(driver, 5)
    disk.fail("fsync_dir")
    with pytest.raises(StorageError):
        driver.append(HardState(1, NID, 0), [record(6, 1, b"z" * 9000)], 6)
    driver.open()
    fill(driver, 5)
    disk.reboot()
    driver.open()


@pytest.mark.parametrize("seed", range(12))
def test_power_lost_while_a_killed_process_recovers(seed):
    """The system has all that was written, the disk has not; recovery must not claim too much."""
    at = 0
    finished = False
    while not finished:
        at += 1
        disk = FakeDisk(seed * 100 + at)
        driver = opened(disk)
        fill(driver, 3)
        for index in range(4, 8):
            driver.append(HardState(1, "", 0), [record(index, 1, b"q" * 700)], index)
        disk.crash_at = disk.steps + at
        try:
            driver.open()
            finished = True
        except PowerLoss:
            disk.reboot()
            driver.open()
    assert at > 3


def test_a_write_that_cannot_be_taken_back_ends_the_log():
    disk = FakeDisk(4)
    driver = opened(disk)
    fill(driver, 5)
    disk.fail("pwrite", times=2)
    with pytest.raises(StorageError):
        driver.wal.append(HardState(1, NID, 0), [record(6, 1)])
    with pytest.raises(StorageError, match="taken back"):
        driver.wal.append(HardState(1, NID, 0), [record(6, 1)])
    driver.wal.close()
    driver.open()


def test_a_failed_sync_is_never_tried_again():
    disk = FakeDisk(5)
    driver = opened(disk)
    fill(driver, 5)
    driver.append(HardState(1, NID, 0), [record(6, 1)], 6)
    disk.fail("fdatasync")
    with pytest.raises(StorageError):
        driver.wal.sync()
    before = disk.steps
    for _ in range(2):
        with pytest.raises(StorageError, match="cannot be written"):
            driver.wal.sync()
        with pytest.raises(StorageError, match="cannot be written"):
            driver.wal.append(HardState(1, NID, 0), [record(7, 1)])
    driver.wal.close()
    assert disk.steps == before


@pytest.mark.parametrize("seed", range(30))
def test_what_a_failed_sync_left_in_memory_only_is_written_again(seed):
    """The process dies of a failed sync, starts again, and then the power goes."""
    disk = FakeDisk(seed)
    driver = opened(disk)
    fill(driver, 5)
    driver.append(HardState(2, "b", 0), [record(6, 2, b"z" * 700)], 6)
    disk.fail("fdatasync")
    with pytest.raises(StorageError):
        driver.wal.sync()
    found = driver.open()
    driver.synced = len(driver.history) - 1
    disk.reboot()
    assert driver.open().last == found.last


def test_a_full_disk_refuses_the_next_segment_and_recovers_when_there_is_room():
    disk = FakeDisk(6, capacity=SEGMENT_BYTES * 2 + 100)
    driver = opened(disk)
    with pytest.raises(StorageError) as raised:
        for _ in range(1000):
            index = driver.log.last + 1
            driver.wal.append(HardState(1, NID, 0), [record(index, 1)])
            driver.history.append(
                driver.log.appended(HardState(1, NID, 0), [record(index, 1)], index)
            )
    assert raised.value.errno == errno.ENOSPC
    assert not [name for name in disk.listdir(FOLDER) if name.endswith(".tmp")]
    with pytest.raises(StorageError):
        driver.wal.prepare_next()
    assert driver.wal.wants_next()
    disk.capacity = None
    fill(driver, 50)
    disk.reboot()
    driver.open()


def test_short_writes_and_reads_change_nothing():
    disk = FakeDisk(7)
    disk.short_writes = True
    driver = opened(disk)
    fill(driver, 100)
    assert len(read_all(driver.wal)) == 100
    driver.close()
    driver.open()


# Crashes


def scenario(driver: Driver, seed: int) -> None:
    """A life of appends, replaced tails, resets, compactions and restarts."""
    random = Random(seed)
    for _ in range(40):
        log = driver.log
        state = HardState(log.state.term, log.state.vote, log.state.commit)
        choice = random.random()
        if choice < 0.6:
            count = random.choice([0, 1, 1, 2, 5])
            first = log.last + 1
            if random.random() < 0.2 and log.last > state.commit:
                first = random.randrange(max(state.commit, driver.wal.first - 1) + 1, log.last + 2)
                state = state._replace(term=state.term + 1, vote=random.choice(["", "b"]))
            payloads = [content(random) for _ in range(count)]
            records = [record(first + i, state.term, p) for i, p in enumerate(payloads)]
            last = first + count - 1 if count else log.last
            if random.random() < 0.4 and last > state.commit:
                state = state._replace(commit=random.randint(state.commit, last))
            driver.append(state, records, first)
        elif choice < 0.8:
            driver.sync()
        elif choice < 0.85:
            index = log.last + random.randrange(1, 50)
            term = state.term + 1
            driver.reset(index, term, HardState(term, "", index))
        elif choice < 0.92:
            driver.compact(random.randint(1, log.state.commit + 1))
        elif choice < 0.96:
            driver.wal.prepare_next()
        else:
            driver.close()
            driver.open()


def content(random: Random) -> bytes:
    size = random.choice([0, 7, 50, 450, 512, 1500, 3000])
    if random.random() < 0.2:
        return bytes(size)
    return random.randbytes(size)


def crash_everywhere(seed: int, stride: int = 1) -> int:
    disk = FakeDisk(seed)
    driver = opened(disk, 4096)
    base = disk.steps
    scenario(driver, seed)
    total = disk.steps
    crashes = 0
    for at in range(1 + seed % stride, total + 1, stride):
        disk = FakeDisk(seed * 1000 + at)
        driver = Driver(disk, 4096)
        disk.crash_at = at
        with pytest.raises(PowerLoss):
            driver.open()
            scenario(driver, seed)
            pytest.fail("the crash did not come")
        disk.reboot()
        # Power may go again while the log is being recovered.
        disk.crash_at = disk.steps + disk.random.randrange(1, 12)
        try:
            driver.open()
        except PowerLoss:
            disk.reboot()
        else:
            disk.crash_at = None
        driver.open()
        fill(driver, 3, driver.log.state.term + 1)
        disk.reboot()
        driver.open()
        crashes += 1
    assert total > base
    return crashes


@pytest.mark.parametrize("seed", range(12))
def test_power_lost_at_every_step(seed):
    assert crash_everywhere(seed) > 20


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(100, 1 << 32), st.integers(1, 200))
def test_power_lost_somewhere_in_any_life(seed, at):
    disk = FakeDisk(seed ^ at)
    driver = Driver(disk, 4096)
    disk.crash_at = at
    try:
        driver.open()
        scenario(driver, seed)
    except PowerLoss:
        disk.reboot()
    else:
        disk.crash_at = None
    driver.open()
    scenario(driver, seed + 1)
    driver.close()
    driver.open()


@pytest.mark.parametrize(
    "operation", ["create", "pwrite", "fdatasync", "rename", "fsync_dir", "unlink"]
)
@pytest.mark.parametrize("calls", range(1, 12))
def test_any_operation_may_fail(operation, calls):
    """The process stops at the error; whatever it promised before is found again."""
    disk = FakeDisk(calls)
    driver = opened(disk, 4096)
    disk.fail(operation, calls)
    try:
        scenario(driver, calls + 40)
    except StorageError:
        driver.wal.close() if not driver.wal._dead else None
    disk.faults = {}
    disk.reboot()
    driver.open()
    fill(driver, 3, driver.log.state.term + 1)
