"""Hash commands. A hash is a plain dict, so a handler's own dicts are hashes too.

Fields keep the order in which they came; HRANDFIELD picks by that order. A tree node is a dict
of another type and is refused. A hash whose last field goes is removed.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.limits import ARGC_MAX
from pyraft_fast.worker import longdouble
from pyraft_fast.worker.idle import has_none, idle
from pyraft_fast.worker.keys import read_cursor, read_scan
from pyraft_fast.worker.strings import is_string, shown
from pyraft_fast.worker.types import FlatMap, Pairs, TreeNode
from pyraft_fast.worker.words import (
    INT64_MAX,
    INT64_MIN,
    OUT_OF_RANGE,
    Words,
    arity_error,
    glob,
    integer,
    option,
    raw,
    syntax_error,
)


def _hash(value: Any) -> dict[str, Any]:
    """`value` as a hash; an empty one for None. Raises WrongType."""
    if type(value) is dict:
        return value
    if value is None:
        return {}
    if isinstance(value, dict) and not isinstance(value, TreeNode):
        return value
    raise WrongType


def _made(store: Any, key: str) -> dict[str, Any]:
    """The hash at a key that is about to get a field, made when there is none."""
    value = store.find_for_write(key)
    if value is None:
        value = {}
        store.data[key] = value
    return value if type(value) is dict else _hash(value)


def do_hset(node: Any, words: Words) -> int:
    """`HSET key field value ...`: sets fields of a hash."""
    size = len(words)
    store, key = node.store, words[1]
    if key in store.deadlines:
        store.drop_due(key)
    if size % 2:
        raise arity_error(str(words[0]).lower())
    value = store.data.get(key)
    if value is None:
        value = store.data[key] = dict(zip(words[2::2], words[3::2], strict=True))
        return len(value)
    if type(value) is not dict:
        value = _hash(value)
    before = len(value)
    if size == 4:
        value[words[2]] = words[3]
    else:
        value.update(zip(words[2::2], words[3::2], strict=True))
    return len(value) - before


def do_hmset(node: Any, words: Words) -> bool:
    """`HMSET key field value ...`: sets fields of a hash."""
    do_hset(node, words)
    return True


def _has_field(node: Any, words: Words) -> Any:
    value = node.store.find(words[1])
    return NotImplemented if value is None or words[2] not in _hash(value) else 0


@idle(_has_field)
def do_hsetnx(node: Any, words: Words) -> int:
    """`HSETNX key field value`: sets a field that is not there."""
    value = _made(node.store, words[1])
    if words[2] in value:
        return 0
    value[words[2]] = words[3]
    return 1


def do_hget(node: Any, words: Words) -> Any:
    """`HGET key field`: returns the value of a field."""
    return _hash(node.store.find(words[1])).get(words[2])


def do_hmget(node: Any, words: Words) -> list[Any]:
    """`HMGET key field ...`: returns the values of fields."""
    get = _hash(node.store.find(words[1])).get
    return [get(field) for field in words[2:]]


def do_hgetall(node: Any, words: Words) -> FlatMap:
    """`HGETALL key`: returns all fields and values."""
    return FlatMap(_hash(node.store.find(words[1])).items())


def do_hkeys(node: Any, words: Words) -> list[Any]:
    """`HKEYS key`: returns all fields of a hash."""
    return list(_hash(node.store.find(words[1])))


def do_hvals(node: Any, words: Words) -> list[Any]:
    """`HVALS key`: returns all values of a hash."""
    return list(_hash(node.store.find(words[1])).values())


def do_hlen(node: Any, words: Words) -> int:
    """`HLEN key`: counts the fields of a hash."""
    return len(_hash(node.store.find(words[1])))


def do_hexists(node: Any, words: Words) -> int:
    """`HEXISTS key field`: tells whether a hash has a field."""
    return 1 if words[2] in _hash(node.store.find(words[1])) else 0


def do_hstrlen(node: Any, words: Words) -> int:
    """`HSTRLEN key field`: counts the bytes of a field's value."""
    value = _hash(node.store.find(words[1])).get(words[2])
    return 0 if value is None else len(raw(shown(value)))


@idle(has_none(_hash))
def do_hdel(node: Any, words: Words) -> int:
    """`HDEL key field ...`: removes fields of a hash."""
    store = node.store
    value = store.find_for_write(words[1])
    if value is None:
        return 0
    fields = _hash(value)
    before = len(fields)
    for field in words[2:]:
        fields.pop(field, None)
    if not fields:
        store.delete(words[1])
    return before - len(fields)


