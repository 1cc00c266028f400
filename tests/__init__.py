"""Tests run what consensus is made of from its sources, so that they can look into it and replace
parts of it, as the simulator does with its deliberate bugs. Nodes that they start as processes run
it compiled, as everywhere; so do the tests that `test_compiled.py` repeats.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Final

COMPILED: Final = "PYRAFT_FAST_TEST_COMPILED"  # set: tests in this process use compiled modules
SHIPPED_SIZES: Final = "PYRAFT_FAST_TEST_SHIPPED_SIZES"  # set: the simulator leaves those alone


class FromSources:
    """Finds modules of the package that have Python sources, compiled or not."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module's source; None: others may look for it."""
        if not name.startswith("pyraft_fast.") or not path:
            return None
        for folder in path:
            found = FileFinder(folder, (SourceFileLoader, [".py"])).find_spec(name)
            if found is not None:
                return found
        return None


if not os.environ.get(COMPILED):
    sys.meta_path.insert(0, FromSources)  # type: ignore[arg-type]
