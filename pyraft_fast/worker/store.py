"""The state machine's data: keys, their values and deadlines, and the time handlers see.

Time is given, never read: `begin` sets it from the log entry about to be applied and removes
every key that is due, so all nodes remove the same keys at the same place in the log. A read
may run at a later time (`begin_read`); it hides what is due and removes nothing.

Invariants: `data` and `deadlines` stay the same objects for the store's life, and note what is
touched in them while the store's notes are on (`_digest`). The heap holds at
least one pair for each deadline; stale pairs are dropped when met, and the heap is rebuilt
before it grows past twice the deadlines.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from pyraft_fast import _digest
from pyraft_fast.errors import CommandError
from pyraft_fast.worker.codes import ABSENT, freeze, thaw
from pyraft_fast.worker.scans import ScanCache
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode
from pyraft_fast.worker.types.sets import Members

_HEAP_SPARE: Final = 64
POPS_MAX: Final = 256  # of keys that end, one by one

_digest.know(RedisList, _digest.RUN)
_digest.know(RedisSet, _digest.ITEMS)
_digest.know(Members, _digest.ITEMS)
_digest.know(SortedSet, _digest.SCORES)
_digest.know(TreeNode, _digest.TREE)


class Store:
    """Everything a snapshot holds. Not thread-safe: the caller holds the data lock."""

    __slots__ = (
        "_heap", "_pushes", "data", "deadlines", "notes", "now_ms", "removed", "scans", "ttl",
        "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.notes = _digest.Notes()
        self.data = _digest.Keyspace(self.notes)
        self.deadlines = _digest.Keyspace(self.notes)  # key -> ms of the cluster's clock
        self.removed = 0  # keys that were removed because they were due
        self.now_ms = 0
        self.version = 0  # the index of the log entry that `data` is at, on every node alike
        self.ttl = TtlView(self)
        self.scans = ScanCache()
        self._heap: list[tuple[int, int, str]] = []  # (deadline, push number, key)
        self._pushes = 0

    def begin(self, time_ms: int) -> None:
        """Start applying an entry stamped `time_ms`: set the time, remove every key due by it."""
        self.now_ms = time_ms
        self.version += 1
        if self._heap and self._heap[0][0] <= time_ms:
            self._remove_due()

    def begin_read(self, time_ms: int) -> None:
        """Start a read at `time_ms`; what is due is hidden and stays for the log to remove."""
        self.now_ms = time_ms

    def _remove_due(self) -> None:
        heap, now = self._heap, self.now_ms
        for _ in range(POPS_MAX):
            if not heap or heap[0][0] > now:
                return
            self._remove(heapq.heappop(heap))
        # So many that end together are taken in one pass, in the same order: pops cost twice that.
        due = sorted(item for item in heap if item[0] <= now)
        heap[:] = [item for item in heap if item[0] > now]
        heapq.heapify(heap)
        for item in due:
            self._remove(item)

    def _remove(self, item: tuple[int, int, str]) -> None:
        deadline, _, key = item
        if self.deadlines.get(key) == deadline:
            del self.deadlines[key]
            self.data.pop(key, None)
            self.removed += 1

    def check_ttl(self, key: str) -> bool:
        """True when the key has no deadline or it lies ahead; removes nothing."""
        deadline = self.deadlines.get(key)
        return deadline is None or deadline > self.now_ms

    def clear_ttl(self, key: str) -> None:
        """Take the key's deadline away, if it has one."""
        self.deadlines.pop(key, None)

    def set_ttl(self, key: str, ts: float) -> None:
        """Let the key end at `ts`, epoch seconds."""
        self.set_deadline(key, round(ts * 1000))

    def set_deadline(self, key: str, deadline_ms: int) -> None:
        """Let the key end at `deadline_ms`, epoch milliseconds."""
        self.deadlines[key] = deadline_ms
        heap = self._heap
        if len(heap) >= 2 * len(self.deadlines) + _HEAP_SPARE:
            heap[:] = [(due, at, name) for at, (name, due) in enumerate(self.deadlines.items())]
            heapq.heapify(heap)
            self._pushes = len(heap)
            return
        self._pushes += 1
        heapq.heappush(heap, (deadline_ms, self._pushes, key))

    def drop_due(self, key: str) -> None:
        """Before a write command uses a key that has a deadline: forget what is over.

        That is a value that became due within this very entry, or a deadline whose key a handler
        removed behind our back.
        """
        if key not in self.data:
            self.deadlines.pop(key, None)
        elif self.deadlines.get(key, self.now_ms + 1) <= self.now_ms:
            del self.data[key]
            del self.deadlines[key]

    def find(self, key: str) -> Any:
        """The live value of a key, or None. For reads: changes nothing."""
        if key in self.deadlines and not self.check_ttl(key):
            return None
        return self.data.get(key)

    def find_for_write(self, key: str) -> Any:
        """The live value of a key, or None; what is due goes first."""
        if key in self.deadlines:
            self.drop_due(key)
        return self.data.get(key)

    def delete(self, key: str) -> bool:
        """Remove a key with its deadline; True when it was there and live."""
        if key in self.deadlines:
            self.drop_due(key)
            self.deadlines.pop(key, None)
        if key in self.data:
            del self.data[key]
            return True
        return False

    def put(self, key: str, value: Any) -> None:
        """Set a key to a new value without a deadline."""
        self.data[key] = value
        if key in self.deadlines:
            del self.deadlines[key]

    def live_keys(self) -> list[str]:
        """Every key that is not due, oldest first."""
        if not self.deadlines:
            return list(self.data)
        get, now = self.deadlines.get, self.now_ms
        return [key for key in self.data if get(key, now + 1) > now]

    def live_count(self) -> int:
        """How many keys are not due."""
        count = len(self.data)
        if self._heap and self._heap[0][0] <= self.now_ms:
            data, now = self.data, self.now_ms
            count -= sum(due <= now and key in data for key, due in self.deadlines.items())
        return count

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any key, or None."""
        heap, deadlines = self._heap, self.deadlines
        while heap and deadlines.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def clear(self) -> None:
        """Remove every key and deadline."""
        self.data.clear()
        self.deadlines.clear()
        self._heap.clear()
        self.scans.clear()

    def dump_items(self) -> Dump:
        """Everything in it as items, as long as nothing changes."""
        return Dump(self.data, self.deadlines)

    def load_item(self, key: str, code: int, value: Any, deadline_ms: int | None) -> None:
        """Take one item of `dump_items` back; items must come in the order they were given.

        Raises StorageError when the item is malformed.
        """
        if code != ABSENT:
            self.data[key] = thaw(code, value)
        if deadline_ms is not None:
            self.set_deadline(key, deadline_ms)


class Dump:
    """Every (key, type code, plain value, deadline in ms or None), in the order of `data`.

    Who iterates over it, or goes through its parts (`storage.snapshot.Keyed`), may meet a
    CommandError, which names the key whose value has no plain form.
    """

    __slots__ = ("data", "deadlines")

    def __init__(self, data: dict[Any, Any], deadlines: dict[Any, int]) -> None:
        self.data = data
        self.deadlines = deadlines

    def __iter__(self) -> Iterator[tuple[Any, int, Any, int | None]]:
        deadlines = self.deadlines
        for key, value in self.data.items():
            code, plain = self.freeze(key, value)
            yield key, code, plain, deadlines.get(key)
        yield from self.rest()

    def freeze(self, key: Any, value: Any) -> tuple[int, Any]:
        """Type code and plain value of what lies under `key`; all texts have the same code."""
        try:
            return freeze(value)
        except CommandError as error:
            raise CommandError(f"key {key!r}: {error}") from error

    def rest(self) -> Iterator[tuple[Any, int, Any, int | None]]:
        """Deadlines whose key is not there."""
        for key, deadline in self.deadlines.items():
            if key not in self.data:
                yield key, ABSENT, None, deadline


class TtlView(MutableMapping[str, float]):
    """`node.ttl`: key -> end of life in epoch seconds; writing to it sets deadlines."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, key: str) -> float:
        return float(self._store.deadlines[key] / 1000)

    def __setitem__(self, key: str, ts: float) -> None:
        self._store.set_ttl(key, ts)

    def __delitem__(self, key: str) -> None:
        del self._store.deadlines[key]

    def __iter__(self) -> Iterator[str]:
        deadlines = self._store.deadlines  # by content: their own order is not in a snapshot
        return iter(sorted(deadlines, key=lambda key: (deadlines[key], str(key))))

    def __len__(self) -> int:
        return len(self._store.deadlines)

    def __repr__(self) -> str:
        return repr(dict(self))
