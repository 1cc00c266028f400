"""The original pyraft's snapshot text, read without executing any of it.

The original wrote `str(data)`: a Python dict with the users' keys, its own numbers under `_META_`
(or none) and a dict of deadlines under `ttl`. It read that back by evaluating it. Here the text
must be made of literals only (strings, numbers, bytes, tuples, lists, dicts, sets, True, False,
None); anything else, such as an object the original could write but never restore, is refused with
its place. The keys `_META_` and `ttl` are the original's own and do not become items.
"""

from __future__ import annotations

import ast
import os
from typing import Any, NamedTuple

from pyraft_fast.errors import StorageError
from pyraft_fast.limits import LEGACY_BYTES_MAX

META_KEY = "_META_"
TTL_KEY = "ttl"


class LegacySnapshot(NamedTuple):
    """Items by key, deadlines by key in epoch seconds, and the original's own numbers."""

    items: dict[Any, Any]
    ttl: dict[Any, float]
    meta: dict[str, Any]


def read(path: str) -> LegacySnapshot:
    """Read the original's snapshot from a file.

    Raises StorageError: not readable, longer than LEGACY_BYTES_MAX, or not such a text.
    """
    try:
        size = os.path.getsize(path)
        if size > LEGACY_BYTES_MAX:
            raise StorageError(f"{path} has {size} bytes, more than the {LEGACY_BYTES_MAX} allowed")
        with open(path, "rb") as file:
            data = file.read(LEGACY_BYTES_MAX + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", error.errno) from error
    try:
        return parse(data.decode("utf-8", "surrogateescape"))
    except StorageError as error:
        raise StorageError(f"{path}: {error}") from error


def parse(text: str) -> LegacySnapshot:
    """Read the original's snapshot text. Raises StorageError."""
    if len(text) > LEGACY_BYTES_MAX:
        raise StorageError(f"the text has more than {LEGACY_BYTES_MAX} characters")
    try:
        data = ast.literal_eval(text.strip())
    except SyntaxError as error:
        place = f"line {error.lineno}, column {error.offset}"
        raise StorageError(f"not a snapshot of pyraft: {error.msg} at {place}") from error
    except ValueError as error:
        raise StorageError(f"not a snapshot of pyraft: {_plain(error)}") from error
    except (MemoryError, RecursionError, TypeError) as error:
        reason = "nested too deep" if not isinstance(error, TypeError) else str(error)
        raise StorageError(f"not a snapshot of pyraft: {reason}") from error
    if not isinstance(data, dict):
        raise StorageError(f"not a snapshot of pyraft: a {type(data).__name__}, not a dict")
    meta = data.pop(META_KEY, {})
    ttl = data.pop(TTL_KEY, {})
    if not isinstance(meta, dict):
        raise StorageError(f"not a snapshot of pyraft: {META_KEY} is a {type(meta).__name__}")
    if not isinstance(ttl, dict):
        raise StorageError(f"not a snapshot of pyraft: {TTL_KEY} is a {type(ttl).__name__}")
    deadlines: dict[Any, float] = {}
    for key, deadline in ttl.items():
        if isinstance(deadline, bool) or not isinstance(deadline, (int, float)):
            raise StorageError(f"not a snapshot of pyraft: the deadline of {key!r} is no number")
        deadlines[key] = float(deadline)
    return LegacySnapshot(data, deadlines, meta)


def _plain(error: ValueError) -> str:
    """What `literal_eval` complains of, without the address of a syntax tree."""
    text = str(error)
    return "something in it is not a literal" if "malformed node" in text else text
