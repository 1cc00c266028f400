"""Commands of one's own, on three real nodes: what README and pyraft promise of handlers."""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.process.cluster import Cluster, Node, eventually

PROGRAM = '''
import ast
import time

from pyraft_fast import raft

ANSWERS = {
    "none": None,
    "true": True,
    "false": False,
    "int": -7,
    "float": 1.5,
    "whole": 3.0,
    "text": "caf\\u00e9",
    "bytes": b"\\x00\\xff",
    "dict": {"a": 1, "b": None},
    "empty": {},
    "list": [1, "two", [3.5, None]],
    "tuple": (1, 2),
    "object": object(),
    "error": ValueError("returned, not raised"),
    "bypass": {"bypass": "+RAW\\r\\n"},
    "bypass_bytes": {"bypass": b":42\\r\\n"},
    "quit": {"quit": True},
    "quit_after_send": {"quit_after_send": "bye"},
}


def do_put(node, words):
    node.data[words[1]] = ast.literal_eval(words[2])
    return True


def do_boom(node, words):
    node.data["before_boom"] = words[1]
    raise ValueError("no such luck: " + words[1])


def do_refuse(node, words):
    raise raft.RaftException("refused as asked")


def do_dice(node, words):
    drawn = [node.random.random(), node.random.randint(1, 10**9), node.random.choice("abcdefgh")]
    order = list(range(20))
    node.random.shuffle(order)
    node.data.setdefault("drawn", []).append([node.now(), *drawn, order])
    return len(node.data["drawn"])


def do_lease(node, words):
    node.data[words[1]] = "held"
    node.set_ttl(words[1], node.now() + float(words[2]))
    return True


def do_forever(node, words):
    node.clear_ttl(words[1])
    return True


def do_bad(node, words):
    node.data[words[1]] = object()
    return True


def do_inside(node, words):
    """A write, a read or an own function from inside a handler."""
    if words[1] == "strict":
        return node.request("set", "inner", "1", strict=True)
    if words[1] == "async":
        return node.request_async("set", "inner", "1").get(30)
    if words[1] == "propose":
        return node.propose(("set", "inner", "1"))
    if words[1] == "read":
        return node.request("get", words[2])
    if words[1] == "checkpoint":
        return node.checkpoint()
    return node.get_handler_func("set")(node, ["set", "inner", words[2]])


def do_slow(node, words):
    time.sleep(float(words[1]))
    return "slept"


def do_learn(node, words):
    def learned(node, given):
        node.data[given[1]] = words[1]
        return True

    node.worker.handler[words[1]] = [learned, "we", 1, 1]
    return True


node = raft.make_default_node()
handler = node.worker.handler
handler["put"] = [do_put, "we", 2, 2]
handler["boom"] = (do_boom, "we", 1, 1)
handler["refuse"] = [do_refuse, "we", 0, 0]
handler["dice"] = [do_dice, "we", 0, 0]
handler["lease"] = [do_lease, "we", 2, 2]
handler["forever"] = [do_forever, "we", 1, 1]
handler["leased"] = [lambda node, words: int(node.check_ttl(words[1])), "r", 1, 1]
handler["bad"] = [do_bad, "we", 1, 1]
handler["inside"] = [do_inside, "we", 1, 2]
handler["look"] = [do_inside, "r", 1, 2]
handler["slow"] = [do_slow, "we", 1, 1]
handler["give"] = [lambda node, words: ANSWERS[words[1]], "r", 1, 1]
handler["change"] = [lambda node, words: ANSWERS[words[1]], "we", 1, 1]
handler["whoami"] = (lambda node, words: node.nid, "a", 0, 0)
handler["learn"] = [do_learn, "a", 1, 1]
handler["whole"] = [lambda node, words: node.get_snapshot(), "r", 0, 0]
handler["strlen"] = [lambda node, words: "mine:" + words[1], "r", 1, 1]
handler["bare"] = [lambda node, words: len(words), "e", 0, 3]
node.start()
node.join()
raise SystemExit(node.exit_status)
'''


