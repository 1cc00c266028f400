"""What the frames between nodes are, and how their headers are read.

How bytes become frames is in `_wire`; what a frame causes is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final

from pyraft_fast.errors import ProtocolError
from pyraft_fast.limits import KIB

MAGIC: Final = "pyraft-fast peer"


class FrameType(IntEnum):
    """What a frame is; the number is on the wire."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    MESSAGE = 4
    FORWARD = 5
    FORWARD_REFUSED = 6
    SNAPSHOT_OFFER = 7
    SNAPSHOT_ACK = 8
    SNAPSHOT_CHUNK = 9
    REQUEST = 10
    RESPONSE = 11
    DIGESTS = 12


class Fields:
    """Reads a received header by position or name, each value checked for type and range.

    Headers come from another machine: whatever does not fit raises ProtocolError naming the field.
    """

    def __init__(self, header: object, what: str) -> None:
        if not isinstance(header, dict):
            raise ProtocolError(f"{what} from a peer has no fields")
        self._values = header
        self._what = what

    def _take(self, name: str, fits: Callable[[Any], bool]) -> Any:
        value = self._values.get(name)
        if not fits(value):
            raise ProtocolError(f"{self._what} from a peer has a bad {name}: {value!r:.80}")
        return value

    def number(self, name: str, maximum: int = 2**64 - 1) -> int:
        """An integer from 0 to `maximum`."""
        value: int = self._take(name, lambda v: type(v) is int and 0 <= v <= maximum)
        return value

    def text(self, name: str, length_max: int = 4096) -> str:
        """A string of at most `length_max` characters."""
        value: str = self._take(name, lambda v: isinstance(v, str) and len(v) <= length_max)
        return value

    def flag(self, name: str) -> bool:
        """A boolean."""
        value: bool = self._take(name, lambda v: isinstance(v, bool))
        return value

    def blob(self, name: str, length_max: int = 64 * KIB) -> bytes:
        """A byte string of at most `length_max` bytes."""
        value: bytes = self._take(name, lambda v: isinstance(v, bytes) and len(v) <= length_max)
        return value

    def texts(self, name: str, count_max: int = 256) -> list[str]:
        """A list of strings."""
        value: list[str] = self._take(
            name,
            lambda v: (
                isinstance(v, list) and len(v) <= count_max and all(isinstance(t, str) for t in v)
            ),
        )
        return value

    def table(self, name: str) -> dict[str, object]:
        """A map with string keys."""
        value: dict[str, object] = self._take(
            name, lambda v: isinstance(v, dict) and all(isinstance(key, str) for key in v)
        )
        return value
