"""Ranges of sorted sets, by rank, by score and by lexical order: reading, counting, removing.

Every range is turned into (start, stop) places first; the rest is the same for all commands.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from pyraft_fast.errors import CommandError
from pyraft_fast.worker.lists import clip
from pyraft_fast.worker.types import Pairs, SortedSet
from pyraft_fast.worker.words import Words, byte_text, integer, number, option, syntax_error
from pyraft_fast.worker.zsets import zset

_NOT_FLOAT: Final = "min or max is not a float"
_DECIMAL: Final = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_NOT_LEX: Final = "min or max not valid string range item"


class _Bound(NamedTuple):
    """One end of a range; `open` leaves the value itself out."""

    value: Any
    open: bool


class _Options(NamedTuple):
    by: str  # "RANK", "SCORE" or "LEX"
    backwards: bool
    scores: bool
    offset: int
    most: int  # negative: all


def _score_bound(word: Any) -> _Bound:
    text = str(word)
    if text.startswith("("):
        return _Bound(_loose_number(text[1:]), True)
    return _Bound(_loose_number(text), False)


def _loose_number(text: str) -> float:
    """A score as Redis reads it in ranges: nothing is 0, and what is too large is infinite."""
    if not text:
        return 0.0
    try:
        return number(text.lstrip(" \t\n\v\f\r"), _NOT_FLOAT)
    except CommandError:
        if not _DECIMAL.fullmatch(text):
            raise
        return float(text)


def _lex_bound(word: Any) -> _Bound:
    text = str(word)
    if text in ("-", "+"):
        return _Bound(None, text == "+")
    if text[:1] not in ("(", "["):
        raise CommandError(_NOT_LEX)
    return _Bound(byte_text(text[1:]), text[0] == "(")


def _score_places(value: SortedSet, low: _Bound, high: _Bound) -> tuple[int, int]:
    return (
        value.place_of_score(low.value, above=low.open),
        value.place_of_score(high.value, above=not high.open),
    )


def _lex_places(value: SortedSet, low: _Bound, high: _Bound) -> tuple[int, int]:
    def place(bound: _Bound, above: bool) -> int:
        if bound.value is None:
            return len(value) if bound.open else 0
        return value.place_of_key(bound.value, above)

    return place(low, low.open), place(high, not high.open)


def _read_options(words: Words, by: str, backwards: bool, modern: bool) -> _Options:
    """The words behind min and max; `modern` allows ZRANGE's BYSCORE, BYLEX and REV."""
    scores, offset, count, limited = False, 0, -1, False
    at = 4
    while at < len(words):
        name = option(words[at])
        if name == "WITHSCORES":
            scores = True
        elif name == "LIMIT" and at + 2 < len(words):
            offset, count, limited = integer(words[at + 1]), integer(words[at + 2]), True
            at += 2
        elif modern and name in ("BYSCORE", "BYLEX"):
            by = name[2:]
        elif modern and name == "REV":
            backwards = True
        else:
            raise syntax_error()
        at += 1
    if limited and by == "RANK":
        raise CommandError(
            "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
        )
    if scores and by == "LEX":
        raise CommandError("syntax error, WITHSCORES not supported in combination with BYLEX")
    return _Options(by, backwards, scores, offset, count)


def _range(node: Any, words: Words, by: str, backwards: bool, modern: bool = False) -> Any:
    options = _read_options(words, by, backwards, modern)
    low, high = words[2], words[3]
    if options.by == "RANK":
        return _by_rank(node, words[1], integer(low), integer(high), options)
    if options.backwards:
        low, high = high, low
    read, locate = _BOUNDS[options.by]
    bounds = read(low), read(high)
    value = zset(node.store.find(words[1]))
    if value is None or options.offset < 0:
        return []
    start, stop = locate(value, *bounds)
    if start >= stop:
        return []
    if options.backwards:
        stop -= options.offset
        start = start if options.most < 0 else max(start, stop - options.most)
    else:
        start += options.offset
        stop = stop if options.most < 0 else min(stop, start + options.most)
    return _shown(value, start, stop, options)


def _by_rank(node: Any, key: str, first: int, last: int, options: _Options) -> Any:
    value = zset(node.store.find(key))
    if value is None:
        return []
    start, stop = clip(first, last, len(value))
    if options.backwards:
        start, stop = len(value) - stop, len(value) - start
    return _shown(value, start, stop, options)


