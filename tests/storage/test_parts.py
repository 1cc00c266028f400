"""What has no room in a record is written in parts, and comes back as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._digest import digest
from pyraft_fast._entry import (
    HEADER_SIZE,
    KIND_CHUNK,
    KIND_END,
    KIND_META,
    crc32c,
    header,
    packb,
    seal,
    unpackb,
)
from pyraft_fast.errors import DamagedFile, SnapshotError
from pyraft_fast.limits import RECORD_BYTES_MAX, SNAPSHOT_CHUNK_BYTES
from pyraft_fast.storage import dump, snapshot
from pyraft_fast.storage.disk import Disk
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode

from .fakedisk import FakeDisk

PATH = "/d/x.dat"
META = snapshot.Meta(7, 40, 3, 1_700_000_000_123, b"members", {9: (2, 5)}, 1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records, and chunks of them, are short."""
    shorten(monkeypatch)


def shorten(patch: pytest.MonkeyPatch, item: int = 300, chunk: int = 500) -> None:
    patch.setattr(snapshot, "SNAPSHOT_ITEM_BYTES_MAX", item)
    patch.setattr(snapshot, "SNAPSHOT_CHUNK_BYTES", chunk)


def written(store: Store, disk: FakeDisk, path: str = PATH) -> bytes:
    meta = META._replace(keys=len(store.data))
    snapshot.write_snapshot(path, meta, store.dump_items(), disk)
    return bytes(disk.names[path].live)


def loaded(disk: Disk, path: str = PATH) -> Store:
    store = Store()
    for item in snapshot.read_items(path, disk):
        store.load_item(*item)
    return store


def raw_items(data: bytes) -> list[list[Any]]:
    """The items of a file as they lie in it."""
    items: list[list[Any]] = []
    at = 0
    while at < len(data):
        head = header(data[at:])
        if head.kind == KIND_CHUNK:
            items += unpackb(data[at + HEADER_SIZE : at + head.length])
        at += head.length
    return items


def put_raw(disk: FakeDisk, chunks: list[list[Any]]) -> None:
    """A snapshot of these items in these chunks, every checksum right."""
    snapshot.write_snapshot(PATH, META, [], disk)
    data = bytes(disk.names[PATH].live)
    data = data[: header(data).length]
    assert header(data).kind == KIND_META
    for items in chunks:
        data += seal(KIND_CHUNK, 40, 3, 0, 0, 0, 0, len(items), packb(items))
    end = packb([sum(map(len, chunks)), crc32c(data)])
    disk.names[PATH].live[:] = data + seal(KIND_END, 40, 3, 0, 0, 0, 0, 0, end)


def grown_set(count: int) -> RedisSet:
    """Its order is not that in which its members came."""
    members = RedisSet(f"member {number}" for number in range(count + 5))
    for number in range(5):
        members.discard(f"member {number}")
    return members


def grown_hash(count: int) -> dict[Any, Any]:
    fields: dict[Any, Any] = {f"field {number}": f"{number}" for number in range(count + 3)}
    for name in ("field 1", "field 0", "field 2"):
        fields[name] = fields.pop(name)
    for name in ("field 0", "field 1", "field 2"):
        del fields[name]
    return fields


MAKERS = {
    "text": lambda count: "x" * count * 3,
    "wide text": lambda count: "\udcffé" * count,
    "bytes": lambda count: b"\0\xff" * count,
    "list": lambda count: RedisList(f"item {number}" for number in range(count)),
    "list of all": lambda count: RedisList([1, None, 2.5, b"x", ["a"], {"b": 1}] * count),
    "list of a user's values": lambda count: RedisList([("a",), RedisSet("b")] * count),
    "set": grown_set,
    "hash": grown_hash,
    "sorted set": lambda count: SortedSet((f"m{n}", n * 7 % 50 / 2) for n in range(count)),
    "tree": lambda count: TreeNode((f"a{n}", "v" * n) for n in range(count)),
    "tree in a tree": lambda count: TreeNode(a=TreeNode((f"a{n}", "v") for n in range(count))),
    "list of a user": lambda count: list(range(count)),
    "dict of a user": lambda count: {n: [n, {"x": "y" * n}] for n in range(count)},
    "one long element": lambda count: RedisList(["x" * 9 * count, "y"]),
    "tuple": lambda count: tuple(("a", n) for n in range(count)),
}  # fmt: skip


