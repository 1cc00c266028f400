"""What a node tells about itself, in the shapes that stock tools assert on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyraft_fast.protocol.replies import Map, Status, Verbatim
from pyraft_fast.worker.cluster import node_id
from pyraft_fast.worker.docs import DOCS
from pyraft_fast.worker.table import Row
from tests.worker.fake_node import FakeNode, shown


def run(node: FakeNode, line: str) -> Any:
    return shown(node.ask(*line.split()))


def follower() -> FakeNode:
    node = FakeNode()
    node.facts.update(nid="2", addr="127.0.0.1:5020", role="follower")
    node.nid = "2"
    return node


def test_info_has_sections_of_lines(node: FakeNode) -> None:
    node.run("set", "a", "1", "EX", "5")
    every = node.run("info")
    for line in every.splitlines(keepends=True):
        assert line.endswith("\r\n")
        assert line == "\r\n" or line.startswith("# ") or ":" in line
    for name in ("redis_version", "redis_mode", "run_id", "tcp_port", "uptime_in_seconds",
                 "loading", "connected_clients", "used_memory", "cluster_enabled"):  # fmt: skip
        assert f"\r\n{name}:" in every
    assert "db0:keys=1,expires=1" in every
    assert node.run("info", "everything") == every
    part = node.run("INFO", "Replication", "server")
    assert part.startswith("# Server\r\n")
    assert "role:master\r\n" in part
    assert "# Clients" not in part
    assert "slave0:ip=127.0.0.1,port=5020,state=online,offset=6,lag=0\r\n" in part


def test_a_follower_names_its_master() -> None:
    node = follower()
    part = node.run("info", "replication")
    assert "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:5010\r\n" in part
    assert node.run("role") == ["slave", "127.0.0.1", 5010, "connected", 7]
    node.facts.update(leader_nid="", leader_addr="")
    assert "master_link_status:down" in node.run("info", "replication")
    assert node.run("role") == ["slave", "", 0, "connect", 7]


def test_command_has_the_shape_redis_cli_reads(node: FakeNode) -> None:
    node.worker.extra_rows.append(Row("hello", [print, "a", 0, 0]))
    node.worker.handler["mine"] = [lambda node, words: None, "we", 3, 3]
    table = node.run("command")
    assert len(table) == node.run("command", "count") == len(node.run("command", "list"))
    for row in table:
        assert type(row[0]) is str
        assert type(row[1]) is int
        assert isinstance(row[2], list)
        assert type(row[3]) is int
    by_name = {row[0]: row for row in table}
    assert by_name["get"][1:6] == [2, ["readonly"], 1, 1, 1]
    assert by_name["set"][1] == -3
    assert by_name["mset"][3:6] == [1, -1, 2]
    assert by_name["mine"][1] == 4
    assert "hello" in by_name
    assert node.run("command", "info", "GET", "nosuch") == [by_name["get"], None]


def check_arguments(arguments: Any) -> None:
    assert isinstance(arguments, list)
    for argument in arguments:
        assert isinstance(argument, dict)
        assert type(argument["name"]) is str
        assert type(argument["type"]) is str
        assert isinstance(argument.get("flags", []), list)
        check_arguments(argument.get("arguments", []))


def test_command_docs_has_the_shape_redis_cli_asserts_on(node: FakeNode) -> None:
    def mine(node: Any, words: Any) -> None:
        """Does what I want.

        In detail."""

    node.worker.handler["mine"] = [mine, "we", 2, 0]
    docs = node.run("command", "docs")
    assert isinstance(docs, Map)
    for name, spec in docs.items():
        assert type(name) is str
        assert isinstance(spec, Map)
        assert all(type(spec[key]) is str for key in ("summary", "since", "group"))
        check_arguments(spec.get("arguments", []))
    assert docs["mine"]["summary"] == "Does what I want."
    assert [argument["name"] for argument in docs["mine"]["arguments"]] == [
        "argument1", "argument2", "argument"
    ]  # fmt: skip
    assert docs["lpush"]["arguments"][1] == {
        "name": "element", "type": "string", "flags": ["multiple"]
    }  # fmt: skip
    limit = docs["zrange"]["arguments"][5]
    assert (limit["token"], limit["type"], limit["flags"]) == ("LIMIT", "block", ["optional"])
    assert list(node.run("command", "docs", "get", "nosuch")) == ["get"]


def test_every_command_is_documented(node: FakeNode) -> None:
    names = {row.name for row in node.worker.table.all_rows()}
    connection = {"hello", "auth", "client", "select", "reset", "quit"}
    assert names - {"raft.shutdown"} == set(DOCS) - connection


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("get a", ["a"]),
        ("MSET a 1 b 2", ["a", "b"]),
        ("del a b", ["a", "b"]),
        ("sintercard 2 a b LIMIT 1", ["a", "b"]),
        ("object encoding k", ["k"]),
        ("ping", "-ERR The command has no key arguments"),
        ("nosuch", "-ERR Invalid command specified"),
        ("get", "-ERR Invalid number of arguments specified for command"),
    ],
)
def test_command_getkeys(node: FakeNode, line: str, keys: Any) -> None:
    assert run(node, f"command getkeys {line}") == keys


def test_command_list_filters(node: FakeNode) -> None:
    assert run(node, "command list filterby pattern get*x") == ["getex"]
    assert "smembers" in run(node, "command list filterby aclcat set")
    assert run(node, "command list filterby module x") == []
    assert run(node, "command list filterby") == "-ERR syntax error"
    assert run(node, "command nosuch").startswith("-ERR unknown subcommand 'nosuch'")


def test_small_commands(node: FakeNode) -> None:
    assert type(node.run("ping")) is Status
    assert run(node, "ping hello") == run(node, "echo hello") == "hello"
    assert run(node, "wait 1 100") == 1
    assert run(node, "readonly") is run(node, "readwrite") is True
    assert run(node, "sentinel masters").startswith("-ERR ")
    assert run(node, "debug sleep 5") == "-ERR DEBUG command not allowed"
    assert isinstance(node.run("lolwut"), Verbatim)
    seconds, microseconds = node.run("time")
    assert int(seconds) > 1_600_000_000
    assert 0 <= int(microseconds) < 1_000_000
    assert run(node, "ping a b") == "-ERR wrong number of arguments for 'ping' command"


def test_config(node: FakeNode) -> None:
    assert run(node, "config get save") == {"save": ""}
    assert run(node, "config get appendonly maxmemory*") == {
        "appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "noeviction"
    }  # fmt: skip
    assert run(node, "config set requirepass x") is True
    assert node.settings == {"requirepass": "x"}
    assert run(node, "CONFIG SET maxmemory 0") is True
    refused = run(node, "config set requirepass y maxmemory 5")
    assert refused == "-ERR Unknown option or number of arguments for CONFIG SET - 'maxmemory'"
    assert node.settings == {"requirepass": "x"}
    assert run(node, "config resetstat") is True
    assert node.calls == [("reset_stats",)]
    assert run(node, "config get") == "-ERR wrong number of arguments for 'config|get' command"
    assert run(node, "config nosuch").startswith("-ERR unknown subcommand")


def test_cluster_shows_one_shard(node: FakeNode) -> None:
    ids = [node_id(nid) for nid in "123"]
    slots = run(node, "cluster slots")
    assert slots == [
        [0, 16383, *[["127.0.0.1", 5000 + 10 * at, ids[at - 1], []] for at in (1, 2, 3)]]
    ]
    assert run(follower(), "cluster slots") == slots
    lines = run(node, "cluster nodes").splitlines()
    assert lines[0] == f"{ids[0]} 127.0.0.1:5010@5011 myself,master - 0 0 3 connected 0-16383"
    assert lines[1] == f"{ids[1]} 127.0.0.1:5020@5021 slave {ids[0]} 0 0 3 connected"
    assert "cluster_state:ok\r\n" in run(node, "cluster info")
    assert run(node, "cluster myid") == ids[0]
    shard = run(node, "cluster shards")[0]
    assert shard["slots"] == [0, 16383]
    assert [part["role"] for part in shard["nodes"]] == ["master", "replica", "replica"]
    node.facts.update(leader_nid="", members=[])
    assert "cluster_state:fail" in run(node, "cluster info")
    assert len(run(node, "cluster slots")[0]) == 3


@pytest.mark.parametrize(
    ("key", "slot"),
    [("123456789", 12739), ("{user1000}.following", 3443), ("{user1000}.followers", 3443),
     ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015), ("", 0)],
)  # fmt: skip
def test_slots_are_those_of_redis_cluster(node: FakeNode, key: str, slot: int) -> None:
    assert node.run("cluster", "keyslot", key) == slot
    node.run("set", key, "v")
    assert node.run("cluster", "countkeysinslot", str(slot)) == 1


def test_raft_commands_reach_the_node(node: FakeNode) -> None:
    for line in ("add_node 4 h:1", "raft node add 4 h:1", "del_node 4", "raft node remove 4",
                 "checkpoint", "save", "raft snapshot", "raft transfer 2", "raft transfer",
                 "raft shutdown all", "getlog 1 5", "raft log", "raft log 7"):  # fmt: skip
        node.run(*line.split())
    add, remove = ("request_change", "add", "4", "h:1"), ("request_change", "remove", "4", "")
    snapshot = ("request_snapshot",)
    assert node.calls == [
        add, add, remove, remove, snapshot, snapshot, snapshot,
        ("request_transfer", "2"), ("request_transfer", ""), ("request_async", "raft.shutdown"),
        ("read_log", 1, 5), ("read_log", None, None), ("read_log", 7, None),
    ]  # fmt: skip
    node.calls.clear()
    assert run(node, "bgsave") == "Background saving started"
    assert node.ask("shutdown", "nosave") == {"quit": True}
    assert node.run("raft.shutdown") is True
    assert node.calls == [snapshot, ("shutdown",), ("shutdown_from_log", node.store.now_ms)]


@pytest.mark.parametrize(
    "line",
    ["checkpoint /etc/passwd", "save x", "bgsave x", "shutdown x", "raft nosuch", "raft node",
     "raft node add 4", "raft shutdown", "raft info x", "getlog x", "getdump 0 0", "getdump x",
     "memory nosuch", "memory usage", "cluster nosuch", "cluster keyslot", "object nosuch k"],
)  # fmt: skip
def test_wrong_words_are_refused_without_effect(node: FakeNode, line: str) -> None:
    assert run(node, line).startswith("-ERR ")
    assert node.calls == []


def test_raft_info_carries_the_keys_of_pyrafts_info(node: FakeNode) -> None:
    facts = json.loads(node.run("raft", "info"))
    assert {"nid", "state", "term", "index", "peers", "last_checkpoint"} <= set(facts)
    assert set(facts["peers"]) == {"2", "3"}
    assert facts["peers"]["2"]["addr"] == "127.0.0.1:5020"


def test_memory_usage_grows_with_the_value(node: FakeNode) -> None:
    node.run("rpush", "small", "a")
    node.run("rpush", "large", *["a" * 100] * 1000)
    small, large = node.run("memory", "usage", "small"), node.run("memory", "usage", "large")
    assert 0 < small < 2000 < 100_000 < large
    assert node.run("memory", "usage", "none") is None
    for words in (["sadd", "s", "a"], ["zadd", "z", "1", "a"], ["hset", "h", "a", "b"]):
        node.run(*words)
        assert node.run("memory", "usage", words[1], "samples", "0") > 50


@pytest.mark.parametrize(
    ("line", "encoding"),
    [("set k 5", "int"), ("set k abc", "embstr"), ("set k " + "x" * 45, "raw"),
     ("set k --5", "embstr"), ("set k \u00b2", "embstr"), ("set k -", "embstr"),
     ("set k -0", "embstr"), ("set k " + str(2**63), "embstr"), ("set k " + str(-2**63), "int"),
     ("set k " + "\u00e9" * 22, "embstr"), ("set k " + "\u00e9" * 23, "raw"),
     ("rpush k a", "quicklist"), ("hset k a b", "hashtable"), ("zadd k 1 a", "skiplist")],
)  # fmt: skip
def test_object(node: FakeNode, line: str, encoding: str) -> None:
    run(node, line)
    assert run(node, "object encoding k") == encoding
    assert run(node, "object refcount k") == 1
    assert run(node, "object encoding none") is None
