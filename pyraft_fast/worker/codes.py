"""Values of keys as plain msgpack data and back, so that a snapshot restores the same state.

A value becomes (type code, plain value). Plain means None, bool, int, float, str, bytes, and
lists and dicts of those. What a user's handler stored besides, such as a tuple, a set of ours
inside a dict or deep nesting, is written as one flat list of tags, counts and leaves. Order is
kept wherever it can decide a result.

A built-in `set` is refused: its order differs from process to process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pyraft_fast.errors import CommandError, StorageError
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode

ABSENT: Final = 0  # a deadline without a key
PLAIN: Final = 1
LIST: Final = 2
HASH: Final = 3
SET: Final = 4
SORTED_SET: Final = 5
TREE: Final = 6
TAGGED: Final = 7

_LEAVES: Final = frozenset({type(None), bool, int, float, str, bytes})
_KEYS: Final = frozenset({int, str, bytes})  # of dicts, as the codec takes them
_NESTING_MAX: Final = 100
_PLAIN_NESTING_MAX: Final = 20  # below limits.NESTING_MAX, with room for what files wrap around
# Tags inside TAGGED values
_LEAF, _PLAIN_LIST, _TUPLE, _RAFT_LIST, _DICT, _TREE, _SET, _ZSET = range(8)


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether msgpack gives back exactly `value`."""
    kind = type(value)
    if kind in _LEAVES:
        return True
    if depth >= _PLAIN_NESTING_MAX:
        return False
    if kind is list:
        return all(type(item) is str or is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(type(k) in _KEYS and is_plain(v, depth + 1) for k, v in value.items())
    return False


def freeze(value: Any) -> tuple[int, Any]:
    """Turn a value into (type code, plain value). Raises CommandError when it has no form."""
    kind = type(value)
    if kind is str:
        return PLAIN, value
    if kind is RedisSet and is_plain(value.items):
        return SET, list(value.items)
    if kind is SortedSet:
        return SORTED_SET, [part for item in value.items() for part in item]
    if kind is RedisList:
        items = list(value)
        return (LIST, items) if is_plain(items) else (TAGGED, _tag(value, []))
    if kind is TreeNode and _is_plain_tree(value, 0):
        return TREE, _plain_tree(value)
    if is_plain(value):
        return (HASH if kind is dict else PLAIN), value
    return TAGGED, _tag(value, [])


def thaw(code: int, value: Any) -> Any:
    """The value that `freeze` was given. Raises StorageError for an unknown code or shape."""
    if code in (PLAIN, HASH):
        return value
    try:
        if code == LIST:
            return RedisList(value)
        if code == SET:
            return RedisSet(value)
        if code == SORTED_SET:
            return SortedSet(zip(value[::2], map(float, value[1::2]), strict=True))
        if code == TREE:
            return _tree(value)
        if code == TAGGED:
            return _untag_whole(value)
    except (TypeError, ValueError, IndexError, RecursionError) as error:
        raise StorageError(f"a value of type code {code} is malformed: {error}") from error
    raise StorageError(f"unknown type code {code!r}")


def clone(value: Any) -> Any:
    """A copy that shares nothing mutable with `value`."""
    if type(value) in _LEAVES:
        return value
    return _untag_whole(_tag(value, []))


def _is_plain_tree(node: TreeNode, depth: int) -> bool:
    if depth >= _PLAIN_NESTING_MAX:
        return False
    return all(
        type(name) is str
        and (
            _is_plain_tree(entry, depth + 1)
            if type(entry) is TreeNode
            else not isinstance(entry, dict) and is_plain(entry, depth + 1)
        )
        for name, entry in node.items()
    )


def _plain_tree(node: TreeNode) -> dict[str, Any]:
    return {
        name: _plain_tree(entry) if type(entry) is TreeNode else entry
        for name, entry in node.items()
    }


def _tree(entries: dict[str, Any]) -> TreeNode:
    return TreeNode(
        (name, _tree(entry) if isinstance(entry, dict) else entry)
        for name, entry in entries.items()
    )


def _tag(value: Any, out: list[Any], depth: int = 0) -> list[Any]:
    """Append `value` to `out`: a tag and a leaf, or a tag, a count and that many parts."""
    kind = type(value)
    if kind in _LEAVES:
        out += (_LEAF, value)
        return out
    if depth >= _NESTING_MAX:
        raise CommandError(f"values nested deeper than {_NESTING_MAX} cannot be stored")
    if kind is SortedSet:
        out += (_ZSET, 2 * len(value))
        out += (part for item in value.items() for part in item)
        return out
    for tag, container in _SEQUENCES:
        if kind is container:
            out += (tag, len(value))
            for item in value:
                _tag(item, out, depth + 1)
            return out
    for tag, mapping in _MAPPINGS:
        if kind is mapping:
            out += (tag, len(value))
            for key, item in value.items():
                _tag(key, out, depth + 1)
                _tag(item, out, depth + 1)
            return out
    raise CommandError(f"a value of type {kind.__name__} cannot be stored")


_SEQUENCES: Final = (
    (_PLAIN_LIST, list),
    (_TUPLE, tuple),
    (_RAFT_LIST, RedisList),
    (_SET, RedisSet),
)
_MAPPINGS: Final = ((_DICT, dict), (_TREE, TreeNode))


def _untag(parts: Iterator[Any]) -> Any:
    """The next value of a flat list that `_tag` made. Raises ValueError when it is malformed."""
    try:
        tag, payload = next(parts), next(parts)
        if tag == _LEAF:
            return payload
        if tag == _ZSET:
            flat = [next(parts) for _ in range(payload)]
            return SortedSet(zip(flat[::2], map(float, flat[1::2]), strict=True))
        for known, container in _SEQUENCES:
            if tag == known:
                return container([_untag(parts) for _ in range(payload)])
        for known, mapping in _MAPPINGS:
            if tag == known:
                return mapping([(_untag(parts), _untag(parts)) for _ in range(payload)])
    except StopIteration:
        raise ValueError("it ends early") from None
    raise ValueError(f"unknown tag {tag!r}")


def _untag_whole(flat: list[Any]) -> Any:
    parts = iter(flat)
    value = _untag(parts)
    if next(parts, parts) is not parts:
        raise ValueError("it goes on behind its end")
    return value
