"""Snapshots: whole under their name or refused, at every crash and for every wrong byte."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._entry import Batch
from pyraft_fast.errors import CommandError, DamagedFile, SnapshotError, StorageError
from pyraft_fast.limits import NESTING_MAX, SNAPSHOT_CHUNK_BYTES
from pyraft_fast.storage import names, snapshot
from pyraft_fast.storage.snapshot import Item, Keyed, Meta, PartialSnapshot
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.types import RedisSet

from .fakedisk import FakeDisk, PowerLoss

FOLDER = "/d"
NID = "a_b"
ITEMS = [
    ("text", 1, "grüße\udcff", None),
    ("bytes", 1, b"\0\xff", 12345),
    ("list", 2, ["a", 1, 2.5, None, True, b"x"], None),
    ("hash", 3, {"f": "v", 1: -(1 << 63)}, 99),
    (b"raw key", 1, (1 << 63) - 1, None),
    ("", 1, "", None),
]


def meta(index: int = 40, keys: int = 6) -> Meta:
    return Meta(7, index, 3, 1_700_000_000_123, b"members", {9: (2, 5), 4: (1, 0)}, keys)


def put(disk: FakeDisk, index: int = 40, items: list[tuple[object, ...]] = ITEMS) -> str:
    path = snapshot.snapshot_path(FOLDER, NID, 1_700_000_000 + index, index)
    snapshot.write_snapshot(path, meta(index, len(items)), items, disk)  # type: ignore[arg-type]
    return path


def test_what_was_written_is_read():
    disk = FakeDisk()
    path = put(disk)
    assert snapshot.read_meta(path, disk) == meta()
    assert snapshot.verify_snapshot(path, disk) == meta()
    assert list(snapshot.read_items(path, disk)) == [Item(*item) for item in ITEMS]
    assert disk.listdir(FOLDER) == [names.snapshot_name(NID, 1_700_000_040, 40)]


def test_the_bytes_of_a_file_never_change():
    disk = FakeDisk()
    many = [*ITEMS, *((f"k{i}", i % 8, "v" * (37 * i), i or None) for i in range(400))]
    snapshot.write_snapshot(f"{FOLDER}/x.dat", meta(), many, disk)
    data = bytes(disk.names[f"{FOLDER}/x.dat"].live)
    assert len(data) == 2959083
    wanted = "950fd9bb6281488011d543e74b9880c3aba86dd327c8211205f4b1bfae0df29d"
    assert hashlib.sha256(data).hexdigest() == wanted


def test_a_store_is_written_as_its_items_are():
    store = Store()
    for number in range(3000):
        store.put(f"key {number}", "v" * number)
    for key, value in {"set": RedisSet("ab"), "tuple": (1, 2), "é": "é", "\udcff": ""}.items():
        store.put(key, value)
    for key in ("key 7", "set", "gone"):
        store.set_deadline(key, 5)
    dump = store.dump_items()
    assert isinstance(dump, Keyed)
    disk = FakeDisk()
    snapshot.write_snapshot(f"{FOLDER}/x.dat", meta(), dump, disk)
    snapshot.write_snapshot(f"{FOLDER}/y.dat", meta(), list(dump), disk)
    assert disk.names[f"{FOLDER}/x.dat"].live == disk.names[f"{FOLDER}/y.dat"].live
    store.put("bad", {1, 2})
    with pytest.raises(CommandError, match=r"^key 'bad': a value of type set cannot be stored"):
        snapshot.write_snapshot(f"{FOLDER}/x.dat", meta(), dump, disk)


def test_the_size_is_told_and_no_descriptor_is_left(tmp_path):
    path = str(tmp_path / "x.dat")
    size = snapshot.write_snapshot(path, meta(), ITEMS)
    assert (tmp_path / "x.dat").stat().st_size == size
    disk = FakeDisk()
    path = put(disk)
    snapshot.verify_snapshot(path, disk)
    list(snapshot.read_items(path, disk))
    snapshot.read_meta(path, disk)
    assert disk.fds == {}


def test_an_empty_snapshot_is_a_snapshot():
    disk = FakeDisk()
    path = put(disk, 1, [])
    assert list(snapshot.read_items(path, disk)) == []


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.text(), st.integers(0, 9), values, st.none() | st.integers(0, 1 << 50)))
)
def test_any_encodable_items_come_back(items):
    disk = FakeDisk()
    path = put(disk, 5, items)
    assert [tuple(item) for item in snapshot.read_items(path, disk)] == items


def test_values_may_nest_as_deep_as_in_the_log():
    value: object = 1
    for _ in range(NESTING_MAX):
        value = [value]
    Batch().add(["SET", "k", value])
    disk = FakeDisk()
    path = put(disk, 5, [("k", 1, value, None)])
    assert next(snapshot.read_items(path, disk)).value == value


def test_many_and_large_items_go_into_chunks_of_bounded_size():
    disk = FakeDisk()
    items = [(f"k{i}", 1, b"v" * 3000, None) for i in range(1500)]
    items.insert(700, ("big", 1, b"b" * (3 * SNAPSHOT_CHUNK_BYTES), None))
    path = put(disk, 5, items)
    assert [tuple(item) for item in snapshot.read_items(path, disk)] == items
    writes = len([call for call in disk.calls if call.startswith("pwrite")])
    assert 7 < writes < 14


def test_writing_takes_items_as_they_come():
    """The writer must not gather all items: data may be larger than memory allows twice."""
    disk = FakeDisk()
    seen: list[int] = []

    def items() -> Iterator[tuple[str, int, bytes, None]]:
        for i in range(40):
            seen.append(len(disk.calls))
            yield f"k{i}", 1, b"v" * (SNAPSHOT_CHUNK_BYTES // 4), None

    snapshot.write_snapshot(f"{FOLDER}/x.dat", meta(), items(), disk)
    assert seen[-1] > seen[0] + 5


def test_a_writer_looks_up_before_each_record_and_may_leave():
    disk = FakeDisk()
    items = [(f"k{i}", 1, b"v" * SNAPSHOT_CHUNK_BYTES, None) for i in range(5)]
    looks: list[int] = []

    def look() -> None:
        looks.append(len([call for call in disk.calls if call.startswith("pwrite")]))
        if len(looks) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        snapshot.write_snapshot(f"{FOLDER}/x.dat", meta(), items, disk, look)
    assert looks == [0, 1, 2, 3]
    assert disk.listdir(FOLDER) == []


@pytest.mark.parametrize("value", [{1, 2}, object(), 1 << 70, lambda: None])
def test_a_value_that_cannot_be_encoded_names_its_key_and_leaves_nothing(value):
    disk = FakeDisk()
    with pytest.raises(SnapshotError, match="'odd key'"):
        put(disk, 5, [("fine", 1, 1, None), ("odd key", 1, value, None)])
    assert disk.listdir(FOLDER) == []
    assert disk.fds == {}


def test_a_full_disk_leaves_nothing_behind():
    disk = FakeDisk(capacity=300)
    with pytest.raises(StorageError) as raised:
        put(disk)
    assert raised.value.errno == errno.ENOSPC
    assert disk.listdir(FOLDER) == []


def test_every_wrong_byte_is_found():
    disk = FakeDisk()
    path = put(disk)
    for at in range(len(disk.names[path].live)):
        for mask in {1, 128, 255, disk.names[path].live[at]} - {0}:
            disk.rot(path, at, mask)
            with pytest.raises(DamagedFile):
                snapshot.verify_snapshot(path, disk)
            with pytest.raises(DamagedFile):
                list(snapshot.read_items(path, disk))
            disk.rot(path, at, mask)
    snapshot.verify_snapshot(path, disk)


def test_every_shorter_file_is_found_and_a_longer_one():
    disk = FakeDisk()
    path = put(disk)
    whole = bytes(disk.names[path].live)
    for size in range(len(whole)):
        disk.names[path].live[:] = whole[:size]
        with pytest.raises(DamagedFile):
            snapshot.verify_snapshot(path, disk)
    for tail in [b"\0", bytes(64), whole]:
        disk.names[path].live[:] = whole + tail
        with pytest.raises(DamagedFile):
            snapshot.verify_snapshot(path, disk)


def test_a_missing_doubled_or_moved_record_is_found():
    disk = FakeDisk()
    items = [(f"k{i}", 1, b"v" * (SNAPSHOT_CHUNK_BYTES // 2), None) for i in range(4)]
    path = put(disk, 5, items)
    whole = bytes(disk.names[path].live)
    cuts = [0]
    while cuts[-1] < len(whole):
        cuts.append(cuts[-1] + int.from_bytes(whole[cuts[-1] : cuts[-1] + 4], "little"))
    parts = [whole[a:b] for a, b in pairwise(cuts)]
    assert len(parts) >= 5
    for order in [
        [0, 1, *range(3, len(parts))],
        [0, 1, 1, *range(2, len(parts))],
        [0, 2, 1, *range(3, len(parts))],
        [1, 0, *range(2, len(parts))],
    ]:
        disk.names[path].live[:] = b"".join(parts[i] for i in order)
        with pytest.raises(DamagedFile):
            snapshot.verify_snapshot(path, disk)


def test_the_newest_whole_snapshot_is_found_and_damaged_ones_are_told():
    disk = FakeDisk()
    assert snapshot.newest_valid(FOLDER, NID, disk) == (None, [])
    old, middle, new = put(disk, 10), put(disk, 20), put(disk, 30)
    found, complaints = snapshot.newest_valid(FOLDER, NID, disk)
    assert found is not None
    assert (found.path, found.meta.index, complaints) == (new, 30, [])
    disk.rot(new, 200, 4)
    disk.names[middle].live.clear()
    found, complaints = snapshot.newest_valid(FOLDER, NID, disk)
    assert found is not None
    assert found.path == old
    assert len(complaints) == 2
    assert new in complaints[0]
    assert middle in complaints[1]


def test_the_index_decides_which_is_newest_not_the_clock():
    disk = FakeDisk()
    for epoch, index in [(1_600_000_000, 50), (1_700_000_000, 9)]:
        path = snapshot.snapshot_path(FOLDER, NID, epoch, index)
        snapshot.write_snapshot(path, meta(index), [], disk)
    found, _ = snapshot.newest_valid(FOLDER, NID, disk)
    assert found is not None
    assert found.meta.index == 50


def test_two_snapshots_are_kept_and_leftovers_go():
    disk = FakeDisk()
    paths = [put(disk, index) for index in (5, 100, 20, 40)]
    disk.close(disk.create(paths[1] + names.TEMPORARY))
    disk.close(disk.create(f"{FOLDER}/{names.snapshot_name('other', 1, 1)}{names.TEMPORARY}"))
    assert snapshot.prune(FOLDER, NID, disk=disk) == [paths[2], paths[0]]
    assert snapshot.remove_leftovers(FOLDER, NID, disk) == [paths[1] + names.TEMPORARY]
    assert len(disk.names) == 3


def test_power_lost_at_every_step_of_writing():
    total = 100
    at = 0
    while at < total:
        at += 1
        disk = FakeDisk(at)
        put(disk, 10)
        disk.crash_at = disk.steps + at
        before = disk.steps
        try:
            put(disk, 20)
            total = disk.steps - before
            finished = True
        except PowerLoss:
            finished = False
        disk.reboot()
        found, complaints = snapshot.newest_valid(FOLDER, NID, disk)
        assert complaints == []
        assert found is not None
        assert found.meta.index in ((20,) if finished else (10, 20))
    assert total > 5


# Receiving


def sent(disk: FakeDisk) -> bytes:
    return bytes(disk.names[put(disk, 40)].live)


def test_a_snapshot_arrives_in_chunks_and_gets_its_name():
    data = sent(FakeDisk())
    disk = FakeDisk()
    partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
    while partial.offset < len(data):
        assert partial.write(partial.offset, data[partial.offset : partial.offset + 37])
    path = partial.finish()
    assert snapshot.newest_valid(FOLDER, NID, disk) == ((path, meta()), [])
    assert disk.listdir(FOLDER) == [names.snapshot_name(NID, 1_700_000_000, 40)]
    assert disk.fds == {}
    disk.reboot()
    assert snapshot.verify_snapshot(path, disk) == meta()


def test_a_transfer_goes_on_where_it_stopped_and_others_are_removed():
    data = sent(FakeDisk())
    disk = FakeDisk()
    PartialSnapshot(FOLDER, NID, 30, 3, 999, disk).close()
    partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
    assert len(disk.names) == 1
    assert partial.write(0, data[:100])
    assert not partial.write(50, data[50:150])
    assert not partial.write(150, data[150:])
    assert not partial.write(100, data[100:] + b"x")
    partial.close()
    partial.close()
    partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
    assert partial.offset == 100
    assert partial.write(100, memoryview(data)[100:])
    assert snapshot.verify_snapshot(partial.finish(), disk) == meta()


@pytest.mark.parametrize("what", ["wrong byte", "too short", "other index", "other term"])
def test_a_snapshot_that_is_not_what_it_should_be_is_removed(what):
    data = bytearray(sent(FakeDisk()))
    disk = FakeDisk()
    index, term = (41 if what == "other index" else 40), (4 if what == "other term" else 3)
    partial = PartialSnapshot(FOLDER, NID, index, term, len(data), disk)
    if what == "wrong byte":
        data[300] ^= 1
    partial.write(0, bytes(data[:-1] if what == "too short" else data))
    with pytest.raises(DamagedFile):
        partial.finish()
    assert disk.names == {}


def test_a_full_disk_keeps_what_arrived():
    data = sent(FakeDisk())
    disk = FakeDisk(capacity=200)
    partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
    assert partial.write(0, data[:150])
    with pytest.raises(StorageError) as raised:
        partial.write(150, data[150:])
    assert raised.value.errno == errno.ENOSPC
    assert partial.offset == 150
    disk.capacity = None
    assert partial.write(150, data[150:])
    partial.finish()


def test_power_lost_while_a_snapshot_arrives():
    data = sent(FakeDisk())
    for at in range(1, 40):
        disk = FakeDisk(at)
        disk.crash_at = at
        done = False
        try:
            partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
            while partial.offset < len(data):
                partial.write(partial.offset, data[partial.offset : partial.offset + 90])
            partial.finish()
            done = True
        except PowerLoss:
            pass
        disk.reboot()
        found, complaints = snapshot.newest_valid(FOLDER, NID, disk)
        assert complaints == []
        assert found is not None or not done
        if found is None:
            receive_again(disk, data)
        else:
            assert found.meta == meta()


def receive_again(disk: FakeDisk, data: bytes) -> None:
    """After a loss of power a part may hold anything: at worst it all comes once more."""
    for _ in range(2):
        partial = PartialSnapshot(FOLDER, NID, 40, 3, len(data), disk)
        partial.write(partial.offset, data[partial.offset :])
        try:
            assert snapshot.verify_snapshot(partial.finish(), disk) == meta()
        except DamagedFile:
            continue
        return
    pytest.fail("the second transfer failed as well")
