"""Another member as user code sees it, under the attribute names that pyraft's peers have."""

from __future__ import annotations

from pyraft_fast.address import parse_address


class Peer:
    """A member's id, address, role letter, term and the index it is known to hold."""

    def __init__(
        self, nid: str, addr: str, state: str = "f", term: int = 0, index: int = 0
    ) -> None:
        self.nid = nid
        self.addr = addr
        self.state = state
        self.term = term
        self.index = index
        self.ip, self.port = parse_address(addr)

    def __repr__(self) -> str:
        return f"Peer({self.nid!r}, {self.addr!r}, state={self.state!r}, index={self.index})"
