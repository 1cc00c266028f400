"""What one handler costs, in microseconds a command net of decoding and of the loop around it.

    python -m tests.bench.handlers [--keys 100000] [--rounds 300] [--repeat 3] [--works SET,ZADD]

Commands are drawn as redis-benchmark draws them, and each record of 300 of them is decoded anew,
since what words cost depends on where they lie. The fastest of the repeats counts; the loop is
known from a handler that does nothing.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from types import SimpleNamespace
from typing import Any

from pyraft_fast import _entry, _resp, _turn
from pyraft_fast.bench.cas_node import do_cas
from pyraft_fast.bench.load import LIST_LENGTH
from pyraft_fast.bench.works import DATA, RANDOM, WORKS, value
from pyraft_fast.node import RaftNode
from pyraft_fast.serving.apply import Applier
from pyraft_fast.serving.rows import Rows

RECORD = 300


def host() -> tuple[RaftNode, Applier]:
    """A node that nobody started, and what would apply its log."""
    node = RaftNode("1", "127.0.0.1:1")
    node.worker.handler["cas"] = [do_cas, "we", 3, 3]
    node.worker.handler["nothing"] = [lambda node, words: True, "we", 0, 0]
    nobody: Any = None
    applier = Applier(node, Rows(node), nobody, nobody, [], lambda: None)
    service: Any = SimpleNamespace(applier=applier)
    node.engine._service, node.engine._ident = service, threading.get_ident()
    return node, applier


def commands(words: tuple[str, ...], dice: random.Random, keys: int, size: int) -> list[Any]:
    """A record's worth of one work, decoded as if it came from the log."""
    batch = _entry.Batch()
    for _ in range(RECORD):
        drawn = [word.replace(DATA, value(size)) for word in words]
        while any(RANDOM in word for word in drawn):
            drawn = [word.replace(RANDOM, f"{dice.randrange(keys):012d}", 1) for word in drawn]
        batch.add(drawn, 0)
    count = batch.count
    record = _entry.seal(_entry.KIND_COMMANDS, 1, 1, 1, 0, 0, 0, count, batch.take())
    return _entry.decode_record(record)


def fill(node: RaftNode, work: str, args: argparse.Namespace) -> None:
    """What a run of the work finds."""
    data, total = node.store.data, args.rounds * RECORD
    for key in range(args.keys):
        data[f"key:{key:012d}"] = value(args.size)
        if WORKS[work].filled and work == "CAS":
            data[f"cas:{key:012d}"] = value(args.size)
    verb = WORKS[work].after
    count = total if WORKS[work].writes else LIST_LENGTH
    row = Rows(node).find(verb) if verb else None
    for name in range(count if row else 0):
        score = [str(name)] if verb == "ZADD" else []
        assert row is not None
        row.function(node, [verb, WORKS[verb].words[1], *score, f"element:{name:012d}"])


def measure(work: str, args: argparse.Namespace) -> tuple[float, float]:
    """Microseconds a command: handler, and encoding its last reply."""
    node, applier = host()
    words = ("NOTHING",)
    if work != "nothing":
        words = WORKS[work].words
        fill(node, work, args)
    row = applier._rows.find(words[0])
    assert row is not None
    rows, dice, spent = {words[0]: row}, random.Random(1), 0.0
    clock = time.thread_time_ns
    for number in range(args.rounds):
        decoded = commands(words, dice, args.keys, args.size)
        applier.index = number + 1
        began = clock()
        _turn.apply(applier, node, decoded, rows)
        spent += clock() - began
    node.engine._service = None
    out = bytearray()
    with_reply: Any = SimpleNamespace(store=node.store, data=node.data, clear_ttl=node.clear_ttl)
    with_reply.random = random.Random(1)
    reply = row.function(with_reply, commands(words, dice, args.keys, args.size)[0][1])
    began = clock()
    for _ in range(1000):
        _resp.encode_into(out, reply)
    return spent / (args.rounds * RECORD * 1e3), (clock() - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--works", default=",".join(WORKS))
    args = parser.parse_args()
    loop = min(measure("nothing", args)[0] for _ in range(args.repeat))
    print(f"{'loop':12} {loop:7.3f}")
    for work in args.works.split(","):
        found = [measure(work, args) for _ in range(args.repeat)]
        print(f"{work:12} {min(found)[0] - loop:7.3f}  reply {min(f[1] for f in found):.3f}")


if __name__ == "__main__":
    main()
