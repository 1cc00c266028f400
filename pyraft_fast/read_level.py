"""How current a read must be, as users write it: on the command line and in CLIENT CONSISTENCY.

linearizable   never older than what was acknowledged before the read began (thesis 6.4)
lease          the same as long as clocks drift less than stated, without a round (thesis 6.4.1)
max-age:MS     never older than what was acknowledged MS milliseconds before the read began
local          what the node has, however old
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pyraft_fast.errors import ConfigError
from pyraft_fast.limits import READ_AGE_MS_MAX

LINEARIZABLE: Final = "linearizable"
LEASE: Final = "lease"
LOCAL: Final = "local"
MAX_AGE: Final = "max-age"
LEVELS: Final = (LINEARIZABLE, LEASE, MAX_AGE, LOCAL)


class ReadLevel(NamedTuple):
    """A level by `name`; `age_ms` is 0 except for max-age."""

    name: str
    age_ms: int = 0

    def __str__(self) -> str:
        """The level as one word, as the flag takes it."""
        return f"{self.name}:{self.age_ms}" if self.name == MAX_AGE else self.name


def parse_level(text: str) -> ReadLevel:
    """Read `linearizable`, `lease`, `local` or `max-age:MS`, in any case.

    Raises ConfigError for anything else and for an age out of bounds.
    """
    name, colon, age = text.lower().partition(":")
    if name == MAX_AGE:
        # Few digits first: the text may come from a client, and long numbers are slow to read.
        if not (age.isascii() and age.isdigit() and len(age) <= len(str(READ_AGE_MS_MAX))):
            age = "0"
        if not 1 <= int(age) <= READ_AGE_MS_MAX:
            raise ConfigError(
                f"{MAX_AGE} takes from 1 to {READ_AGE_MS_MAX} milliseconds, such as {MAX_AGE}:500"
            )
        return ReadLevel(name, int(age))
    if colon or name not in (LINEARIZABLE, LEASE, LOCAL):
        raise ConfigError(
            f"reads are {LINEARIZABLE}, {LEASE}, {LOCAL} or {MAX_AGE}:MS, not {text[:128]!r}"
        )
    return ReadLevel(name)
