"""Random numbers that every node draws alike: cheap to seed once per command.

`random.Random` takes microseconds to seed, more than most commands run. This generator
(SplitMix64; Steele, Lea and Flood, 2014) keeps 64 bits of state. It is not for secrets.
"""

from __future__ import annotations

import random
from typing import Any, Final

_MASK: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB
_UNIT: Final = 2.0**-53


class Dice(random.Random):
    """A `random.Random` whose sequence depends only on the integer it was seeded with.

    Commands use `random()`, which gives the same floats under every Python version.
    """

    def seed(self, a: Any = 0, version: int = 2) -> None:
        """Start over from `a`, an int (anything else counts as 0)."""
        self._word = a & _MASK if isinstance(a, int) else 0
        self.gauss_next = None

    def _next(self) -> int:
        self._word = word = (self._word + _GAMMA) & _MASK
        word = ((word ^ (word >> 30)) * _MIX_1) & _MASK
        word = ((word ^ (word >> 27)) * _MIX_2) & _MASK
        return word ^ (word >> 31)

    def random(self) -> float:
        """A float in [0, 1) with 53 random bits."""
        # `_next` written out: a call would cost as much as the arithmetic.
        self._word = word = (self._word + _GAMMA) & _MASK
        word = ((word ^ (word >> 30)) * _MIX_1) & _MASK
        word = ((word ^ (word >> 27)) * _MIX_2) & _MASK
        return ((word ^ (word >> 31)) >> 11) * _UNIT

    def getrandbits(self, k: int, /) -> int:
        """An int of `k` random bits; raises ValueError for a negative `k`."""
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        words = (k + 63) // 64
        value = 0
        for _ in range(words):
            value = (value << 64) | self._next()
        return value >> (64 * words - k)

    def getstate(self) -> Any:
        """The state, to be given to `setstate`."""
        return self._word

    def setstate(self, state: Any) -> None:
        """Continue from what `getstate` returned."""
        self.seed(state)
