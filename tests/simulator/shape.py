"""What a seed decides before anything happens: sizes, times and how bad things are."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from pyraft_fast._entry import HEADER_SIZE


@dataclass
class Options:
    """What a caller may choose. `seconds` is how long there are faults (0: the seed decides)."""

    seconds: float = 0.0
    trace: bool = False  # keep every line instead of the last ones
    lines: int = 120  # of the trace that a violation carries
    nodes: int = 0  # 0: the seed decides


ELECTIONS = ((120, 240), (120, 240), (400, 800))  # the longer, the more clocks drift apart
DRIFT_MAX = 0.2  # the bound that leases are promised for

LEVELS = (
    ("linearizable",),
    ("linearizable",),
    ("lease",),
    ("linearizable", "lease", "local"),
    ("linearizable", "lease", "local", "max-age:50", "max-age:300"),
)


@dataclass
class Shape:
    """One run's constants."""

    nodes: int = 3
    fault_seconds: float = 3.0
    heartbeat_ms: int = 40
    election_ms_min: int = 120
    election_ms_max: int = 240
    log_max: int = 1000
    segment_bytes: int = 16384
    ring_bytes: int = 65536
    chunk_bytes: int = 1024
    tail_entries: int = 10
    answer_seconds: float = 1.0
    disk_delay: tuple[float, float] = (0.0002, 0.001)
    clients: int = 3
    keys: int = 3
    think: float = 0.03
    drift: float = 0.0  # by how much one machine's clock may run faster than another's
    skew_ms: int = 0
    delay: float = 0.001
    jitter: float = 0.001
    loss: float = 0.0
    repeat: float = 0.0
    overtake: float = 0.0
    pace: float = 0.15  # seconds between faults
    reads: str = "linearizable"  # the level that nodes are set to
    levels: tuple[str, ...] = ()  # what clients draw the level of each read from
    digests: str = "sampled"
    founding: str = "files"  # or "join": the nodes find each other
    append_bytes: int = 1 << 20  # of entries in one message
    append_entries: int = 4096
    inflight: int = 64  # messages
    cache_entries: int = 1 << 16  # of the log in memory
    pending_batches: int = 256  # of one node under way
    read_bytes: int = 4096  # of a socket at once
    read_ahead: int = 65536  # of a log file beyond what is asked for
    spare_commands: int = 64  # in a tick, for a leader to spare peers
    weights: dict[str, int] = field(default_factory=dict)


def draw(rng: Random, options: Options, faults: dict[str, int]) -> Shape:
    """The shape of a seed. Runs leave some faults out and have more of others: few hide less."""
    shape = Shape()
    shape.nodes = options.nodes or rng.choice([1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 7])
    shape.fault_seconds = options.seconds or rng.choice([1.5, 2.0, 2.0, 3.0, 3.0, 5.0])
    shape.log_max = rng.choice([5, 20, 60, 1000])
    shape.segment_bytes = rng.choice([4096, 8192, 65536])
    shape.read_ahead = {4096: HEADER_SIZE, 8192: 300, 65536: 65536}[shape.segment_bytes]
    shape.ring_bytes = rng.choice([4096, 16384, 65536])
    shape.chunk_bytes = rng.choice([64, 256, 4096])
    shape.tail_entries = rng.choice([0, 3, 20, 200])
    shape.answer_seconds = rng.choice([0.5, 1.0, 2.0])
    shape.disk_delay = rng.choice([(0.0001, 0.0005), (0.0005, 0.003), (0.001, 0.02), (0.0, 0.1)])
    shape.clients = rng.choice([1, 2, 4, 6])
    shape.keys = rng.choice([1, 2, 4, 5])
    shape.think = rng.choice([0.01, 0.03, 0.06])
    shape.drift = rng.choice([0.0, 0.05, DRIFT_MAX])
    shape.skew_ms = rng.choice([0, 100, 3_600_000])
    shape.delay = rng.choice([0.0002, 0.001, 0.005])
    shape.jitter = rng.choice([0.0002, 0.002, 0.01])
    shape.loss = rng.choice([0.0, 0.0, 0.01, 0.05, 0.2])
    shape.repeat = rng.choice([0.0, 0.0, 0.02, 0.1])
    shape.overtake = rng.choice([0.0, 0.0, 0.05, 0.2])
    shape.pace = rng.choice([0.05, 0.1, 0.2])
    shape.reads = rng.choice(["linearizable", "linearizable", "lease"])
    shape.levels = rng.choice(LEVELS)
    shape.digests = rng.choice(["off", "sampled", "all"])
    shape.founding = rng.choice(["files"] * 11 + ["join"])
    shape.append_bytes = rng.choice([1, 300, 1 << 20, 1 << 20])
    shape.append_entries = rng.choice([1, 5, 4096])
    shape.inflight = rng.choice([1, 3, 64, 64])
    shape.cache_entries = rng.choice([2, 16, 1 << 16])
    shape.pending_batches = rng.choice([1, 4, 256, 256])
    shape.weights = {name: weight * rng.choice([0, 1, 1, 4]) for name, weight in faults.items()}
    shape.election_ms_min, shape.election_ms_max = rng.choice(ELECTIONS)
    shape.spare_commands = rng.choice([1, 1, 3, 64])
    return shape
