"""When peers hear that entries are committed: at once where somebody waits, else on occasion."""

from __future__ import annotations

from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.raft import Raft
from tests.core.single import CONFIG, accept, lead, message, obey, raft_of, tick, to
from tests.core.test_replication import COMMANDS, caught_up, propose

PATIENT = CONFIG._replace(commit_at_once=False)


def told(raft: Raft, nid: str) -> list[int]:
    """The commit indexes that the next messages to `nid` tell."""
    sent = obey(raft).send_now
    return [m.commit for kind in (1, 3) for m in to(sent, nid, MessageKind(kind))]


def test_commit_is_told_with_the_next_entries_where_nobody_waits_for_it() -> None:
    raft = caught_up(lead(raft_of(config=PATIENT)))
    index = propose(raft)
    obey(raft)
    accept(raft, "2", index)
    assert raft.log.commit == index
    assert told(raft, "2") == told(raft, "3") == []
    propose(raft)
    assert told(raft, "2") == [index]


def test_commit_is_told_after_a_tick_at_the_latest() -> None:
    raft = caught_up(lead(raft_of(config=PATIENT)))
    index = propose(raft)
    obey(raft)
    accept(raft, "2", index)
    obey(raft)
    tick(raft)
    assert told(raft, "2") == [index]
    assert told(raft, "2") == []  # once


def test_commit_is_told_at_once_to_the_node_whose_clients_wait() -> None:
    raft = caught_up(lead(raft_of(config=PATIENT)))
    assert raft.propose(COMMANDS, b"", 1, raft.known["2"], 1, 1, 1000)
    index = raft.log.last
    obey(raft)
    accept(raft, "2", index)
    accept(raft, "3", index)
    sent = obey(raft).send_now
    assert [m.commit for m in to(sent, "2", MessageKind.HEARTBEAT)] == [index]
    assert to(sent, "3", MessageKind.HEARTBEAT) == []


def test_commit_is_told_at_once_to_a_node_that_got_a_read_index() -> None:
    raft = caught_up(lead(raft_of(config=PATIENT)))
    raft.steady_ms = 1000
    tick(raft, PATIENT.heartbeat_ticks)
    obey(raft)
    raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, hint=1000))  # a lease
    index = propose(raft)
    obey(raft)
    accept(raft, "2", index)
    accept(raft, "3", index)
    obey(raft)
    assert raft.progress["3"].commit_sent < index
    raft.step(message(MessageKind.READ, "3", raft.term, context=7, flag=True))
    sent = obey(raft).send_now
    assert [m.index for m in to(sent, "3", MessageKind.READ_REPLY)] == [index]
    assert [m.commit for m in to(sent, "3", MessageKind.HEARTBEAT)] == [index]
    assert to(sent, "2", MessageKind.HEARTBEAT) == []
