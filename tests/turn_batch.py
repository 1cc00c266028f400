"""What a batch of `turn_world` is made of: words as they are, in place of their encoding."""

from __future__ import annotations

from typing import Any

from pyraft_fast.errors import CommandError


class Payload:
    """What a batch sends."""

    def __init__(self, items: list[Any], nbytes: int) -> None:
        self.items = items
        self.nbytes = nbytes

    def __len__(self) -> int:
        return self.nbytes


class Commands:
    """The payload of a batch that is open."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self.items)

    def peek(self) -> Payload:
        return Payload(self.items, self.nbytes)

    take = peek

    def add(self, words: Any, offset: int) -> None:
        if words[-1] == "unfit":
            raise CommandError("it cannot be encoded")
        self.items.append((offset, words))
        self.nbytes += sum(map(len, words))
