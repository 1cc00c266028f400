"""Sorted set commands that write, and the lookups of single members. Ranges are in zrange.py.

Ties are ordered by the members' bytes, so nothing here depends on the order of arrival. A
sorted set whose last member goes is removed.
"""

from __future__ import annotations

from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.worker.hashes import pick_places
from pyraft_fast.worker.idle import has_none, idle, missing
from pyraft_fast.worker.keys import read_cursor, read_scan
from pyraft_fast.worker.types import Pairs, SortedSet
from pyraft_fast.worker.words import (
    INT64_MAX,
    OUT_OF_RANGE,
    Words,
    arity_error,
    glob,
    integer,
    number,
    option,
    positive,
    syntax_error,
)

_ZADD_OPTIONS: Final = frozenset({"NX", "XX", "GT", "LT", "CH", "INCR"})


def zset(value: Any) -> SortedSet | None:
    """`value` as a sorted set, or None. Raises WrongType."""
    if value is None or type(value) is SortedSet:
        return value
    raise WrongType


def do_zadd(node: Any, words: Words) -> Any:
    """`ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member ...`: adds members."""
    store, key = node.store, words[1]
    if len(words) != 4:
        return _zadd_with_options(store, words)
    score = number(words[2])
    value = store.data.get(key)
    if type(value) is not SortedSet or key in store.deadlines:
        value = zset(store.find_for_write(key))
        if value is None:
            value = store.data[key] = SortedSet()
    return 1 if value.add(words[3], score) else 0


def _zadd_options(words: Words) -> tuple[set[str], int]:
    """The options of ZADD and the place of the first score."""
    at = 2
    options: set[str] = set()
    while at < len(words) and option(words[at]) in _ZADD_OPTIONS:
        options.add(option(words[at]))
        at += 1
    if (len(words) - at) % 2 or at == len(words):
        raise syntax_error()
    if {"NX", "XX"} <= options:
        raise CommandError("XX and NX options at the same time are not compatible")
    if {"GT", "LT"} <= options or ("NX" in options and options & {"GT", "LT"}):
        raise CommandError("GT, LT, and/or NX options at the same time are not compatible")
    if "INCR" in options and len(words) - at > 2:
        raise CommandError("INCR option supports a single increment-element pair")
    return options, at


def _zadd_with_options(store: Any, words: Words) -> Any:
    options, at = _zadd_options(words)
    pairs = [(words[i + 1], number(words[i])) for i in range(at, len(words), 2)]
    value = zset(store.find_for_write(words[1]))
    if value is None:
        if "XX" in options:
            return None if "INCR" in options else 0
        value = SortedSet()
    added = changed = 0
    result: float | None = None
    for member, amount in pairs:
        old = value.score(member)
        score = amount + old if "INCR" in options and old is not None else amount
        if score != score:
            raise CommandError("resulting score is not a number (NaN)")
        if not _allowed(options, old, score):
            continue
        result = score
        changed += old != score
        added += value.add(member, score)
    if len(value):
        store.data[words[1]] = value
    if "INCR" in options:
        return result
    return changed if "CH" in options else added


def _allowed(options: set[str], old: float | None, score: float) -> bool:
    if old is None:
        return "XX" not in options
    return not (
        "NX" in options or ("GT" in options and score <= old) or ("LT" in options and score >= old)
    )


def do_zincrby(node: Any, words: Words) -> float:
    """`ZINCRBY key increment member`: adds to a score."""
    store, key, member = node.store, words[1], words[3]
    amount = number(words[2])
    value = zset(store.find_for_write(key)) or SortedSet()
    score = amount + (value.score(member) or 0.0)
    if score != score:
        raise CommandError("resulting score is not a number (NaN)")
    value.add(member, score)
    store.data[key] = value
    return score


def _scores(value: Any) -> dict[Any, float]:
    found = zset(value)
    return {} if found is None else found.scores


@idle(has_none(_scores))
def do_zrem(node: Any, words: Words) -> int:
    """`ZREM key member ...`: removes members."""
    store = node.store
    value = zset(store.find_for_write(words[1]))
    if value is None:
        return 0
    removed = sum(value.discard(member) for member in words[2:])
    if not value.scores:
        store.delete(words[1])
    return removed


