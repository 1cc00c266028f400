"""The log's writer on a bad disk: exactly what was synced, or more of the same, is found again."""

from __future__ import annotations

import contextlib
import errno
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyraft_fast.errors import StorageError
from pyraft_fast.storage.segments import HardState

from .fakedisk import FakeDisk, PowerLoss
from .model import FOLDER, NID, SEGMENT_BYTES, Driver, fill, opened, read_all, record


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
    assert driver.wal.wants_upkeep()
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
            driver.wal.delete_old()
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


def begun_to_replace(seed: int) -> Driver:
    """A segment was begun for entries that were to replace 8 and 9, and the disk was full then."""
    for calls in range(1, 20):
        disk = FakeDisk(seed)
        driver = opened(disk, 4096)
        fill(driver, 9)
        disk.fail("pwrite", calls, errno.ENOSPC)
        with pytest.raises(StorageError):
            driver.wal.append(HardState(2, "", 7), [record(8, 2, b"q" * 3500)])
        if len(driver.wal._files) == 2:
            break
    assert driver.wal._files[-1].head.first_index == 8
    disk.reboot()
    found = driver.open()
    assert (found.last, len(driver.wal._files)) == (9, 2)
    return driver


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_older_segments_may_go_after_a_replacement_was_lost(seed: int, count: int) -> None:
    """What came instead follows the entries that stayed, in a segment whose head knows better."""
    driver = begun_to_replace(seed)
    disk = driver.disk
    state = HardState(2, "", 9)
    for _ in range(count):
        following = driver.log.last + 1
        driver.append(state, [record(following, 2), record(following + 1, 2)], following)
    driver.append(state, [], driver.log.last + 1)
    driver.sync()
    driver.compact(10)
    disk.crash_at = disk.steps + disk.random.randrange(1, 6)
    with contextlib.suppress(PowerLoss):
        driver.wal.delete_old()
        following = driver.log.last + 1
        driver.append(state, [record(following, 2, b"z" * 5000)], following)
        driver.compact(11)
        driver.wal.delete_old()
    disk.reboot()
    found = driver.open()
    assert found.last >= 9 + 2 * count
    assert found.last_term == (2 if found.last > 9 else 1)
    fill(driver, 3, 2)
    driver.close()
    driver.open()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example(35893, 80)
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
