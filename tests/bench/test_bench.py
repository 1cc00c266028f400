"""`pyraft-fast bench` as people run it, with next to nothing to measure."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyraft_fast.bench.peers import START_SECONDS, Program, Server, free_ports, uninterrupted, until
from pyraft_fast.bench.replies import end_of_reply
from tests.process.cluster import ROOT, alive, children_of

pytestmark = pytest.mark.process
TINY = ["--quick", "--seconds", "0.02", "--rounds", "1", "--keys", "50", "--many-keys", "500"]


def bench(folder: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pyraft_fast", "bench", *flags],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_small_run_prints_draws_and_leaves_nothing_behind(tmp_path: Path) -> None:
    figures, drawing = tmp_path / "figures.json", tmp_path / "report.html"
    server_files = tmp_path / "files"
    server_files.mkdir()
    flags = [*TINY, "--only", "custom,million", "--peers", "redis"]
    with bench(server_files, *flags, "--json", str(figures), "--html", str(drawing)) as process:
        said, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert "A handler in plain Python beside SET" in said
    assert "redis-benchmark" in said or "pyraft_fast.bench.generator" in said
    whole = json.loads(figures.read_text())
    assert not [row["error"] for row in whole["runs"] if row["error"]]
    assert not [note for note in whole["notes"] if "did not start" in note]
    measured = {(row["server"], row["point"]["work"]) for row in whole["medians"]}
    assert measured == {("cas-3", "CAS"), ("cas-3", "SET")}
    for row in whole["medians"]:
        assert row["rate"] > 0 and row["p50_ms"] <= row["p99_ms"]
        roles = {label.split()[0] for label in row["cpu_us"]}
        assert roles == {"leader", "follower"}
    facts = {fact["name"]: fact["value"] for fact in whole["facts"]}
    assert facts["restart"] > 0 and facts["longest pause, snapshot"] > 0, whole["notes"]
    assert "A handler in plain Python beside SET" in drawing.read_text()
    assert not list(server_files.iterdir())


def test_ctrl_c_ends_what_was_started_and_prints_what_there_is(tmp_path: Path) -> None:
    flags = ["--only", "table", "--peers", "", "--seconds", "0.02", "--keys", "50"]
    with bench(tmp_path, *flags, "--rounds", "1000") as process:
        try:
            until(lambda: len(list(tmp_path.glob("*/ours-*/node*"))) >= 9, lambda: "nodes")
            nodes = [pid for pid in children_of(process.pid) if alive(pid)]
            assert nodes
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "interrupted" in said
    assert not [pid for pid in nodes if alive(pid)]
    assert not list(tmp_path.iterdir())


class Standing(threading.Thread):
    """A server that answers each request, but stands still once for a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        connection, _ = self._listener.accept()
        self._listener.close()
        data, count = b"", 0
        with connection:
            while more := connection.recv(65536):
                data += more
                while data and (end := end_of_reply(data, 0)) > 0:  # a request is an array too
                    data, count = data[end:], count + 1
                    if count == 100:
                        threading.Event().wait(self._seconds)
                    connection.sendall(b"+OK\r\n")


def test_a_pause_is_charged_to_every_request_that_was_due_in_it() -> None:
    server = Standing(0.3)
    server.start()
    line = [sys.executable, "-m", "pyraft_fast.bench.generator", "--port", str(server.port)]
    line += ["--clients", "1", "--rate", "1000", "--requests", "600"]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said = json.loads(done.stdout)
    assert (said["requests"], said["unanswered"], said["errors"]) == (600, 0, 0)
    # 300 of 600 requests were due in the pause: half of them waited for 150 ms and more. A
    # generator that waits for answers before it sends would have seen one slow request.
    assert said["max_ms"] >= 290
    assert said["p99_ms"] >= 250
    assert said["rate"] <= 1000 * 1.01


def test_ports_are_free_and_programs_are_ended(tmp_path: Path) -> None:
    first = free_ports(3)
    for port in range(first, first + 3):
        socket.create_server(("127.0.0.1", port)).close()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
    program = Program([sys.executable, "-c", code], tmp_path / "stubborn")
    program.kill()
    assert program.process.returncode == -signal.SIGKILL
    program.stop()  # once more is no harm


class Short(Server):
    """A server whose program ends at once."""

    def start(self, folder: Path) -> None:
        self.launch([sys.executable, "-c", "raise SystemExit('no such flag')"], folder)
        self.until(lambda: False)


def test_a_server_that_ends_by_itself_is_not_waited_for(tmp_path: Path) -> None:
    server = Short("short", "short")
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="no such flag"):
        server.start(tmp_path / "short")
    assert time.monotonic() - began < START_SECONDS / 2


def test_signals_wait_while_a_program_is_started() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