def program(folder: Path) -> list[str]:
    path = folder / "my_node.py"
    path.write_text(PROGRAM)
    return [str(path)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with the program's handlers, for tests that leave them alive."""
    folder = tmp_path_factory.mktemp("handlers")
    made = Cluster(folder, 3, program(folder))
    try:
        yield made.start()
    finally:
        made.cleanup()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes for a test that ends some of them."""
    made = Cluster(tmp_path, 3, program(tmp_path))
    try:
        yield made.start()
    finally:
        made.cleanup()


def ask(node: Node, *words: object, **options: object) -> object:
    with node.client(**options) as client:
        return client.execute_command(*words)


def error_of(node: Node, *words: object) -> str:
    with pytest.raises(redis.ResponseError) as caught:
        ask(node, *words)
    return str(caught.value)


def whole(node: Node) -> dict[str, object]:
    """A node's data, as current as its cluster's."""
    return json.loads(str(ask(node, "whole")))


def alike(cluster: Cluster) -> dict[str, object]:
    """The data of all nodes, which is the same."""
    first, *others = [whole(node) for node in cluster.running()]
    assert all(other == first for other in others)
    return first


def wire(port: int, command: bytes, proto: int = 2) -> bytes:
    """The bytes that answer one inline command, or all there are when the node closes."""
    end = b"$5\r\n~end~\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=6) as sock:
        sock.sendall(b"HELLO %d\r\nECHO ~go~\r\n" % proto)
        seen = b""
        while not seen.endswith(b"$4\r\n~go~\r\n"):
            seen += sock.recv(65536)
        sock.sendall(command + b"\r\nECHO ~end~\r\n")
        seen = b""
        while not seen.endswith(end):
            data = sock.recv(65536)
            if not data:
                return seen + b"(closed)"
            seen += data
        return seen.removesuffix(end)


def test_a_write_handler_runs_on_every_node_and_a_local_one_on_the_node_asked(
    shared: Cluster,
) -> None:
    for number, node in enumerate(shared.nodes):
        assert ask(node, "PUT", f"seen{number}", repr("by all")) in ("OK", True)
        assert ask(node, "whoami") == node.nid
        assert ask(node, "bare", "x", "y") == 3
    for node in shared.nodes:
        for number in range(3):
            assert ask(node, "get", f"seen{number}") == "by all"
    alike(shared)


def test_arity_is_checked_and_the_rest_of_the_table_is_intact(shared: Cluster) -> None:
    node = shared.nodes[0]
    assert "wrong number of arguments for 'put'" in error_of(node, "put", "k")
    assert "wrong number of arguments for 'boom'" in error_of(node, "boom", "a", "b")
    assert "unknown command 'nothing'" in error_of(node, "nothing", "a")
    assert "unknown command 'on_leader'" in error_of(node, "on_leader")


def test_a_users_entry_wins_over_the_built_in_one(shared: Cluster) -> None:
    for node in shared.nodes:
        assert ask(node, "strlen", "key") == "mine:key"
        assert ask(node, "STRLEN", "key") == "mine:key"


def test_a_handler_added_after_the_start_works_on_every_node(shared: Cluster) -> None:
    assert "unknown command 'late'" in error_of(shared.nodes[0], "late", "key")
    for node in shared.nodes:
        ask(node, "learn", "late")
    assert ask(shared.follower(), "late", "key_late")
    for node in shared.nodes:
        assert ask(node, "get", "key_late") == "late"


def test_a_handler_that_raises_is_an_error_and_its_change_stays_everywhere(
    shared: Cluster,
) -> None:
    for node in (shared.leader(), shared.follower()):
        text = error_of(node, "boom", f"for {node.nid}")
        assert "handler 'boom' failed" in text
        assert f"no such luck: for {node.nid}" in text
        for other in shared.nodes:
            assert ask(other, "get", "before_boom") == f"for {node.nid}"
        assert ask(node, "set", "after_boom", node.nid)
    assert error_of(shared.leader(), "refuse") == "refused as asked"
    assert len(shared.running()) == 3
    alike(shared)


def test_time_and_dice_are_the_same_on_every_node(shared: Cluster) -> None:
    began = time.time()
    for node in shared.nodes:
        ask(node, "dice")
    with shared.follower().client() as client:
        pipe = client.pipeline(transaction=False)
        for _ in range(5):
            pipe.execute_command("dice")
        pipe.execute()
    drawn = alike(shared)["drawn"]
    assert isinstance(drawn, list)
    assert len(drawn) == 8
    assert len({row[1] for row in drawn}) == 8, "every command has dice of its own"
    times = [row[0] for row in drawn]
    assert times == sorted(times)
    assert all(began - 60 < moment < time.time() + 60 for moment in times)


def test_deadlines_from_handlers(shared: Cluster) -> None:
    leader, follower = shared.leader(), shared.follower()
    ask(leader, "lease", "long", "1000")
    ask(leader, "lease", "kept", "1000")
    ask(leader, "forever", "kept")
    ask(leader, "lease", "over", "-1")
    ask(leader, "lease", "short", "0.3")
    assert 0 < int(str(ask(follower, "ttl", "long"))) <= 1000
    assert ask(follower, "ttl", "kept") == -1
    for node in shared.nodes:
        assert ask(node, "leased", "long") == 1
        assert ask(node, "leased", "over") in (0, 1)  # hidden now, gone with the next entry
        assert ask(node, "get", "over") is None
    eventually(lambda: all(ask(n, "exists", "short") == 0 for n in shared.nodes), 5)
    for node in shared.nodes:
        eventually(lambda n=node: "short" not in whole(n), 5, "the log removes what is due")
    alike(shared)


def test_what_handlers_store_can_be_read_by_built_in_commands(shared: Cluster) -> None:
    leader, follower = shared.leader(), shared.follower()
    ask(leader, "put", "a_list", "['x', 'y', 'z']")
    ask(leader, "put", "a_hash", "{'f': 'v', 'g': '2'}")
    ask(leader, "put", "a_float", "2.5")
    ask(leader, "put", "an_int", "41")
    ask(leader, "put", "a_blob", "b'\\x00\\xff'")
    ask(leader, "put", "mixed", "{'n': [1, 2.5, None, True], 'd': {'deep': b'bytes'}}")
    assert ask(follower, "lrange", "a_list", 0, -1) == ["x", "y", "z"]
    assert ask(follower, "rpush", "a_list", "more") == 4
    assert ask(follower, "lpop", "a_list") == "x"
    assert ask(follower, "hget", "a_hash", "f") == "v"
    assert ask(follower, "hlen", "a_hash") == 2
    assert ask(follower, "hincrby", "a_hash", "g", 3) == 5
    assert ask(follower, "get", "a_float") == "2.5"
    assert ask(follower, "get", "an_int") == "41"
    assert ask(follower, "incr", "an_int") == 42
    assert ask(follower, "get", "a_blob", decode_responses=False) == b"\x00\xff"
    kinds = {"a_list": "list", "a_hash": "hash", "a_float": "string", "a_blob": "string"}
    for key, kind in kinds.items():
        assert ask(leader, "type", key) == kind
    alike(shared)


def test_what_handlers_store_survives_snapshot_and_restart(shared: Cluster) -> None:
    follower = shared.follower()
    for key, text in {
        "kept_float": "0.1",
        "kept_mixed": "{'n': [1, 2.5, None, True, (1, 'two')], 'd': {'deep': {7: b'bytes'}}}",
        "kept_list": "[1, 'two', [3]]",
    }.items():
        ask(follower, "put", key, text)
    ask(follower, "lease", "kept_lease", "5000")
    before = alike(shared)
    assert ask(follower, "checkpoint") in ("OK", True)
    assert follower.stop() == 0
    follower.start()
    eventually(lambda: whole(follower) == before, what=follower.text)
    assert 4000 < int(str(ask(follower, "ttl", "kept_lease"))) <= 5000
    assert eventually(lambda: ask(follower, "ping")) in ("PONG", True)


@pytest.mark.parametrize(
    ("name", "two", "three"),
    [
        ("none", b"$-1\r\n", b"_\r\n"),
        ("true", b"+OK\r\n", b"+OK\r\n"),
        ("false", b":0\r\n", b":0\r\n"),
        ("int", b":-7\r\n", b":-7\r\n"),
        ("float", b"$3\r\n1.5\r\n", b",1.5\r\n"),
        ("whole", b"$1\r\n3\r\n", b",3\r\n"),
        ("text", "$5\r\ncafé\r\n".encode(), "$5\r\ncafé\r\n".encode()),
        ("bytes", b"$2\r\n\x00\xff\r\n", b"$2\r\n\x00\xff\r\n"),
        (
            "dict",
            b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n",
            b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n",
        ),
        ("empty", b"*0\r\n", b"%0\r\n"),
        (
            "list",
            b"*3\r\n:1\r\n$3\r\ntwo\r\n*2\r\n$3\r\n3.5\r\n$-1\r\n",
            b"*3\r\n:1\r\n$3\r\ntwo\r\n*2\r\n,3.5\r\n_\r\n",
        ),
        ("tuple", b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
        ("error", b"-ERR returned, not raised\r\n", b"-ERR returned, not raised\r\n"),
        ("bypass", b"+RAW\r\n", b"+RAW\r\n"),
        ("bypass_bytes", b":42\r\n", b":42\r\n"),
        ("quit", b"(closed)", b"(closed)"),
        ("quit_after_send", b"$3\r\nbye\r\n(closed)", b"$3\r\nbye\r\n(closed)"),
    ],
)
def test_what_a_handler_returns_on_the_wire(
    shared: Cluster, name: str, two: bytes, three: bytes
) -> None:
    leader, follower = shared.nodes[0], shared.nodes[1]
    for verb in (b"give", b"change"):
        command = verb + b" " + name.encode()
        assert wire(leader.port, command, 2) == two
        assert wire(follower.port, command, 3) == three


def test_a_return_value_without_a_form_is_an_error_that_names_its_type(shared: Cluster) -> None:
    assert "object" in error_of(shared.nodes[0], "give", "object")
    assert ask(shared.nodes[0], "ping")


def test_a_read_handler_failing_is_an_error_of_that_client_only(shared: Cluster) -> None:
    text = error_of(shared.nodes[0], "give", "unheard of")
    assert "handler 'give' failed: KeyError" in text


@pytest.mark.parametrize("way", ["strict", "async", "propose"])
def test_a_write_from_inside_a_handler_is_refused_at_once(shared: Cluster, way: str) -> None:
    began = time.monotonic()
    for verb in ("inside", "look"):
        text = error_of(shared.follower(), verb, way)
        assert "a handler cannot send 'set' through the log" in text
    assert time.monotonic() - began < 3, "nobody waited for a time-out"
    assert ask(shared.leader(), "exists", "inner") == 0
    alike(shared)


def test_waiting_for_a_snapshot_inside_a_handler_is_refused_at_once(shared: Cluster) -> None:
    began = time.monotonic()
    assert "a handler must not wait" in error_of(shared.nodes[0], "look", "checkpoint")
    assert time.monotonic() - began < 3
    assert ask(shared.nodes[0], "ping")


def test_reads_and_functions_of_other_commands_work_inside_a_handler(shared: Cluster) -> None:
    ask(shared.leader(), "set", "outer", "value")
    assert ask(shared.follower(), "inside", "read", "outer") == "value"
    assert ask(shared.follower(), "inside", "function", "through") in ("OK", True)
    for node in shared.nodes:
        assert ask(node, "get", "inner") == "through"
    ask(shared.leader(), "del", "inner")


def test_a_slow_handler_costs_no_election(shared: Cluster) -> None:
    leader = shared.leader()
    before = {node.nid: node.info()["raft_term"] for node in shared.nodes}
    assert ask(shared.follower(), "slow", "2") == "slept"
    assert ask(leader, "set", "after_slow", "1")
    assert {node.nid: node.info()["raft_term"] for node in shared.nodes} == before
    assert shared.leader() is leader


def test_a_value_that_cannot_be_kept_fails_the_snapshot_and_names_its_key(
    shared: Cluster,
) -> None:
    node = shared.follower()
    ask(node, "bad", "culprit")
    text = error_of(node, "checkpoint")
    assert "'culprit'" in text
    assert "object" in text
    eventually(lambda: "'culprit'" in node.text(), what=node.text)
    assert ask(node, "set", "goes", "on")
    assert ask(node, "get", "goes") == "on"
    ask(node, "del", "culprit")
    assert ask(node, "checkpoint") in ("OK", True)
    assert len(shared.running()) == 3


def test_a_node_without_a_handler_of_the_log_stops_and_the_others_go_on(fresh: Cluster) -> None:
    without = fresh.follower()
    for node in fresh.nodes:
        if node is not without:
            ask(node, "learn", "rare")
    asked = fresh.leader()
    assert ask(asked, "rare", "key")
    assert without.process is not None
    assert without.process.wait(10) == 1
    assert "no handler 'rare'" in without.text()
    assert "every node must have the same handlers" in without.text()
    assert "Traceback" not in without.text()
    assert ask(asked, "set", "key2", "value")
    for node in fresh.running():
        assert ask(node, "get", "key") == "rare"
    assert len(fresh.running()) == 2


def test_math_of_floats_is_exact_over_the_log(shared: Cluster) -> None:
    """A float goes to every node bit by bit."""
    ask(shared.leader(), "put", "pi", repr(math.pi))
    assert all(whole(node)["pi"] == math.pi for node in shared.nodes)
