"""The commands that can be measured, as redis-benchmark sends them and as our generator does.

In a template `__rand_int__` stands for twelve digits below the number of keys (redis-benchmark's
own convention) and `__data__` for a value of the point's size.
"""

from __future__ import annotations

import dataclasses

RANDOM = "__rand_int__"
DATA = "__data__"
KEY = f"key:{RANDOM}"


@dataclasses.dataclass(frozen=True)
class Work:
    """One command: `test` is redis-benchmark's own name for it, where it has the same one."""

    name: str
    words: tuple[str, ...]
    test: str = ""
    writes: bool = True
    fresh: str = ""  # the key that each run begins without
    after: str = ""  # the work that must have run before it, so that it finds something
    filled: bool = False  # whether every key has to exist
    numbers: int = 0  # to draw from in the place of the point's keys


_ALL = (
    Work("SET", ("SET", KEY, DATA), "set"),
    Work("GET", ("GET", KEY), "get", writes=False, filled=True),
    Work("INCR", ("INCR", f"counter:{RANDOM}"), "incr"),
    Work("LPUSH", ("LPUSH", "mylist", DATA), "lpush", fresh="mylist"),
    Work("RPUSH", ("RPUSH", "mylist", DATA), "rpush", fresh="mylist"),
    Work("LRANGE_100", ("LRANGE", "mylist", "0", "99"), writes=False, after="RPUSH"),
    Work("LPOP", ("LPOP", "mylist"), "lpop", after="RPUSH"),
    # Of members that may be there or not, a faster server would meet more that are.
    Work("SADD", ("SADD", "myset", f"element:{RANDOM}"), "sadd", fresh="myset", numbers=10**9),
    Work("SADD_AGAIN", ("SADD", "myset", f"element:{RANDOM}"), "sadd", numbers=1),
    Work("SPOP", ("SPOP", "myset"), "spop", after="SADD"),
    Work("HSET", ("HSET", "myhash", f"element:{RANDOM}", DATA), "hset"),
    Work("ZADD", ("ZADD", "myzset", RANDOM, f"element:{RANDOM}"), "zadd"),
    Work("ZPOPMIN", ("ZPOPMIN", "myzset"), "zpopmin", after="ZADD"),
    Work("MSET", ("MSET", *((KEY, DATA) * 10)), "mset"),
    Work("CAS", ("CAS", f"cas:{RANDOM}", DATA, DATA), filled=True),
)
WORKS = {work.name: work for work in _ALL}
COMMANDS = tuple(w.name for w in _ALL if w.name not in {"SET", "GET", "CAS"})


def value(size: int) -> str:
    """A value of `size` bytes, as redis-benchmark's: the same in every request."""
    return "x" * size
