"""The guard in a node whose peers are made up: what leaves it, and what it says at its end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyraft_fast import _entry
from pyraft_fast.core.membership import Member, Membership
from pyraft_fast.errors import StartError
from pyraft_fast.serving.digests import Answer, Ask, Report, decode, encode
from pyraft_fast.serving.diverged import mark_diverged
from pyraft_fast.serving.guard import EXIT_DIVERGED
from pyraft_fast.serving.track import ALL, Sum
from tests.process.cluster import eventually
from tests.serving.fake import FakeLog, FakeNode, running, service

MEMBERS = Membership(
    9, tuple(Member(n, f"127.0.0.1:{n}", int(n) + 76, "voter") for n in "123")
).encode()


def of_three(log: FakeLog) -> None:
    """Make the log that of a cluster of nodes 1, 2 and 3; the node under test is 1."""
    log.append(MEMBERS, 0, kind=_entry.KIND_CONFIG)


def hear(node: FakeNode, nid: str, note: Report | Ask | Answer) -> None:
    node.in_loop(lambda: node.consensus().events.digests(nid, encode(note)))


def twin(node: FakeNode, wrong: bool = False) -> Report:
    """What another node would tell; with other data if `wrong`."""
    guard = service(node).guard
    track = guard.track
    every = track.all
    assert every is not None
    if not wrong:
        return Report(ALL, track.index, track.sampled, every, [])
    other = Sum(every.since, every.total ^ 1)
    pairs = [(track.index, (track.digest_of(track.index) or 0) ^ 1)]
    return Report(ALL, track.index, track.sampled, other, pairs)


def test_in_mode_all_an_answer_waits_for_the_majority(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node, node.client() as client:
        client.send("set key value")
        eventually(lambda: node.data.get("key") == "value")
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(10)
        hear(node, "2", node.in_loop(lambda: twin(node)))
        assert client.socket.recv(100) == b"+OK\r\n"
        assert service(node).guard.facts()["digests_agreed"] == 2


def test_an_answer_that_nobody_confirms_never_leaves(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node, node.client() as client:
        client.send("set key value")
        future = node.request_async("set", "other", "value")
        assert client.socket.recv(100) == b"", "the connection is closed without an answer"
        with pytest.raises(Exception, match="no majority confirmed"):
            future.get(10)


@pytest.mark.parametrize("mode", ["sampled", "all", "off"])
def test_alone_nothing_waits(tmp_path: Path, mode: str) -> None:
    with running(tmp_path, digests=mode) as node, node.client() as client:
        assert client.ask("set key value", "get key") == ["OK", "value"]
        assert not node.log.notes


def test_a_node_in_the_minority_answers_nothing_and_fails(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node, node.client() as client:
        client.send("set key value", "incr number")
        eventually(lambda: node.data.get("number") == "1")
        wrong = node.in_loop(lambda: twin(node, wrong=True))
        index = wrong.index
        hear(node, "2", wrong)
        hear(node, "3", wrong)
        assert client.ended(), "no answer left"
        asked = [decode(note) for nid, note in node.log.notes if nid]
        assert asked == [Ask(index, index)] * 2
        details = service(node).guard.track.details(index)
        hear(node, "3", Answer(index, index, [], [*details.digests[:-1], 5]))
        eventually(lambda: node.failures)
        ((text, status),) = node.failures
        name, place = details.names[-1], len(details.names)
        assert status == EXIT_DIVERGED
        assert (tmp_path / "raft_1.diverged").read_text().startswith("data differ from those of")
        assert f"since entry {index}: handler '{name}' (command {place} of the entry)" in text
        assert "than on nodes 2, 3" in text and "delete them and start the node again" in text


def test_without_an_answer_all_handlers_of_the_entry_are_named(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node:
        log.append_commands(["set", "key", "value"], ["lpush", "list", "a"])
        node.in_loop(node.consensus().pump)
        eventually(lambda: "list" in node.data)
        wrong = node.in_loop(lambda: twin(node, wrong=True))
        hear(node, "2", wrong)
        hear(node, "3", wrong)
        eventually(lambda: node.failures)
        assert "one of its handlers 'lpush', 'set' had another result" in node.failures[0][0]


def test_an_inexact_difference_is_narrowed_down(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node:
        for number in range(5):
            log.append_commands(["set", "key", str(number)])
        node.in_loop(node.consensus().pump)
        eventually(lambda: node.data.get("key") == "4")
        wrong = node.in_loop(lambda: twin(node, wrong=True))._replace(pairs=[])
        hear(node, "2", wrong)
        hear(node, "3", wrong)
        known = service(node).guard.track.between(1, 6, 10)
        theirs = [(index, digest if index < 4 else 5) for index, digest in known]
        hear(node, "2", Answer(1, 6, theirs, []))
        hear(node, "2", Answer(4, 4, [], [7]))
        eventually(lambda: node.failures)
        assert "since entry 4: handler 'set' (command 1 of" in node.failures[0][0]


def test_a_node_in_the_majority_names_the_odd_one_once(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node:
        log.append_commands(["set", "key", "value"])
        node.in_loop(node.consensus().pump)
        eventually(lambda: "key" in node.data)
        good = node.in_loop(lambda: twin(node))
        wrong = node.in_loop(lambda: twin(node, wrong=True))
        hear(node, "2", good)
        hear(node, "3", wrong)
        hear(node, "3", wrong)
        lines = [line for line in node.lines if "node 3 has other data" in line]
        assert len(lines) == 1 and "since entry 2" in lines[0]
        assert not node.failures


def test_a_question_is_answered_from_what_is_known(tmp_path: Path) -> None:
    log = FakeLog()
    of_three(log)
    with running(tmp_path, log, digests="all") as node:
        log.append_commands(["set", "key", "value"])
        node.in_loop(node.consensus().pump)
        eventually(lambda: "key" in node.data)
        for low, high in ((1, 2), (2, 2), (50, 50)):
            hear(node, "3", Ask(low, high))
        notes = [decode(note) for nid, note in node.log.notes if nid == "3"]
        wide, narrow, unknown = notes
        assert isinstance(wide, Answer) and [index for index, _ in wide.pairs] == [1, 2]
        assert isinstance(narrow, Answer) and len(narrow.commands) == 1
        assert unknown == Answer(50, 50, [], [])
        node.in_loop(lambda: node.consensus().events.digests("3", b"\xc1"))
        assert not node.failures, "nonsense is ignored"


def test_info_shows_the_guard(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        client.ask("set key value")
        text = client.ask("info raft")
        assert re.search(r"raft_digests:sampled\r\nraft_digests_count:\d+\r\n", text)
        assert "raft_digests_differing:\r\n" in text


def test_a_marked_node_does_not_start_until_the_mark_is_gone(tmp_path: Path) -> None:
    mark_diverged(str(tmp_path), "1", "data differ\nat entry 7")
    with (
        pytest.raises(StartError, match=r"data differ at entry 7\); delete its files"),
        running(tmp_path),
    ):
        raise AssertionError("started")
    (tmp_path / "raft_1.diverged").unlink()
    with running(tmp_path) as node, node.client() as client:
        assert client.ask("ping") == "PONG"