def shown(store: Store) -> list[Any]:
    """Everything that may decide a reply, its order with it, and the guard's digests."""
    deep = [
        (type(value), value.items() if isinstance(value, SortedSet) else list(value))
        if isinstance(value, (RedisList, RedisSet, SortedSet, dict, list, tuple))
        else value
        for value in store.data.values()
    ]
    digests = [digest(value) for value in store.data.values()]
    return [list(store.dump_items()), deep, digests, dict(store.deadlines)]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 100, 300])
def test_every_type_comes_back_at_every_length(name: str, count: int) -> None:
    value = MAKERS[name](count)
    store, disk = Store(), FakeDisk()
    store.put("first", "x")
    store.put("key", value)
    store.set_deadline("key", 1 << 45)
    store.put("last", RedisSet("ab"))
    data = written(store, disk)
    twin = loaded(disk)
    assert shown(twin) == shown(store)
    assert written(twin, FakeDisk()) == data
    items = [item for item in raw_items(data) if item[0] == "key"]
    assert len(items) == 1 if count < 2 else len(items) > 1 or count < 300
    assert [item[3] for item in items] == [1 << 45] + [None] * (len(items) - 1)
    assert len(raw_items(data)) == len(items) + 2
    meta = snapshot.verify_snapshot(PATH, disk)
    assert meta.keys == 3 == len(list(snapshot.read_items(PATH, disk)))


TEXTS = st.text(max_size=60)
FLOATS = st.floats(allow_nan=False)
VALUES = st.one_of(
    st.text(max_size=900),
    st.lists(TEXTS, max_size=40).map(RedisList),
    st.lists(TEXTS, max_size=40).map(RedisSet),
    st.dictionaries(TEXTS, FLOATS, max_size=40).map(lambda scores: SortedSet(scores.items())),
    st.dictionaries(TEXTS, TEXTS, max_size=40),
    st.dictionaries(TEXTS, st.dictionaries(TEXTS, TEXTS).map(TreeNode), max_size=9).map(TreeNode),
    st.lists(st.tuples(st.integers(0, 9), TEXTS), max_size=20),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.text(max_size=30), VALUES, max_size=6),
    st.dictionaries(st.text(max_size=2), st.integers(1, 2**50), max_size=3),
    st.integers(200, 2000),
    st.integers(0, 2000),
)
def test_any_store_comes_back(
    data: dict[str, Any], deadlines: dict[str, int], item: int, chunk: int
) -> None:
    store, disk = Store(), FakeDisk()
    for key, value in data.items():
        store.put(key, value)
    for key, due in deadlines.items():
        store.set_deadline(key, due)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, item, chunk)
        file = written(store, disk)
        twin = loaded(disk)
        assert shown(twin) == shown(store)
        assert written(twin, FakeDisk()) == file
        items = list(snapshot.read_items(PATH, disk))
        snapshot.write_snapshot("/d/y.dat", META._replace(keys=len(data)), items, disk)
        assert bytes(disk.names["/d/y.dat"].live) == file
    snapshot.write_snapshot("/d/z.dat", META, items, disk)
    assert shown(loaded(disk, "/d/z.dat")) == shown(store)


def test_dump_shows_a_key_once() -> None:
    store, disk = Store(), FakeDisk()
    store.put("long", RedisList(["x" * 20] * 99))
    store.put("short", "y")
    written(store, disk)
    lines = list(dump.lines(PATH, disk))
    assert lines[0].endswith(", 2 keys")
    assert [line[:10] for line in lines[3:]] == ["long [2] [", "short [1] ", "end, 2 key"]


