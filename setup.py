"""Builds the compiled hot path; everything else about the package is in pyproject.toml.

What serving and the codecs do per command is written in Cython (`ext`). What consensus does per
batch is Python, and compiled as it stands by mypyc: the sources stay what tests and the simulator
run and what people read. No coroutines: compiled ones do not see all that asyncio throws into them.
"""

import os
import sys
from glob import glob

from mypyc.build import mypycify
from setuptools import Extension, setup

TRACE = bool(os.environ.get("PYRAFT_FAST_TRACE"))
NAMES = (
    "_dice", "_digest", "_entry", "_hub", "_pen", "_quorum", "_ranks", "_resp", "_ring", "_slot",
    "_turn", "_wire",
)  # fmt: skip
COLD_PATHS = ["-include", "ext/cold_paths.h"]
SHARED = sorted(glob("ext/*.h") + glob("ext/*.pxi"))
COMPILED = [
    *sorted(set(glob("pyraft_fast/core/*.py")) - {"pyraft_fast/core/__init__.py"}),
    "pyraft_fast/consensus/diskwork.py",
    "pyraft_fast/consensus/driver.py",
    "pyraft_fast/consensus/forward.py",
    "pyraft_fast/consensus/lease_notice.py",
    "pyraft_fast/consensus/pacing.py",
    "pyraft_fast/consensus/publish.py",
    "pyraft_fast/consensus/resending.py",
    "pyraft_fast/consensus/serving_side.py",
    "pyraft_fast/consensus/ticking.py",
    "pyraft_fast/consensus/transfers.py",
    "pyraft_fast/consensus/wal.py",
    "pyraft_fast/storage/groups.py",
    "pyraft_fast/storage/oldfiles.py",
    "pyraft_fast/storage/spares.py",
]


def extension(name: str) -> Extension:
    ext = Extension(
        f"pyraft_fast.{name}",
        [f"ext/{name}.pyx"],
        include_dirs=["ext"],
        depends=SHARED,
        extra_compile_args=["-O2", "-Wall", "-Wsign-compare", *COLD_PATHS],
        define_macros=[("CYTHON_TRACE", "1")] if TRACE else [],
    )
    ext.cython_directives = {
        "language_level": 3,
        "boundscheck": TRACE,
        "wraparound": False,
        "linetrace": TRACE,
    }
    return ext


def consensus() -> list[Extension]:
    """Not for a command that only asks about the package: translating takes some seconds."""
    if not {"build", "build_ext", "bdist_wheel", "editable_wheel", "install"} & set(sys.argv):
        return []
    extensions = mypycify(
        # Types are checked by `make check`, where all that is imported is there.
        ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", *COMPILED],
        opt_level="2",
        group_name="pyraft_fast._consensus",
    )
    for compiled in extensions:
        compiled.extra_compile_args = [*compiled.extra_compile_args, *COLD_PATHS]
    return extensions


setup(
    ext_modules=[*[extension(name) for name in NAMES], *consensus()],
    options={"build_ext": {"cython_c_in_temp": True}},
)
