"""RESP: bytes to commands and replies, values to bytes."""

from collections.abc import Iterable
from typing import Any, TypeAlias, final

from typing_extensions import Self, disjoint_base

# bytes, bytearray, memoryview: whatever has the buffer protocol
_Buffer: TypeAlias = Any

@disjoint_base
class _Inbox:
    @property
    def pending(self) -> int: ...
    def feed(self, data: _Buffer, /) -> None: ...
    def get_buffer(self, hint: int = -1, /) -> memoryview: ...
    def buffer_updated(self, size: int, /) -> None: ...

@final
class Parser(_Inbox):
    def __new__(
        cls,
        *,
        bulk_bytes_max: int = ...,
        argc_max: int = ...,
        inline_bytes_max: int = ...,
        command_bytes_max: int = ...,
    ) -> Self: ...
    def take(self, count_max: int = ..., /) -> list[list[str]]: ...

@final
class ReplyParser(_Inbox):
    def __new__(
        cls,
        *,
        text: bool = False,
        inline: bool = False,
        bulk_bytes_max: int = ...,
        items_max: int = ...,
        line_bytes_max: int = ...,
    ) -> Self: ...
    def take(self, count_max: int = ..., /) -> list[Any]: ...

def encode(value: object, proto: int = 2) -> bytes: ...
def encode_into(out: bytearray, value: object, proto: int = 2) -> None: ...
def encode_command(words: Iterable[object], /) -> bytes: ...
