"""Time, expiry, and what a snapshot must bring back."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast.errors import CommandError, StorageError
from pyraft_fast.worker.codes import freeze, thaw
from pyraft_fast.worker.store import Store
from pyraft_fast.worker.types import RedisList, RedisSet, SortedSet, TreeNode
from tests.worker.fake_node import FakeNode, shown
from tests.worker.test_differential import FAMILIES, Dealer

ROOT = Path(__file__).parents[2]


def reloaded(node: FakeNode) -> FakeNode:
    """A second node that got the first one's snapshot, through msgpack as on disk."""
    twin = FakeNode(step_ms=node.step_ms)
    twin.clock_ms, twin.index = node.clock_ms, node.index
    twin.random.setstate(node.random.getstate())
    for item in node.store.dump_items():
        packed = msgpack.packb(item, unicode_errors="surrogateescape")
        loaded = msgpack.unpackb(packed, unicode_errors="surrogateescape", strict_map_key=False)
        twin.store.load_item(*loaded)
    return twin


def test_due_keys_go_by_the_log_and_hide_in_reads() -> None:
    store = Store()
    store.begin(1000)
    store.put("a", "1")
    store.set_ttl("a", 2.0)
    store.begin_read(2000)
    assert store.find("a") is None
    assert not store.check_ttl("a")
    assert "a" in store.data
    assert store.live_keys() == []
    assert store.live_count() == 0
    store.begin(1999)
    assert store.find("a") == "1"
    store.begin(2000)
    assert store.data == {}
    assert store.deadlines == {}


def test_ttl_view_is_a_window_on_the_store(node: FakeNode) -> None:
    node.run("set", "a", "1")
    node.ttl["a"] = node.now() + 5
    assert node.run("ttl", "a") == 5
    assert node.ttl["a"] == pytest.approx(node.now() + 5)
    assert list(node.ttl) == ["a"]
    assert len(node.ttl) == 1
    del node.ttl["a"]
    assert node.run("ttl", "a") == -1


def test_renewing_one_deadline_for_ever_keeps_the_heap_small() -> None:
    store = Store()
    store.begin(0)
    store.put("a", "1")
    for at in range(100_000):
        store.set_deadline("a", at + 1_000_000)
    assert len(store._heap) < 200
    assert store.next_deadline_ms() == 1_099_999
    store.begin(1_099_998)
    assert "a" in store.data
    store.begin(1_099_999)
    assert "a" not in store.data
    assert store.next_deadline_ms() is None


def test_a_deadline_left_by_a_handler_does_not_hit_the_next_value(node: FakeNode) -> None:
    node.run("set", "a", "1", "EX", "10")
    del node.data["a"]
    node.run("rpush", "a", "x")
    assert node.run("ttl", "a") == -1


def test_a_value_due_within_its_entry_is_gone_for_the_next_command(node: FakeNode) -> None:
    node.run("set", "a", "5")
    node.set_ttl("a", node.now() - 1)
    row = node.worker.table.resolve("incr")
    assert row is not None
    assert row.function(node, ["incr", "a"]) == 1
    assert node.run("ttl", "a") == -1


STATE = {
    "str": "\udcff\u00e9",
    "int": 5,
    "float": 1.5,
    "bytes": b"\xff",
    "plain list": ["a", 1, None, ["b"]],
    "hash": {"b": "1", "a": "2"},
    "tuple": ("a", {"b": (1, 2)}),
    "list": RedisList(["a", "b", {"x": RedisSet("ab")}]),
    "set": RedisSet(["c", "a", "b"]),
    "zset": SortedSet([("a", 2.0), ("\udcff", -1.0)]),
    "tree": TreeNode(a="1", child=TreeNode(b=["x", {"y": 1}])),
    "tree with a plain dict": TreeNode(child={"b": 1}),
}


