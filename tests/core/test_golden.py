"""Golden transcripts of the rules: what nodes say and do, step by step, in files people can read.

`pytest tests/core/test_golden.py --rewrite-golden` writes what the rules do now into the files; the
difference is then to be read, and must be what each file's head says. A new scenario is a new file
with a head, steps and no more; see `script.py` for the language.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REWRITTEN
from tests.core.script import play

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_rules_do_what_the_transcript_says(path: Path, request: pytest.FixtureRequest) -> None:
    found, played = path.read_text(), play(path)
    if request.config.getoption("--rewrite-golden") and found != played:
        path.write_text(played)
        request.node.user_properties.append((REWRITTEN, path.name))
        return
    assert played == found


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_transcript_says_what_must_be_seen(path: Path) -> None:
    lines = path.read_text().splitlines()
    head = [line for line in lines[:8] if line.startswith("# ")]
    assert len(head) >= 2, "a title, then what must be seen"
    assert lines[0] == head[0]


def test_playing_twice_gives_the_same() -> None:
    assert len(GOLDEN) >= 20
    for path in GOLDEN[:5]:
        assert play(path) == play(path)


def test_a_changed_rule_shows(tmp_path: Path) -> None:
    """The record depends on the steps: without one of them it differs."""
    text = (GOLDEN[0].parent / "election_first.txt").read_text()
    other = tmp_path / "other.txt"
    other.write_text(text.replace("> timeout 1", "> timeout 2"))
    assert play(other) != other.read_text()
