"""Which points are measured on which servers, and how much of it at each level of patience."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Final

from pyraft_fast.bench.foreign import Etcd, Pyraft, Pysyncobj
from pyraft_fast.bench.model import Point
from pyraft_fast.bench.peers import Ours, Redis, Server
from pyraft_fast.bench.works import COMMANDS

ALWAYS: Final = ("--appendonly", "yes", "--appendfsync", "always")
CAS_NODE: Final = "pyraft_fast.bench.cas_node"
VALUE_BYTES_MAX: Final = 64 << 20  # of all keys together, where values are large
PEER_KEYS: Final = 1000  # few, since some peers take a minute for more
FOREIGN: Final = ("redis", "redis-always", "etcd", "pyraft-1", "pyraft-3", "pysyncobj")


@dataclasses.dataclass(frozen=True)
class Level:
    """How much is measured: `--quick`, default or `--full`."""

    seconds: float  # one run of one point on one server
    rounds: int
    keys: int  # that GET and SET draw from
    many_keys: int  # of the memory, pause and restart measurements
    tail_entries: int  # written after the snapshot that a restart begins with
    pipelines: tuple[int, ...] = (1, 16)
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    clients: tuple[int, ...] = (1, 10, 50, 200, 1000)
    depths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    sizes: tuple[int, ...] = (16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
    fills: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    nodes: tuple[int, ...] = (1, 3, 5, 7)
    table_nodes: tuple[int, ...] = (1, 3, 5)
    only: tuple[str, ...] = ()  # suites and scenes unless others are named; empty: all


LEVELS: Final = {
    "quick": Level(
        0.7, 2, 10_000, 50_000, 5_000, shares=(0.25, 0.5, 0.75), clients=(1, 50, 500),
        depths=(1, 16, 128), sizes=(16, 4096, 1_048_576), fills=(10_000, 100_000), nodes=(1, 3),
        table_nodes=(1, 3), only=("table", "latency", "start"),
    ),
    "default": Level(2.0, 3, 100_000, 1_000_000, 100_000),
    "full": Level(
        5.0, 5, 100_000, 1_000_000, 100_000, shares=(0.05, 0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        clients=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        fills=(10_000, 100_000, 1_000_000, 5_000_000), nodes=(1, 2, 3, 4, 5, 6, 7),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Suite:
    """Points that are measured on servers in turn; `axis` is what varies, for its drawing."""

    name: str
    title: str
    servers: tuple[str, ...]
    points: tuple[Point, ...]
    axis: str = ""  # "rate", "clients", "pipeline", "size", "filled", "nodes"; empty: a table only


SUITES: Final = (
    "table", "reads", "commands", "custom", "follower", "peers", "latency", "clients", "pipeline",
    "value", "keys", "nodes",
)  # fmt: skip


def suite(name: str, level: Level) -> Suite:
    """One suite at a level. Raises KeyError for a name that is none of SUITES."""
    if name in _CURVES:
        return _CURVES[name](level)
    return _tables(level)[name]


def _tables(level: Level) -> dict[str, Suite]:
    """The suites that are read as tables."""
    depths = level.pipelines

    def each(name: str, *works: str, keys: int = level.keys) -> tuple[Point, ...]:
        return tuple(Point(name, w, pipeline=p, keys=keys) for w in works for p in depths)

    ours = tuple(f"ours-{n}" for n in level.table_nodes)
    follower = tuple(
        Point("follower", "SET", pipeline=p, keys=level.keys, via=via)
        for p in depths
        for via in ("leader", "follower")
    )
    made = (
        Suite("table", "SET and GET", ("redis", "redis-always", *ours),
              each("table", "SET", "GET")),
        Suite("reads", "Reads by lease and local reads",
              ("redis", "ours-3", "ours-3-lease", "ours-3-local"), each("reads", "GET")),
        Suite("commands", "Other commands", ("redis-always", "ours-3"),
              each("commands", *COMMANDS)),
        Suite("custom", "A handler in plain Python beside SET", ("cas-3",),
              each("custom", "SET", "CAS")),
        Suite("follower", "Writes sent to a follower", ("ours-3",), follower),
        Suite("peers", "Others that replicate",
              ("redis-always", "ours-1", "ours-3", "etcd", "pyraft-1", "pyraft-3", "pysyncobj"),
              each("peers", "SET", "GET", keys=PEER_KEYS)),
    )  # fmt: skip
    return {one.name: one for one in made}


def _latency(level: Level) -> Suite:
    points = tuple(Point("latency", "SET", keys=level.keys, share=s) for s in level.shares)
    servers = ("redis-always", "ours-1", "ours-3")
    return Suite("latency", "Rate against latency of SET, open loop", servers, points, "rate")


def _clients(level: Level) -> Suite:
    points = tuple(Point("clients", "SET", clients=c, keys=level.keys) for c in level.clients)
    servers = ("redis-always", "ours-1", "ours-3")
    return Suite("clients", "SET by number of clients", servers, points, "clients")


def _pipeline(level: Level) -> Suite:
    points = tuple(Point("pipeline", "SET", pipeline=p, keys=level.keys) for p in level.depths)
    servers = ("redis-always", "ours-1", "ours-3")
    return Suite("pipeline", "SET by depth of the pipeline", servers, points, "pipeline")


def _value(level: Level) -> Suite:
    points = tuple(
        Point("value", "SET", size=s, keys=max(16, min(level.keys, VALUE_BYTES_MAX // s)))
        for s in level.sizes
    )
    servers = ("redis-always", "ours-1", "ours-3")
    return Suite("value", "SET by size of the value", servers, points, "size")


def _keys(level: Level) -> Suite:
    points = tuple(
        Point("keys", work, pipeline=16, keys=count, filled=count)
        for count in level.fills
        for work in ("SET", "GET")
    )
    servers = ("redis", "ours-1")
    return Suite("keys", "SET and GET by number of keys held", servers, points, "filled")


def _nodes(level: Level) -> Suite:
    points = tuple(
        Point("nodes", work, pipeline=p, keys=level.keys)
        for work in ("SET", "GET")
        for p in level.pipelines
    )
    servers = tuple(f"ours-{n}" for n in level.nodes)
    return Suite("nodes", "SET and GET by number of nodes", servers, points, "nodes")


_CURVES: Final[dict[str, Callable[[Level], Suite]]] = {
    "latency": _latency,
    "clients": _clients,
    "pipeline": _pipeline,
    "value": _value,
    "keys": _keys,
    "nodes": _nodes,
}


def server(name: str, peer_python: str = sys.executable) -> Server:
    """A server by its name, not yet started. Raises KeyError for an unknown name."""
    if name.startswith("ours-"):
        words = name.split("-")
        count = int(words[1])
        title = f"pyraft-fast, {count} node{'s' if count > 1 else ''}"
        if len(words) == 2:
            return Ours(name, title, count)
        return Ours(name, f"{title}, --reads {words[2]}", count, ("--reads", words[2]))
    made: dict[str, Callable[[], Server]] = {
        "redis": lambda: Redis(name, "redis, nothing on disk", ("--appendonly", "no")),
        "redis-always": lambda: Redis(name, "redis, appendfsync always", ALWAYS),
        "cas-3": lambda: Ours(name, "pyraft-fast with CAS, 3 nodes", 3, program=CAS_NODE),
        "etcd": lambda: Etcd(name, 3),
        "pyraft-1": lambda: Pyraft(name, 1, peer_python),
        "pyraft-3": lambda: Pyraft(name, 3, peer_python),
        "pysyncobj": lambda: Pysyncobj(name, 3, peer_python),
    }
    return made[name]()
