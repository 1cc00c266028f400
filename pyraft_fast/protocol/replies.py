"""Reply types that say more than their Python value: status lines, maps, pushes, verbatim text."""

from __future__ import annotations

from typing import Any


class Status(str):
    """A simple string (`+OK`)."""

    __slots__ = ()


class Map(dict[Any, Any]):
    """A map; a flat array in RESP2."""

    __slots__ = ()


class Push(list[Any]):
    """An out-of-band message; an array in RESP2."""

    __slots__ = ()


class Verbatim(str):
    """Text to be shown as it is; a bulk string in RESP2."""

    __slots__ = ()