def parted(key: Any = "k", code: int = 2, due: int | None = None) -> list[list[Any]]:
    """A list in three parts."""
    data = packb([f"item {number}" for number in range(12)])
    cut = [data[:30], data[30:60], data[60:]]
    return [[key, code, part, None if n else due, n, n < 2] for n, part in enumerate(cut)]


PLAIN = ["p", 1, packb("text"), None]
DAMAGED: dict[str, tuple[list[list[Any]], str]] = {
    "without a beginning": (parted()[1:], "part 1 of key 'k', type code 2 has no beginning"),
    "the last alone": ([PLAIN, parted()[2]], "part 2 of key 'k', type code 2 has no beginning"),
    "of another key": (
        [parted()[0], parted("other")[1], parted()[2]],
        "part 1 of key 'other', type code 2 does not follow part 0 of key 'k', type code 2",
    ),
    "of a key of another type": ([parted("k")[0], parted(b"k")[1]], "does not follow part 0"),
    "of another type": (
        [parted()[0], *parted(code=4)[1:]],
        "part 1 of key 'k', type code 4 does not follow part 0 of key 'k', type code 2",
    ),
    "one is missing": ([parted()[0], parted()[2]], "part 2 of key 'k', .* does not follow part 0"),
    "one is doubled": ([*parted()[:2], *parted()[1:]], "part 1 .* does not follow part 1"),
    "one begins anew": ([*parted()[:2], *parted()], "part 0 .* does not follow part 1"),
    "no end": (parted()[:2], "nothing follows part 1 of key 'k'"),
    "no end before another": ([*parted()[:2], PLAIN], "nothing follows part 1 of key 'k'"),
    "more behind the end": ([*parted(), parted()[2]], "part 2 .* has no beginning"),
    "an end too early": ([[*parted()[0][:5], False]], "chunk cannot be understood"),
    "no bytes": ([["k", 2, "text", None, 0, False]], "is malformed"),
    "no bool": ([["k", 2, packb("x"), None, 0, 1]], "is malformed"),
    "no number": ([["k", 2, packb("x"), None, None, True]], "has no beginning"),
    "five values": ([["k", 2, packb("x"), None, 0]], "an item of 5 values"),
    "three values": ([["k", 2, packb("x")]], "an item of 3 values"),
    "no list": ([5], "has no len"),  # type: ignore[list-item]
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("each", [True, False], ids=["in chunks of their own", "in one chunk"])
def test_parts_that_are_not_of_one_item_are_refused(name: str, each: bool) -> None:
    items, why = DAMAGED[name]
    disk = FakeDisk()
    put_raw(disk, [[item] for item in items] if each else [items])
    with pytest.raises(DamagedFile, match=why):
        list(snapshot.read_items(PATH, disk))
    assert disk.fds == {}


def test_whole_parts_are_an_item() -> None:
    disk = FakeDisk()
    put_raw(disk, [[PLAIN, *parted(due=9)[:2]], [parted()[2], PLAIN]])
    wanted = ("k", 2, [f"item {number}" for number in range(12)], 9)
    found = [tuple(item) for item in snapshot.read_items(PATH, disk)]
    assert found == [("p", 1, "text", None), wanted, ("p", 1, "text", None)]


def test_a_key_that_leaves_no_room_is_named() -> None:
    store = Store()
    store.put("k" * 220, RedisList(["x" * 20] * 9))
    with pytest.raises(SnapshotError, match=r"^key 'kkk.* leaves no room for its value"):
        written(store, FakeDisk())


def test_a_list_that_no_record_holds(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the sizes that are in use."""
    shorten(monkeypatch, RECORD_BYTES_MAX - HEADER_SIZE - 5, SNAPSHOT_CHUNK_BYTES)
    store, path = Store(), str(tmp_path / "x.dat")
    text = "x" * (1 << 16)
    items = RedisList([f"{number}", text][number % 2] for number in range(2700))
    store.put("list", items)
    store.put("other", "y")
    size = snapshot.write_snapshot(path, META, store.dump_items())
    assert size > RECORD_BYTES_MAX
    twin = Store()
    for item in snapshot.read_items(path):
        twin.load_item(*item)
    assert twin.data == store.data
