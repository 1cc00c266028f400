"""What clients are told, and what happens, when consensus loses, repeats, stalls or dies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pyraft_fast import _entry, _turn
from pyraft_fast.errors import ClusterDown
from pyraft_fast.serving import propose, reads
from pyraft_fast.serving.treaty import RoleFact
from tests.serving.fake import INCARNATION, FakeLog, running

NO_LEADER = RoleFact("follower", 1, "", "", False)
LEADER = RoleFact("leader", 2, "1", "127.0.0.1:1", True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are given up after 0.2 s."""
    for module in (propose, reads):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)


def test_duplicated_and_delayed_batches_take_effect_once(tmp_path: Path) -> None:
    log = FakeLog()
    log.fault = lambda start, batch: ("twice", "late", "")[batch % 3]
    with running(tmp_path, log) as node, node.client() as one, node.client() as two:
        for number in range(1, 60, 2):
            one.send("INCR n")
            assert one.reply() == number
            assert two.ask("INCR n", "GET n") == [number + 1, str(number + 1)]
        assert len(log.records) > 60


def test_a_gap_is_closed_by_sending_again_in_order(tmp_path: Path) -> None:
    lost = {3, 4}
    log = FakeLog()

    def fault(start: int, batch: int) -> str:
        if batch in lost:
            lost.discard(batch)
            return "drop"
        return ""

    log.fault = fault
    with running(tmp_path, log) as node:
        futures = []
        for number in range(1, 9):
            sent = node.in_loop(lambda: node.engine._service.proposer._next_number)
            futures.append(node.engine.submit(["APPEND", "k", str(number)]))
            while node.in_loop(lambda: node.engine._service.proposer._next_number) == sent:
                continue
        assert [future.get(5) for future in futures] == list(range(1, 9))
        assert node.data["k"] == "12345678"
        assert log.proposals.count((1, 3)) >= 2


def test_resend_repeats_what_is_not_applied(tmp_path: Path) -> None:
    log = FakeLog()
    dropped: set[int] = set()
    log.fault = lambda start, batch: "" if batch in dropped else dropped.add(batch) or "drop"
    with running(tmp_path, log) as node, node.client() as client:
        client.send("SET k 1", "GET k")
        while not log.proposals:
            node.in_loop(lambda: None)
        node.in_loop(node.consensus().events.resend)
        assert [client.reply(), client.reply()] == ["OK", "1"]


def test_without_a_leader_commands_wait_then_surely_did_not_happen(
    tmp_path: Path, impatient: None
) -> None:
    log = FakeLog()
    log.role = NO_LEADER
    with running(tmp_path, log) as node, node.client() as client:
        replies = client.ask("SET k 1", "GET k", "PING")
        assert replies[0].startswith("-CLUSTERDOWN")
        assert replies[1].startswith("-TRYAGAIN")
        assert replies[2] == "PONG"
        assert client.ask("GET k").startswith("-CLUSTERDOWN")
        assert log.proposals == []
        client.send("SET k 2", "GET k")
        node.in_loop(lambda: node.consensus().events.role(LEADER))
        assert [client.reply(), client.reply()] == ["OK", "2"]
        with pytest.raises(ClusterDown):
            node.in_loop(lambda: node.consensus().events.role(NO_LEADER))
            node.engine.submit(["SET", "k", "3"]).get(5)


def test_an_unanswered_write_is_uncertain_and_may_still_happen(
    tmp_path: Path, impatient: None
) -> None:
    log = FakeLog()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client:
        replies = client.ask("SET k 1", "GET k")
        assert replies[0].startswith("-UNCERTAIN")
        assert replies[1].startswith("-TRYAGAIN")
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert client.ask("GET k", "SET k 2", "GET k") == ["1", "OK", "2"]


def test_a_read_that_nobody_confirms_is_refused_in_time(tmp_path: Path, impatient: None) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("GET k").startswith("-CLUSTERDOWN")
        with pytest.raises(ClusterDown):
            node.engine.submit(["GET", "k"]).get(5)
        log.answer_reads = True
        assert client.ask("GET k") is None


def test_a_failed_read_is_asked_again(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log) as node, node.client() as client:
        client.send("GET k")
        while not log.reads:
            node.in_loop(lambda: None)

        def fail() -> None:
            log.answer_reads = True
            node.consensus().queue.append(
                _entry.seal(_entry.KIND_READ_FAILED, 0, 0, 0, 0, 0, log.reads[-1], 0, b"")
            )
            node.consensus().tell()

        node.in_loop(fail)
        assert client.reply() is None
        assert len(log.reads) == 2


def test_death_of_consensus_makes_sent_writes_uncertain_and_is_overcome(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("SET k 1") == "OK"
        log.commit = False
        client.send("SET k 2", "GET k")
        while not log.kept:
            node.in_loop(lambda: None)
        node.in_loop(node.consensus().die)
        assert client.reply().startswith("-UNCERTAIN")
        assert client.reply().startswith("-TRYAGAIN")
        log.commit = True
        assert client.ask("GET k", "SET k 3", "GET k") == ["1", "OK", "3"]
        assert log.proposals[-1] == (2, 1)
        assert log.spawned == 2
        assert [line for line in node.lines if "starting it again" in line]
        assert not node.failures


def test_what_a_dying_consensus_committed_is_answered(tmp_path: Path) -> None:
    log = FakeLog()
    log.fault = lambda start, batch: "die" if (start, batch) == (1, 2) else ""
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("INCR n") == 1
        first = client.ask("INCR n")
        assert first == 2 or first.startswith("-UNCERTAIN")
        assert client.ask("GET n", "INCR n") == ["2", 3]


def test_many_deaths_in_a_row_stop_the_node(tmp_path: Path) -> None:
    failed = threading.Event()
    with running(tmp_path) as node:

        def fail(text: str, status: int) -> None:
            node.failures.append((text, status))
            failed.set()

        node.fail = fail  # type: ignore[method-assign]
        while not failed.is_set():
            node.in_loop(lambda: node.engine._service.consensus and node.consensus().die())
        ((text, status),) = node.failures
        assert "5 times" in text
        assert status == 1


def test_fatal_from_consensus_stops_the_node_with_its_words(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        node.in_loop(lambda: node.consensus().events.fatal(3, "raft_1.log is damaged"))
        assert node.failures == [("raft_1.log is damaged", 3)]


def test_entries_of_an_earlier_session_are_applied_and_answer_nobody(tmp_path: Path) -> None:
    log = FakeLog()
    batch = _entry.Batch()
    batch.add(["INCR", "n"], 0)
    log.append(batch.take(), 1, start=0, batch=1)
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("INCR n") == 2
        sessions: Any = node.engine._service
        assert sessions.applier.sessions.copy() == {INCARNATION: (1, 1)}


def test_back_pressure_stops_reading_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propose, "PENDING_BATCHES_MAX", 2)
    monkeypatch.setattr(propose, "UNSENT_BATCHES_MAX", 2)
    monkeypatch.setattr(_turn.bounds, "batch_commands_max", 10)
    log = FakeLog()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client, node.client() as other:
        writer = threading.Thread(target=client.send, args=["INCR n"] * 20_000)
        writer.start()
        while not node.engine._service.proposer.full:
            node.in_loop(lambda: None)
        assert other.ask("PING") == "PONG"
        assert len(log.proposals) == 2
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert [client.reply() for _ in range(20_000)] == list(range(1, 20_001))
        writer.join()
        assert other.ask("GET n") == "20000"
