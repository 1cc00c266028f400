"""The simulator over some hundred seeds, and the promises that it makes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyraft_fast.errors import InvariantError, StorageError
from tests.simulator import Options, Violation, checks, clients, patches, simulate
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


@pytest.mark.timeout(600)
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
        assert f"power loss {phase} rename" in counts


def test_a_seed_decides_everything() -> None:
    """Two processes whose sets and dicts differ see the same run, to the last line."""
    one, other = (command("-c", FINGERPRINT, hash_seed=seed) for seed in ("1", "2"))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout


def test_a_violation_tells_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is ever synced, somebody soon acknowledges what a crash takes away."""
    write = patches.SimPen.write
    monkeypatch.setattr(
        patches.SimPen, "write", lambda pen, fd, data, at, _: write(pen, fd, data, at, False)
    )
    with pytest.raises(Violation) as caught:
        for seed in range(1, 6):
            simulate(seed, Options(lines=30))
    violation = caught.value
    text = str(violation)
    assert f"python -m tests.simulator --replay {violation.seed}" in text
    assert "starts" in text or "says" in text
    assert 1 <= len(violation.trace) <= 30
    assert violation.step > 0


def violation_in(seeds: int) -> str:
    with pytest.raises(Violation) as caught:
        for seed in range(1, seeds + 1):
            simulate(seed)
    return caught.value.text


def test_a_rule_on_an_answer_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at in a callback, and what such a one raises is only logged."""
    monkeypatch.setattr(clients, "FAILURES", ())
    assert "an error a client may see" in violation_in(5)


@pytest.mark.parametrize("error", [StorageError("no such luck"), InvariantError("it is odd")])
def test_a_node_that_does_not_come_up_needs_a_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The third time that a node opens its log it says that it cannot."""
    opens: dict[str, int] = {}
    open_log = checks.CheckedWal.open

    def opened(folder: str, *arguments: Any, **named: Any) -> Any:
        opens[folder] = opens.get(folder, 0) + 1
        if opens[folder] == 3:
            raise error
        return open_log(folder, *arguments, **named)

    monkeypatch.setattr(checks.CheckedWal, "open", opened)
    text = violation_in(5)
    assert checks.STOPPED in text and str(error) in text


def test_a_fault_excuses_no_other_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync fails, which may stop a node; but that is not what it says when it stops."""
    monkeypatch.setattr(checks.CheckedWal, "lost", lambda *_: InvariantError("it is odd"))
    text = violation_in(20)
    assert checks.STOPPED in text and "it is odd" in text


def test_a_seed_can_be_replayed() -> None:
    found = command("-m", "tests.simulator", "--replay", "1")
    assert found.returncode == 0, found.stderr
    assert "seed 1: all well" in found.stdout
    assert "leads term" in found.stdout
