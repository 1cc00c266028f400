"""For modules that are compiled by mypyc (setup.py lists them); no effect on their sources.

`mypyc_attr(allow_interpreted_subclasses=True)` lets Python classes inherit from a compiled one, as
the simulator's do to look at each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    T = TypeVar("T")

    def mypyc_attr(**_: object) -> Callable[[T], T]:
        """Leave a class as it is."""
        return lambda cls: cls
