"""The worker with Redis' data types: every table of this folder that works on keys."""

from __future__ import annotations

from pyraft_fast.worker import expiry, hashes, keys, lists, sets, strings, tree, zrange, zsets
from pyraft_fast.worker.worker import RespProtocol, Worker

TABLES = (
    strings.TABLE,
    keys.TABLE,
    expiry.TABLE,
    hashes.TABLE,
    lists.TABLE,
    sets.TABLE,
    zsets.TABLE,
    zrange.TABLE,
    tree.TABLE,
)


class RedisWorker(Worker):
    """Strings, keys, expiry, hashes, lists, sets, sorted sets and trees."""

    def __init__(self, addr: str | None = None) -> None:
        super().__init__(addr)
        for table in TABLES:
            self.handler.update(table)
        self.set_protocol(RespProtocol())
