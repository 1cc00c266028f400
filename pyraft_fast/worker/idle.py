"""Writes that change nothing need no place in the log: what a handler says of that.

`SADD` of a member that is there, `LPOP` of an empty queue, `SETNX` of a lock that is held: pollers
send such commands all day. A node answers them as it answers linearizable reads, without an entry,
a sync or work on other nodes, as Redis does not propagate them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from pyraft_fast.worker.words import Handler, Words

_MARK: Final = "_idle_answer"  # attribute of a handler: itself, and what answers for it
HandlerT = TypeVar("HandlerT", bound=Handler)


def idle(answer: Handler) -> Callable[[HandlerT], HandlerT]:
    """Let `answer(node, words)` reply for the write handler below it where that changes nothing.

    `answer` is a read: it changes nothing itself, and returns NotImplemented if the handler would
    change anything, or if it cannot tell; then the command goes through the log. What it returns
    else must be what the handler would return. It may be asked several times for one command.
    """

    def mark(handler: HandlerT) -> HandlerT:
        setattr(handler, _MARK, (handler, answer))
        return handler

    return mark


def idle_answer_of(function: Callable[..., Any]) -> Handler | None:
    """What was said by `idle` of this very function: a wrapper that copies attributes has none."""
    handler, answer = getattr(function, _MARK, (None, None))
    is_it = handler is getattr(function, "__func__", function)
    return answer if is_it else None


def missing(reply: Callable[[], Any]) -> Handler:
    """For commands of one word: `reply()` where their key is not there."""

    def answer(node: Any, words: Words) -> Any:
        if len(words) == 2 and node.store.find(words[1]) is None:
            return reply()
        return NotImplemented

    return answer


def nothing() -> None:
    """Redis' nil."""


def has_none(members: Callable[[Any], Any]) -> Handler:
    """For commands that remove members: 0 where none of them is there. `members` of a value is
    whatever knows them by `in`.
    """

    def answer(node: Any, words: Words) -> Any:
        value = node.store.find(words[1])
        if value is None:
            return 0
        known = members(value)
        if not known:  # a handler took the last one itself: the key goes
            return NotImplemented
        for member in words[2:]:
            if member in known:
                return NotImplemented
        return 0

    return answer


def present(node: Any, words: Words) -> Any:
    """0 where the key is there."""
    return NotImplemented if node.store.find(words[1]) is None else 0


def no_keys(node: Any, words: Words) -> Any:
    """0 where none of the keys is there."""
    store = node.store
    for key in words[1:]:
        if key in store.data and store.check_ttl(key):
            return NotImplemented
    return 0
