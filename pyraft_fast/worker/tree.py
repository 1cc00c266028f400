"""The tree commands of pyraft: nodes with attributes under slash separated paths.

The first name of a path is a key that holds a TreeNode; deeper names are entries of their
parent. An entry that is a dict is a child node, any other entry is an attribute. The root, an
empty path or "/", stands for all keys that hold tree nodes and has no attributes itself.

Attributes come as pairs of words, or as one JSON object whose inner objects are child nodes.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.limits import NESTING_MAX
from pyraft_fast.worker.types import TreeNode
from pyraft_fast.worker.words import INT64_MAX, INT64_MIN, Words, arity_error, raw, text

NO_NODE: Final = "node does not exists"
NO_ATTRIBUTE: Final = "attr does not exists"
EXISTS: Final = "node or attr is already exists"
NO_OVERWRITE: Final = "can not overwrite node"
ROOT: Final = "the root has no attributes and cannot be made or removed"
NESTING: Final = NESTING_MAX - 4  # room for what a snapshot wraps around


def _names(path: Any) -> list[str]:
    names = [name for name in str(path).split("/") if name]
    if len(names) > NESTING:
        raise CommandError(f"path is deeper than {NESTING} nodes")
    return names


def _top(store: Any, name: str, write: bool) -> Any:
    value = store.find_for_write(name) if write else store.find(name)
    if value is None:
        raise CommandError(NO_NODE)
    if not isinstance(value, TreeNode):
        raise WrongType
    return value


def _node(store: Any, names: list[str], write: bool = False) -> Any:
    """The tree node at `names` (not empty). Raises CommandError when there is none."""
    value = _top(store, names[0], write)
    for name in names[1:]:
        value = value.get(name)
        if not isinstance(value, dict):
            raise CommandError(NO_NODE)
    return value


def _checked(value: Any, depth: int, kind: type[dict[str, Any]] = TreeNode) -> Any:
    """A parsed JSON value as it is stored; objects inside lists become plain dicts.

    Raises CommandError for what no snapshot can hold.
    """
    if depth > NESTING:
        raise CommandError(f"JSON is nested deeper than {NESTING}")
    if isinstance(value, str):
        return _word(value)
    if isinstance(value, dict):
        entries = ((_word(name), _checked(item, depth + 1, kind)) for name, item in value.items())
        return kind(entries)  # of names that have become equal the last one wins, as in JSON
    if isinstance(value, list):
        return [_checked(item, depth + 1, dict) for item in value]
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise CommandError("JSON holds an integer beyond 64 bit")
    return value


def _word(value: str) -> str:
    """A text of JSON as the log and snapshots give it back: escapes can spell what no word is."""
    if value.isascii():
        return value
    try:
        return text(raw(value))
    except UnicodeEncodeError:
        raise CommandError("JSON holds a surrogate that stands for no character") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _entries(words: Words, depth: int) -> TreeNode:
    """What the words behind the path say: one JSON object, or attribute and value pairs."""
    rest = words[2:]
    if len(rest) != 1:
        if len(rest) % 2:
            raise arity_error(str(words[0]).lower())
        if any("/" in str(name) or not name for name in rest[::2]):
            raise CommandError("an attribute's name may not be empty or hold a slash")
        return TreeNode(zip(rest[::2], rest[1::2], strict=True))
    try:
        value = json.loads(rest[0], parse_constant=_refuse_constant)
    except (ValueError, TypeError, RecursionError):
        raise CommandError("invalid JSON") from None
    if not isinstance(value, dict):
        raise CommandError("JSON must be an object")
    return _checked(value, depth)  # type: ignore[no-any-return]


def do_tget(node: Any, words: Words) -> Any:
    """`TGET path [attribute]`: returns attributes of a tree node."""
    names = _names(words[1])
    if not names:
        if len(words) > 2:
            raise CommandError(NO_ATTRIBUTE)
        return "{}"
    entries = _node(node.store, names)
    if len(words) == 2:
        attributes = {k: v for k, v in entries.items() if not isinstance(v, dict)}
        return json.dumps(attributes, default=str)
    value = entries.get(words[2])
    if words[2] not in entries or isinstance(value, dict):
        raise CommandError(NO_ATTRIBUTE)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def do_tset(node: Any, words: Words) -> bool:
    """`TSET path attribute value ...`: sets attributes of a tree node."""
    names = _names(words[1])
    if not names:
        raise CommandError(ROOT)
    entries = _node(node.store, names, write=True)
    added = _entries(words, len(names))
    if any(isinstance(entries.get(name), dict) for name in added):
        raise CommandError(NO_OVERWRITE)
    entries.update(added)
    return True


def do_tls(node: Any, words: Words) -> list[str]:
    """`TLS [path]`: lists the children of a tree node."""
    names = _names(words[1]) if len(words) > 1 else []
    if names:
        return [k for k, v in _node(node.store, names).items() if isinstance(v, dict)]
    store = node.store
    return [key for key in store.live_keys() if isinstance(store.data[key], TreeNode)]


def do_tmk(node: Any, words: Words) -> bool:
    """`TMK path [attribute value ...]`: makes a tree node."""
    names = _names(words[1])
    store = node.store
    if not names:
        raise CommandError(EXISTS)
    parent = _node(store, names[:-1], write=True) if len(names) > 1 else None
    if parent is None:
        taken = store.find_for_write(names[0]) is not None
    else:
        taken = names[-1] in parent
    if taken:
        raise CommandError(EXISTS)
    made = _entries(words, len(names)) if len(words) > 2 else TreeNode()
    if parent is None:
        store.put(names[0], made)
    else:
        parent[names[-1]] = made
    return True


def do_trm(node: Any, words: Words) -> bool:
    """`TRM path [attribute ...]`: removes a tree node or attributes of it."""
    names = _names(words[1])
    store = node.store
    if not names:
        raise CommandError(ROOT)
    entries = _node(store, names, write=True)
    attributes = words[2:]
    for name in attributes:
        if name not in entries or isinstance(entries[name], dict):
            raise CommandError(NO_ATTRIBUTE)
    if attributes:
        for name in dict.fromkeys(attributes):
            del entries[name]
    elif len(names) == 1:
        store.delete(names[0])
    else:
        del _node(store, names[:-1], write=True)[names[-1]]
    return True


TABLE: Final[dict[str, list[Any]]] = {
    "tget": [do_tget, "r", 1, 2],
    "tset": [do_tset, "we", 2, 0],
    "tls": [do_tls, "r", 0, 1],
    "tmk": [do_tmk, "we", 1, 0],
    "trm": [do_trm, "we", 1, 0],
}
