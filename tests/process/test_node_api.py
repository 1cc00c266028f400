"""RaftNode as a Python program uses it, in the program's own process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyraft_fast.common import Future
from pyraft_fast.errors import (
    CommandError,
    ConfigError,
    HandlerError,
    RaftException,
    StartError,
    StorageError,
    TryAgain,
    WrongType,
)
from pyraft_fast.node import RaftNode
from pyraft_fast.protocol.base import base_io
from pyraft_fast.worker.worker import Worker
from tests.process.cluster import connect, eventually, free_port

Maker = Callable[..., RaftNode]


def port_with_room() -> int:
    """A port with two free ports behind it."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 2))
            except OSError:
                continue
        return port


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Make nodes that are stopped with the test."""
    made: list[RaftNode] = []

    def new(
        nid: str = "1", ensemble: dict[str, str] | None = None, kind: type[RaftNode] = RaftNode,
        port: int = 0, **settings: object,
    ) -> RaftNode:  # fmt: skip
        settings.setdefault("folder", str(tmp_path / f"n{nid}"))
        addr = f"127.0.0.1:{port or port_with_room()}"
        made.append(kind(nid, addr, ensemble, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for node in made:
        node.shutdown()
    for node in made:
        assert node.join(10)


@pytest.fixture
def pair(make: Maker) -> tuple[RaftNode, RaftNode]:
    """Two voters in this process."""
    first, second = port_with_room(), port_with_room()
    one = make("1", {"2": f"127.0.0.1:{second}"}, port=first)
    two = make("2", {"1": f"127.0.0.1:{first}"}, port=second)
    one.start()
    two.start()
    for node in (one, two):
        eventually(lambda n=node: n.info_facts().get("voters") == ["1", "2"])
    return one, two


def led(node: RaftNode) -> RaftNode:
    node.start()
    eventually(lambda: node.state == "l")
    return node


# Life


def test_start_and_shutdown_may_be_repeated_and_a_node_starts_again(make: Maker) -> None:
    node = make()
    assert node.join(0), "a node that was never started is not waited for"
    node.start()
    node.start()
    assert node.request("set", "key", "value") is True
    assert not node.shutdown_flag
    assert not node.join(0.01)
    term = node.term
    node.shutdown()
    node.shutdown()
    assert node.shutdown_flag
    assert node.join(5)
    assert node.join(5)
    assert node.state == "c"
    assert isinstance(node.request("get", "key"), TryAgain)
    with pytest.raises(TryAgain):
        node.request("get", "key", strict=True)
    node.start()
    assert not node.shutdown_flag
    assert node.request("get", "key", strict=True) == "value"
    assert node.term > term
    with connect(node.port) as client:
        assert client.get("key") == "value"


def test_a_start_that_is_refused_can_be_repeated(make: Maker) -> None:
    node = make()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", node.port))
        holder.listen()
        with pytest.raises(StartError, match=str(node.port)):
            node.start()
    node.start()
    assert node.request("set", "key", "value") is True


def test_a_node_outlives_the_thread_that_started_it(make: Maker) -> None:
    node = make()
    thread = threading.Thread(target=node.start)
    thread.start()
    thread.join(10)
    assert node.request("set", "key", "value") is True
    before = node.info_facts()["consensus_restarts"]
    assert node.request("get", "key") == "value"
    assert node.info_facts()["consensus_restarts"] == before == 0


def test_two_nodes_of_one_process_are_strangers(make: Maker) -> None:
    one, other = led(make("1")), led(make("2"))
    one.request("set", "key", "one", strict=True)
    assert other.request("get", "key", strict=True) is None
    one.worker.handler["mine"] = [lambda node, words: node.nid, "r", 0, 0]
    assert one.request("mine") == "1"
    assert isinstance(other.request("mine"), CommandError)


def test_a_node_is_an_open_object(make: Maker) -> None:
    node = make()
    node.checker = object()  # type: ignore[attr-defined]
    held = node.checker  # type: ignore[attr-defined]
    node.worker.handler["held"] = [lambda n, words: n.checker is held, "r", 0, 0]
    led(node)
    assert node.request("held") is True


# Requests


def test_request_propose_and_their_ways_to_fail(make: Maker) -> None:
    node = led(make())
    assert node.request("SET", "key", "value") is True
    assert node.request("get", "key") == "value"
    assert node.request("get", "missing", strict=True) is None
    assert node.propose(("get", "key")) == "value"
    assert node.propose(["get", "key"]) == "value"
    assert isinstance(node.request("lpush", "key", "x"), WrongType)
    with pytest.raises(WrongType):
        node.request("lpush", "key", "x", strict=True)
    with pytest.raises(WrongType):
        node.propose(("lpush", "key", "x"))
    assert isinstance(node.request("nonsense"), CommandError)
    assert isinstance(node.request(), RaftException)
    assert isinstance(node.request("set", "key", object()), CommandError)
    assert isinstance(node.request("set"), RaftException)
    assert node.request("get", "key") == "value"


def test_words_of_requests_keep_their_types(make: Maker) -> None:
    node = make()
    seen: list[list[object]] = []
    node.worker.handler["take"] = [lambda n, words: seen.append(list(words)), "we", 0, 0]
    led(node)
    words = ["take", 1, 2.5, True, None, b"\x00\xff", "text", [1, "two"], {"a": 1}]
    assert node.request(*words) is None
    assert seen == [words]
    assert [type(word) for word in seen[0]] == [type(word) for word in words]


def test_futures_of_leader_and_follower(pair: tuple[RaftNode, RaftNode]) -> None:
    for number, node in enumerate(pair):
        asked = node.request_async("set", f"k{number}", "v")
        assert isinstance(asked, Future)
        assert asked.cmd == ("set", f"k{number}", "v")
        assert asked.get(5) is True
        assert asked.done()
        assert asked.value is True
        told: list[Future] = []
        asked.add_done_callback(told.append)
        assert told == [asked]
        assert node.propose(("get", "k0"), async_run=True).get(5) == "v"
        failed = node.request_async("lpush", f"k{number}", "x")
        with pytest.raises(WrongType):
            failed.get(5)
    unanswered = Future(("never",))
    with pytest.raises(TimeoutError):
        unanswered.get(0.01)


def test_futures_can_be_awaited(make: Maker) -> None:
    node = led(make())

    async def use() -> list[object]:
        values = await asyncio.gather(*(node.request_async("incr", "n") for _ in range(50)))
        with pytest.raises(WrongType):
            await node.request_async("hget", "n", "f")
        values.append(await node.request_async("get", "n"))
        return values

    assert asyncio.run(use()) == [*range(1, 51), "50"]


def test_a_failing_handler_of_ones_own_is_raised_by_strict(make: Maker) -> None:
    node = make()
    node.worker.handler["boom"] = [lambda n, words: 1 // 0, "we", 0, 0]
    led(node)
    assert isinstance(node.request("boom"), HandlerError)
    with pytest.raises(HandlerError, match="'boom' failed: ZeroDivisionError"):
        node.request("boom", strict=True)


def test_a_request_of_a_callback_and_of_a_thread_it_starts(make: Maker) -> None:
    node = make()
    answers: list[object] = []

    def on_leader(n: RaftNode) -> None:
        answers.append(n.request("set", "by", "callback"))
        thread = threading.Thread(target=lambda: answers.append(n.request("get", "by")))
        thread.start()
        thread.join(10)

    node.worker.handler["on_leader"] = on_leader
    node.start()
    eventually(lambda: len(answers) == 2)
    assert answers == [True, "callback"]


# Callbacks


TABLED = ("on_start", "on_ready", "on_leader", "on_leader_lost", "on_shutdown", "on_snapshot")


def test_callbacks_of_the_table_see_the_changed_state(make: Maker) -> None:
    node = make()
    seen: list[tuple[str, str]] = []
    for name in TABLED:
        node.worker.handler[name] = lambda n, name=name: seen.append((name, n.state))
    led(node)
    eventually(lambda: "on_ready" in dict(seen))
    node.request("set", "key", "value", strict=True)
    node.checkpoint()
    eventually(lambda: "on_snapshot" in dict(seen))
    node.shutdown()
    assert node.join(5)
    names = [name for name, _ in seen]
    assert names[0] == "on_start"
    assert names.index("on_start") < names.index("on_leader")
    assert dict(seen)["on_leader"] == "l"
    assert names[-2:] == ["on_leader_lost", "on_shutdown"]
    assert dict(seen)["on_leader_lost"] == "c"
    for name in set(TABLED) - {"on_ready", "on_snapshot"}:
        assert names.count(name) == 1


class Telling(RaftNode):
    """A subclass with callbacks of its own; one of them raises."""

    def on_start(self) -> None:
        self.told = ["start"]
        super().on_start()

    def on_leader(self) -> None:
        self.told.append(f"leader {self.state}")
        raise ValueError("a callback that fails")

    def on_leader_lost(self) -> None:
        self.told.append(f"lost {self.state}")

    def on_follower(self) -> None:
        self.told.append(f"follower {self.state}")

    def on_membership(self) -> None:
        self.told.append("membership")


def test_callbacks_of_a_subclass_and_one_that_raises(
    make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = port_with_room(), port_with_room()
    one = make("1", {"2": f"127.0.0.1:{second}"}, Telling, first)
    two = make("2", {"1": f"127.0.0.1:{first}"}, Telling, second)
    tabled: list[str] = []
    one.worker.handler["on_start"] = [
        lambda n: tabled.append("first"),
        lambda n: tabled.append("2nd"),
    ]
    one.start()
    two.start()
    for node in (one, two):
        eventually(lambda n=node: n.info_facts().get("voters") == ["1", "2"])
    assert one.state == "l"
    assert tabled == ["first", "2nd"]
    eventually(lambda: "leader l" in one.told)  # type: ignore[attr-defined]
    assert one.told.index("start") == 0  # type: ignore[attr-defined]
    assert "callback on_leader failed" in caplog.text
    one.request_transfer("2").get(5)
    eventually(lambda: two.state == "l" and one.state == "f")
    eventually(lambda: "leader l" in two.told)  # type: ignore[attr-defined]
    eventually(lambda: one.told[-2:] == ["lost f", "follower f"])  # type: ignore[attr-defined]
    assert "membership" in one.told  # type: ignore[attr-defined]
    assert one.request("set", "key", "value") is True
    assert one.info_facts()["callbacks_failed"] == 1


# What a node shows


def test_attributes_of_leader_and_follower(pair: tuple[RaftNode, RaftNode]) -> None:
    leader, follower = pair
    assert (leader.nid, leader.addr) == ("1", f"127.0.0.1:{leader.port}")
    assert (leader.ip, leader.port) == ("127.0.0.1", int(leader.addr.split(":")[1]))
    assert (leader.state, follower.state) == ("l", "f")
    assert leader.term == follower.term > 0
    assert leader.request("set", "key", "value") is True
    assert leader.request("expire", "key", "1000") == 1
    assert follower.request("get", "key") == "value"
    assert leader.data == follower.data == {"key": "value"}
    assert leader.data is leader.data
    assert list(leader.ttl) == list(follower.ttl) == ["key"]
    assert leader.ttl["key"] == follower.ttl["key"]
    assert 900 < leader.ttl["key"] - time.time() < 1100
    assert leader.index > 0
    eventually(lambda: leader.index == follower.index <= follower.commit_index)
    assert leader.last_checkpoint == 0
    with leader.data_lock:
        assert dict(leader.data) == {"key": "value"}
    peer = leader.peers["2"]
    assert list(leader.get_peers()) == ["2"]
    assert (peer.nid, peer.addr, peer.state) == ("2", follower.addr, "f")
    assert (peer.ip, peer.port, peer.term) == ("127.0.0.1", follower.port, leader.term)
    assert follower.peers["1"].state == "l"
    assert follower.get_pending_time() is None
    pending = eventually(lambda: (leader.get_pending_time(),))[0]
    assert pending is not None
    assert 0 <= pending < 5
    assert leader.worker_map[0] is leader.worker
    assert not leader.shutdown_flag


def test_handlers_can_be_looked_up_and_called(make: Maker) -> None:
    node = make()
    mine = [lambda n, words: "mine", "r", 0, 0]
    node.worker.handler["echo"] = mine
    assert node.get_handler("ECHO") == mine
    assert node.get_handler_func("echo") is mine[0]
    assert node.get_handler("set")[1:] == ["we", 2, 0]
    assert node.get_handler("nonsense") is None
    assert node.get_handler_func("nonsense") is None
    with pytest.raises(KeyError):
        node.get_handler("set", 7)
    set_function = node.get_handler_func("set")
    assert set_function is not None

    def twice(n: RaftNode, words: list[str]) -> None:
        for end in "ab":
            set_function(n, ["set", words[1] + end, "v"])

    node.worker.handler["twice"] = [twice, "we", 1, 1]
    led(node)
    node.request("twice", "k", strict=True)
    assert sorted(node.data) == ["ka", "kb"]


def test_log_lines_have_pyrafts_prefix(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    node = make()
    with caplog.at_level("DEBUG", "pyraft_fast"):
        for name in ("debug", "info", "warn", "error"):
            getattr(node, f"log_{name}")(f"a {name} line")
    assert [record.getMessage() for record in caplog.records] == [
        f"[1-0(c)] a {name} line" for name in ("debug", "info", "warn", "error")
    ]


# Snapshots


def test_checkpoint_and_load(make: Maker, tmp_path: Path) -> None:
    node = led(make("1"))
    node.request("set", "key", "value", strict=True)
    node.request("rpush", "list", "a", "b", strict=True)
    path = node.checkpoint()
    assert Path(path).parent == tmp_path / "n1"
    assert node.last_checkpoint > 0
    copy = str(tmp_path / "copy.dat")
    assert node.checkpoint(copy) == copy
    with pytest.raises(StorageError, match="nowhere"):
        node.checkpoint(str(tmp_path / "nowhere" / "copy.dat"))
    assert json.loads(node.get_snapshot()) == {"key": "value", "list": ["a", "b"]}
    with pytest.raises(StartError, match="start"):
        node.load(copy)
    heir = make("2")
    assert heir.load(copy) is True
    led(heir)
    assert heir.request("get", "key") == "value"
    assert heir.request("lrange", "list", "0", "-1") == ["a", "b"]
    heir.shutdown()
    assert heir.join(5)
    with pytest.raises(StartError):
        heir.load(copy)


def test_load_refuses_what_is_no_snapshot(make: Maker, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.dat"
    nonsense.write_text("__import__('os').system('touch /tmp/owned')")
    for name in (str(nonsense), str(tmp_path / "missing.dat")):
        with pytest.raises(StorageError, match=Path(name).name):
            make("1").load(name)


# Further workers


class LineIo(base_io):
    """Words on a line, and answers in capitals."""

    def decode(self, msg: bytes) -> tuple[object, bytes]:
        line, end, rest = msg.partition(b"\n")
        return (line.decode().split(), rest) if end else (None, msg)

    def encode(self, msg: object) -> bytes:
        return f"{msg}\n".upper().encode()


class LineProtocol:
    def open_io(self, handle: socket.socket) -> LineIo:
        return LineIo(handle)


def keeper(addr: str | None = None) -> Worker:
    worker = Worker(addr)
    worker.handler["keep"] = [
        lambda n, words: n.data.update(kept=words[1]) or "kept it",
        "we",
        1,
        1,
    ]
    worker.handler["kept"] = [lambda n, words: n.data.get("kept"), "r", 0, 0]
    worker.handler["bye"] = [lambda n, words: {"quit_after_send": "see you"}, "a", 0, 0]
    return worker


def test_a_worker_on_its_own_port_and_another_protocol(make: Maker) -> None:
    node = make()
    worker = keeper()
    node.regist_worker(2, worker)
    for offset in (0, 1, 2, -1):
        with pytest.raises(ConfigError):
            node.regist_worker(offset, keeper())
    led(node)
    assert worker.worker_offset == 2
    lines = keeper(f"127.0.0.1:{port_with_room()}")
    lines.set_protocol(LineProtocol())
    node.register_worker(3, lines)
    assert node.get_handler("keep", 2)[1] == "we"
    for _ in range(2):  # once more after a restart
        with connect(node.port + 2) as client:
            assert client.execute_command("keep", "this") == "kept it"
            assert client.execute_command("KEPT") == "this"
            with pytest.raises(Exception, match="unknown command 'set'"):
                client.execute_command("set", "a", "b")
            with pytest.raises(Exception, match="wrong number of arguments"):
                client.execute_command("keep")
        sock = socket.create_connection((lines.ip, lines.port), timeout=5)
        with sock, sock.makefile("rb") as file:
            sock.sendall(b"keep that\nkept\nbye\n")
            assert file.read() == b"KEPT IT\nTHAT\nSEE YOU\n"
        assert node.propose(("kept",), 3) == "that"
        assert isinstance(node.request("kept"), CommandError), "offset 0 has other commands"
        node.shutdown()
        assert node.join(5)
        with pytest.raises(OSError):
            socket.create_connection((lines.ip, lines.port), timeout=1).close()
        led(node)
        assert node.propose(("kept",), 2) == "that"
