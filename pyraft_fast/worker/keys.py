"""Commands about keys of any type, and the syntax that SCAN and its kin share."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.protocol.replies import Status
from pyraft_fast.worker.codes import clone
from pyraft_fast.worker.idle import idle, no_keys
from pyraft_fast.worker.strings import is_string, shown
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode
from pyraft_fast.worker.words import Words, glob, integer, option, raw, syntax_error

_SCAN_COUNT: Final = 10
_EMBSTR_BYTES_MAX: Final = 44


def type_name(value: Any) -> str:
    """Redis' name for the type of a stored value; `none` for None."""
    if value is None:
        return "none"
    if is_string(value):
        return "string"
    if isinstance(value, (RedisList, list)):
        return "list"
    if isinstance(value, TreeNode):
        return "tree"
    if isinstance(value, dict):
        return "hash"
    if isinstance(value, RedisSet):
        return "set"
    if isinstance(value, SortedSet):
        return "zset"
    return type(value).__name__


@idle(no_keys)
def do_del(node: Any, words: Words) -> int:
    """`DEL key ...`: removes keys."""
    delete = node.store.delete
    if len(words) == 2:
        return 1 if delete(words[1]) else 0
    return sum(delete(key) for key in words[1:])


def do_exists(node: Any, words: Words) -> int:
    """`EXISTS key ...`: counts the keys that exist."""
    find = node.store.find
    return sum(find(key) is not None for key in words[1:])


def do_type(node: Any, words: Words) -> Status:
    """`TYPE key`: tells the type of a key."""
    return Status(type_name(node.store.find(words[1])))


def do_keys(node: Any, words: Words) -> list[str]:
    """`KEYS pattern`: returns the keys that match a pattern."""
    keys = node.store.live_keys()
    if words[1] == "*":
        return keys  # type: ignore[no-any-return]
    matches = glob(words[1])
    return [key for key in keys if matches(key)]


def do_dbsize(node: Any, words: Words) -> int:
    """`DBSIZE`: counts the keys."""
    return int(node.store.live_count())


def do_randomkey(node: Any, words: Words) -> Any:
    """`RANDOMKEY`: returns a random key."""
    store = node.store
    keys = store.data if not store.deadlines else store.live_keys()
    if not keys:
        return None
    return next(islice(keys, int(node.random.random() * len(keys)), None))


def do_rename(node: Any, words: Words) -> bool:
    """`RENAME key newkey`: renames a key."""
    _rename(node.store, words[1], words[2], replace=True)
    return True


def do_renamenx(node: Any, words: Words) -> int:
    """`RENAMENX key newkey`: renames a key to a free name."""
    return 1 if _rename(node.store, words[1], words[2], replace=False) else 0


def _rename(store: Any, old: str, new: str, replace: bool) -> bool:
    value = store.find_for_write(old)
    if value is None:
        raise CommandError("no such key")
    if old == new:
        return replace
    if store.find_for_write(new) is not None and not replace:
        return False
    deadline = store.deadlines.get(old)
    store.delete(old)
    store.put(new, value)
    if deadline is not None:
        store.set_deadline(new, deadline)
    return True


def do_copy(node: Any, words: Words) -> int:
    """`COPY source destination [REPLACE]`: copies a key."""
    store, source, target = node.store, words[1], words[2]
    replace, at = False, 3
    while at < len(words):
        word = option(words[at])
        if word == "REPLACE":
            replace = True
        elif word == "DB" and at + 1 < len(words):
            at += 1
            if integer(words[at]) != 0:
                raise CommandError("DB index is out of range")
        else:
            raise syntax_error()
        at += 1
    if source == target:
        raise CommandError("source and destination objects are the same")
    value = store.find_for_write(source)
    if value is None or (store.find_for_write(target) is not None and not replace):
        return 0
    store.put(target, clone(value))
    if source in store.deadlines:
        store.set_deadline(target, store.deadlines[source])
    return 1


def do_flush(node: Any, words: Words) -> bool:
    """`FLUSHDB [ASYNC|SYNC]`: removes every key."""
    if len(words) > 1 and option(words[1]) not in ("SYNC", "ASYNC"):
        raise syntax_error()
    node.store.clear()
    return True


