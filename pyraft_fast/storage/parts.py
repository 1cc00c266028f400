"""An item of a snapshot that was written in parts, put together again.

Parts of an item follow each other, with nothing in between.
"""

from __future__ import annotations

from typing import Any

from pyraft_fast._entry import unpackb


class Joiner:
    """Takes parts one by one, as they lie in the chunks of a snapshot."""

    __slots__ = ("_code", "_deadline_ms", "_key", "_parts", "_value")

    def __init__(self) -> None:
        self._key: Any = None
        self._code: Any = None
        self._deadline_ms: Any = None
        self._value = bytearray()
        self._parts = 0

    @property
    def waits(self) -> bool:
        """Whether an item has begun and is not whole."""
        return self._parts > 0

    def add(self, item: Any) -> tuple[Any, Any, Any, Any] | None:
        """(key, type code, value, deadline) if this is the last part, else None.

        Raises ValueError for a part out of its place and for any other item, TypeError for what
        is no item, ProtocolError when the parts are not the bytes of a value.
        """
        if len(item) != 6:
            self.end()
            raise ValueError(f"an item of {len(item)} values")
        key, code, part, deadline_ms, number, more = item
        about = f"part {number!r} of key {key!r:.200}, type code {code!r}"
        if type(part) is not bytes or type(more) is not bool:
            raise TypeError(f"{about} is malformed")
        if not self.waits:
            if number != 0:
                raise ValueError(f"{about} has no beginning")
            self._key, self._code, self._deadline_ms = key, code, deadline_ms
        elif number != self._parts or not self._is_of(key, code):
            raise ValueError(f"{about} does not follow {self._last()}")
        self._value += part
        self._parts += 1
        if more:
            return None
        value, self._value, self._parts = self._value, bytearray(), 0
        return key, code, unpackb(value), self._deadline_ms

    def end(self) -> None:
        """No part comes here. Raises ValueError when one is missing."""
        if self.waits:
            raise ValueError(f"nothing follows {self._last()}")

    def _is_of(self, key: Any, code: Any) -> bool:
        return type(key) is type(self._key) and key == self._key and code == self._code

    def _last(self) -> str:
        return f"part {self._parts - 1} of key {self._key!r:.200}, type code {self._code!r}"
