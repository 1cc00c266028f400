"""Handler tables, merging, callbacks, and workers that listen on their own address."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from pyraft_fast.errors import RaftException
from pyraft_fast.worker.base_worker import BaseWorker
from pyraft_fast.worker.redis_worker import RedisWorker
from pyraft_fast.worker.table import CALLBACKS, Row
from pyraft_fast.worker.worker import MergedWorker, Worker
from tests.worker.fake_node import FakeNode


def one(node: Any, words: Any) -> int:
    """Gives one."""
    return 1


def two(node: Any, words: Any) -> int:
    return 2


def merged() -> MergedWorker:
    return MergedWorker("127.0.0.1:5010", BaseWorker("127.0.0.1:5010"), RedisWorker())


def test_users_entries_win_and_changes_are_seen_at_once() -> None:
    worker = merged()
    assert worker.table.resolve("GET").name == "get"
    worker.handler["get"] = [one, "r", 0, 2]
    row = worker.table.resolve("Get")
    assert (row.function, row.min, row.max, row.logged) == (one, 0, 2, False)
    worker.handler["get"][0] = two
    assert worker.table.resolve("get").function is two
    worker.handler["get"][1] = "we"
    assert worker.table.resolve("get").logged
    del worker.handler["get"]
    assert worker.table.resolve("get").flags == "r"
    worker.worker_list[1].handler["get"] = (one, "r", 1, 1)
    assert worker.table.resolve("get").function is one
    worker.worker_list[1].handler = {}
    assert worker.table.resolve("get") is None


def test_every_way_to_change_a_dict_is_noticed() -> None:
    worker = Worker()
    table, entry = worker.table, [one, "r", 0, 0]
    worker.handler.update({"a": entry}, b=entry)
    worker.handler |= {"c": entry}
    assert worker.handler.setdefault("d", entry) == entry
    assert all(table.resolve(name) for name in "abcd")
    worker.handler.pop("a")
    worker.handler.popitem()
    assert table.resolve("a") is table.resolve("d") is None
    assert worker.handler.pop("a", None) is None
    worker.handler.clear()
    assert table.resolve("b") is None


def test_workers_can_be_merged_later() -> None:
    worker, extra = merged(), Worker()
    extra.handler["mine"] = [one, "r", 0, 0]
    assert worker.table.resolve("mine") is None
    worker.append_worker(extra)
    assert worker.table.resolve("mine").function is one
    assert worker.get_handler("mine")[0] is one
    with pytest.raises(TypeError):
        worker.append_worker("worker")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entry",
    [one, [one], [one, "r", 0], ["x", "r", 0, 0], [one, "z", 0, 0], [one, "r", "0", 0], None],
)
def test_malformed_entries_are_refused_where_they_are_written(entry: Any) -> None:
    with pytest.raises(TypeError, match="handler 'x' must be"):
        Worker().handler["x"] = entry
    with pytest.raises(TypeError, match="callback 'on_leader' must be"):
        Worker().handler["on_leader"] = "x"


def test_callbacks_share_the_table_and_stay_off_the_wire() -> None:
    worker, extra = merged(), Worker()
    extra.handler["on_leader"] = one
    worker.append_worker(extra)
    assert worker.callbacks("on_leader") == [one]
    worker.handler["on_leader"] = [one, two]
    assert worker.callbacks("on_leader") == [one, two]
    worker.handler["on_follower"] = [one, "r", 0, 0]
    assert worker.callbacks("on_follower") == [one]
    assert worker.callbacks("get") == worker.callbacks("on_start") == []
    for name in CALLBACKS:
        worker.handler[name] = one
        assert worker.table.resolve(name) is None
        assert worker.table.resolve(name.upper()) is None
    assert not CALLBACKS & {row.name for row in worker.table.all_rows()}


@pytest.mark.parametrize(
    ("flags", "logged", "local"),
    [("r", False, False), ("we", True, False), ("e", True, False), ("w", True, False),
     ("a", False, True), ("", False, False)],
)  # fmt: skip
def test_flags(flags: str, logged: bool, local: bool) -> None:
    row = Row("x", [one, flags, 1, 2])
    assert (row.logged, row.local) == (logged, local)


@pytest.mark.parametrize(
    ("low", "high", "fitting", "arity"),
    [(1, 1, {1}, 2), (0, 0, set(range(5)), -1), (2, -1, {2, 3, 4}, -3), (1, 3, {1, 2, 3}, -2)],
)
def test_limits(low: int, high: int, fitting: set[int], arity: int) -> None:
    row = Row("x", [one, "r", low, high])
    assert {count for count in range(5) if row.fits(count)} == fitting
    assert row.arity == arity
    assert row.arity_error().wire() == "ERR wrong number of arguments for 'x' command"


def test_lookups_of_many_spellings_stay_bounded() -> None:
    table = merged().table
    for at in range(20_000):
        name = "".join(
            char.upper() if at >> place & 1 else char
            for place, char in enumerate("zremrangebyscore")
        )
        assert table.resolve(name).name == "zremrangebyscore"
    assert len(table.rows) <= 8192
    assert table.resolve("nosuch") is None
    assert "nosuch" not in table.rows


class LineIo:
    """A protocol of lines with blanks between words, the way pyraft's io objects look."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.file = sock, sock.makefile("rb")
        self.closed = threading.Event()

    def read(self, timeout: float | None = None) -> Any:
        line = self.file.readline()
        return line.decode().split() if line else None

    def write(self, value: Any) -> None:
        self.raw_write(f"{type(value).__name__} {value}\n".encode())

    def raw_write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.file.close()
        self.sock.close()
        self.closed.set()


