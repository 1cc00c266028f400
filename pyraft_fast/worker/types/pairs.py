"""Reply forms of members with scores and of fields with values: flat lists, as pyraft gave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class Pairs(list[Any]):
    """A flat list a1, b1, a2, b2 ... as RESP2 shows it; RESP3 shows an array of two-element arrays.

    The encoder knows it by `__resp_pairs__`.
    """

    __slots__ = ()
    __resp_pairs__: ClassVar[bool] = True

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__(part for pair in pairs for part in pair)


class FlatMap(list[Any]):
    """A flat list k1, v1, k2, v2 ... as RESP2 shows it; RESP3 shows a map.

    The encoder knows it by `__resp_map__`.
    """

    __slots__ = ()
    __resp_map__: ClassVar[bool] = True

    def __init__(self, entries: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__(part for pair in entries for part in pair)
