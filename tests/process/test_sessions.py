"""The console sessions that pyraft's README shows, replayed against real nodes."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

from tests.process.cluster import Cluster, Node, eventually


class Telnet:
    """What a person at `telnet HOST PORT` types and sees."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=6)
        self.file = self.socket.makefile("rb")

    def type(self, line: str) -> bytes:
        """Send one line; returns the first line of the answer, or a whole bulk string."""
        self.socket.sendall(line.encode() + b"\r\n")
        head = self.file.readline()
        if head.startswith(b"$") and head != b"$-1\r\n":
            return head + self.file.read(int(head[1:]) + 2)
        return head

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def telnet(port: int, *lines: str) -> list[bytes]:
    session = Telnet(port)
    try:
        return [session.type(line) for line in lines]
    finally:
        session.close()


def test_single_node_elects_itself_and_says_so(node: Node) -> None:
    node.start()
    eventually(node.answers)
    assert telnet(node.port, "set key value", "get key") == [b"+OK\r\n", b"$5\r\nvalue\r\n"]
    lines = [line for line in node.text().splitlines() if "leader" in line]
    assert lines
    assert re.match(r"\[INFO\]\[1-\d+\(l\)", lines[0]), lines


def test_run_raft_module_starts_a_node(nodes: Callable[..., Node]) -> None:
    node = nodes("1", program=("-m", "pyraft_fast.run_raft")).start()
    eventually(node.answers)
    assert telnet(node.port, "set key value") == [b"+OK\r\n"]


def test_three_nodes_with_ids_write_here_read_there(three: Cluster) -> None:
    leader, follower = three.leader(), three.follower()
    assert telnet(leader.port, "set key value", "get key")[0] == b"+OK\r\n"
    assert telnet(follower.port, "get key") == [b"$5\r\nvalue\r\n"]
    assert telnet(follower.port, "set key 'other value'") == [b"+OK\r\n"]
    assert telnet(leader.port, "get key") == [b"$11\r\nother value\r\n"]


def test_three_nodes_listed_without_ids(nodes: Callable[..., Node]) -> None:
    """-e 127.0.0.1:5020,127.0.0.1:5030: the ids are learned."""
    made = [nodes("1"), nodes("2"), nodes("3")]
    for node in made:
        node.start("-e", ",".join(other.addr for other in made if other is not node))
    for node in made:
        eventually(lambda n=node: n.info()["raft_voters"] == "1,2,3", what=node.text)
    assert telnet(made[0].port, "set key value") == [b"+OK\r\n"]
    assert telnet(made[2].port, "get key") == [b"$5\r\nvalue\r\n"]


def test_cluster_grows_from_one_to_three_naming_one_member(nodes: Callable[..., Node]) -> None:
    first = nodes("1").start()
    eventually(first.answers)
    assert telnet(first.port, "set key value") == [b"+OK\r\n"]
    second = nodes("2").start("-e", first.addr)
    eventually(lambda: first.info()["raft_voters"] == "1,2", what=second.text)
    third = nodes("3").start("-e", second.addr)
    eventually(lambda: first.info()["raft_voters"] == "1,2,3", what=third.text)
    assert telnet(third.port, "get key") == [b"$5\r\nvalue\r\n"]
    eventually(lambda: third.info()["raft_voters"] == "1,2,3")


def test_checkpoint_and_start_from_it(nodes: Callable[..., Node]) -> None:
    old = nodes("1").start()
    eventually(old.answers)
    assert telnet(old.port, "set key value", "checkpoint") == [b"+OK\r\n", b"+OK\r\n"]
    (snapshot,) = old.folder.glob("raft_1_*_*.dat")
    assert old.stop() == 0
    new = nodes("1").start("-l", str(snapshot))
    other = nodes("2").start("-e", new.addr)
    eventually(lambda: telnet(new.port, "get key") == [b"$5\r\nvalue\r\n"], what=new.text)
    eventually(lambda: telnet(other.port, "get key") == [b"$5\r\nvalue\r\n"], what=other.text)


def test_start_from_a_snapshot_of_pyraft(nodes: Callable[..., Node], tmp_path: Path) -> None:
    old = tmp_path / "raft_1_1586000000_3.dat"
    old.write_text(
        "{'key': 'value', 'list': ['a', 'b'], 'hash': {'f': 'v'}, 'ttl': {'key': 4102444800.0}, "
        "'_META_': {'id': '1', 'term': 1, 'index': 3, 'state': 'l', 'ensemble': {}}}"
    )
    node = nodes("1").start("-l", str(old))
    eventually(lambda: telnet(node.port, "get key") == [b"$5\r\nvalue\r\n"], what=node.text)
    with node.client() as client:
        assert client.lrange("list", 0, -1) == ["a", "b"]
        assert client.hgetall("hash") == {"f": "v"}
        assert client.expiretime("key") == 4102444800
        assert client.dbsize() == 3


def test_restart_finds_its_data_without_any_flag(node: Node) -> None:
    node.start()
    eventually(node.answers)
    lines = ["set a 1", "checkpoint", "set b 2"]
    assert telnet(node.port, *lines) == [b"+OK\r\n"] * 3
    assert node.stop() == 0
    node.start()
    eventually(node.answers)
    assert telnet(node.port, "get a", "get b") == [b"$1\r\n1\r\n", b"$1\r\n2\r\n"]
