"""SplitMix64: random numbers from 64 bits of state."""

from typing import final

@final
class SplitMix:
    word: int
    def __init__(self, word: int, /) -> None: ...
    def random(self, /) -> float: ...
    def getrandbits(self, k: int, /) -> int: ...
