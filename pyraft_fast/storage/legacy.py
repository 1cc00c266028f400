"""The original pyraft's snapshot text (full text follows with the implementation)."""

from __future__ import annotations

from typing import Any, NamedTuple


class LegacySnapshot(NamedTuple):
    """Items by key, `ttl` by key (deadline in epoch seconds), and the original's own numbers."""

    items: dict[Any, Any]
    ttl: dict[Any, float]
    meta: dict[str, Any]


def read(path: str) -> LegacySnapshot:
    """Read the original's snapshot. Raises StorageError; never executes anything of it."""
    raise NotImplementedError
