"""A node's disk and clock under the test's control: `shim.c`, built here and loaded into one node.

Both processes of the node obey one small file that is mapped into memory on both sides.
"""

from __future__ import annotations

import functools
import mmap
import os
import subprocess
import tempfile
from enum import IntEnum
from pathlib import Path
from typing import Final

from tests.process.cluster import Node

SOURCE: Final = Path(__file__).with_name("shim.c")
WORD_BYTES: Final = 8
TORN: Final = 2


class Knob(IntEnum):
    """The places in `struct control`."""

    CLOCK_OFFSET_NS = 0
    ROOM_BYTES = 1
    SYNC_MS = 2
    WRITE_ERRNO = 3
    SYNC_ERRNO = 4
    TEAR = 5
    FAILURES = 6


@functools.cache
def library() -> Path:
    """The shim, compiled once per run of the tests."""
    folder = tempfile.TemporaryDirectory(prefix="pyraft-shim-")
    _FOLDERS.append(folder)
    made = Path(folder.name) / "shim.so"
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-o", str(made), str(SOURCE), "-ldl"]
    subprocess.run([*compiler, *flags], check=True)
    return made


_FOLDERS: Final[list[tempfile.TemporaryDirectory[str]]] = []  # removed when the tests end


class Shim:
    """What one node's disk and clock do. Make it before the node starts."""

    def __init__(self, node: Node, file: Path) -> None:
        file.write_bytes(bytes(WORD_BYTES * len(Knob)))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self.heal()
        node.env = {
            **node.env,
            "LD_PRELOAD": str(library()),
            "PYRAFT_TEST_SHIM": str(file),
            "PYRAFT_TEST_FOLDER": str(node.folder),
        }

    def set(self, knob: Knob, value: int) -> None:
        """From now on."""
        at = knob * WORD_BYTES
        self._map[at : at + WORD_BYTES] = value.to_bytes(WORD_BYTES, "little", signed=True)

    def get(self, knob: Knob) -> int:
        """As it is now."""
        at = knob * WORD_BYTES
        return int.from_bytes(self._map[at : at + WORD_BYTES], "little", signed=True)

    def heal(self) -> None:
        """A good disk and the right time."""
        for knob in Knob:
            self.set(knob, -1 if knob is Knob.ROOM_BYTES else 0)
