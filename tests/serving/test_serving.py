"""Clients against a serving loop whose consensus answers in the same process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyraft_fast.errors import CommandError, TryAgain
from tests.serving.fake import FakeLog, FakeNode, running


def test_a_client_writes_and_reads(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        assert client.ask("SET key value") == "OK"
        assert client.ask("get key") == "value"
        assert client.ask("PING", "ECHO hello", "GET none") == ["PONG", "hello", None]
        assert node.data == {"key": "value"}
        assert len(node.log.records) == 1


def test_redis_py_connects_with_its_defaults(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        for protocol in (2, 3):
            with redis.Redis(
                port=node.engine.port,
                protocol=protocol,
                client_name="tester",
                decode_responses=True,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
            ) as client:
                assert client.set("key", "value") is True
                assert client.get("key") == "value"
                assert client.hset("hash", "f", "v") in (0, 1)
                assert client.hgetall("hash") == {"f": "v"}
                assert client.client_getname() == "tester"
                assert [one["name"] for one in client.client_list()] == ["tester"]
                assert client.info("server")["redis_mode"] == "standalone"


def test_replies_leave_in_the_order_of_commands(tmp_path: Path) -> None:
    """Reads between writes see exactly the writes before them, errors and PING stay in place."""
    with running(tmp_path) as node, node.client() as client:
        lines: list[str] = []
        expected: list[Any] = []
        for number in range(300):
            lines += [f"SET k {number}", "GET k", "PING", "NOSUCH x", "INCR n", "GET n", "GET"]
            expected += [
                "OK", str(number), "PONG",
                "-ERR unknown command 'NOSUCH', with args beginning with: 'x' ",
                number + 1, str(number + 1),
                "-ERR wrong number of arguments for 'get' command",
            ]  # fmt: skip
        assert client.ask(*lines) == expected
        lines = ["GET k", "SET k new", "GET k", "HELLO 2", "GET k", "TIME", "SET k end", "GET k"]
        replies = client.ask(*lines)
        assert [replies[i] for i in (0, 1, 2, 4, 6, 7)] == ["299", "OK", "new", "new", "OK", "end"]
        assert replies[3][:2] == ["server", "redis"]


def test_reads_cost_one_round_per_turn_and_wait_for_it(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.ask("SET k 1")
        rounds = len(node.log.reads)
        assert client.ask(*["GET k"] * 100) == ["1"] * 100
        assert 0 < len(node.log.reads) - rounds < 100
        node.in_loop(lambda: setattr(node.log, "answer_reads", False))
        client.send("GET k", "SET k 2", "GET k")
        assert [client.reply() for _ in range(3)] == ["1", "OK", "2"]


def test_local_reads_ask_nobody(tmp_path: Path) -> None:
    with running(tmp_path, reads="local") as node, node.client() as client:
        assert client.ask("GET k", "SET k 1", "GET k") == [None, "OK", "1"]
        assert client.ask("GET k", "GET k") == ["1", "1"]
        assert node.log.reads == []


def test_handler_errors_name_the_handler_and_stop_nothing(tmp_path: Path) -> None:
    log = FakeLog()
    node = FakeNode(tmp_path, log)

    def cas(_: Any, words: Any) -> Any:
        raise ValueError("bad luck")

    def refuse(_: Any, words: Any) -> Any:
        raise CommandError("not today")

    node.worker.handler["cas"] = [cas, "we", 1, 1]
    node.worker.handler["peek"] = [cas, "r", 0, 0]
    node.worker.handler["refuse"] = [refuse, "we", 0, 0]
    node.engine.start()
    try:
        with node.client() as client:
            failed = "-ERR handler '{}' failed: ValueError: bad luck"
            assert client.ask("CAS 1") == failed.format("cas")
            assert client.ask("PEEK") == failed.format("peek")
            assert client.ask("REFUSE", "SET k v") == ["-ERR not today", "OK"]
            node.worker.handler["cas"] = [lambda _, words: {"quit_after_send": "bye"}, "we", 0, 9]
            assert client.ask("CAS 1") == "bye"
            assert client.ended()
        with node.client() as client:
            node.worker.handler["peek"] = [lambda _, words: {"bypass": "+raw\r\n"}, "r", 0, 0]
            assert client.ask("PEEK") == "raw"
            node.worker.handler["peek"] = [lambda _, words: {"quit": True}, "a", 0, 0]
            client.send("PEEK")
            assert client.ended()
        assert not node.failures
    finally:
        node.engine.stop()


def test_a_missing_write_handler_stops_the_node_naming_it(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        node.in_loop(lambda: node.log.append_commands(["SET", "a", "1"], ["MYCAS", "a"]))
        node.in_loop(node.consensus().pump)
        with node.client() as client:
            client.send("GET a")
            node.in_loop(lambda: None)
            ((text, status),) = node.failures
            assert "mycas" in text
            assert status == 1


def test_in_process_commands(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    with pytest.raises(TryAgain):
        node.engine.submit(["SET", "k", "v"]).get(5)
    results = []

    def nested(host: Any, words: Any) -> Any:
        results.append(host.engine.submit(["GET", "k"]).get(0))
        try:
            host.engine.submit(["SET", "k", "nested"]).get(5)
        except CommandError as error:
            results.append(str(error))
        return True

    node.worker.handler["nested"] = [nested, "we", 0, 0]
    node.engine.start()
    try:
        assert node.engine.submit(["SET", "k", "v"]).get(5) is True
        assert node.engine.submit(("GET", "k")).get(5) == "v"
        assert node.engine.submit(["PUT", "k"]).get is not None
        with pytest.raises(CommandError, match="unknown command 'PUT'"):
            node.engine.submit(["PUT", "k"]).get(5)
        with pytest.raises(CommandError):
            node.engine.submit(["SET", "k", object()]).get(5)
        futures = [node.engine.submit(["INCR", "n"]) for _ in range(1000)]
        assert [future.get(5) for future in futures] == list(range(1, 1001))
        assert node.engine.submit(["NESTED"]).get(5) is True
        assert results[0] == "v"
        assert "cannot send 'set'" in results[1]
        assert node.engine.submit(["INFO"]).get(5).startswith("# Server")
        assert node.engine.change("add", "2", "127.0.0.1:5020").get(5) is True
        with pytest.raises(Exception, match="one change at a time"):
            node.engine.change("refuse", "2", "").get(5)
        assert isinstance(node.engine.status().get(5), dict)
    finally:
        node.engine.stop()
    with pytest.raises(TryAgain):
        node.engine.submit(["GET", "k"]).get(5)


def test_a_slow_admin_command_holds_back_only_its_own_connection(tmp_path: Path) -> None:
    from pyraft_fast.common import Future

    gate = Future()
    with running(tmp_path) as node, node.client() as slow, node.client() as other:
        node.worker.handler["slow"] = [lambda _, words: gate, "a", 0, 0]
        slow.send("SET k 1", "SLOW", "SET k 2", "GET k")
        assert slow.reply() == "OK"
        assert other.ask("GET k") == "1"
        gate.set("done")
        assert [slow.reply() for _ in range(3)] == ["done", "OK", "2"]
