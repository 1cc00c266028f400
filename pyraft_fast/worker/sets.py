"""Set commands. Every order comes from the operations in the log, every pick from `node.random`.

So SPOP takes the same member on every node, whatever its hash seed. A set whose last member
goes is removed.
"""

from __future__ import annotations

from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.worker.hashes import pick_places
from pyraft_fast.worker.idle import has_none, idle, missing, nothing
from pyraft_fast.worker.keys import read_cursor, read_scan
from pyraft_fast.worker.types import Members, RedisSet
from pyraft_fast.worker.words import (
    INT64_MAX,
    OUT_OF_RANGE,
    Words,
    glob,
    integer,
    option,
    positive,
    syntax_error,
)


def _set(value: Any) -> RedisSet | None:
    """`value` as a set, or None. Raises WrongType."""
    if value is None or type(value) is RedisSet:
        return value
    raise WrongType


def _has_all(node: Any, words: Words) -> Any:
    value = node.store.find(words[1])
    if type(value) is RedisSet and (
        value.has(words[2]) if len(words) == 3 else value.has_all(words[2:])
    ):
        return 0
    return NotImplemented


@idle(_has_all)
def do_sadd(node: Any, words: Words) -> int:
    """`SADD key member ...`: adds members to a set."""
    store, key = node.store, words[1]
    if key in store.deadlines:
        store.drop_due(key)
    value = store.data.get(key)
    if type(value) is not RedisSet:
        if value is not None:
            raise WrongType
        value = store.data[key] = RedisSet(words[2:])
        return len(value)
    if len(words) == 3:
        return 1 if value.insert(words[2]) else 0
    before = len(value.items)
    for member in words[2:]:
        value.insert(member)
    return len(value.items) - before


@idle(has_none(_set))
def do_srem(node: Any, words: Words) -> int:
    """`SREM key member ...`: removes members from a set."""
    store = node.store
    value = _set(store.find_for_write(words[1]))
    if value is None:
        return 0
    removed = sum(value.take(member) for member in words[2:])
    if not value.items:
        store.delete(words[1])
    return removed


@idle(missing(nothing))
def do_spop(node: Any, words: Words) -> Any:
    """`SPOP key [count]`: removes random members."""
    store, key = node.store, words[1]
    if len(words) > 2:
        return _pop_many(node, words)
    if key in store.deadlines:
        store.drop_due(key)
    value = store.data.get(key)
    if type(value) is not RedisSet:
        return _set(value)
    size = len(value.items)
    if size == 0:  # a handler took the last member itself
        return None
    if size == 1:
        store.delete(key)
        return value.items[0]
    return value.take_at(int(node.random.random() * size))


def _pop_many(node: Any, words: Words) -> Members:
    if len(words) > 3:
        raise syntax_error()
    count = positive(words[2])
    store = node.store
    value = _set(store.find_for_write(words[1]))
    if value is None or count == 0:
        return Members(())
    if count >= len(value):
        store.delete(words[1])
        return Members(value.items)
    random = node.random.random
    return Members([value.take_at(int(random() * len(value.items))) for _ in range(count)])


def do_srandmember(node: Any, words: Words) -> Any:
    """`SRANDMEMBER key [count]`: returns random members."""
    if len(words) > 3:
        raise syntax_error()
    count = integer(words[2]) if len(words) == 3 else 1
    if not -INT64_MAX // 2 <= count <= INT64_MAX // 2:
        raise CommandError(OUT_OF_RANGE)
    value = _set(node.store.find(words[1]))
    if len(words) == 2:
        return value.items[int(node.random.random() * len(value.items))] if value else None
    items = value.items if value is not None else []
    return [items[place] for place in pick_places(node, len(items), count)]


def do_sismember(node: Any, words: Words) -> int:
    """`SISMEMBER key member`: tells whether a set has a member."""
    value = _set(node.store.find(words[1]))
    return 1 if value is not None and words[2] in value else 0


def do_smismember(node: Any, words: Words) -> list[int]:
    """`SMISMEMBER key member ...`: tells which members a set has."""
    value = _set(node.store.find(words[1])) or ()
    return [1 if member in value else 0 for member in words[2:]]


def do_smembers(node: Any, words: Words) -> Members:
    """`SMEMBERS key`: returns all members of a set."""
    value = _set(node.store.find(words[1]))
    return Members(() if value is None else value.items)


def do_scard(node: Any, words: Words) -> int:
    """`SCARD key`: counts the members of a set."""
    value = _set(node.store.find(words[1]))
    return 0 if value is None else len(value)


