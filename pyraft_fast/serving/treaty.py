"""What the serving loop expects of its consensus process, whoever plays it.

`child.ConsensusChild` is the real one; tests hand in one that answers in the same process. The
loop gives it an `Events` to call back, always from the loop's own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


@dataclass(slots=True)
class Ready:
    """What a started consensus process says of itself.

    `start` numbers the serving session it begins; `snapshot_path` is what to load before
    APPLIED is sent ("" when there is none). `cluster` and `incarnation` are 0 as long as a node
    that joins has none.
    """

    cluster: int = 0
    nid: str = ""
    incarnation: int = 0
    start: int = 0
    snapshot_path: str = ""
    snapshot_index: int = 0


class RoleFact(NamedTuple):
    """The node's part in the cluster, as consensus sees it."""

    role: str
    term: int
    leader_nid: str
    leader_addr: str
    serving: bool


@dataclass(slots=True)
class Events:
    """Who is told what consensus says."""

    ready: Callable[[Ready], None]
    role: Callable[[RoleFact], None]
    resend: Callable[[], None]
    done: Callable[[int, Any, str, str], None]
    log: Callable[[int, str], None]
    fatal: Callable[[int, str], None]
    records: Callable[[], None]
    ended: Callable[[str], None]  # the process is gone; the text says how
    digests: Callable[[str, bytes], None] = lambda nid, note: None  # from the guard of that node


@dataclass(slots=True)
class Request:
    """Something asked of consensus that DONE will answer."""

    name: str
    fields: Sequence[Any] = field(default_factory=list)


class Consensus(Protocol):
    """The way to one running consensus process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> bool:
        """Send one batch to be appended to the log; whether `add` may add to it for now."""

    def add(self, count: int, payload: bytes) -> bool:
        """Add commands to the batch that was sent last; False when it is too late or too much."""

    def is_behind(self) -> bool:
        """Whether it has not yet taken all that it was sent."""

    def read(self, context: int, by_lease: bool) -> None:
        """Ask for a read index, by the leader's lease if it holds one; may be lost."""

    def lease(self) -> tuple[int, int, int] | None:
        """The lease this node holds: (commit index, cluster clock, until when by the steady clock,
        in ms), zeros for none; None when it cannot be told now.
        """

    def applied(self, index: int) -> None:
        """Say once up to where this side has the data; records from there on follow."""

    def snapshot_taken(self, path: str, index: int, term: int) -> None:
        """A snapshot is durable."""

    def request(self, request_id: int, request: Request) -> None:
        """Ask for a membership change, a transfer or the status."""

    def digests(self, nid: str, note: bytes) -> None:
        """Pass a note on to the guard of node `nid`, of all other nodes if ""; may be lost."""

    def shutdown(self) -> None:
        """Hand over what it leads, and end."""

    def take(self, bytes_max: int) -> Sequence[Any]:
        """Records that have arrived, valid until `release`."""

    def release(self) -> None:
        """Give the room of what was taken back."""

    def sleep(self) -> bool:
        """Say that this side waits to be told; False when something arrived meanwhile."""

    def kill(self) -> None:
        """End the process now and reap it."""

    def close(self) -> None:
        """Give back descriptors and mappings; the process is gone."""