def do_zscore(node: Any, words: Words) -> float | None:
    """`ZSCORE key member`: returns a score."""
    value = zset(node.store.find(words[1]))
    return None if value is None else value.score(words[2])


def do_zmscore(node: Any, words: Words) -> list[float | None]:
    """`ZMSCORE key member ...`: returns scores."""
    value = zset(node.store.find(words[1])) or SortedSet()
    return [value.score(member) for member in words[2:]]


def do_zcard(node: Any, words: Words) -> int:
    """`ZCARD key`: counts the members."""
    value = zset(node.store.find(words[1]))
    return 0 if value is None else len(value)


def do_zrank(node: Any, words: Words) -> int | None:
    """`ZRANK key member`: place from the lowest score."""
    value = zset(node.store.find(words[1]))
    return None if value is None else value.rank(words[2])


def do_zrevrank(node: Any, words: Words) -> int | None:
    """`ZREVRANK key member`: place from the highest score."""
    value = zset(node.store.find(words[1]))
    rank = None if value is None else value.rank(words[2])
    return None if value is None or rank is None else len(value) - 1 - rank


@idle(missing(list))
def do_zpopmin(node: Any, words: Words) -> Any:
    """`ZPOPMIN key [count]`: removes the members with the lowest scores."""
    return _pop(node.store, words, 0)


@idle(missing(list))
def do_zpopmax(node: Any, words: Words) -> Any:
    """`ZPOPMAX key [count]`: removes the members with the highest scores."""
    return _pop(node.store, words, -1)


def _pop(store: Any, words: Words, place: int) -> Any:
    """Pop from one end; [member, score] without a count, pairs with one."""
    if len(words) > 3:
        raise arity_error(str(words[0]).lower())
    count = 1 if len(words) == 2 else positive(words[2])
    key = words[1]
    value = zset(store.find_for_write(key))
    if not value:
        return []
    if len(words) == 2:
        reply: Any = list(value.pop_at(place))
    else:
        reply = Pairs([value.pop_at(place) for _ in range(min(count, len(value)))])
    if not value.scores:
        store.delete(key)
    return reply


def do_zrandmember(node: Any, words: Words) -> Any:
    """`ZRANDMEMBER key [count] [WITHSCORES]`: returns random members."""
    if len(words) > 4 or (len(words) == 4 and option(words[3]) != "WITHSCORES"):
        raise syntax_error()
    count = integer(words[2]) if len(words) > 2 else 1
    if not -INT64_MAX // 2 <= count <= INT64_MAX // 2:
        raise CommandError(OUT_OF_RANGE)
    value = zset(node.store.find(words[1]))
    if len(words) == 2:
        if not value:
            return None
        place = int(node.random.random() * len(value))
        return value.members(place, place + 1)[0]
    pairs = [] if value is None else value.items()
    picked = [pairs[place] for place in pick_places(node, len(pairs), count)]
    return Pairs(picked) if len(words) == 4 else [member for member, _ in picked]


def do_zscan(node: Any, words: Words) -> list[Any]:
    """`ZSCAN key cursor [MATCH pattern] [COUNT count]`: walks through members."""
    store = node.store
    cursor = read_cursor(words[2])
    value = zset(store.find(words[1]))
    if value is None:
        return ["0", []]
    pattern, count, _ = read_scan(words, 3)
    after, members = store.scans.part(words[1], value, store.version, cursor, count)
    matches = glob(pattern)
    reply: list[Any] = []
    for member in members:
        score = value.score(member)
        if score is not None and matches(member):
            reply += (member, score)
    return [str(after), reply]


TABLE: Final[dict[str, list[Any]]] = {
    "zadd": [do_zadd, "we", 3, 0],
    "zincrby": [do_zincrby, "we", 3, 3],
    "zrem": [do_zrem, "we", 2, 0],
    "zscore": [do_zscore, "r", 2, 2],
    "zmscore": [do_zmscore, "r", 2, 0],
    "zcard": [do_zcard, "r", 1, 1],
    "zrank": [do_zrank, "r", 2, 2],
    "zrevrank": [do_zrevrank, "r", 2, 2],
    "zpopmin": [do_zpopmin, "we", 1, 0],
    "zpopmax": [do_zpopmax, "we", 1, 0],
    "zrandmember": [do_zrandmember, "r", 1, 0],
    "zscan": [do_zscan, "r", 2, 0],
}
