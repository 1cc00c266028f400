"""Writes that change nothing: answered without the log, and as the log would have answered."""

from __future__ import annotations

import functools
import random
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pyraft_fast import _turn
from pyraft_fast.errors import RaftException
from pyraft_fast.serving import propose, reads
from pyraft_fast.serving.treaty import RoleFact
from pyraft_fast.worker.idle import idle
from tests.serving.fake import FakeLog, FakeNode, eventually, running, service

NO_LEADER = RoleFact("follower", 2, "", "", False)
# Commands that change nothing once the ones before them have run, and their answers.
IDLE = {
    "SADD s a b": 0, "SREM s z y": 0, "SREM none a": 0, "SPOP none": None, "LPOP none": None,
    "RPOP none": None, "ZREM z nobody": 0, "ZREM none a": 0, "ZPOPMIN none": [],
    "ZPOPMAX none": [], "HSETNX h f 2": 0, "HDEL h none": 0, "HDEL none f": 0, "SETNX k 2": 0,
    "GETDEL none": None, "DEL none nor this": 0, "UNLINK none": 0,
}  # fmt: skip
MADE = ("SADD s a b c", "RPUSH l 1", "ZADD z 1 m", "HSET h f 1", "SET k 1", "SET due 1 PX 5")
BUSY = {
    "SADD s a z": 1, "SREM s a": 1, "SPOP one": "m", "LPOP l": "1", "ZREM z m": 1,
    "HSETNX h g 1": 1, "HDEL h f": 1, "SETNX none 1": 1, "GETDEL k": "1", "DEL none s": 1,
}  # fmt: skip


def rows(node: FakeNode) -> dict[str, Any]:
    return service(node).desk.rows.known


def look_again(node: FakeNode) -> None:
    """However seldom that was worth it."""
    for row in rows(node).values():
        row.idle_rest, row.idle_score = 0, 48


@pytest.mark.parametrize("level", ["linearizable", "lease", "local"])
def test_what_changes_nothing_is_answered_by_a_round(tmp_path: Path, level: str) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads=level) as node, node.client() as client:
        client.ask(*MADE, *IDLE)  # so that their rows are known
        for command, answer in IDLE.items():
            entries, rounds = len(log.records), len(log.reads)
            look_again(node)
            assert client.ask(command) == answer, command
            assert len(log.records) == entries, command
            assert len(log.reads) == rounds + 1, command
            assert not log.by_lease[-1]
        look_again(node)
        found = node.engine.submit(["SADD", "s", "a"]).get(10)
        assert (found, len(log.records)) == (0, entries)


@pytest.mark.parametrize("is_taken_for_idle", [False, True])
@pytest.mark.parametrize("command", BUSY)
def test_what_changes_something_goes_through_the_log(
    tmp_path: Path, command: str, is_taken_for_idle: bool
) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask(*IDLE)
        client.ask(*MADE, "SADD one m")
        if is_taken_for_idle:
            look_again(node)
        entries = len(log.records)
        assert client.ask(command) == BUSY[command]
        assert len(log.records) == entries + 1


@pytest.mark.parametrize(
    "command", ["SADD k a", "SREM k a", "HSETNX k f 1", "ZREM k m", "HDEL k f"]
)
def test_a_wrong_type_is_told_as_by_the_log(tmp_path: Path, command: str) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.ask("SET k 1", *IDLE)
        assert client.ask(command).startswith("-WRONGTYPE")
        look_again(node)
        assert client.ask(command).startswith("-WRONGTYPE")


@pytest.mark.parametrize("word", ["\ud800", object(), (1, 2), 1 << 80])
def test_words_that_the_log_refuses_are_refused(tmp_path: Path, word: object) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.ask("SADD s a", "SREM s z", "DEL none")
        for words in (["SADD", "s", word], ["SREM", "s", word], ["DEL", word]):
            look_again(node)
            with pytest.raises(RaftException):
                node.engine.submit(words).get(10)
        assert list(node.data["s"]) == ["a"]


