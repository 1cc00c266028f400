"""redis-benchmark runs to its end without an error, against the leader and a follower."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.process.cluster import Cluster

RUNS = {
    "default": ["-n", "2000"],
    "pipeline": ["-n", "4000", "-P", "16"],
    "clients": ["-n", "2000", "-c", "200"],
    "random keys": ["-n", "2000", "-r", "100000"],
    "RESP3": ["-n", "2000", "-3"],
}


def benchmark(port: int, flags: list[str]) -> str:
    """One whole run; fails on an error reply, which ends redis-benchmark at once."""
    program = shutil.which("redis-benchmark")
    assert program, "redis-benchmark is missing: apt-get install redis-tools"
    result = subprocess.run(
        [program, "-h", "127.0.0.1", "-p", str(port), "-q", *flags],
        capture_output=True,
        text=True,
        timeout=110,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "Error" not in output, output
    assert "WARNING" not in output, output
    return output


@pytest.mark.parametrize("name", RUNS)
def test_whole_run_against_leader_and_follower(three: Cluster, name: str) -> None:
    for node in (three.leader(), three.follower()):
        output = benchmark(node.port, RUNS[name])
        for test in ("PING_INLINE", "SET", "LRANGE_600", "MSET (10 keys)"):
            assert f"{test}" in output, output
