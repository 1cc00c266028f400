"""What a deliberate bug is: a name, what it breaks, and the edits that make it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.simulator.edits import Edit, made


@dataclass(frozen=True)
class Bug:
    """One bug; `seeds` is within how many, counted from 1, the simulator must catch it.

    0: it was not caught so far, because it takes more faults at once than a run has, or because
    another rule of the product takes its sting.
    """

    name: str
    text: str
    edits: tuple[Edit, ...]
    seeds: int = 0

    @property
    def where(self) -> str:
        """File and function of the first edit."""
        return self.edits[0].where

    def apply(self) -> AbstractContextManager[None]:
        """Run with this bug in force."""
        return made(*self.edits)


def bug(name: str, text: str, *edits: tuple[str, str, str], seeds: int = 0) -> Bug:
    """A bug of edits (function, old text, new text)."""
    return Bug(name, text, tuple(Edit(*edit) for edit in edits), seeds)
