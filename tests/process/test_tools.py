"""The tools that break things do break them: the network that is cut, the shim under a process."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyraft_fast._wire import encode_frame
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import Hello, Identity
from tests.process.cluster import LOOPBACK, Node, eventually
from tests.process.partition import Network, both
from tests.process.shim import TORN, Knob, Shim

GREETING = encode_frame(FrameType.HELLO, Hello(Identity(7, "1", "here:1", 5), "2", 0).header())
QUESTION = encode_frame(FrameType.REQUEST, {"version": 1, "op": "PROBE", "args": {}})
SECONDS = 5.0
QUIET_SECONDS = 0.1  # in which bytes on loopback would have come


class Peer:
    """Where node 2 would be: a socket that accepts, behind a proxy of the network."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.node = Node("2", folder / "n2")
        self._listener = socket.create_server((LOOPBACK, self.node.port + 1))
        self._listener.settimeout(SECONDS)
        network.serve(self.node)
        self._open: list[socket.socket] = []

    def called(self, first: bytes) -> tuple[socket.socket, socket.socket]:
        """A new connection to it through the network: both ends, the caller's first."""
        caller = socket.create_connection((self.node.host, self.node.port + 1), SECONDS)
        caller.sendall(first)
        callee, _ = self._listener.accept()
        callee.settimeout(SECONDS)
        self._open += [caller, callee]
        return caller, callee

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            each.close()


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture
def peer(network: Network, tmp_path: Path) -> Iterator[Peer]:
    made = Peer(network, tmp_path)
    yield made
    made.close()


def read(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = end.recv(count - len(data))
        assert part, f"the connection ended after {data!r}"
        data += part
    return data


def is_quiet(end: socket.socket) -> bool:
    """Nothing comes for a moment, not even an end."""
    end.settimeout(QUIET_SECONDS)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(SECONDS)
    return False


def is_reset(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


def test_an_open_network_passes_bytes_both_ways_and_ends(peer: Peer) -> None:
    caller, callee = peer.called(GREETING)
    assert read(callee, len(GREETING)) == GREETING
    callee.sendall(b"welcome")
    assert read(caller, 7) == b"welcome"
    callee.sendall(b"last")
    callee.close()
    assert read(caller, 4) == b"last"
    assert caller.recv(1) == b""


def test_a_cut_way_swallows_and_is_reset_at_the_end(network: Network, peer: Peer) -> None:
    caller, callee = peer.called(GREETING)
    read(callee, len(GREETING))
    network.cut([("1", "2")])
    caller.sendall(b"lost")
    callee.sendall(b"found")
    assert read(caller, 5) == b"found", "the other way is open"
    assert is_quiet(callee)
    eventually(lambda: network.swallowed_bytes == 4)
    fresh, other = peer.called(GREETING)
    assert is_quiet(other), "a new connection hangs"
    network.heal()
    assert is_reset(caller)
    assert is_reset(callee)
    assert is_reset(fresh)
    _, again = peer.called(GREETING)
    assert read(again, len(GREETING)) == GREETING


def test_the_end_of_a_connection_is_not_seen_through_a_cut(network: Network, peer: Peer) -> None:
    caller, callee = peer.called(GREETING)
    read(callee, len(GREETING))
    network.cut(both("1", "2"))
    callee.close()
    assert is_quiet(caller)
    network.heal()
    assert is_reset(caller)


def test_a_held_way_delivers_late(network: Network, peer: Peer) -> None:
    caller, callee = peer.called(GREETING)
    read(callee, len(GREETING))
    network.hold([("1", "2")])
    caller.sendall(b"late")
    assert is_quiet(callee)
    network.heal()
    assert read(callee, 4) == b"late"


def test_strangers_are_cut_off_when_everybody_is(
    network: Network, peer: Peer, tmp_path: Path
) -> None:
    network.serve(Node("1", tmp_path / "n1"))
    network.serve(Node("3", tmp_path / "n3"))
    network.cut([("1", "2")])
    _, callee = peer.called(QUESTION)
    assert read(callee, len(QUESTION)) == QUESTION
    network.cut([("1", "2"), ("3", "2")])
    _, callee = peer.called(QUESTION)
    assert is_quiet(callee)


# The shim


@pytest.fixture
def shimmed(tmp_path: Path) -> tuple[Node, Shim]:
    node = Node("1", tmp_path / "n1")
    return node, Shim(node, tmp_path / "shim")


def run(node: Node, program: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import os, time\n{program}"],
        env=node.env,
        cwd=folder or node.folder,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_the_shim_moves_the_wall_clock_only(shimmed: tuple[Node, Shim]) -> None:
    node, shim = shimmed
    program = "print(time.time(), time.time_ns() / 1e9, time.monotonic())"
    usual = [float(word) for word in run(node, program).stdout.split()]
    shim.set(Knob.CLOCK_OFFSET_NS, -3600 * 10**9)
    moved = [float(word) for word in run(node, program).stdout.split()]
    assert [round((a - b) / 3600) for a, b in zip(moved, usual, strict=True)] == [-1, -1, 0]


WRITE = "fd = os.open('f', os.O_CREAT | os.O_RDWR)\nprint(os.pwrite(fd, b'x' * 100, 0))"


def test_the_shim_fails_and_shortens_writes(shimmed: tuple[Node, Shim], tmp_path: Path) -> None:
    node, shim = shimmed
    shim.set(Knob.ROOM_BYTES, 60)
    assert run(node, WRITE).stdout == "60\n"
    assert f"[Errno {errno.ENOSPC}]" in run(node, WRITE.replace("'f'", "'g'")).stderr
    shim.set(Knob.ROOM_BYTES, -1)
    assert run(node, WRITE).stdout == "100\n"
    shim.set(Knob.ROOM_BYTES, 0)
    assert run(node, WRITE).stdout == "100\n", "it need not grow for that"
    shim.set(Knob.WRITE_ERRNO, errno.EIO)
    assert f"[Errno {errno.EIO}]" in run(node, WRITE).stderr
    assert run(node, WRITE, tmp_path).stdout == "100\n", "another folder"
    assert shim.get(Knob.FAILURES) == 2


def test_the_shim_fails_and_slows_syncs(shimmed: tuple[Node, Shim]) -> None:
    node, shim = shimmed
    program = "fd = os.open('f', os.O_CREAT | os.O_RDWR)\nb = time.monotonic()\n"
    program += "os.fdatasync(fd)\nprint(time.monotonic() - b)"
    shim.set(Knob.SYNC_MS, 300)
    assert float(run(node, program).stdout) >= 0.3
    shim.set(Knob.SYNC_ERRNO, errno.EIO)
    assert f"[Errno {errno.EIO}]" in run(node, program).stderr


def test_the_shim_tears_a_write_at_a_sector(shimmed: tuple[Node, Shim]) -> None:
    node, shim = shimmed
    program = "fd = os.open('a.log', os.O_CREAT | os.O_RDWR)\n"
    program += "os.pwrite(fd, b'x' * 100, 0)\nos.pwrite(fd, b'y' * 1000, 400)\nprint('alive')"
    shim.set(Knob.TEAR, 1)
    assert run(node, program).returncode == -9
    assert shim.get(Knob.TEAR) == TORN
    assert (node.folder / "a.log").stat().st_size == 512
