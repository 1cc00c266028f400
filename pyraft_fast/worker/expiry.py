"""Commands about the end of keys. Deadlines are absolute milliseconds of the cluster's clock.

"Now" is the time of the log entry for writes and the time of the read index for reads. A
deadline that is not in the future removes the key at once, on every node alike.
"""

from __future__ import annotations

from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.worker.words import INT64_MAX, INT64_MIN, Words, integer, option


def deadline_of(store: Any, word: Any, unit: str, name: str) -> int:
    """The deadline that `word` in `unit` (EX, PX, EXAT, PXAT) stands for; it must be positive.

    Raises CommandError naming the command `name`.
    """
    value = integer(word)
    if value <= 0 or (unit in ("EX", "EXAT") and value > INT64_MAX // 1000):
        raise _invalid(name)
    return _absolute(store, value, unit, name)


def _invalid(name: str) -> CommandError:
    return CommandError(f"invalid expire time in '{name}' command")


def _absolute(store: Any, value: int, unit: str, name: str) -> int:
    if unit in ("EX", "EXAT"):
        value *= 1000
    if unit in ("EX", "PX"):
        value += store.now_ms
    if not INT64_MIN <= value <= INT64_MAX:
        raise _invalid(name)
    return value


def _expire(node: Any, words: Words, unit: str, name: str) -> int:
    store, key = node.store, words[1]
    conditions = _conditions(words)
    deadline = _absolute(store, integer(words[2]), unit, name)
    if store.find_for_write(key) is None:
        return 0
    current = store.deadlines.get(key)
    if current is None:
        if "XX" in conditions or "GT" in conditions:
            return 0
    elif (
        "NX" in conditions
        or ("GT" in conditions and deadline <= current)
        or ("LT" in conditions and deadline >= current)
    ):
        return 0
    if deadline <= store.now_ms:
        store.delete(key)
    else:
        store.set_deadline(key, deadline)
    return 1


def _conditions(words: Words) -> set[str]:
    conditions: set[str] = set()
    for word in words[3:]:
        condition = option(word)
        if condition not in ("NX", "XX", "GT", "LT"):
            raise CommandError(f"Unsupported option {word}")
        conditions.add(condition)
    if "NX" in conditions and len(conditions) > 1:
        raise CommandError("NX and XX, GT or LT options at the same time are not compatible")
    if "GT" in conditions and "LT" in conditions:
        raise CommandError("GT and LT options at the same time are not compatible")
    return conditions


def do_expire(node: Any, words: Words) -> int:
    """`EXPIRE key seconds [NX|XX|GT|LT]`: lets a key end after seconds."""
    return _expire(node, words, "EX", "expire")


def do_pexpire(node: Any, words: Words) -> int:
    """`PEXPIRE key milliseconds [NX|XX|GT|LT]`: lets a key end after milliseconds."""
    return _expire(node, words, "PX", "pexpire")


def do_expireat(node: Any, words: Words) -> int:
    """`EXPIREAT key unix-time [NX|XX|GT|LT]`: lets a key end at a time."""
    return _expire(node, words, "EXAT", "expireat")


def do_pexpireat(node: Any, words: Words) -> int:
    """`PEXPIREAT key ms-time [NX|XX|GT|LT]`: lets a key end at a time."""
    return _expire(node, words, "PXAT", "pexpireat")


def _deadline(node: Any, key: str) -> int:
    """Epoch milliseconds; -1 without a deadline, -2 without a key."""
    store = node.store
    if store.find(key) is None:
        return -2
    return int(store.deadlines.get(key, -1))


def do_ttl(node: Any, words: Words) -> int:
    """`TTL key`: seconds until a key ends."""
    deadline = _deadline(node, words[1])
    return deadline if deadline < 0 else (deadline - node.store.now_ms + 500) // 1000


def do_pttl(node: Any, words: Words) -> int:
    """`PTTL key`: milliseconds until a key ends."""
    deadline = _deadline(node, words[1])
    return deadline if deadline < 0 else deadline - int(node.store.now_ms)


def do_expiretime(node: Any, words: Words) -> int:
    """`EXPIRETIME key`: when a key ends, in seconds."""
    deadline = _deadline(node, words[1])
    return deadline if deadline < 0 else (deadline + 500) // 1000


def do_pexpiretime(node: Any, words: Words) -> int:
    """`PEXPIRETIME key`: when a key ends, in milliseconds."""
    return _deadline(node, words[1])


def do_persist(node: Any, words: Words) -> int:
    """`PERSIST key`: takes a key's end away."""
    store, key = node.store, words[1]
    if store.find_for_write(key) is None or key not in store.deadlines:
        return 0
    store.clear_ttl(key)
    return 1


TABLE: Final[dict[str, list[Any]]] = {
    "expire": [do_expire, "we", 2, 0],
    "pexpire": [do_pexpire, "we", 2, 0],
    "expireat": [do_expireat, "we", 2, 0],
    "pexpireat": [do_pexpireat, "we", 2, 0],
    "ttl": [do_ttl, "r", 1, 1],
    "pttl": [do_pttl, "r", 1, 1],
    "expiretime": [do_expiretime, "r", 1, 1],
    "pexpiretime": [do_pexpiretime, "r", 1, 1],
    "persist": [do_persist, "we", 1, 1],
}