class LineProtocol:
    def __init__(self) -> None:
        self.opened: list[LineIo] = []

    def open_io(self, sock: socket.socket) -> LineIo:
        self.opened.append(LineIo(sock))
        return self.opened[-1]


class ProposingNode(FakeNode):
    """Runs the worker's handlers at once."""

    def propose(self, words: Any, worker_offset: int = 0) -> Any:
        self.calls.append(worker_offset)
        return self.worker.table.resolve(words[0]).function(self, words)


def fail(node: Any, words: Any) -> Any:
    raise (RaftException if len(words) > 1 else KeyError)("broken")


@pytest.fixture
def listening() -> Any:
    worker = Worker("127.0.0.1:0")
    worker.worker_offset = 2
    worker.set_protocol(LineProtocol())
    worker.handler = {
        "one": [one, "r", 0, 1],
        "fail": [fail, "we", 0, 0],
        "raw": [lambda node, words: {"bypass": b"raw\n"}, "r", 0, 0],
        "map": [lambda node, words: {"a": 1}, "r", 0, 0],
        "quit": [lambda node, words: {"quit": True}, "r", 0, 0],
        "bye": [lambda node, words: {"quit_after_send": "bye"}, "r", 0, 0],
    }
    node = ProposingNode(worker)
    worker.start(node)
    yield worker, node
    worker.shutdown()
    worker.join(10)


def connect(worker: Worker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", worker._listener.port), 10)


def test_an_extra_worker_speaks_its_own_protocol(listening: Any) -> None:
    worker, node = listening
    with connect(worker) as sock, sock.makefile("rb") as replies:
        sock.sendall(b"ONE\none a b\nnosuch x\nfail\nfail x\nraw\nmap\nbye\n")
        lines = [line.decode().strip() for line in replies]
    assert lines == [
        "int 1",
        "CommandError wrong number of arguments for 'one' command",
        "CommandError unknown command 'nosuch', with args beginning with: 'x'",
        "RaftException KeyError: 'broken'",
        "RaftException broken",
        "raw",
        "dict {'a': 1}",
        "str bye",
    ]
    assert set(node.calls) == {2}
    with connect(worker) as sock:
        sock.sendall(b"quit\n")
        assert sock.recv(10) == b""


def test_shutting_down_ends_idle_connections(listening: Any) -> None:
    worker, _ = listening
    with connect(worker) as sock:
        sock.sendall(b"one\n")
        assert sock.recv(10) == b"int 1\n"
        worker.shutdown()
        assert sock.recv(10) == b""
        listener = worker._listener
        worker.join(10)
        assert not listener._thread.is_alive()
        assert worker.p.opened[0].closed.wait(10)


def test_connections_past_the_limit_are_closed(listening: Any) -> None:
    worker, _ = listening
    worker.connections_max = 1
    with connect(worker) as first:
        first.sendall(b"one\n")
        assert first.recv(10) == b"int 1\n"
        with connect(worker) as second:
            assert second.recv(10) == b""


def test_a_taken_port_is_reported_by_start(listening: Any) -> None:
    worker, node = listening
    other = Worker(f"127.0.0.1:{worker._listener.port}")
    with pytest.raises(OSError, match="in use"):
        other.start(node)


def test_the_address_follows_from_the_nodes_and_the_offset() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    worker, node = Worker(), FakeNode()
    worker.set_protocol(LineProtocol())
    worker.worker_offset = 2
    node.addr = f"127.0.0.1:{port - 2}"
    worker.start(node)
    worker.shutdown()
    worker.join(10)
    assert (worker.addr, worker.ip, worker.port) == (f"127.0.0.1:{port}", "127.0.0.1", port)


def test_relaying_asks_the_leaders_worker(listening: Any) -> None:
    worker, _ = listening

    class Words(LineIo):
        def write(self, value: Any) -> None:
            self.raw_write(" ".join(value).encode() + b"\n")

    class Asking:
        def open_io(self, sock: socket.socket) -> LineIo:
            return Words(sock)

    asking = Worker()
    asking.set_protocol(Asking())
    leader = FakeNode()
    leader.addr = f"127.0.0.1:{worker._listener.port - 2}"
    assert asking.relay_cmd(leader, ["one"], 2) == ["int", "1"]
    worker.shutdown()
    worker.join(10)
    with pytest.raises(RaftException, match="cannot relay"):
        asking.relay_cmd(leader, ["one"], 2)
