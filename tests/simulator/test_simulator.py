"""The simulator over some hundred seeds, and the promises that it makes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyraft_fast.consensus.diskwork import DiskThread
from tests.simulator import Options, Violation, simulate
from tests.simulator.disk import PHASES
from tests.simulator.nemesis import FAULTS

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 300
FINGERPRINT = """
import hashlib
from tests.simulator import Options, simulate
for seed in (3, 12, 24, 78, 240):
    report = simulate(seed, Options(trace=True))
    lines = hashlib.sha256("\\n".join(report.trace).encode()).hexdigest()
    print(seed, report.hash, report.steps, lines)
"""


def command(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_seeds_are_clean_and_bring_every_kind_of_fault() -> None:
    found = command("-m", "tests.simulator", "--seeds", str(SEEDS), "--jobs", "2")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert any(line.startswith(f"{SEEDS} seeds, ") for line in lines)
    counts = {line[12:]: int(line[:10]) for line in lines if line[:10].strip().isdigit()}
    missing = set(FAULTS) - set(counts)
    assert not missing
    for phase in PHASES:
        for operation in ("write", "sync"):
            assert f"power loss {phase} {operation}" in counts
            assert f"kill {phase} {operation}" in counts


def test_a_seed_decides_everything() -> None:
    """Two processes whose sets and dicts differ see the same run, to the last line."""
    one, other = (command("-c", FINGERPRINT, hash_seed=seed) for seed in ("1", "2"))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout


def test_a_violation_tells_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is ever synced, somebody soon acknowledges what a crash takes away."""
    monkeypatch.setattr(DiskThread, "_sync", lambda self: None)
    with pytest.raises(Violation) as caught:
        for seed in range(1, 6):
            simulate(seed, Options(lines=30))
    violation = caught.value
    text = str(violation)
    assert f"python -m tests.simulator --replay {violation.seed}" in text
    assert "starts" in text or "says" in text
    assert 1 <= len(violation.trace) <= 30
    assert violation.step > 0


def test_a_seed_can_be_replayed() -> None:
    found = command("-m", "tests.simulator", "--replay", "1")
    assert found.returncode == 0, found.stderr
    assert "seed 1: all well" in found.stdout
    assert "leads term" in found.stdout
