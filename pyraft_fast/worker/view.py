"""What a handler sees of its node's data: keys, deadlines and the time."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from pyraft_fast.worker.store import Store


class DataView:
    """The part of a node that its handlers change data with."""

    data: dict[str, Any]
    """The state machine: key to str, RedisList, Hash, RedisSet, SortedSet or your values."""

    def __init__(self) -> None:
        self.store = Store()
        self.data = self.store.data

    def __setattr__(self, name: str, value: Any) -> None:
        # A property would refuse this too, but every handler would pay for the call.
        if name == "data" and "data" in self.__dict__:
            raise AttributeError("node.data cannot be replaced: change what it holds")
        super().__setattr__(name, value)

    @property
    def ttl(self) -> MutableMapping[str, float]:
        """Deadlines of keys that expire, as epoch seconds."""
        return self.store.ttl

    def now(self) -> float:
        """Epoch seconds for handlers: the time of the log entry (or read) that runs."""
        return self.store.now_ms / 1000

    def check_ttl(self, key: str) -> bool:
        """Whether `key` has no deadline or one that lies ahead."""
        return self.store.check_ttl(key)

    def clear_ttl(self, key: str) -> None:
        """Take the key's deadline away. For write handlers."""
        deadlines = self.store.deadlines
        if key in deadlines:
            del deadlines[key]

    def set_ttl(self, key: str, ts: float) -> None:
        """Let `key` end at `ts`, epoch seconds. For write handlers."""
        self.store.set_ttl(key, ts)
