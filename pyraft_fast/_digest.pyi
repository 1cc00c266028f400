"""What a handler changed, in 64 bits: the keyspace that notes touched keys, and value digests."""

from collections.abc import Callable
from typing import Any, Final, final

from typing_extensions import disjoint_base

RUN: Final[int]
ITEMS: Final[int]
SCORES: Final[int]
TREE: Final[int]

def know(kind: type, form: int, /) -> None: ...
def digest(value: object, /) -> int: ...
def mix(a: int, b: int, /) -> int: ...

@final
class Notes:
    def begin(self, /) -> None: ...
    def end(self, name: str, data: Keyspace, deadlines: Keyspace, /) -> int: ...
    def take(self, /) -> list[Any]: ...

@disjoint_base
class Keyspace(dict[Any, Any]):
    def __init__(self, notes: Notes | None = None, /) -> None: ...
    def __reduce__(self, /) -> Any: ...

@final
class Noted:
    name: Final[str]
    failure: Final[Callable[[BaseException], Any]]

    def __init__(self, row: Any, notes: Notes, data: Keyspace, deadlines: Keyspace, /) -> None: ...
    def function(self, node: Any, words: Any, /) -> Any: ...
