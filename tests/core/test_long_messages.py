"""Messages that take longer than an election, and entries too long for a probe."""

from __future__ import annotations

from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.progress import PROBE
from pyraft_fast.core.replication import hear_part
from pyraft_fast.limits import PROBE_BYTES_MAX
from tests.core.single import CONFIG, accept, lead, message, obey, raft_of, tick, to
from tests.core.test_replication import propose


def test_a_probe_brings_no_long_entry_however_often_heartbeats_are_answered() -> None:
    raft = lead(raft_of())
    propose(raft, bytes(PROBE_BYTES_MAX + 1))
    assert raft.progress["2"].state == PROBE
    obey(raft)
    accept(raft, "2", raft.log.last - 1)  # its term's first entry, which is short, was taken
    (sent,) = to(obey(raft).send_now, "2", MessageKind.APPEND)
    assert [each.index for each in sent.entries] == [raft.log.last]
    raft.unreachable("2")
    for _ in range(3):
        raft.step(message(MessageKind.HEARTBEAT_REPLY, "2", raft.term, index=raft.log.last - 1))
        (sent,) = to(obey(raft).send_now, "2", MessageKind.APPEND)
        assert not sent.entries
    accept(raft, "2", raft.log.last - 1)
    (sent,) = to(obey(raft).send_now, "2", MessageKind.APPEND)
    assert [each.index for each in sent.entries] == [raft.log.last], "now it is known to follow"


def test_a_leader_whose_long_message_moves_goes_on_leading() -> None:
    raft = lead(raft_of())
    obey(raft)
    for _ in range(4 * CONFIG.election_ticks_max):
        hear_part(raft, "2", 2)
        tick(raft)
    assert raft.is_leader
    for _ in range(2 * CONFIG.election_ticks_max):
        hear_part(raft, "2", 22)  # another life of that node
        tick(raft)
    assert not raft.is_leader


def test_a_follower_does_not_call_for_an_election_while_the_leaders_message_comes() -> None:
    raft = raft_of()
    raft.step(message(MessageKind.HEARTBEAT, "2", 1))
    for _ in range(4 * CONFIG.election_ticks_max):
        hear_part(raft, "2", 2)
        tick(raft)
    assert not [m for m in obey(raft).send_now if m.kind == MessageKind.PREVOTE]
    heard = raft.lease.heard_tick
    for _ in range(2 * CONFIG.election_ticks_max):
        hear_part(raft, "3", 3)  # who does not lead
        tick(raft)
    assert [m for m in obey(raft).send_now if m.kind == MessageKind.PREVOTE]
    assert raft.lease.heard_tick == heard, "nothing is promised for less than a message"