def do_smove(node: Any, words: Words) -> int:
    """`SMOVE source destination member`: moves a member to another set."""
    store, source, target, member = node.store, words[1], words[2], words[3]
    giver = _set(store.find_for_write(source))
    if giver is None:
        return 0
    taker = _set(store.find_for_write(target))
    if source == target:
        return 1 if member in giver else 0
    if not giver.take(member):
        return 0
    if not giver.items:
        store.delete(source)
    if taker is None:
        taker = store.data[target] = RedisSet()
    taker.add(member)
    return 1


def _operands(find: Any, keys: Words) -> list[RedisSet]:
    """The sets at `keys`, empty ones for missing keys. Raises WrongType."""
    return [_set(find(key)) or RedisSet() for key in keys]


def _inter(sets: list[RedisSet]) -> list[Any]:
    smallest = min(sets, key=len)
    others = [other for other in sets if other is not smallest]
    return [m for m in smallest.items if all(m in other for other in others)]


def _union(sets: list[RedisSet]) -> list[Any]:
    return list(dict.fromkeys(m for one in sets for m in one.items))


def _diff(sets: list[RedisSet]) -> list[Any]:
    first, *others = sets
    return [m for m in first.items if not any(m in other for other in others)]


def do_sinter(node: Any, words: Words) -> Members:
    """`SINTER key ...`: members that all sets share."""
    return Members(_inter(_operands(node.store.find, words[1:])))


def do_sunion(node: Any, words: Words) -> Members:
    """`SUNION key ...`: members of any of the sets."""
    return Members(_union(_operands(node.store.find, words[1:])))


def do_sdiff(node: Any, words: Words) -> Members:
    """`SDIFF key ...`: members of the first set alone."""
    return Members(_diff(_operands(node.store.find, words[1:])))


def _stored(store: Any, key: str, members: list[Any]) -> int:
    if members:
        store.put(key, RedisSet(members))
    else:
        store.delete(key)
    return len(members)


def do_sinterstore(node: Any, words: Words) -> int:
    """`SINTERSTORE destination key ...`: stores an intersection of sets."""
    store = node.store
    return _stored(store, words[1], _inter(_operands(store.find_for_write, words[2:])))


def do_sunionstore(node: Any, words: Words) -> int:
    """`SUNIONSTORE destination key ...`: stores a union of sets."""
    store = node.store
    return _stored(store, words[1], _union(_operands(store.find_for_write, words[2:])))


def do_sdiffstore(node: Any, words: Words) -> int:
    """`SDIFFSTORE destination key ...`: stores a difference of sets."""
    store = node.store
    return _stored(store, words[1], _diff(_operands(store.find_for_write, words[2:])))


def do_sintercard(node: Any, words: Words) -> int:
    """`SINTERCARD numkeys key ... [LIMIT limit]`: counts what all sets share."""
    keys_count = integer(words[1], "numkeys should be greater than 0")
    if keys_count <= 0:
        raise CommandError("numkeys should be greater than 0")
    if keys_count > len(words) - 2:
        raise CommandError("Number of keys can't be greater than number of args")
    limit = 0
    rest = words[2 + keys_count :]
    for at in range(0, len(rest), 2):
        if option(rest[at]) != "LIMIT" or at + 1 >= len(rest):
            raise syntax_error()
        limit = positive(rest[at + 1], "LIMIT can't be negative")
    count = len(_inter(_operands(node.store.find, words[2 : 2 + keys_count])))
    return min(count, limit) if limit else count


def do_sscan(node: Any, words: Words) -> list[Any]:
    """`SSCAN key cursor [MATCH pattern] [COUNT count]`: walks through a set."""
    store = node.store
    cursor = read_cursor(words[2])
    value = _set(store.find(words[1]))
    if value is None:
        return ["0", []]
    pattern, count, _ = read_scan(words, 3)
    after, members = store.scans.part(words[1], value, store.version, cursor, count)
    matches = glob(pattern)
    return [str(after), [m for m in members if m in value and matches(m)]]


TABLE: Final[dict[str, list[Any]]] = {
    "sadd": [do_sadd, "we", 2, 0],
    "srem": [do_srem, "we", 2, 0],
    "spop": [do_spop, "we", 1, 0],
    "srandmember": [do_srandmember, "r", 1, 0],
    "sismember": [do_sismember, "r", 2, 2],
    "smismember": [do_smismember, "r", 2, 0],
    "smembers": [do_smembers, "r", 1, 1],
    "scard": [do_scard, "r", 1, 1],
    "smove": [do_smove, "we", 3, 3],
    "sinter": [do_sinter, "r", 1, 0],
    "sunion": [do_sunion, "r", 1, 0],
    "sdiff": [do_sdiff, "r", 1, 0],
    "sinterstore": [do_sinterstore, "we", 2, 0],
    "sunionstore": [do_sunionstore, "we", 2, 0],
    "sdiffstore": [do_sdiffstore, "we", 2, 0],
    "sintercard": [do_sintercard, "r", 2, 0],
    "sscan": [do_sscan, "r", 2, 0],
}
