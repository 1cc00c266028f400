"""The first file the consensus process runs: it decides what that process can import.

Run as a script, `boot.py MODULE ARGUMENT...` runs MODULE like `python -m` would, but

- neither the current folder nor any relative one is searched, so that a `socket.py` beside the
  user's program is never taken for the standard library's (Python has `-P` for this from 3.11 on);
- the package is the very one this file belongs to, found by its place on disk, however the parent
  came to import it; the folder around it is not searched for anything else;
- the folders that the parent searched come last: they add what this interpreter's own folders
  lack, and replace nothing.

The package's `__init__` is not run: it brings the names for users, of which this process needs
none, and with them the serving side and the command tables.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

PATH_VARIABLE = "PYRAFT_FAST_PATH"


def main() -> None:
    """Arrange sys.path, place the package, run the module named by the first argument."""
    here = os.path.dirname(os.path.abspath(__file__))
    own = {here, os.path.realpath(here)}
    sys.path[:] = [p for p in sys.path if os.path.isabs(p) and p not in own]
    from_parent = os.environ.pop(PATH_VARIABLE, "").split(os.pathsep)
    sys.path.extend(p for p in from_parent if os.path.isabs(p) and p not in sys.path)
    _place_package(os.path.dirname(here))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


def _place_package(folder: str) -> None:
    """Make `folder` the package of that name, without searching for it."""
    spec = ModuleSpec(os.path.basename(folder), None, is_package=True)
    spec.submodule_search_locations = [folder]
    sys.modules[spec.name] = module_from_spec(spec)


if __name__ == "__main__":
    main()
