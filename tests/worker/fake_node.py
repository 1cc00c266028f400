"""A node without consensus: applies commands to handlers as serving would, in one thread."""

from __future__ import annotations

from typing import Any

from pyraft_fast.errors import RaftException
from pyraft_fast.worker.base_worker import BaseWorker
from pyraft_fast.worker.dice import Dice
from pyraft_fast.worker.redis_worker import RedisWorker
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.table import unknown_command
from pyraft_fast.worker.worker import MergedWorker, Worker

START_MS = 1_700_000_000_000


class FakeNode:
    """Each command is an entry of its own, `step_ms` after the one before."""

    def __init__(self, worker: Worker | None = None, step_ms: int = 0) -> None:
        self.nid, self.addr, self.state = "1", "127.0.0.1:5010", "l"
        self.store = Store()
        self.data, self.ttl = self.store.data, self.store.ttl
        self.worker = worker or MergedWorker(None, BaseWorker(), RedisWorker())
        self.random = Dice(0)
        self.clock_ms, self.step_ms, self.index = START_MS, step_ms, 0
        self.settings = {"requirepass": ""}
        self.calls: list[Any] = []
        self.facts: dict[str, Any] = {
            "nid": "1",
            "addr": self.addr,
            "role": "leader",
            "leader_nid": "1",
            "leader_addr": self.addr,
            "term": 3,
            "index": 7,
            "members": [
                {"nid": "1", "addr": "127.0.0.1:5010", "role": "leader", "match": 7},
                {"nid": "2", "addr": "127.0.0.1:5020", "role": "follower", "match": 6},
                {"nid": "3", "addr": "127.0.0.1:5030", "role": "follower", "match": 5},
            ],
        }

    def now(self) -> float:
        return self.store.now_ms / 1000

    def check_ttl(self, key: str) -> bool:
        return self.store.check_ttl(key)

    def set_ttl(self, key: str, ts: float) -> None:
        self.store.set_ttl(key, ts)

    def clear_ttl(self, key: str) -> None:
        self.store.clear_ttl(key)

    def info_facts(self) -> dict[str, Any]:
        return self.facts

    def config_get(self) -> dict[str, str]:
        return self.settings

    def config_set(self, name: str, value: str) -> None:
        self.settings[name] = value

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("request_", "read_log", "shutdown", "reset_")):
            raise AttributeError(name)

        def record(*args: Any) -> Any:
            self.calls.append((name, *args))
            return (name, *args)

        return record

    def run(self, *words: Any) -> Any:
        """Run one command; errors raise."""
        row = self.worker.table.resolve(words[0])
        if row is None:
            raise unknown_command(words)
        if not row.fits(len(words) - 1):
            raise row.arity_error()
        if row.logged:
            self.index += 1
            self.clock_ms += self.step_ms
            self.store.begin(self.clock_ms)
            self.random.seed(self.index)
        else:
            self.store.begin_read(self.clock_ms)
        return row.function(self, list(words))

    def ask(self, *words: Any) -> Any:
        """Run one command; an error is returned."""
        try:
            return self.run(*words)
        except RaftException as error:
            return error


def shown(value: Any) -> Any:
    """A reply in plain values that compare: errors as their wire text."""
    if isinstance(value, RaftException):
        return f"-{value.wire()}"
    if isinstance(value, dict):
        return {shown(k): shown(v) for k, v in value.items()}
    if isinstance(value, (str, bytes, int, float, type(None))):
        return value
    return [shown(item) for item in value]