def deep(value: Any) -> Any:
    """A form that tells types apart, for comparing."""
    if isinstance(value, SortedSet):
        return "SortedSet", value.items()
    if isinstance(value, dict):
        return type(value), [(deep(k), deep(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple, RedisList, RedisSet)):
        return type(value), [deep(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("name", STATE)
def test_every_kind_of_value_comes_back(name: str) -> None:
    code, plain = freeze(STATE[name])
    assert deep(thaw(code, plain)) == deep(STATE[name])


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, lambda v: TreeNode(k=v)])
def test_deep_values_are_written_flat(wrap: Any) -> None:
    value: Any = "x"
    for _ in range(60):
        value = wrap(value)
    code, plain = freeze(value)
    assert all(not isinstance(part, (list, dict)) for part in plain)
    assert deep(thaw(code, plain)) == deep(value)
    with pytest.raises(StorageError):
        thaw(code, plain[:-1])
    with pytest.raises(StorageError):
        thaw(code, [*plain, 0])


def test_texts_are_dumped_as_freeze_says() -> None:
    class Text(str):
        """No longer a plain one."""

    store = Store()
    store.put("a", "text")
    store.put("b", "\udcff" * 3)
    store.set_deadline("b", 9)
    assert list(store.dump_items()) == [
        ("a", *freeze("text"), None),
        ("b", *freeze("\udcff" * 3), 9),
    ]
    store.put("c", Text("x"))
    with pytest.raises(CommandError, match=r"'c'.*Text"):
        list(store.dump_items())


def test_what_has_no_form_is_refused_by_key() -> None:
    store = Store()
    store.data["bad"] = {"a": {1, 2}}
    with pytest.raises(CommandError, match=r"'bad'.*set"):
        list(store.dump_items())
    nested: list[Any] = []
    for _ in range(150):
        nested = [nested]
    with pytest.raises(CommandError, match="nested"):
        freeze(nested)


@pytest.mark.parametrize("item", [(99, 1), (5, ["a"]), (5, ["a", "x"]), (7, [77, []]), (7, 5)])
def test_malformed_items_are_refused(item: tuple[int, Any]) -> None:
    with pytest.raises(StorageError):
        thaw(*item)


def test_a_deadline_without_a_key_comes_back(node: FakeNode) -> None:
    node.set_ttl("later", node.now() + 5)
    assert reloaded(node).store.deadlines == node.store.deadlines


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(50, 250))
def test_a_node_from_a_snapshot_goes_on_alike(seed: int, turns: int) -> None:
    """Same replies and the same dump after more commands, random picks and expiry included."""
    dealer = Dealer(seed)
    node = FakeNode(step_ms=700)

    def command() -> list[Any]:
        if dealer.dice.random() < 0.2:
            key = dealer.key()
            return dealer.dice.choice(
                [
                    ["spop", key],
                    ["spop", key, "2"],
                    ["srandmember", key, "-3"],
                    ["hrandfield", key, "2"],
                    ["zrandmember", key],
                    ["randomkey"],
                    ["expire", key, str(dealer.dice.randrange(1, 30))],
                    ["tmk", key],
                ]
            )
        return dealer.dice.choice(FAMILIES)(dealer)

    for _ in range(turns):
        node.ask(*command())
    twin = reloaded(node)
    for _ in range(80):
        words = command()
        assert shown(twin.ask(*words)) == shown(node.ask(*words)), words
    assert list(twin.store.dump_items()) == list(node.store.dump_items())
    assert dict(twin.ttl) == dict(node.ttl)


SCRIPT = """
import json
from tests.worker.test_differential import FAMILIES, Dealer
from tests.worker.fake_node import FakeNode, shown
dealer, node, replies = Dealer(7), FakeNode(step_ms=500), []
for turn in range(3000):
    words = dealer.dice.choice(FAMILIES)(dealer)
    if turn % 9 == 0:
        words = [dealer.dice.choice(["spop", "srandmember", "zrandmember"]), dealer.key()]
    replies.append(shown(node.ask(*words)))
node.data["by handler"] = node.store.find("set") or {}
print(json.dumps([replies, list(node.store.dump_items())]))
"""


def test_hash_randomisation_decides_nothing() -> None:
    outputs = []
    for seed in ("1", "4242"):
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=60,
        )
        outputs.append(json.loads(ran.stdout))
    assert len(outputs[0][0]) == 3000
    assert outputs[0] == outputs[1]


def test_keys_that_end_together_go_in_the_order_of_their_deadlines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(pops_max: int) -> tuple[list[str], dict[str, str], Store]:
        monkeypatch.setattr("pyraft_fast.worker.store.POPS_MAX", pops_max)
        store, gone, dice = Store(), list[str](), random.Random(5)
        for number in range(300):
            key = f"k{dice.randrange(200)}"
            store.data[key] = str(number)
            store.set_deadline(key, dice.choice([100, 150, 200, 300]))
        pop = store.data.pop
        watched = SimpleNamespace(pop=lambda key, default: (gone.append(key), pop(key, default)))
        kept, store.data = store.data, watched  # type: ignore[assignment]
        store.begin(200)
        store.data = kept
        return gone, dict(kept), store

    one_by_one, left, store = ended(1 << 30)
    assert len(one_by_one) > 50 and left
    for pops_max in (0, 7, len(one_by_one)):
        gone, kept, other = ended(pops_max)
        assert (gone, kept) == (one_by_one, left)
        assert other.removed == store.removed == len(gone)
        other.begin(300)
        assert not other.data and not other.deadlines
