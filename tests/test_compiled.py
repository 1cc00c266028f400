"""Consensus as it is shipped: compiled, and passing the tests that its sources pass.

Not repeated is what puts other things in the place of its parts: the tests of the driver and of the
log writer, whose parts are fakes, the simulator's deliberate bugs, and bounds that a test lowers,
since they are compiled in.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import tests

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = sorted(
    {
        *(ROOT / "pyraft_fast" / "core").glob("*.py"),
        *(
            ROOT / name
            for name in re.findall(r'"(pyraft_fast/.*\.py)",', (ROOT / "setup.py").read_text())
        ),
    }
    - {ROOT / "pyraft_fast" / "core" / "__init__.py"}
)
LOWERED_BOUNDS: Final = (
    "tests/core/test_uncommitted.py::test_the_number_of_entries_is_bounded_too",
)
REPEATED: Final = {  # what tests nodes as processes has them compiled anyway
    "core": ["tests/core"],
    "storage": [f"tests/storage/test_{name}.py" for name in ("wal", "wal_crash")],
    "consensus": [f"tests/consensus/test_{name}.py" for name in ("publish", "ticking")],
}


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, tests.COMPILED: "1", **more}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )


def test_nodes_run_what_is_compiled() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES]
    code = f"import sys, importlib\nfor n in {names}: print(importlib.import_module(n).__file__)"
    files = run("-c", code).stdout.split()
    assert len(files) == len(names) > 20
    assert all(file.endswith(".so") for file in files), files


def test_what_is_compiled_is_not_older_than_its_source() -> None:
    (built,) = (ROOT / "pyraft_fast").glob("_consensus__mypyc.*.so")
    folders = {path.parent for path in SOURCES}
    known = [path for folder in folders for path in folder.glob("*.py")]  # numbers are compiled in
    known.append(ROOT / "pyraft_fast" / "limits.py")
    late = [path.name for path in known if path.stat().st_mtime > built.stat().st_mtime]
    assert not late, f"changed since they were compiled, which `make test` does: {late}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_compiled_that_would_do_something_else(path: Path) -> None:
    """What asyncio throws into a compiled coroutine may not arrive; and what was assigned in a
    `try` has the type of that in its `finally`, even if it never came to it.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"line {node.lineno}"
        if isinstance(node, ast.Try):
            assigned = {name.id for name in names(node.body) if isinstance(name.ctx, ast.Store)}
            used = {name.id for name in names(node.finalbody)}
            assert not assigned & used, f"line {node.lineno}: {assigned & used}"


def names(body: list[ast.stmt]) -> list[ast.Name]:
    return [node for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]


def test_tests_run_the_sources() -> None:
    from pyraft_fast.consensus import driver
    from pyraft_fast.core import raft

    assert driver.__file__.endswith(".py")
    assert raft.__file__.endswith(".py")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", REPEATED)
def test_it_passes_the_tests_of_its_sources(part: str) -> None:
    left_out = [f"--deselect={test}" for test in LOWERED_BOUNDS]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *REPEATED[part], *left_out)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


@pytest.mark.timeout(600)
def test_it_does_in_the_simulator_what_its_sources_do() -> None:
    """Step for step, and every step is checked."""
    words = ("-m", "tests.simulator", "--first", "50000", "--seeds", "40", "--jobs", "2")
    runs = [run(*words, **{tests.SHIPPED_SIZES: "1", tests.COMPILED: mode}) for mode in ("1", "")]
    for done in runs:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    compiled, sources = (done.stdout[done.stdout.rindex("40 seeds") :] for done in runs)
    assert without_seconds(compiled) == without_seconds(sources)


def without_seconds(text: str) -> str:
    """What a soak says in the end but how long it took."""
    assert "; 0 failed" in text
    return re.sub(r"\d+ s; 0 failed", "", text)
