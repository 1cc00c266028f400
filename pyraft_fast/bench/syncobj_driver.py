"""One pysyncobj node; the leader among them makes the load that an order file asks for.

    python syncobj_driver.py FOLDER SELF OTHER ...

Stands alone, since it runs in whatever interpreter has pysyncobj. `leads` in the folder says
whether this node leads; `order` (JSON: requests, in_flight, size, keys) starts a load, whose
result is put into `result`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.01
STALL_SECONDS = 30.0


def put(path: Path, text: str) -> None:
    """Write a file so that readers see all of it or nothing."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


class Load:
    """A closed loop: so many sets are under way at any time."""

    def __init__(self, data: Any, order: dict[str, int]) -> None:
        self._data = data
        self._order = order
        self._value = "x" * order["size"]
        self._dice = random.Random(1)
        self._lock = threading.Lock()
        self._sent = 0
        self._failed = 0
        self._done = threading.Event()
        self.latencies: list[float] = []

    def run(self) -> dict[str, Any]:
        """Carry it out; the result as plain data."""
        began = time.perf_counter()
        for _ in range(min(self._order["in_flight"], self._order["requests"])):
            self._send()
        while not self._done.wait(1.0):
            if time.perf_counter() - began > STALL_SECONDS and not self.latencies:
                break
        seconds = time.perf_counter() - began
        ordered = sorted(self.latencies)
        found: dict[str, Any] = {"rate": len(ordered) / seconds, "failed": self._failed}
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
            rank = min(len(ordered) - 1, int(len(ordered) * share))
            found[name] = ordered[rank] * 1e3 if ordered else None
        return found

    def _send(self) -> None:
        with self._lock:
            if self._sent >= self._order["requests"]:
                return
            self._sent += 1
            key = f"key:{self._dice.randrange(self._order['keys']):012d}"
        began = time.perf_counter()

        def answered(_: object, error: object) -> None:
            if error:
                self._failed += 1
            else:
                self.latencies.append(time.perf_counter() - began)
            if len(self.latencies) + self._failed == self._order["requests"]:
                self._done.set()
            else:
                self._send()

        self._data.set(key, self._value, callback=answered)


def main() -> int:
    """Run the node until it is ended."""
    from pysyncobj import SyncObj  # type: ignore[import-not-found]
    from pysyncobj.batteries import ReplDict  # type: ignore[import-not-found]

    folder, me, others = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    data = ReplDict()
    node = SyncObj(me, others, consumers=[data])
    leads = ""
    while True:
        now = "yes" if node.isReady() and str(node._getLeader()) == me else "no"
        if now != leads:
            put(folder / "leads", now)
            leads = now
        order = folder / "order"
        if order.exists():
            asked = json.loads(order.read_text())
            order.unlink()
            put(folder / "result", json.dumps(Load(data, asked).run()))
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
