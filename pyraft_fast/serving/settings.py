"""Everything that may be set on a node, in one value that both processes read.

A plain record that checks what the serving side uses; consensus checks its own part, which it
gets as a msgpack map (`for_consensus`). So it holds plain types only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyraft_fast.errors import ConfigError
from pyraft_fast.limits import RING_BYTES
from pyraft_fast.read_level import parse_level
from pyraft_fast.serving.track import ALL, check_mode

FSYNC_MODES = ("always", "everysec", "never")


@dataclass(slots=True)
class Settings:
    """Settings of one node.

    `addr` is what others are told ("host:port"); `bind_host` and `port` are listened on, port + 1
    for nodes. `ensemble` lists other members as (nid or "", "host:port"). `log_max` counts
    applied commands between snapshots (None: CONF_LOG_MAX at start). `password` None: open.
    `reads` is the level of connections that ask for no other, as `read_level` reads it.
    """

    nid: str
    addr: str
    bind_host: str
    port: int
    folder: str = "."
    ensemble: Sequence[tuple[str, str]] = field(default_factory=list)
    overwrite_peer: bool = False
    reads: str = "linearizable"
    fsync: str = "always"
    heartbeat_ms: int = 50
    election_ms_min: int = 300
    election_ms_max: int = 600
    log_max: int | None = None
    password: str | None = None
    ring_bytes: int = RING_BYTES
    load: str = ""
    digests: str = "sampled"

    def __post_init__(self) -> None:
        """Raises ConfigError for what the serving side cannot use."""
        self.reads = str(parse_level(self.reads))
        check_mode(self.digests)
        if self.log_max is not None and self.log_max < 1:
            raise ConfigError(f"log_max counts commands from 1 on, not {self.log_max}")

    def for_consensus(self) -> dict[str, Any]:
        """The part the consensus process needs, as msgpack can carry it."""
        return {
            "nid": self.nid,
            "addr": self.addr,
            "folder": self.folder,
            "ensemble": [list(pair) for pair in self.ensemble],
            "overwrite_peer": self.overwrite_peer,
            "load": bool(self.load),
            "fsync": self.fsync,
            "commit_at_once": self.digests == ALL,  # answers wait for the others' digests
            "heartbeat_ms": self.heartbeat_ms,
            "election_ms_min": self.election_ms_min,
            "election_ms_max": self.election_ms_max,
        }