def test_who_writes_and_leaves_meant_it(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client, node.client() as other:
        client.ask("SADD s a")
        look_again(node)
        log.answer_reads = False
        client.send("SADD s b")
        eventually(lambda: log.reads)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # a reset, not an orderly end
        log.answer_reads = True
        eventually(lambda: other.ask("SCARD s") == 2)


def test_what_a_node_that_stops_takes_for_idle_is_answered(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SADD s a")
        look_again(node)
        log.answer_reads = False
        client.send("SADD s b", "GET k", "SADD s c")
        eventually(lambda: log.reads)
        node.engine.stop()
        assert [client.reply()[:9] for _ in range(3)] == ["-TRYAGAIN"] * 3
        assert client.ended()


def test_a_wrapper_is_not_passed_by(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        inner = node.worker.get_handler("sadd")[0]
        seen: list[Any] = []

        @functools.wraps(inner)
        def do_sadd(node: Any, words: Sequence[Any]) -> Any:
            seen.append(words[2])
            return inner(node, words)

        node.worker.handler["sadd"] = [do_sadd, "we", 2, 0]
        assert client.ask("SADD s a") == 1
        look_again(node)
        assert client.ask("SADD s a") == 0
        assert seen == ["a", "a"]


def test_what_a_handler_left_behind_goes_as_by_the_log(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.ask("SADD s a", "HSET h f 1", "ZADD z 1 m", "SET k 1", *IDLE)
        node.in_loop(lambda: node.data["s"].clear())
        node.in_loop(lambda: node.data["h"].clear())
        node.in_loop(lambda: node.data.update(k=None))
        look_again(node)
        assert client.ask("SREM s a", "HDEL h f", "DEL k") == [0, 0, 1]
        assert not {"s", "h", "k"} & set(node.data)


def test_what_is_due_is_not_there_any_more(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k 1 PX 500", "SADD s a", "PEXPIRE s 500")
        assert client.ask("SETNX k 2", "GETDEL none", "SADD s a") == [0, None, 0]
        log.time_ms += 1000
        look_again(node)
        assert client.ask("GETDEL k") is None
        assert client.ask("SADD s a") == 1
        assert client.ask("SETNX k 3") == 1
        assert client.ask("GET k") == "3"


def test_a_round_that_finds_other_data_makes_it_a_write(tmp_path: Path) -> None:
    """Another node's write is committed between the look and the end of the round."""
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k 1", "SETNX k 0", "LPOP l")
        look_again(node)
        log.answer_reads = False
        client.send("GET k", "SETNX k 2", "GET k", "SETNX k 3", "LPOP l", "GET k")
        eventually(lambda: log.reads)
        log.append_commands(["DEL", "k"])
        entries = len(log.records)
        log.answer_reads = True
        node.in_loop(service(node).gate.ask_again)
        assert [client.reply() for _ in range(6)] == [None, 1, "2", 0, None, "2"]
        assert len(log.records) == entries + 1
        assert log.records[-1].count(b"SETNX") == 2, "what was behind it went along"
        assert log.records[-1].count(b"LPOP") == 1


def test_behind_own_writes_that_are_under_way(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SADD s a b", "SETNX k 1")
        look_again(node)
        log.commit = False
        client.send("SREM s a", "DEL k")
        eventually(lambda: log.kept)
        client.send("SADD s a", "SADD s a", "SETNX k 2", "SADD s b", "GET k")
        eventually(lambda: log.reads)
        node.in_loop(lambda: (log.commit_kept(), node.consensus().pump()))
        assert [client.reply() for _ in range(7)] == [1, 1, 1, 0, 1, 0, "2"]


def test_without_a_leader_it_is_refused_for_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (propose, reads):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SETNX k 1")
        look_again(node)
        node.in_loop(lambda: node.consensus().events.role(NO_LEADER))
        refused = client.ask("SETNX k 2")
        assert refused.startswith("-CLUSTERDOWN no majority")
        assert refused.endswith("not executed")
        assert node.data == {"k": "1"}


def test_a_row_earns_it_by_changing_nothing_for_a_while(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:

        def entries(command: str, count: int) -> int:
            before = len(log.records)
            for _ in range(count):
                client.ask(command)
            return len(log.records) - before

        assert [client.ask(f"SADD s {n}") for n in range(100)] == [1] * 100
        assert not log.reads
        assert 30 < entries("SADD s 1", 100) <= 16 + 4 * 16
        assert entries("SADD s 1", 100) == 0, "earned"
        for _ in range(2):
            assert entries("SADD s new", 1) == 1
            client.ask("SREM s new")
            assert entries("SADD s 1", 30) == 0, "one now and then costs little"
        for number in range(3):
            client.ask(f"SADD s again{number}")
        assert entries("SADD s 1", 30) == 30, "several in a row cost it"


def test_a_look_that_fails_is_reported_and_the_log_decides(tmp_path: Path) -> None:
    def look(node: Any, words: Sequence[Any]) -> Any:
        raise KeyError("no such thing")

    @idle(look)
    def do_take(node: Any, words: Sequence[Any]) -> int:
        return 7

    with running(tmp_path) as node, node.client() as client:
        node.worker.handler["take"] = [do_take, "we", 1, 1]
        assert client.ask("TAKE it") == 7
        info = node.in_loop(lambda: rows(node)["TAKE"].failures)
        assert info == {"take": 1}


def expected(data: dict[str, Any], words: list[str]) -> Any:
    """What Redis answers, with these few commands."""
    name, key = words[0], words[1]
    if name == "SETNX":
        return 0 if key in data else data.update({key: words[2]}) or 1
    if name == "DEL":
        return 0 if data.pop(key, None) is None else 1
    if name == "GET":
        return data.get(key)
    if name == "SADD":
        members = data.setdefault(key, set())
        return 0 if words[2] in members else members.add(words[2]) or 1
    if name == "SREM":
        if words[2] not in data.get(key, ()):
            return 0
        data[key].discard(words[2])
        if not data[key]:
            del data[key]
        return 1
    if name == "SCARD":
        return len(data.get(key, ()))
    if name == "RPUSH":
        data.setdefault(key, []).append(words[2])
        return len(data[key])
    assert name == "LPOP"
    if key not in data:
        return None
    value = data[key].pop(0)
    if not data[key]:
        del data[key]
    return value


def drawn(dice: random.Random) -> list[str]:
    n = str(dice.randrange(3))
    return dice.choice(
        [
            ["SETNX", "k" + n, n], ["SETNX", "k" + n, n], ["DEL", "k" + n], ["GET", "k" + n],
            ["SADD", "s", n], ["SADD", "s", n], ["SREM", "s", n], ["SCARD", "s"],
            ["RPUSH", "l" + n, n], ["LPOP", "l" + n], ["LPOP", "l" + n],
        ]
    )  # fmt: skip


@pytest.mark.parametrize("level", ["linearizable", "local"])
@pytest.mark.parametrize("batch_max", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_pipelines_are_answered_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, batch_max: int, level: str
) -> None:
    monkeypatch.setattr(_turn.bounds, "batch_commands_max", batch_max)
    dice = random.Random(f"idle {seed} {batch_max} {level}")
    log = FakeLog()
    log.fault = lambda start, batch: dice.choice(["", "", "late", "twice", "late"])
    data: dict[str, Any] = {}
    with running(tmp_path, log, reads=level) as node, node.client() as client:
        for _ in range(120):
            commands = [drawn(dice) for _ in range(dice.choice([1, 2, 5, 12]))]
            for row in rows(node).values():
                row.idle_rest = min(row.idle_rest, dice.randrange(2))
                row.idle_score = max(row.idle_score, dice.choice([0, 40]))
            lines = [" ".join(words) for words in commands]
            cut = dice.randrange(len(lines) + 1)
            client.send(*lines[:cut])
            client.send(*lines[cut:])
            answers = [client.reply() for _ in commands]
            assert answers == [expected(data, words) for words in commands], lines
        kept = {key: set(value) if key == "s" else value for key, value in node.data.items()}
        assert {key: list(v) if key[0] == "l" else v for key, v in kept.items()} == data
        assert len(log.reads) > 20


def test_a_users_handler_may_say_when_it_has_nothing_to_do(tmp_path: Path) -> None:
    """The README's example."""

    def nothing_to_take(node: Any, words: Sequence[Any]) -> Any:
        return NotImplemented if node.data.get(words[1]) else None

    @idle(nothing_to_take)
    def do_take(node: Any, words: Sequence[Any]) -> Any:
        queue = node.data.get(words[1])
        return queue.pop(0) if queue else None

    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        node.worker.handler["take"] = [do_take, "we", 1, 1]
        assert client.ask("RPUSH q a b", "TAKE q", "TAKE q", "TAKE q") == [2, "a", "b", None]
        look_again(node)
        entries = len(log.records)
        assert client.ask("TAKE q") is None
        assert len(log.records) == entries
        assert client.ask("RPUSH q c", "TAKE q") == [1, "c"]
