"""What the comparison with redis-server cannot show: pyraft's own commands and handlers' values.

Also cursors over large collections, sizes, and the deterministic side of random commands.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyraft_fast._entry import packb, unpackb
from pyraft_fast.errors import CommandError, WrongType
from pyraft_fast.limits import ARGC_MAX
from pyraft_fast.worker import strings, tree
from pyraft_fast.worker.scans import ScanCache
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet
from pyraft_fast.worker.words import glob, integer, number, raw, text
from tests.worker.fake_node import START_MS, FakeNode, shown


def run(node: FakeNode, line: str) -> Any:
    return shown(node.ask(*line.split()))


@pytest.mark.parametrize(
    ("stored", "got"),
    [(5, "5"), (-1.5, "-1.5"), (True, "1"), (False, "0"), (b"\xff", "\udcff"), ("x", "x")],
)
def test_get_reads_what_handlers_stored(node: FakeNode, stored: Any, got: str) -> None:
    node.data["k"] = stored
    assert node.run("get", "k") == got
    assert node.run("strlen", "k") == len(raw(got))
    assert str(node.run("type", "k")) == "string"
    assert node.run("mget", "k", "none") == [got, None]


def test_numbers_that_handlers_stored_can_be_added_to(node: FakeNode) -> None:
    node.data["k"] = 5
    assert node.run("incr", "k") == 6
    assert node.data["k"] == "6"
    node.data["k"] = 1.5
    assert node.run("incrbyfloat", "k", "1") == "2.5"
    node.data["h"] = {"f": 7}
    assert node.run("hincrby", "h", "f", "1") == 8


def test_commands_take_plain_lists_and_dicts_of_handlers(node: FakeNode) -> None:
    node.data["l"] = ["a", "b"]
    assert node.run("lrange", "l", "0", "-1") == ["a", "b"]
    assert node.run("rpush", "l", "c") == 3
    assert type(node.data["l"]) is RedisList
    assert node.data["l"] == ["a", "b", "c"]
    node.data["h"] = {"a": "1"}
    assert node.run("hset", "h", "b", "2") == 1
    assert node.run("hgetall", "h") == ["a", "1", "b", "2"]


NIL = (
    "lpop l", "rpop l2", "lpop l 2", "rpoplpush l2 x", "lmove l x LEFT LEFT", "lindex l 0",
    "spop s", "srandmember s", "zrandmember z", "hrandfield h", "hget h f",
)  # fmt: skip
EMPTY = (
    "lrange l 0 -1", "spop s 2", "smembers s", "hkeys h", "zpopmin z", "zpopmax z 2",
    "zrange z 0 -1", "zrangebyscore z -inf +inf", "zrangebylex z - +",
)  # fmt: skip


def test_containers_that_a_handler_emptied_hold_nothing(node: FakeNode) -> None:
    node.data.update(l=[], l2=RedisList(), s=RedisSet(), z=SortedSet(), h={})
    for line in NIL:
        assert run(node, line) is None, line
    for line in EMPTY:
        assert run(node, line) == [], line
    assert "x" not in node.data


def test_a_word_no_set_or_hash_can_hold_leaves_nothing_behind(node: FakeNode) -> None:
    for words in (["sadd", "s", ["list"]], ["hset", "h", ["list"], "v"]):
        with pytest.raises(TypeError):
            node.run(*words)
    assert node.data == {}


def test_a_reply_does_not_change_with_the_data(node: FakeNode) -> None:
    node.run("hset", "h", "a", "1")
    node.run("sadd", "s", "a")
    replies = [node.run("hgetall", "h"), node.run("smembers", "s")]
    node.run("hset", "h", "b", "2")
    node.run("sadd", "s", "b")
    assert shown(replies) == [["a", "1"], ["a"]]


@pytest.mark.parametrize("command", ["hgetall", "hset", "hget", "hscan"])
def test_tree_nodes_are_no_hashes(node: FakeNode, command: str) -> None:
    node.run("tmk", "t")
    words = {"hset": ["f", "v"], "hget": ["f"], "hscan": ["0"]}.get(command, [])
    with pytest.raises(WrongType):
        node.run(command, "t", *words)


TREE = """
tmk a | True
tmk a | -ERR node or attr is already exists
tmk x/y | -ERR node does not exists
tmk a/b name n1 size 5 | True
tget a/b | {"name": "n1", "size": "5"}
tget /a/b/ size | 5
tget a/b none | -ERR attr does not exists
tget a/none | -ERR node does not exists
tset a b x | -ERR can not overwrite node
tset a k v k2 v2 | True
tset a k | -ERR invalid JSON
tset a k v odd | -ERR wrong number of arguments for 'tset' command
tset a {"k":[1,{"x":null}],"n":1.5} | True
tget a | {"k": [1, {"x": null}], "k2": "v2", "n": 1.5}
tget a k | [1, {"x": null}]
tset a [1] | -ERR JSON must be an object
tset a {"n":99999999999999999999} | -ERR JSON holds an integer beyond 64 bit
tset a {"n":NaN} | -ERR invalid JSON
tmk a/c {"child":{"deep":"1"},"own":"2"} | True
tget a/c/child deep | 1
tls a | ['b', 'c']
tls a/c | ['child']
tls / | ['a']
tls | ['a']
tget / | {}
tset / a b | -ERR the root has no attributes and cannot be made or removed
tmk / | -ERR node or attr is already exists
trm / | -ERR the root has no attributes and cannot be made or removed
trm a k none | -ERR attr does not exists
trm a k k2 | True
tget a | {"n": 1.5}
trm a b | -ERR attr does not exists
trm a/b | True
tls a | ['c']
set s 1 | True
tget s | -WRONGTYPE Operation against a key holding the wrong kind of value
tmk s | -ERR node or attr is already exists
trm a | True
tls | []
type s | string
"""


def test_tree_commands_step_by_step(node: FakeNode) -> None:
    for line in TREE.strip().splitlines():
        command, want = line.split(" | ")
        assert str(run(node, command)) == want, command


def test_deep_paths_and_json_are_refused(node: FakeNode) -> None:
    assert "deeper" in run(node, "tmk " + "a/" * 100)
    node.run("tmk", "a")
    for bomb in ("[" * 100_000, '{"a":' * 60 + "1" + "}" * 60):
        with pytest.raises(CommandError, match="JSON"):
            node.run("tset", "a", bomb)


# What JSON escapes spell, and how a snapshot would give it back
ESCAPED = {
    r'{"a":"\udcc3\udca9"}': {"a": "\u00e9"},
    r'{"\udcc3\udca9":"1","\u00e9":"2"}': {"\u00e9": "2"},
    r'{"l":["\udcc3\udca9",{"\udcc3\udca9":"\udcff"}]}': {"l": ["\u00e9", {"\u00e9": "\udcff"}]},
    r'{"c":{"\udce2\udc82\udcac":"\ud83d\ude00"}}': {"c": {"\u20ac": "\U0001f600"}},
}


@pytest.mark.parametrize("given", ESCAPED)
def test_json_texts_are_kept_as_a_snapshot_gives_them_back(node: FakeNode, given: str) -> None:
    node.run("tmk", "t", given)
    assert node.data["t"] == ESCAPED[given]
    assert unpackb(packb(dict(node.data["t"]))) == ESCAPED[given]


@pytest.mark.parametrize(
    "given",
    [r'{"a":"\ud800"}', r'{"\udfff":1}', r'{"a":["\udc00"]}', r'{"a":[{"\ud800":1}]}'],
)
def test_json_that_no_snapshot_can_hold_is_refused(node: FakeNode, given: str) -> None:
    for line in (f"tmk t {given}", f"tset a {given}", f"tmk a/b {given}"):
        node.run("del", "t", "a")
        node.run("tmk", "a")
        assert "surrogate" in run(node, line)
        assert node.data["a"] == {}
        assert "t" not in node.data


def test_objects_and_lists_in_each_other_are_looked_at_once(node: FakeNode) -> None:
    nested = '[{"a":' * 12 + "1" + "}]" * 12
    with pytest.MonkeyPatch.context() as patch:
        looks = []
        patch.setattr(tree, "_word", lambda word: looks.append(word) or word)
        node.run("tmk", "t", f'{{"a":{nested}}}')
    assert len(looks) == 13


def walk(node: FakeNode, *words: str) -> list[Any]:
    """Everything a cursor hands out, in the order it comes."""
    head, at = list(words), len(words)
    cursor, found = "0", []
    for _ in range(10_000):
        cursor, part = shown(node.ask(*head[:at], cursor, "COUNT", "10"))
        found += part
        if cursor == "0":
            return found
    raise AssertionError("the cursor never ends")


def test_scan_finds_every_key_that_stays_while_others_come_and_go(node: FakeNode) -> None:
    for at in range(1000):
        node.run("set", f"key:{at}", "v")
    found: list[str] = []
    cursor, turn = "0", 0
    while True:
        cursor, part = node.run("scan", cursor, "COUNT", "7")
        found += part
        if cursor == "0":
            break
        turn += 1
        node.run("set", f"new:{turn}", "v")
        node.run("del", f"key:{turn}")
        if turn % 10 == 0:
            node.run("scan", "0", "COUNT", "3")  # another client begins to walk
        if turn % 25 == 0:
            node.store.scans.clear()
    stayed = {f"key:{at}" for at in range(turn + 1, 1000)}
    assert stayed <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("first_index", [0, 2**31 - 50, 2**31, 2**33])
def test_a_scan_that_goes_on_elsewhere_takes_no_list_from_before_it(first_index: int) -> None:
    data = {f"k{at}": "v" for at in range(100)}
    here, there = ScanCache(), ScanCache()  # of two nodes that have the same data
    index = first_index
    there.step("", data, index, 0, 10)  # somebody begins, and leaves it
    for at in range(100, 200):
        data[f"k{at}"] = "v"
        index += 1
    cursor, found = here.step("", data, index, 0, 10)
    keys = list(found)
    while cursor:
        assert 0 < cursor < 2**63
        cursor, found = there.step("", data, index, cursor, 10)
        keys += found
    assert sorted(keys) == sorted(data)


def test_a_scan_goes_on_with_a_list_made_since_it_began() -> None:
    data = {f"k{at}": "v" for at in range(100)}
    cache = ScanCache()
    one, _ = cache.step("", data, 5, 0, 10)
    data["new"] = "v"
    two, _ = cache.step("", data, 7, 0, 10)
    (made,) = cache._kept.values()
    for index, cursor in ((8, one), (9, two), (6, one)):  # the last as on a node that is behind
        cache.step("", data, index, cursor, 10)
        assert list(cache._kept.values()) == [made]
    ahead = ScanCache().step("", data, 20, 0, 10)[0]
    for _ in range(2):
        assert cache.step("", data, 10, ahead, 10)[1]
        assert cache._kept[""][0] == 10  # made once, of what is here


def test_cursors_over_large_collections_of_one_key(node: FakeNode) -> None:
    names = [f"m{at}" for at in range(2000)]
    node.run("sadd", "s", *names)
    node.run("hset", "h", *[word for name in names for word in (name, "v")])
    node.run("zadd", "z", *[word for name in names for word in ("1", name)])
    assert sorted(walk(node, "sscan", "s")) == sorted(names)
    assert sorted(walk(node, "hscan", "h")[::2]) == sorted(names)
    assert sorted(walk(node, "zscan", "z")[::2]) == sorted(names)
    assert len(node.run("sscan", "s", "0")[1]) < 50


def test_expired_keys_are_hidden_from_every_walk(node: FakeNode) -> None:
    node.run("set", "a", "1", "PX", "10")
    node.run("set", "b", "1")
    node.clock_ms += 10
    assert node.run("keys", "*") == ["b"]
    assert node.run("scan", "0") == ["0", ["b"]]
    assert node.run("dbsize") == 1
    assert node.run("randomkey") == "b"
    assert node.run("exists", "a", "b") == 1
    assert node.run("get", "a") is None
    assert "a" in node.data


def test_deadlines_count_from_the_entry_time(node: FakeNode) -> None:
    node.run("set", "a", "1", "EX", "100")
    assert node.store.deadlines["a"] == START_MS + 100_000
    assert node.run("pexpiretime", "a") == START_MS + 100_000
    node.run("set", "a", "2", "KEEPTTL")
    assert node.run("pttl", "a") == 100_000
    node.run("rename", "a", "b")
    assert node.run("ttl", "b") == 100
    node.run("copy", "b", "c")
    assert node.run("ttl", "c") == 100
    node.run("set", "c", "2", "PXAT", str(START_MS - 1))
    assert node.run("exists", "c") == 0
    assert node.run("expire", "b", "-1") == 1
    assert node.data == {}


def test_random_commands_stay_inside_their_bounds(node: FakeNode) -> None:
    node.run("sadd", "s", *"abc")
    with pytest.raises(CommandError, match="out of range"):
        node.run("srandmember", "s", str(-ARGC_MAX - 1))
    picked = node.run("srandmember", "s", "-50")
    assert len(picked) == 50
    assert set(picked) == set("abc")
    assert sorted(node.run("srandmember", "s", "2")) != node.run("srandmember", "none", "2") == []


def test_values_past_the_bulk_limit_are_refused(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = r"^string exceeds maximum allowed size \(proto-max-bulk-len\)$"
    with pytest.raises(CommandError, match=why):
        node.run("setrange", "k", str(2**29), "x")
    assert node.data == {}
    monkeypatch.setattr(strings, "BULK_BYTES_MAX", 10)
    node.run("set", "k", "é" * 4)
    for words in (["append", "k", "abc"], ["append", "k", "éa"], ["setrange", "k", "9", "ab"]):
        with pytest.raises(CommandError, match=why):
            node.run(*words)
        assert node.data == {"k": "é" * 4}
    assert node.run("append", "k", "ab") == 10


def test_flushing_takes_everything(node: FakeNode) -> None:
    node.run("set", "a", "1", "EX", "5")
    node.run("sadd", "s", "x")
    assert node.run("flushall") is True
    assert (node.data, node.store.deadlines) == ({}, {})
    assert run(node, "flushdb now") == "-ERR syntax error"


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("h[a-c]llo", ["hallo", "hcllo"], ["hdllo", "hllo"]),
        ("*a*a*a*", ["aaa", "xaxaxax"], ["aa"]),
        ("\\*", ["*"], ["a", "\\*"]),
        ("[]a", [], ["a", "]a", ""]),
        ("[^]", ["a", "]"], ["", "ab"]),
        ("[z-a]", ["m"], ["0"]),
        ("a?", ["ab"], ["a", "abc", "a\u00e9"]),
        ("**", ["x"], [""]),
        ("*", ["", "x"], []),
        ("", [""], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
        ("x\ny*", ["x\nyz"], ["xy"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    matches = glob(pattern)
    assert all(matches(word) for word in yes)
    assert not any(matches(word) for word in no)


def test_a_hostile_pattern_costs_little() -> None:
    assert not glob("a*" * 30 + "b")("a" * 2000)


@pytest.mark.parametrize("word", ["1_0", "\u0661", "1.0", "", " 1", "9" * 5000, None, "-0", "0x1"])
def test_words_that_are_no_integers(word: Any) -> None:
    with pytest.raises(CommandError):
        integer(word)


def test_words_in_process_may_be_numbers() -> None:
    assert integer(5) == 5
    assert number(5) == 5.0
    assert number("0x10") == 16.0
    assert text(raw("\udcff\u00e9")) == "\udcff\u00e9"


def test_getdump_pages_through_everything(node: FakeNode) -> None:
    for at in range(250):
        node.run("set", f"k{at}", str(at))
    node.run("sadd", "s", "a")
    found: dict[str, Any] = {}
    cursor = "0"
    while True:
        cursor, page = node.run("getdump", cursor, "40")
        found.update(json.loads(page))
        if cursor == "0":
            break
    assert found == {**{f"k{at}": str(at) for at in range(250)}, "s": ["a"]}
