"""Reply types that say more than their Python value: simple strings, maps, pushes, verbatim text.

A handler returns them where the plain value would be shown as something else. They decide how a
value looks to a client and nothing about its content; in the log and in snapshots they are the
plain types they derive from.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from typing import Any, Final


class Status(str):
    """A simple string (`+OK`); one that holds CR or LF is sent as a bulk string."""

    __slots__ = ()


class Map(dict[Any, Any]):
    """A map; a flat array of keys and values in RESP2."""

    __slots__ = ()


class Push(list[Any]):
    """An out-of-band message; an array in RESP2."""

    __slots__ = ()


class Verbatim(str):
    """Text to be shown as it is (`=txt:`); a bulk string in RESP2."""

    __slots__ = ()


class NilArray:
    """The type of `NIL_ARRAY`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NIL_ARRAY"


NIL_ARRAY: Final = NilArray()
"""A nil where an array was expected: `*-1` in RESP2, where None is `$-1`; both `_` in RESP3."""
