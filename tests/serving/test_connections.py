"""Connection commands, authentication, limits and the ends of connections."""

from __future__ import annotations

import contextlib
import gc
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest

from pyraft_fast import _turn
from pyraft_fast.serving import dispatch
from tests.serving.fake import FakeLog, FakeNode, running


def test_hello_in_both_protocols(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        reply = client.ask("HELLO 3 SETNAME me")
        pairs = dict(zip(reply[::2], reply[1::2], strict=True))
        assert pairs["proto"] == 3
        assert pairs["mode"] == "standalone"
        assert pairs["role"] == "master"
        assert pairs["modules"] == []
        assert client.ask("CLIENT GETNAME", "GET none") == ["me", None]
        assert client.ask("HELLO 4") == "-NOPROTO unsupported protocol version"
        assert client.ask("HELLO x").startswith("-ERR Protocol version is not an integer")
        assert client.ask("HELLO 2 BLA").startswith("-ERR Syntax error in HELLO")
        assert client.ask("CLIENT GETNAME") == "me"
        assert client.ask("RESET", "CLIENT GETNAME") == ["RESET", None]


def test_select_and_the_ends(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        assert client.ask("SELECT 0") == "OK"
        assert client.ask("SELECT 1") == "-ERR DB index is out of range"
        assert client.ask("SELECT x").startswith("-ERR value is not an integer")
        assert client.ask("SET k v", "QUIT") == ["OK", "OK"]
        assert client.ended()


NO_PROTOCOL = "-ERR Protocol version is not an integer or out of range"
NO_INT = "-ERR value is not an integer or out of range"
NO_INT32 = "-ERR value is out of range, value must between -2147483648 and 2147483647"
NO_INDEX = "-ERR DB index is out of range"
NO_NUMBER = "-ERR client-id should be greater than 0"
DIGITS = "9" * 5000
NUMBERS = {
    "SELECT --1": NO_INT, "SELECT -0": NO_INT, "SELECT 01": NO_INT, f"SELECT {DIGITS}": NO_INT,
    "SELECT -1": NO_INDEX, "SELECT 2147483647": NO_INDEX, "SELECT 2147483648": NO_INT32,
    "HELLO --2": NO_PROTOCOL, "HELLO 02": NO_PROTOCOL, f"HELLO {DIGITS}": NO_PROTOCOL,
    "HELLO -2": "-NOPROTO unsupported protocol version",
    "CLIENT KILL ID 0": NO_NUMBER, "CLIENT KILL ID x": NO_NUMBER, "CLIENT KILL ID 01": NO_NUMBER,
    f"CLIENT KILL ID {DIGITS}": NO_NUMBER, f"CLIENT KILL ID {2**63 - 1}": 0,
    "CLIENT LIST ID 0": "", "CLIENT LIST ID x": "-ERR Invalid client ID",
    f"CLIENT LIST ID {DIGITS}": "-ERR Invalid client ID",
}  # fmt: skip


def test_odd_numbers_are_answered_as_redis_does(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        for line, want in NUMBERS.items():
            assert client.ask(line) == want, line[:30]


def test_client_subcommands(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as one, node.client() as two:
        number = one.ask("CLIENT ID")
        assert one.ask("CLIENT SETNAME 'a b'").startswith("-ERR Client names cannot contain")
        assert one.ask("CLIENT SETNAME first", "CLIENT SETINFO LIB-NAME test") == ["OK", "OK"]
        assert f"id={number} " in one.ask("CLIENT INFO")
        assert "lib-name=test" in one.ask("CLIENT INFO")
        assert one.ask("CLIENT NO-EVICT ON", "CLIENT NO-TOUCH OFF", "CLIENT UNPAUSE") == ["OK"] * 3
        two.ask("PING")
        assert one.ask("CLIENT LIST").count("\n") == 2
        assert one.ask(f"CLIENT LIST ID {number}").count("\n") == 1
        for line in ("CLIENT TRACKING ON", "CLIENT MAINT_NOTIFICATIONS ON"):
            assert one.ask(line).startswith(f"-ERR unknown subcommand '{line.split()[1]}'")
        assert one.ask("CLIENT GETNAME x") == (
            "-ERR wrong number of arguments for 'client|getname' command"
        )
        second = two.ask("CLIENT ID")
        assert one.ask(f"CLIENT KILL ID {second}") == 1
        with pytest.raises((AssertionError, OSError)):
            two.ask("PING")
        assert one.ask("CLIENT KILL ID 999") == 0


def test_client_reply(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.send("CLIENT REPLY SKIP", "SET k 1", "GET k")
        assert client.reply() == "1"
        client.send("CLIENT REPLY OFF", "SET k 2", "PING", "GET k", "CLIENT REPLY ON", "GET k")
        assert [client.reply(), client.reply()] == ["OK", "2"]


def test_nothing_is_answered_before_authentication(tmp_path: Path) -> None:
    needed = "-NOAUTH Authentication required."
    with running(tmp_path, password="secret") as node, node.client() as client:
        assert client.ask("GET k", "SET k 1", "NOSUCH", "PING", "GET") == [needed] * 5
        assert client.ask("HELLO 3").startswith("-NOAUTH HELLO must be called")
        assert client.ask("AUTH wrong").startswith("-WRONGPASS")
        assert client.ask("AUTH other secret").startswith("-WRONGPASS")
        assert client.ask("GET k") == needed
        assert client.ask("AUTH default secret", "SET k 1") == ["OK", "OK"]
        assert client.ask("RESET", "GET k") == ["RESET", needed]
        assert client.ask("HELLO 2 AUTH default secret", "GET k")[1] == "1"
    with running(tmp_path / "open") as node, node.client() as client:
        assert client.ask("AUTH x").startswith("-ERR AUTH <password> called without any password")
        assert client.ask("HELLO 2 AUTH default x")[0] == "server"


def test_protocol_errors_are_answered_behind_what_was_sent_before(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.socket.sendall(b"SET k 1\r\n*1\r\n:5\r\n")
        assert client.reply() == "OK"
        assert client.reply().startswith("-ERR Protocol error: expected '$'")
        assert client.ended()
        with node.client() as again:
            assert again.ask("GET k") == "1"


def test_a_client_that_closes_its_side_still_gets_its_answers(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.send(*["INCR n"] * 3000, "GET n")
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.reply() for _ in range(3000)] == list(range(1, 3001))
        assert client.reply() == "3000"
        assert client.ended()


def test_a_client_that_closes_its_side_gets_answers_that_were_on_hold(tmp_path: Path) -> None:
    class Holder:
        def __init__(self) -> None:
            self.held: list[Any] = []

        def hold(self, receiver: Any, answer: Any, nbytes: int) -> bool:
            self.held.append((receiver, answer))
            return True

    with running(tmp_path) as node, node.client() as client:
        desk, holder = node.engine._service.desk, Holder()
        node.in_loop(lambda: setattr(desk, "holder", holder))
        client.send("PING")
        client.socket.shutdown(socket.SHUT_WR)
        while not (holder.held and holder.held[0][0].closing):
            node.in_loop(lambda: None)
        ((receiver, answer),) = holder.held
        node.in_loop(lambda: setattr(desk, "holder", None))
        node.in_loop(lambda: receiver.release(answer))
        assert client.reply() == "PONG"
        assert client.ended()


def test_too_many_clients_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CLIENTS_MAX", 2)
    with running(tmp_path) as node, node.client() as one, node.client() as two:
        one.ask("PING")
        two.ask("PING")
        with node.client() as three:
            assert three.reply() == "-ERR max number of clients reached"
            assert three.ended()
        assert one.ask("PING") == "PONG"
        assert node.engine.facts()["connections_rejected"] == 1


def test_a_client_that_does_not_read_is_paused_then_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads stop being executed while output waits; writes cannot be held back, so they cut."""
    monkeypatch.setattr(_turn.bounds, "output_bytes_max", 256 * 1024)
    monkeypatch.setattr(_turn.bounds, "output_bytes_pause", 64 * 1024)
    with running(tmp_path) as node, node.client() as client, node.client() as lazy:
        big = "x" * 50_000
        assert client.ask(f"SET k {big}") == "OK"
        lazy.send(*["GET k"] * 1000)
        for _ in range(100):
            assert client.ask("PING") == "PONG"
        (held,) = [one for one in node.engine._service.desk.clients.values() if one.waiting]
        assert len(held.out) < 4 * 1024 * 1024
        assert [lazy.reply() for _ in range(1000)] == [big] * 1000
        with contextlib.suppress(OSError):
            lazy.send(*["SET k " + big[:30_000], "GET k"] * 1000)
        while len(node.engine._service.desk.clients) > 1:
            assert client.ask("PING") == "PONG"


def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as other:
        other.ask("PING")
        log.commit = False
        log.answer_reads = False
        client = node.client()
        client.send("SET k 1", "GET k", "PING")
        with node.client() as reader:
            reader.send("GET k")
            while not (log.kept and log.reads):
                node.in_loop(lambda: None)
        client.close()
        while len(node.engine._service.desk.clients) > 1:
            node.in_loop(lambda: None)
        log.answer_reads = True
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert other.ask("GET k", "SET k 2") == ["1", "OK"]


def test_connections_are_freed(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    node.engine.start()
    try:
        client = node.client()
        assert client.ask("SET k 1", "GET k", "PING") == ["OK", "1", "PONG"]
        (held,) = node.engine._service.desk.clients.values()
        gone = weakref.ref(held.parser) if hasattr(held.parser, "__weakref__") else None
        seen = weakref.ref(held.transport) if hasattr(held.transport, "__weakref__") else gone
        del held
        client.close()
        while node.engine._service.desk.clients:
            node.in_loop(lambda: None)
        node.in_loop(gc.collect)
        assert seen is None or seen() is None
        assert not node.engine._service.desk.starved
    finally:
        node.engine.stop()
