"""Look-ups ahead of the handlers: what is found beside a dict is what the dict holds."""

from __future__ import annotations

import gc
import platform
import random
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast import _turn
from tests.serving.fake import running

AT_ONCE = 16


def found_and_missed(data: dict[Any, Any], texts: Iterable[str]) -> tuple[int, int]:
    """How many were found, each of them rightly, and how many of those that are there were not."""
    found = missed = 0
    wanted = list(texts)
    for start in range(0, len(wanted), AT_ONCE):
        group = wanted[start : start + AT_ONCE]
        for text, value in zip(group, _turn.find_ahead(data, group), strict=True):
            if value is None:
                missed += text in data
            else:
                found += 1
                assert value is data[text], text
    return found, missed


def test_the_layout_of_dicts_is_known_where_it_should_be() -> None:
    """Else all the work there is in vain, and nothing else would tell."""
    is_known = (
        platform.python_implementation() == "CPython"
        and (3, 11) <= sys.version_info < (3, 14)
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
    )
    assert _turn.layout_holds is is_known


@pytest.mark.parametrize("size", [0, 1, 5, 40, 170, 1000, 43_000, 90_000])
@pytest.mark.parametrize("other", ["", None, 7])
def test_most_keys_are_found_in_dicts_of_every_size(size: int, other: object) -> None:
    """One more key, which is no text, makes another kind of dict."""
    data: dict[Any, Any] = {f"key:{number}": [number] for number in range(size)}
    data[other] = [other]
    found, missed = found_and_missed(data, [f"key:{number}" for number in range(2 * size)])
    assert found + missed == size
    if size >= 1000 and _turn.layout_holds:
        assert found > 0.8 * size


@settings(deadline=None)
@given(st.data())
def test_nothing_is_found_that_is_not_there(case: st.DataObject) -> None:
    """After any history: growing, shrinking, cleared, keys of other types, copies."""
    rng = random.Random(case.draw(st.integers(0, 2**32)))
    kinds = case.draw(st.sampled_from(["texts", "mixed", "wide"]))
    names = [f"k{number}" for number in range(case.draw(st.integers(1, 400)))]
    if kinds == "wide":
        names += ["\u20ac" + name for name in names] + ["\U0001f600"]
    data: dict[Any, Any] = {}
    for _ in range(case.draw(st.integers(0, 1200))):
        name: Any = rng.choice(names)
        if kinds == "mixed" and rng.random() < 0.1:
            name = rng.choice([None, 3, 2.5, ("k1",)])
        act = rng.random()
        if act < 0.6:
            data[name] = object()
        elif act < 0.97:
            data.pop(name, None)
        elif act < 0.98:
            data.clear()
        else:
            data = dict(data)
    found_and_missed(data, names)


def test_an_object_s_own_dict_is_left_alone() -> None:
    class Thing:
        def __init__(self) -> None:
            self.name = ["value"]

    assert _turn.find_ahead(Thing().__dict__, ["name"]) in ([None], [["value"]])


def test_only_a_few_plain_texts_can_be_asked_for() -> None:
    class Text(str):
        pass

    for wrong in (["k"] * (AT_ONCE + 1), [1], [b"k"], [Text("k")], [None]):
        with pytest.raises(ValueError):
            _turn.find_ahead({}, wrong)
    assert _turn.find_ahead({}, []) == []


def test_a_finalizer_may_empty_the_dict_in_the_midst() -> None:
    """Making the list of what was found may collect garbage, and that may run anything."""
    data: dict[str, Any] = {}

    class Rude:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            data.clear()

    old = gc.get_threshold()
    texts = [f"key {number}" for number in range(AT_ONCE)]
    try:
        for _ in range(200):
            data.update({text: [text] for text in texts})
            Rude()
            gc.set_threshold(1)
            values = _turn.find_ahead(data, texts)
            gc.set_threshold(*old)
            assert all(value in (None, [text]) for text, value in zip(texts, values, strict=True))
    finally:
        gc.set_threshold(*old)


def test_hashes_small_and_large_answer_as_ever(tmp_path: Path) -> None:
    """In one pipeline, so that what they want is looked up ahead."""
    rng = random.Random(5)
    hashes: dict[str, dict[str, str]] = {
        "small": {str(number): "old" for number in range(3)},
        "large": {str(number): "old" for number in range(2000)},
        "other": {str(number): "old" for number in range(600)},
    }
    with running(tmp_path) as node, node.client() as client:
        for key, fields in hashes.items():
            pairs = list(fields.items())
            for start in range(0, len(pairs), 100):
                words = " ".join(f"{name} {value}" for name, value in pairs[start : start + 100])
                client.ask(f"HSET {key} {words}")
        for verb in ("HSET", "HGET", "HDEL", "hget", "GET"):
            lines, answers = [], []
            for number in range(200):
                key, field = rng.choice([*hashes, "none"]), str(rng.randrange(2500))
                fields = hashes.get(key, {})
                if verb == "GET":
                    lines.append(f"GET {key}")
                    answers.append("-WRONGTYPE" if fields else None)
                elif verb == "HSET":
                    lines.append(f"HSET {key} {field} new{number}")
                    answers.append(int(field not in fields))
                    hashes.setdefault(key, {})[field] = f"new{number}"
                elif verb == "HDEL":
                    lines.append(f"HDEL {key} {field}")
                    answers.append(int(fields.pop(field, None) is not None))
                else:
                    lines.append(f"{verb} {key} {field}")
                    answers.append(fields.get(field))
            for answer, expected in zip(client.ask(*lines), answers, strict=True):
                got = answer.split(" ")[0] if expected == "-WRONGTYPE" else answer
                assert got == expected
        assert {key: node.data[key] for key in hashes} == hashes
