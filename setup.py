"""Builds the compiled hot path; everything else about the package is in pyproject.toml."""

import os
from glob import glob

from setuptools import Extension, setup

TRACE = bool(os.environ.get("PYRAFT_FAST_TRACE"))
NAMES = (
    "_dice", "_digest", "_entry", "_hub", "_pen", "_quorum", "_ranks", "_resp", "_ring", "_turn",
    "_wire",
)  # fmt: skip
SHARED = sorted(glob("ext/*.h") + glob("ext/*.pxi"))


def extension(name: str) -> Extension:
    ext = Extension(
        f"pyraft_fast.{name}",
        [f"ext/{name}.pyx"],
        include_dirs=["ext"],
        depends=SHARED,
        extra_compile_args=["-O2", "-Wall", "-Wsign-compare"],
        define_macros=[("CYTHON_TRACE", "1")] if TRACE else [],
    )
    ext.cython_directives = {
        "language_level": 3,
        "boundscheck": TRACE,
        "wraparound": False,
        "linetrace": TRACE,
    }
    return ext


setup(
    ext_modules=[extension(name) for name in NAMES],
    options={"build_ext": {"cython_c_in_temp": True}},
)
