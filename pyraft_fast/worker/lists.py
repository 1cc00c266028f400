"""List commands, on RedisList and on a plain `list` that a handler may have stored.

A list whose last element goes is removed. A plain list becomes a RedisList when a command pushes
to it or pops from it, so that its ends are quick from then on.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.worker.idle import idle, missing, nothing
from pyraft_fast.worker.types import RedisList
from pyraft_fast.worker.words import (
    INT64_MIN,
    Words,
    arity_error,
    integer,
    option,
    positive,
    syntax_error,
)

_pop = deque.pop


def _list(value: Any) -> Any:
    """`value` as a list, or None. Raises WrongType."""
    if value is None or isinstance(value, (RedisList, list)):
        return value
    raise WrongType


def _quick(store: Any, key: str) -> RedisList | None:
    """The list at a key about to be changed, with quick ends; None when there is none."""
    if key in store.deadlines:
        store.drop_due(key)
    value = store.data.get(key)
    if value is None or type(value) is RedisList:
        return value
    if type(value) is list:
        value = store.data[key] = RedisList(value)
        return value
    return _list(value)  # type: ignore[no-any-return]


def do_lpush(node: Any, words: Words) -> int:
    """`LPUSH key element ...`: adds elements in front."""
    store, key = node.store, words[1]
    value = store.data.get(key)
    if type(value) is not RedisList or key in store.deadlines:
        value = _quick(store, key)
        if value is None:
            value = store.data[key] = RedisList()
    if len(words) == 3:
        value.appendleft(words[2])
    else:
        value.extendleft(words[2:])
    return len(value)


def do_rpush(node: Any, words: Words) -> int:
    """`RPUSH key element ...`: adds elements at the end."""
    store, key = node.store, words[1]
    value = store.data.get(key)
    if type(value) is not RedisList or key in store.deadlines:
        value = _quick(store, key)
        if value is None:
            value = store.data[key] = RedisList()
    if len(words) == 3:
        value.append(words[2])
    else:
        value.extend(words[2:])
    return len(value)


def do_lpushx(node: Any, words: Words) -> int:
    """`LPUSHX key element ...`: adds in front of a list that exists."""
    return 0 if _quick(node.store, words[1]) is None else do_lpush(node, words)


def do_rpushx(node: Any, words: Words) -> int:
    """`RPUSHX key element ...`: adds to the end of a list that exists."""
    return 0 if _quick(node.store, words[1]) is None else do_rpush(node, words)


@idle(missing(nothing))
def do_lpop(node: Any, words: Words) -> Any:
    """`LPOP key [count]`: removes elements from the front."""
    store, key = node.store, words[1]
    if len(words) > 2:
        return _pop_many(store, words, left=True)
    value = _quick(store, key)
    if not value:  # empty: a handler took the last element itself
        return None
    element = value.popleft()
    if not value:
        store.delete(key)
    return element


@idle(missing(nothing))
def do_rpop(node: Any, words: Words) -> Any:
    """`RPOP key [count]`: removes elements from the end."""
    store, key = node.store, words[1]
    if len(words) > 2:
        return _pop_many(store, words, left=False)
    value = _quick(store, key)
    if not value:
        return None
    element = _pop(value)
    if not value:
        store.delete(key)
    return element


def _pop_many(store: Any, words: Words, left: bool) -> list[Any] | None:
    if len(words) > 3:
        raise arity_error(str(words[0]).lower())
    count = positive(words[2])
    value = _quick(store, words[1])
    if not value:
        return None
    pop = value.popleft if left else value.pop
    elements = [pop() for _ in range(min(count, len(value)))]
    if not value:
        store.delete(words[1])
    return elements


def clip(start: int, end: int, size: int) -> tuple[int, int]:
    """Redis' inclusive, possibly negative range as Python's (start, stop); start >= stop: none."""
    if start < 0:
        start += size
        if start < 0:
            start = 0
    if end < 0:
        end += size
    end += 1
    return start, end if end < size else size


def do_lrange(node: Any, words: Words) -> list[Any]:
    """`LRANGE key start stop`: returns a range of a list."""
    start, end = integer(words[2]), integer(words[3])
    value = node.store.find(words[1])
    if value is None:
        return []
    start, stop = clip(start, end, len(_list(value)))
    if start >= stop:
        return []
    return value.between(start, stop) if type(value) is RedisList else value[start:stop]


def do_lindex(node: Any, words: Words) -> Any:
    """`LINDEX key index`: returns an element by its place."""
    index = integer(words[2])
    value = _list(node.store.find(words[1]))
    if value is None or not -len(value) <= index < len(value):
        return None
    return value[index]


def do_llen(node: Any, words: Words) -> int:
    """`LLEN key`: counts the elements of a list."""
    value = _list(node.store.find(words[1]))
    return 0 if value is None else len(value)


def do_lset(node: Any, words: Words) -> bool:
    """`LSET key index element`: sets an element by its place."""
    value = _list(node.store.find_for_write(words[1]))
    if value is None:
        raise CommandError("no such key")
    index = integer(words[2])
    if not -len(value) <= index < len(value):
        raise CommandError("index out of range")
    value[index] = words[3]
    return True


def do_lrem(node: Any, words: Words) -> int:
    """`LREM key count element`: removes equal elements."""
    store, key, element = node.store, words[1], words[3]
    count = integer(words[2])
    value = _list(store.find_for_write(key))
    if value is None:
        return 0
    left = abs(count) or len(value)
    kept: list[Any] = []
    for item in value if count >= 0 else reversed(value):
        if left and item == element:
            left -= 1
        else:
            kept.append(item)
    removed = len(value) - len(kept)
    if removed:
        _replace(store, key, value, kept if count >= 0 else kept[::-1])
    return removed


def _replace(store: Any, key: str, value: Any, items: list[Any]) -> None:
    """Give a list other elements in place; without any, the key goes."""
    value.clear()
    value.extend(items)
    if not items:
        store.delete(key)


def do_ltrim(node: Any, words: Words) -> bool:
    """`LTRIM key start stop`: keeps a range of a list."""
    store, key = node.store, words[1]
    start, end = integer(words[2]), integer(words[3])
    value = _quick(store, key)
    if value is None:
        return True
    size = len(value)
    start, stop = clip(start, end, size)
    if start >= stop:
        store.delete(key)
    elif stop - start > size // 2:
        for _ in range(start):
            value.popleft()
        for _ in range(size - stop):
            _pop(value)
    else:
        _replace(store, key, value, value.between(start, stop))
    return True


def do_linsert(node: Any, words: Words) -> int:
    """`LINSERT key <BEFORE|AFTER> pivot element`: inserts beside an element."""
    where = option(words[2])
    if where not in ("BEFORE", "AFTER"):
        raise syntax_error()
    value = _list(node.store.find_for_write(words[1]))
    if value is None:
        return 0
    for at, item in enumerate(value):
        if item == words[3]:
            value.insert(at + (where == "AFTER"), words[4])
            return len(value)
    return -1


def do_lmove(node: Any, words: Words) -> Any:
    """`LMOVE source destination <LEFT|RIGHT> <LEFT|RIGHT>`: moves an element."""
    ends = option(words[3]), option(words[4])
    if not set(ends) <= {"LEFT", "RIGHT"}:
        raise syntax_error()
    return _move(node.store, words[1], words[2], ends[0] == "LEFT", ends[1] == "LEFT")


def do_rpoplpush(node: Any, words: Words) -> Any:
    """`RPOPLPUSH source destination`: moves the last element to another front."""
    return _move(node.store, words[1], words[2], from_left=False, to_left=True)


def _move(store: Any, source: str, target: str, from_left: bool, to_left: bool) -> Any:
    giver = _quick(store, source)
    if not giver:
        return None
    taker = _quick(store, target)
    element = giver.popleft() if from_left else _pop(giver)
    if taker is None:
        taker = store.data[target] = RedisList()
    if to_left:
        taker.appendleft(element)
    else:
        taker.append(element)
    if not giver:
        store.delete(source)
    return element


def do_lpos(node: Any, words: Words) -> Any:
    """`LPOS key element [RANK rank] [COUNT count] [MAXLEN len]`: finds an element."""
    rank, count, most = _lpos_options(words)
    value = _list(node.store.find(words[1]))
    if value is None:
        return None if count is None else []
    size, wanted = len(value), words[2]
    skip = abs(rank) - 1
    found: list[int] = []
    for seen, item in enumerate(value if rank > 0 else reversed(value)):
        if (most and seen >= most) or (count and len(found) >= count):
            break
        if item != wanted:
            continue
        if skip:
            skip -= 1
            continue
        found.append(seen if rank > 0 else size - 1 - seen)
        if count is None:
            break
    if count is None:
        return found[0] if found else None
    return found


def _lpos_options(words: Words) -> tuple[int, int | None, int]:
    rank, count, most = 1, None, 0
    for at in range(3, len(words), 2):
        name = option(words[at])
        if at + 1 >= len(words) or name not in ("RANK", "COUNT", "MAXLEN"):
            raise syntax_error()
        if name == "RANK":
            rank = integer(words[at + 1])
            if rank == INT64_MIN:
                raise CommandError("value is out of range")
            if rank == 0:
                raise CommandError(
                    "RANK can't be zero: use 1 to start from the first match, 2 from the second "
                    "... or use negative to start from the end of the list"
                )
        elif name == "COUNT":
            count = positive(words[at + 1], "COUNT can't be negative")
        else:
            most = positive(words[at + 1], "MAXLEN can't be negative")
    return rank, count, most


TABLE: Final[dict[str, list[Any]]] = {
    "lpush": [do_lpush, "we", 2, 0],
    "rpush": [do_rpush, "we", 2, 0],
    "lpushx": [do_lpushx, "we", 2, 0],
    "rpushx": [do_rpushx, "we", 2, 0],
    "lpop": [do_lpop, "we", 1, 2],
    "rpop": [do_rpop, "we", 1, 2],
    "lrange": [do_lrange, "r", 3, 3],
    "lindex": [do_lindex, "r", 2, 2],
    "llen": [do_llen, "r", 1, 1],
    "lset": [do_lset, "we", 3, 3],
    "lrem": [do_lrem, "we", 3, 3],
    "ltrim": [do_ltrim, "we", 3, 3],
    "linsert": [do_linsert, "we", 4, 4],
    "lmove": [do_lmove, "we", 4, 4],
    "rpoplpush": [do_rpoplpush, "we", 2, 2],
    "lpos": [do_lpos, "r", 2, 0],
}