def _shown(value: SortedSet, start: int, stop: int, options: _Options) -> Any:
    if start >= stop:
        return []
    if options.scores:
        return Pairs(value.slice(start, stop, options.backwards))
    return value.members(start, stop, options.backwards)


_BOUNDS: Final[dict[str, tuple[Any, Any]]] = {
    "SCORE": (_score_bound, _score_places),
    "LEX": (_lex_bound, _lex_places),
}


def do_zrange(node: Any, words: Words) -> Any:
    """ZRANGE: returns a range."""
    return _range(node, words, "RANK", backwards=False, modern=True)


def do_zrevrange(node: Any, words: Words) -> Any:
    """`ZREVRANGE key start stop [WITHSCORES]`: range from the highest score."""
    return _range(node, words, "RANK", backwards=True)


def do_zrangebyscore(node: Any, words: Words) -> Any:
    """`ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]`: range by score."""
    return _range(node, words, "SCORE", backwards=False)


def do_zrevrangebyscore(node: Any, words: Words) -> Any:
    """`ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]`: range by score, down."""
    return _range(node, words, "SCORE", backwards=True)


def do_zrangebylex(node: Any, words: Words) -> Any:
    """`ZRANGEBYLEX key min max [LIMIT offset count]`: range by bytes."""
    return _range(node, words, "LEX", backwards=False)


def do_zrevrangebylex(node: Any, words: Words) -> Any:
    """`ZREVRANGEBYLEX key max min [LIMIT offset count]`: range by bytes, down."""
    return _range(node, words, "LEX", backwards=True)


def _count(node: Any, words: Words, by: str) -> int:
    read, locate = _BOUNDS[by]
    bounds = read(words[2]), read(words[3])
    value = zset(node.store.find(words[1]))
    if value is None:
        return 0
    start, stop = locate(value, *bounds)
    return int(max(0, stop - start))


def do_zcount(node: Any, words: Words) -> int:
    """`ZCOUNT key min max`: counts the members in a range of scores."""
    return _count(node, words, "SCORE")


def do_zlexcount(node: Any, words: Words) -> int:
    """`ZLEXCOUNT key min max`: counts the members in a lexical range."""
    return _count(node, words, "LEX")


def _remove(store: Any, key: str, value: SortedSet, start: int, stop: int) -> int:
    if start >= stop:
        return 0
    removed = value.delete(start, stop)
    if not value.scores:
        store.delete(key)
    return removed


def do_zremrangebyrank(node: Any, words: Words) -> int:
    """`ZREMRANGEBYRANK key start stop`: removes a range of places."""
    first, last = integer(words[2]), integer(words[3])
    value = zset(node.store.find_for_write(words[1]))
    if value is None:
        return 0
    return _remove(node.store, words[1], value, *clip(first, last, len(value)))


def _remove_by(node: Any, words: Words, by: str) -> int:
    read, locate = _BOUNDS[by]
    bounds = read(words[2]), read(words[3])
    value = zset(node.store.find_for_write(words[1]))
    if value is None:
        return 0
    return _remove(node.store, words[1], value, *locate(value, *bounds))


def do_zremrangebyscore(node: Any, words: Words) -> int:
    """`ZREMRANGEBYSCORE key min max`: removes a range of scores."""
    return _remove_by(node, words, "SCORE")


def do_zremrangebylex(node: Any, words: Words) -> int:
    """`ZREMRANGEBYLEX key min max`: removes a lexical range."""
    return _remove_by(node, words, "LEX")


TABLE: Final[dict[str, list[Any]]] = {
    "zrange": [do_zrange, "r", 3, 0],
    "zrevrange": [do_zrevrange, "r", 3, 0],
    "zrangebyscore": [do_zrangebyscore, "r", 3, 0],
    "zrevrangebyscore": [do_zrevrangebyscore, "r", 3, 0],
    "zrangebylex": [do_zrangebylex, "r", 3, 0],
    "zrevrangebylex": [do_zrevrangebylex, "r", 3, 0],
    "zcount": [do_zcount, "r", 3, 3],
    "zlexcount": [do_zlexcount, "r", 3, 3],
    "zremrangebyrank": [do_zremrangebyrank, "we", 3, 3],
    "zremrangebyscore": [do_zremrangebyscore, "we", 3, 3],
    "zremrangebylex": [do_zremrangebylex, "we", 3, 3],
}
