"""Ctrl-C while a program waits in `node.join()`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pyraft_fast.serving.signals import on_signals
from tests.process.cluster import ROOT, free_port

CTRL_C = """
import os, signal, sys, threading, time
from pyraft_fast.node import RaftNode

node = RaftNode("1", sys.argv[1], folder=sys.argv[2])
node.start()
if sys.argv[3] == "own":
    def raise_it(number, frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, raise_it)
assert node.request("set", "key", "value") is True

def say_ready():
    while sys.argv[3] == "plain" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.01)  # join() is about to take the signal
    print("ready", flush=True)

try:
    threading.Thread(target=say_ready).start()
    node.join()
    print("joined", node.shutdown_flag, flush=True)
except KeyboardInterrupt:
    print("interrupted", node.shutdown_flag, flush=True)
    assert node.request("get", "key") == "value"
    node.shutdown()
    node.join()
assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyraft")]
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


@pytest.mark.parametrize(("how", "said"), [("plain", "joined True"), ("own", "interrupted False")])
def test_ctrl_c_in_join(tmp_path: Path, how: str, said: str) -> None:
    addr = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, addr, str(tmp_path), how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert out == said + "\n", err
    assert process.returncode == 0, err
    assert err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_the_work_of_another_changes_nothing(number: signal.Signals) -> None:
    """A supervisor may tell a whole group, and a shell in it tells its child once more."""
    lock = threading.Lock()
    calls: list[bool] = []

    def stop() -> None:
        is_free = lock.acquire(timeout=1)
        calls.append(is_free)
        signal.raise_signal(number)
        if is_free:
            lock.release()

    with on_signals(stop):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert calls == [True]
