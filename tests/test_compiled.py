"""Consensus as it is shipped: compiled, and passing the tests that its sources pass.

Not repeated is what puts other things in the place of its parts: the tests of the driver and of the
log writer, whose parts are fakes, the simulator's deliberate bugs, and bounds that a test lowers,
since they are compiled in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import tests

ROOT: Final = Path(__file__).resolve().parents[1]
SHIPPED: Final = (
    "core.log", "core.raft", "core.replication", "consensus.diskwork", "consensus.driver",
    "consensus.peers", "consensus.publish", "consensus.wal", "storage.groups", "storage.spares",
)  # fmt: skip
LOWERED_BOUNDS: Final = (
    "tests/core/test_uncommitted.py::test_the_number_of_entries_is_bounded_too",
)
REPEATED: Final = {  # what tests nodes as processes has them compiled anyway
    "core": ["tests/core"],
    "storage": ["tests/storage"],
    "consensus": [f"tests/consensus/test_{name}.py" for name in ("links", "publish", "ticking")],
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, tests.COMPILED: "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )


def test_nodes_run_what_is_compiled() -> None:
    names = [f"pyraft_fast.{name}" for name in SHIPPED]
    code = f"import sys, importlib\nfor n in {names}: print(importlib.import_module(n).__file__)"
    files = run("-c", code).stdout.split()
    assert len(files) == len(SHIPPED)
    assert all(file.endswith(".so") for file in files), files


def test_what_is_compiled_is_not_older_than_its_source() -> None:
    (built,) = (ROOT / "pyraft_fast").glob("_consensus__mypyc.*.so")
    sources = [ROOT / "pyraft_fast" / f"{name.replace('.', '/')}.py" for name in SHIPPED]
    late = [path.name for path in sources if path.stat().st_mtime > built.stat().st_mtime]
    assert not late, f"changed since they were compiled, which `make test` does: {late}"


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
def test_it_passes_the_simulator() -> None:
    """With the same checks at every step; sizes that are compiled in are those of the product."""
    done = run("-m", "tests.simulator", "--first", "50000", "--seeds", "60", "--jobs", "2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    assert "0 failed" in done.stdout
