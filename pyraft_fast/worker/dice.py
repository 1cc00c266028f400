"""Random numbers that every node draws alike: cheap to seed once per command.

`random.Random` takes microseconds to seed, more than most commands run. This generator
(`_dice.SplitMix`) keeps 64 bits of state. It is not for secrets.
"""

from __future__ import annotations

import random
from typing import Any, Final

from pyraft_fast._dice import SplitMix

_MASK: Final = 2**64 - 1


class Dice(random.Random):
    """A `random.Random` whose sequence depends only on the integer it was seeded with.

    Commands use `random()`, which gives the same floats under every Python version.
    """

    _source: SplitMix

    def __new__(cls, *_: Any) -> Dice:
        made = super().__new__(cls)
        made._source = source = SplitMix(0)
        # The methods of the source itself: most commands that draw do so once.
        made.random = source.random  # type: ignore[method-assign]
        made.getrandbits = source.getrandbits  # type: ignore[method-assign]
        return made

    def seed(self, a: Any = 0, version: int = 2) -> None:
        """Start over from `a`, an int (anything else counts as 0)."""
        self._source.word = a & _MASK if isinstance(a, int) else 0
        self.gauss_next = None

    # `random.Random` looks into the class for it, to make integers from bits.
    def getrandbits(self, k: int, /) -> int:
        """An int of `k` random bits; raises ValueError for a negative `k`."""
        return self._source.getrandbits(k)

    def getstate(self) -> Any:
        """The state, to be given to `setstate`."""
        return self._source.word

    def setstate(self, state: Any) -> None:
        """Continue from what `getstate` returned."""
        self.seed(state)
