"""String commands. A string is a `str`; integers are kept as their digits, as in Redis.

Values that handlers stored as int, float, bool or bytes count as strings too. Lengths and
offsets are in bytes. A command that is refused has changed nothing.
"""

from __future__ import annotations

from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.limits import BULK_BYTES_MAX
from pyraft_fast.worker import longdouble
from pyraft_fast.worker.expiry import deadline_of
from pyraft_fast.worker.idle import idle, missing, nothing, present
from pyraft_fast.worker.words import (
    INT64_MAX,
    INT64_MIN,
    NOT_INTEGER,
    SMALL,
    SMALL_MAX,
    Words,
    arity_error,
    integer,
    option,
    raw,
    syntax_error,
    text,
)

_TIMES: Final = frozenset({"EX", "PX", "EXAT", "PXAT"})


def shown(value: Any) -> str:
    """A stored value as a string. Raises WrongType for a container."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bytes:
        return text(value)
    if kind is bool:
        return "1" if value else "0"
    if kind is int or kind is float:
        return repr(value)
    if isinstance(value, str):
        return str(value)
    raise WrongType


def is_string(value: Any) -> bool:
    """Whether the value counts as a string."""
    return isinstance(value, (str, int, float, bytes))


def _old(store: Any, key: str) -> str | None:
    """The string at a key that is about to be written, or None."""
    value = store.find_for_write(key)
    if value is None or type(value) is str:
        return value
    return shown(value)


def do_get(node: Any, words: Words) -> Any:
    """`GET key`: returns a string."""
    key = words[1]
    store = node.store
    if key in store.deadlines and not store.check_ttl(key):
        return None
    value = store.data.get(key)
    if type(value) is str or value is None:
        return value
    return shown(value)


def do_set(node: Any, words: Words) -> Any:
    """SET: sets a string."""
    key = words[1]
    store = node.store
    if len(words) == 3:
        store.data[key] = words[2]
        if key in store.deadlines:
            del store.deadlines[key]
        return True
    return _set_with_options(store, key, words)


def _set_with_options(store: Any, key: str, words: Words) -> Any:
    options, unit, when = _read_options(words, 3, "set")
    deadline = deadline_of(store, when, unit, "set") if unit else None
    old = store.find_for_write(key)
    reply: Any = True
    if "GET" in options:
        reply = None if old is None else shown(old)
    if ("NX" in options and old is not None) or ("XX" in options and old is None):
        return reply if "GET" in options else None
    if deadline is not None and deadline <= store.now_ms:
        store.delete(key)
    elif "KEEPTTL" in options:
        store.data[key] = words[2]
    else:
        store.put(key, words[2])
        if deadline is not None:
            store.set_deadline(key, deadline)
    return reply


def _read_options(words: Words, at: int, name: str) -> tuple[set[str], str, Any]:
    """The options of SET or GETEX from word `at` on; the unit and word of the end, or "", None."""
    options: set[str] = set()
    unit, when = "", None
    while at < len(words):
        word = option(words[at])
        if word in _TIMES and at + 1 < len(words) and not unit and not options & _KEEPERS:
            unit, when = word, words[at + 1]
            at += 1
        elif (
            word in _ALLOWED[name]
            and not options & _ALLOWED[name][word]
            and not (unit and word in _KEEPERS)
        ):
            options.add(word)
        else:
            raise syntax_error()
        at += 1
    return options, unit, when


_KEEPERS: Final = frozenset({"KEEPTTL", "PERSIST"})
_ALLOWED: Final[dict[str, dict[str, set[str]]]] = {
    "set": {"NX": {"XX"}, "XX": {"NX"}, "GET": set(), "KEEPTTL": set()},
    "getex": {"PERSIST": set()},
}


def do_setex(node: Any, words: Words) -> Any:
    """`SETEX key seconds value`: sets a string that ends."""
    return _set_until(node.store, words, "EX", "setex")


def do_psetex(node: Any, words: Words) -> Any:
    """`PSETEX key milliseconds value`: sets a string that ends."""
    return _set_until(node.store, words, "PX", "psetex")


def _set_until(store: Any, words: Words, unit: str, name: str) -> bool:
    deadline = deadline_of(store, words[2], unit, name)
    store.put(words[1], words[3])
    store.set_deadline(words[1], deadline)
    return True


@idle(present)
def do_setnx(node: Any, words: Words) -> int:
    """`SETNX key value`: sets a string whose key is free."""
    store = node.store
    if store.find_for_write(words[1]) is not None:
        return 0
    store.put(words[1], words[2])
    return 1


def do_getset(node: Any, words: Words) -> Any:
    """`GETSET key value`: sets a string and returns the old one."""
    store = node.store
    old = _old(store, words[1])
    store.put(words[1], words[2])
    return old


@idle(missing(nothing))
def do_getdel(node: Any, words: Words) -> Any:
    """`GETDEL key`: returns a string and removes its key."""
    store = node.store
    old = _old(store, words[1])
    if old is not None:
        store.delete(words[1])
    return old


def do_getex(node: Any, words: Words) -> Any:
    """GETEX: returns a string and sets its end."""
    store, key = node.store, words[1]
    options, unit, when = _read_options(words, 2, "getex")
    old = _old(store, key)
    if old is None:
        return None
    deadline = deadline_of(store, when, unit, "getex") if unit else None
    if deadline is not None and deadline <= store.now_ms:
        store.delete(key)
    elif deadline is not None:
        store.set_deadline(key, deadline)
    elif "PERSIST" in options:
        store.clear_ttl(key)
    return old


def do_mget(node: Any, words: Words) -> list[Any]:
    """`MGET key ...`: returns strings."""
    find = node.store.find
    values = []
    for key in words[1:]:
        value = find(key)
        values.append(shown(value) if is_string(value) else None)
    return values


def do_mset(node: Any, words: Words) -> Any:
    """`MSET key value ...`: sets strings."""
    if len(words) % 2 == 0:
        raise arity_error("mset")
    store = node.store
    deadlines, data = store.deadlines, store.data
    if deadlines:
        for key in words[1::2]:
            if key in deadlines:
                del deadlines[key]
    rest = iter(words)
    next(rest)
    for key, value in zip(rest, rest, strict=True):
        data[key] = value
    return True


def do_msetnx(node: Any, words: Words) -> int:
    """`MSETNX key value ...`: sets strings if none of the keys exists."""
    if len(words) % 2 == 0:
        raise arity_error("msetnx")
    store = node.store
    if any(store.find_for_write(key) is not None for key in words[1::2]):
        return 0
    for key, value in zip(words[1::2], words[2::2], strict=True):
        store.put(key, value)
    return 1


def do_append(node: Any, words: Words) -> int:
    """`APPEND key value`: appends to a string."""
    store, key = node.store, words[1]
    old = _old(store, key)
    if old is None:
        store.put(key, words[2])
        return len(raw(shown(words[2])))
    added = shown(words[2])
    if old.isascii() and added.isascii():
        joined, size = old + added, len(old) + len(added)
    else:
        both = raw(old) + raw(added)
        joined, size = text(both), len(both)
    _check_size(size)
    store.data[key] = joined
    return size


def _check_size(size: int) -> None:
    if size > BULK_BYTES_MAX:
        raise CommandError("string exceeds maximum allowed size (proto-max-bulk-len)")


def do_strlen(node: Any, words: Words) -> int:
    """`STRLEN key`: counts the bytes of a string."""
    value = node.store.find(words[1])
    if value is None:
        return 0
    word = shown(value)
    return len(word) if word.isascii() else len(raw(word))


def do_getrange(node: Any, words: Words) -> str:
    """`GETRANGE key start end`: returns some bytes of a string."""
    start, end = integer(words[2]), integer(words[3])
    value = node.store.find(words[1])
    data = b"" if value is None else raw(shown(value))
    if start < 0 and end < 0 and start > end:
        return ""
    size = len(data)
    start = max(start + size, 0) if start < 0 else start
    end = max(end + size, 0) if end < 0 else end
    return text(data[start : end + 1])


def do_setrange(node: Any, words: Words) -> int:
    """`SETRANGE key offset value`: overwrites bytes of a string."""
    store, key = node.store, words[1]
    offset = integer(words[2])
    if offset < 0:
        raise CommandError("offset is out of range")
    old = _old(store, key)
    data = b"" if old is None else raw(old)
    patch = raw(shown(words[3]))
    if not patch:
        return len(data)
    _check_size(offset + len(patch))
    data = data.ljust(offset, b"\0")
    data = data[:offset] + patch + data[offset + len(patch) :]
    store.data[key] = text(data)
    return len(data)


def do_incr(node: Any, words: Words) -> int:
    """`INCR key`: adds one to an integer."""
    store, key = node.store, words[1]
    if key in store.deadlines:
        store.drop_due(key)
    old = store.data.get(key)
    if old is None:
        store.data[key] = "1"
        return 1
    value = integer(old if type(old) is str else shown(old)) + 1
    if value > INT64_MAX:
        raise CommandError("increment or decrement would overflow")
    store.data[key] = SMALL[value] if 0 <= value <= SMALL_MAX else str(value)
    return value


def do_decr(node: Any, words: Words) -> int:
    """`DECR key`: subtracts one from an integer."""
    return _add(node.store, words[1], -1)


def do_incrby(node: Any, words: Words) -> int:
    """`INCRBY key increment`: adds to an integer."""
    return _add(node.store, words[1], integer(words[2]))


def do_decrby(node: Any, words: Words) -> int:
    """`DECRBY key decrement`: subtracts from an integer."""
    amount = integer(words[2])
    if amount == INT64_MIN:
        raise CommandError("decrement would overflow")
    return _add(node.store, words[1], -amount)


def _add(store: Any, key: str, amount: int) -> int:
    old = _old(store, key)
    value = amount + (0 if old is None else integer(old, NOT_INTEGER))
    if not INT64_MIN <= value <= INT64_MAX:
        raise CommandError("increment or decrement would overflow")
    store.data[key] = str(value)
    return value


def do_incrbyfloat(node: Any, words: Words) -> str:
    """`INCRBYFLOAT key increment`: adds to a number."""
    store, key = node.store, words[1]
    old = _old(store, key)
    value = longdouble.add("0" if old is None else old, words[2])
    store.data[key] = value
    return value


TABLE: Final[dict[str, list[Any]]] = {
    "get": [do_get, "r", 1, 1],
    "set": [do_set, "we", 2, 0],
    "setex": [do_setex, "we", 3, 3],
    "psetex": [do_psetex, "we", 3, 3],
    "setnx": [do_setnx, "we", 2, 2],
    "getset": [do_getset, "we", 2, 2],
    "getdel": [do_getdel, "we", 1, 1],
    "getex": [do_getex, "we", 1, 0],
    "mget": [do_mget, "r", 1, 0],
    "mset": [do_mset, "we", 2, 0],
    "msetnx": [do_msetnx, "we", 2, 0],
    "append": [do_append, "we", 2, 2],
    "strlen": [do_strlen, "r", 1, 1],
    "getrange": [do_getrange, "r", 3, 3],
    "substr": [do_getrange, "r", 3, 3],
    "setrange": [do_setrange, "we", 3, 3],
    "incr": [do_incr, "we", 1, 1],
    "decr": [do_decr, "we", 1, 1],
    "incrby": [do_incrby, "we", 2, 2],
    "decrby": [do_decrby, "we", 2, 2],
    "incrbyfloat": [do_incrbyfloat, "we", 2, 2],
}
