"""Starting, stopping and killing one node, as a person at a terminal meets it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.process.cluster import ROOT, Node, alive, eventually, free_port


def run(*words: str, cwd: Path, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """Run a program of the package to its end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("[INFO]")]
    assert "Traceback" not in text, text
    assert len(lines) == 1, text
    return lines[0]


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def test_a_node_serves_and_keeps_its_data_over_a_restart(node: Node) -> None:
    node.start()
    eventually(node.answers)
    with node.client() as client:
        assert client.set("key", "value") is True
        assert client.get("key") == "value"
    assert node.stop() == 0
    node.start()
    eventually(node.answers)
    with node.client() as client:
        assert client.get("key") == "value"
    node.kill()
    node.start()
    eventually(node.answers)
    with node.client() as client:
        assert client.get("key") == "value"


def test_large_values_are_there_after_a_kill(node: Node) -> None:
    sizes = [10, 40_000, 70_000, 300_000, 5_000_000, 300_000, 300_000, 70_000, 70_000, 10]
    node.start()
    eventually(node.answers)
    with node.client() as client:
        for number, size in enumerate(sizes):
            assert client.set(f"key:{number}", str(number) * size) is True
    node.kill()
    node.start()
    eventually(node.answers)
    with node.client() as client:
        for number, size in enumerate(sizes):
            assert client.get(f"key:{number}") == str(number) * size


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_with_status_0_and_no_traceback(node: Node, number: int) -> None:
    node.start()
    eventually(node.answers)
    child = node.consensus_pid()
    began = time.monotonic()
    assert node.stop(number, seconds=2) == 0
    assert time.monotonic() - began < 2
    assert not alive(child)
    assert "Traceback" not in node.text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_start_ends_the_node_with_status_0(node: Node, number: int) -> None:
    """The consensus process has begun; the node does not serve yet, or only just."""
    node.start()
    child = eventually(node.consensus_pid)
    assert node.stop(number, seconds=5) == 0
    assert not alive(child)
    assert "Traceback" not in node.text()
    assert "while it started" not in node.text()


def test_a_signal_that_another_thread_took_ends_the_node_too(node: Node) -> None:
    """The waiting thread sleeps on then: only what it looks at by itself wakes it."""
    node.start()
    eventually(node.answers)
    threads = [int(name) for name in os.listdir(f"/proc/{node.pid}/task")]
    os.kill(max(threads), signal.SIGTERM)
    assert node.process is not None
    assert node.process.wait(10) == 0


def test_ctrl_c_reaches_both_processes_and_still_ends_in_order(node: Node) -> None:
    """A terminal sends SIGINT to the whole process group."""
    node.start()
    eventually(node.answers)
    with node.client() as client:
        client.set("key", "value")
    child = node.consensus_pid()
    os.kill(child, signal.SIGINT)
    assert node.stop(signal.SIGINT, seconds=2) == 0
    assert not alive(child)


def test_port_in_use_is_one_line_and_status_1(tmp_path: Path) -> None:
    port = free_port()
    for taken in (port, port + 1):
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", taken))
            holder.listen()
            result = run("-m", "pyraft_fast", "-a", f"127.0.0.1:{port}", cwd=tmp_path)
        assert result.returncode == 1, result
        assert str(taken) in one_line(result.stderr)


def test_unwritable_folder_is_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "data"
    result = run(
        "-m", "pyraft_fast", "-a", f"127.0.0.1:{free_port()}", "--dir", str(folder), cwd=tmp_path
    )
    assert result.returncode == 1, result
    assert str(folder) in one_line(result.stderr)


def test_second_node_on_the_same_folder_is_one_line_and_status_1(node: Node) -> None:
    node.start()
    eventually(node.answers)
    result = run(
        *node.program, "-i", node.nid, "-a", f"127.0.0.1:{free_port()}",
        "--dir", str(node.folder), cwd=node.folder.parent,
    )  # fmt: skip
    assert result.returncode == 1, result
    assert str(node.folder) in one_line(result.stderr)
    assert node.answers()


