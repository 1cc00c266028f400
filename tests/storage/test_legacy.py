"""The original's snapshot text is read as data; nothing of it is ever executed."""

from __future__ import annotations

import builtins

import pytest

from pyraft_fast.errors import StorageError
from pyraft_fast.storage import legacy


def write(tmp_path, text: str | bytes) -> str:
    path = tmp_path / "raft_1_1700000000_12.dat"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_items_deadlines_and_numbers_are_told_apart(tmp_path):
    data = {
        "_META_": {"index": 12, "term": 3, "peers": {"1": "127.0.0.1:5010"}},
        "ttl": {"k": 1700000000.5, "n": 17},
        "k": "värde",
        "n": 5,
        "list": ["a", "b"],
        "hash": {"f": "v"},
        "set": {"m"},
        "bytes": b"\0\xff",
        "none": None,
    }
    found = legacy.read(write(tmp_path, str(data)))
    assert found.meta == data.pop("_META_")
    assert found.ttl == {"k": 1700000000.5, "n": 17.0}
    data.pop("ttl")
    assert found.items == data


def test_a_text_without_numbers_or_deadlines_is_fine():
    assert legacy.parse(" {'a': 1}\n") == ({"a": 1}, {}, {})
    assert legacy.parse("{}") == ({}, {}, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{'a': 1",
        "[1, 2]",
        "'text'",
        "{'a': <object at 0x7f>}",
        "{'a': datetime.datetime(2020, 1, 1)}",
        "{[1]: 2}",
        "{'ttl': [1]}",
        "{'ttl': {'k': 'soon'}}",
        "{'ttl': {'k': True}}",
        "{'_META_': 3}",
        "{'a': " + "[" * 5000 + "]" * 5000 + "}",
        "{'a': '\0'}",
        "{'a': 1}; print(1)",
    ],
    ids=range(14),
)
def test_damaged_text_is_refused_with_its_file_name(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(StorageError, match="raft_1_1700000000_12"):
        legacy.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "{'a': __import__('os').system('touch /tmp/never')}",
        "{'a': open('/tmp/never', 'w')}",
        "{'a': (lambda: 1)()}",
        "{'a': [x for x in (1,)]}",
        "{**{'a': 1}}",
        "__import__('os').abort()",
    ],
)
def test_nothing_is_executed(tmp_path, monkeypatch, text):
    path = write(tmp_path, text)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    with pytest.raises(StorageError):
        legacy.read(path)


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy, "LEGACY_BYTES_MAX", 10)
    with pytest.raises(StorageError, match="more than"):
        legacy.read(write(tmp_path, "{'a': 'bbbbbbbbbbb'}"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StorageError, match="nothing-here") as raised:
        legacy.read(str(tmp_path / "nothing-here"))
    assert raised.value.errno == 2