def do_scan(node: Any, words: Words) -> list[Any]:
    """`SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: walks through keys."""
    store = node.store
    cursor = read_cursor(words[1])
    pattern, count, kind = read_scan(words, 2, types=True)
    version = store.version
    after, keys = store.scans.step("", store.data, version, cursor, count)
    matches = glob(pattern)
    found = [key for key in keys if matches(key)]
    find = store.find
    if kind is None:
        return [str(after), [key for key in found if find(key) is not None]]
    live = ((key, find(key)) for key in found)
    return [
        str(after),
        [key for key, value in live if value is not None and type_name(value) == kind],
    ]


def read_cursor(word: Any) -> int:
    """A cursor of SCAN and its kin, an unsigned 64 bit integer."""
    text = str(word)
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= 2**64:
        raise CommandError("invalid cursor")
    return int(text)


def read_scan(words: Words, at: int, types: bool = False) -> tuple[str, int, str | None]:
    """(pattern, count, type or None): the options of a SCAN command from word `at` on."""
    pattern, count, kind = "*", _SCAN_COUNT, None
    for place in range(at, len(words), 2):
        if place + 1 >= len(words):
            raise syntax_error()
        name, value = option(words[place]), words[place + 1]
        if name == "COUNT":
            count = integer(value)
            if count < 1:
                raise syntax_error()
        elif name == "MATCH":
            pattern = value
        elif name == "TYPE" and types:
            kind = str(value).lower()
        else:
            raise syntax_error()
    return pattern, count, kind


def do_object(node: Any, words: Words) -> Any:
    """`OBJECT <ENCODING|FREQ|IDLETIME|REFCOUNT|HELP> [key]`: shows a key's form."""
    name = option(words[1])
    if name == "HELP":
        return [Status("OBJECT ENCODING|FREQ|IDLETIME|REFCOUNT <key>")]
    if name not in ("ENCODING", "FREQ", "IDLETIME", "REFCOUNT") or len(words) != 3:
        raise CommandError(
            f"unknown subcommand or wrong number of arguments for '{words[1]!s:.128}'. "
            "Try OBJECT HELP."
        )
    value = node.store.find(words[2])
    if value is None:
        return None
    if name == "FREQ":
        raise CommandError(
            "An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
            "that when switching between policies at runtime LRU and LFU data will take some "
            "time to adjust."
        )
    if name == "ENCODING":
        return encoding(value)
    return 1 if name == "REFCOUNT" else 0


def encoding(value: Any) -> str:
    """The OBJECT ENCODING word nearest to how the value is kept."""
    kind = type_name(value)
    if kind != "string":
        return {"list": "quicklist", "zset": "skiplist"}.get(kind, "hashtable")
    word = shown(value)
    try:
        integer(word)
    except CommandError:
        return "embstr" if len(raw(word)) <= _EMBSTR_BYTES_MAX else "raw"
    return "int"


def need(value: Any, kind: type | tuple[type, ...]) -> Any:
    """`value` when it is None or of `kind`; raises WrongType otherwise."""
    if value is None or isinstance(value, kind):
        return value
    raise WrongType


TABLE: Final[dict[str, list[Any]]] = {
    "del": [do_del, "we", 1, 0],
    "unlink": [do_del, "we", 1, 0],
    "exists": [do_exists, "r", 1, 0],
    "touch": [do_exists, "r", 1, 0],
    "type": [do_type, "r", 1, 1],
    "keys": [do_keys, "r", 1, 1],
    "dbsize": [do_dbsize, "r", 0, 0],
    "randomkey": [do_randomkey, "r", 0, 0],
    "rename": [do_rename, "we", 2, 2],
    "renamenx": [do_renamenx, "we", 2, 2],
    "copy": [do_copy, "we", 2, 0],
    "flushdb": [do_flush, "we", 0, 1],
    "flushall": [do_flush, "we", 0, 1],
    "scan": [do_scan, "r", 1, 0],
    "object": [do_object, "r", 1, 0],
}