@pytest.mark.parametrize(
    "flags",
    [
        ["--no-such-flag"],
        [],
        ["-a", "nonsense"],
        ["-a", "127.0.0.1:5010", "-loglevel", "loud"],
        ["-a", "127.0.0.1:5010", "-e", ","],
        ["-a", "127.0.0.1:5010", "-i", "a/b"],
        ["-a", "127.0.0.1:5010", "--election-ms", "60-120"],
    ],
)
def test_unusable_flags_end_with_status_2_and_say_why(flags: list[str], tmp_path: Path) -> None:
    result = run("-m", "pyraft_fast", *flags, cwd=tmp_path)
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("pyraft-fast: error:"), result.stderr


def test_version_is_one_everywhere(node: Node, tmp_path: Path) -> None:
    shown = run("-m", "pyraft_fast", "--version", cwd=tmp_path).stdout.split()
    assert shown[0] == "pyraft-fast"
    node.start()
    eventually(node.answers)
    assert node.info("server")["pyraft_fast_version"] == shown[1]


def test_killed_serving_process_takes_the_consensus_process_and_frees_both_ports(
    node: Node,
) -> None:
    node.start()
    eventually(node.answers)
    shared = set(os.listdir("/dev/shm"))
    child = node.consensus_pid()
    assert child
    os.kill(node.pid, signal.SIGKILL)
    eventually(lambda: not alive(child), 1.0, "consensus process gone within 1 s")
    assert node.process is not None
    node.process.wait(5)
    # Its main thread gone, a process may have its disk thread, and its sockets, a moment more.
    eventually(lambda: can_bind(node.port) and can_bind(node.port + 1), 1.0, "both ports free")
    # Locks of tests that run beside this one come and go.
    eventually(lambda: set(os.listdir("/dev/shm")) <= shared, 1.0, "nothing stays in /dev/shm")


def test_nothing_is_left_when_both_processes_are_killed(node: Node) -> None:
    shared = set(os.listdir("/dev/shm"))
    node.start()
    eventually(node.answers)
    child = node.consensus_pid()
    os.kill(child, signal.SIGSTOP)
    os.kill(node.pid, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not alive(child) and not alive(node.pid), 5)
    # Locks of tests that run beside this one come and go.
    eventually(lambda: set(os.listdir("/dev/shm")) <= shared, 1.0, "nothing stays in /dev/shm")


class Writer(threading.Thread):
    """Writes numbered keys and keeps what each answer was."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__()
        self.client = node.client()
        self.prefix = name
        self.acknowledged: list[str] = []
        self.errors: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            key = f"{self.prefix}:{number}"
            number += 1
            try:
                self.client.set(key, key)
                self.acknowledged.append(key)
            except redis.RedisError as error:
                self.errors.append(str(error))


def test_killed_consensus_process_is_restarted_and_loses_no_acknowledged_write(
    node: Node,
) -> None:
    node.start()
    eventually(node.answers)
    writers = [Writer(node, f"w{n}") for n in range(8)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            before = node.consensus_pid()
            written = sum(len(writer.acknowledged) for writer in writers)
            eventually(lambda n=written: sum(len(w.acknowledged) for w in writers) > n + 200)
            os.kill(before, signal.SIGKILL)
            eventually(lambda p=before: node.consensus_pid() not in (0, p), what="a new child")
            written = sum(len(writer.acknowledged) for writer in writers)
            eventually(lambda n=written: sum(len(w.acknowledged) for w in writers) > n + 200)
    finally:
        for writer in writers:
            writer.ended.set()
        for writer in writers:
            writer.join(20)
    with node.client() as client:
        for writer in writers:
            assert client.mget(writer.acknowledged) == writer.acknowledged
    errors = [error for writer in writers for error in writer.errors]
    assert errors, "writes were pending when the process died: somebody must have been told"
    assert {error.split()[0] for error in errors} <= {"UNCERTAIN", "CLUSTERDOWN", "TRYAGAIN"}
    assert any(error.startswith("UNCERTAIN") for error in errors)


def test_shutdown_command_stops_this_node_only(nodes: Callable[..., Node], node: Node) -> None:
    node.start()
    eventually(node.answers)
    with node.client() as client:
        client.shutdown()
    assert node.process is not None
    assert node.process.wait(3) == 0