def _number_at(store: Any, words: Words) -> Any:
    """The stored word that HINCRBY is about to add to; "0" for none. Makes nothing."""
    value = _hash(store.find_for_write(words[1])).get(words[2], "0")
    return shown(value) if is_string(value) else value


def do_hincrby(node: Any, words: Words) -> int:
    """`HINCRBY key field increment`: adds to an integer in a hash."""
    amount = integer(words[3])
    value = integer(_number_at(node.store, words), "hash value is not an integer") + amount
    if not INT64_MIN <= value <= INT64_MAX:
        raise CommandError("increment or decrement would overflow")
    _made(node.store, words[1])[words[2]] = str(value)
    return value


def do_hincrbyfloat(node: Any, words: Words) -> str:
    """`HINCRBYFLOAT key field increment`: adds to a number in a hash."""
    amount = longdouble.parse(words[3])
    old = longdouble.parse(_number_at(node.store, words), "hash value is not a float")
    value = longdouble.show(longdouble.rounded(old + amount))
    _made(node.store, words[1])[words[2]] = value
    return value


def do_hscan(node: Any, words: Words) -> list[Any]:
    """`HSCAN key cursor [MATCH pattern] [COUNT count]`: walks through a hash."""
    store = node.store
    cursor = read_cursor(words[2])
    value = _hash(store.find(words[1]))
    if not value:
        return ["0", []]
    pattern, count, _ = read_scan(words, 3)
    after, fields = store.scans.part(words[1], value, store.version, cursor, count)
    matches = glob(pattern)
    reply: list[Any] = []
    for field in fields:
        if field in value and matches(field):
            reply += (field, value[field])
    return [str(after), reply]


def pick_places(node: Any, size: int, count: int) -> list[int]:
    """Places for HRANDFIELD, SRANDMEMBER and ZRANDMEMBER among `size` elements.

    A positive `count` gives that many different places at most, a negative one repeats freely.
    """
    random = node.random.random
    if not size:
        return []
    if count < 0:
        if -count > ARGC_MAX:
            raise CommandError(OUT_OF_RANGE)
        return [int(random() * size) for _ in range(-count)]
    if count >= size:
        return list(range(size))
    moved: dict[int, int] = {}  # a shuffle that touches only the places it draws
    places = []
    for at in range(count):
        drawn = at + int(random() * (size - at))
        places.append(moved.get(drawn, drawn))
        moved[drawn] = moved.get(at, at)
    return places


def do_hrandfield(node: Any, words: Words) -> Any:
    """`HRANDFIELD key [count] [WITHVALUES]`: returns random fields."""
    if len(words) > 4 or (len(words) == 4 and option(words[3]) != "WITHVALUES"):
        raise syntax_error()
    count = integer(words[2]) if len(words) > 2 else 1
    if not -INT64_MAX // 2 <= count <= INT64_MAX // 2:
        raise CommandError(OUT_OF_RANGE)
    value = _hash(node.store.find(words[1]))
    if len(words) == 2:
        if not value:
            return None
        return next(islice(value, int(node.random.random() * len(value)), None))
    pairs = list(value.items())
    picked = [pairs[place] for place in pick_places(node, len(pairs), count)]
    return Pairs(picked) if len(words) == 4 else [field for field, _ in picked]


TABLE: Final[dict[str, list[Any]]] = {
    "hset": [do_hset, "we", 3, 0],
    "hmset": [do_hmset, "we", 3, 0],
    "hsetnx": [do_hsetnx, "we", 3, 3],
    "hget": [do_hget, "r", 2, 2],
    "hmget": [do_hmget, "r", 2, 0],
    "hgetall": [do_hgetall, "r", 1, 1],
    "hkeys": [do_hkeys, "r", 1, 1],
    "hvals": [do_hvals, "r", 1, 1],
    "hlen": [do_hlen, "r", 1, 1],
    "hexists": [do_hexists, "r", 2, 2],
    "hstrlen": [do_hstrlen, "r", 2, 2],
    "hdel": [do_hdel, "we", 2, 0],
    "hincrby": [do_hincrby, "we", 3, 3],
    "hincrbyfloat": [do_hincrbyfloat, "we", 3, 3],
    "hscan": [do_hscan, "r", 2, 0],
    "hrandfield": [do_hrandfield, "r", 1, 0],
}
