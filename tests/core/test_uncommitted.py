"""A leader whose log nobody takes does not let it grow for ever."""

from __future__ import annotations

import pytest

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core import log as log_module
from pyraft_fast.core import raft as raft_module
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config
from tests.core.cluster import Cluster
from tests.core.single import CONFIG, accept, lead, members, obey, raft_of, tick

SMALL = CONFIG._replace(uncommitted_bytes_max=1000)


def ready(config: Config = SMALL) -> Raft:
    raft = raft_of(config=config, membership=members(3, 1))
    obey(lead(raft))
    accept(raft, "2", raft.log.last)
    obey(raft)
    return raft


def propose(raft: Raft, size: int = 300) -> bool:
    return raft.propose(KIND_COMMANDS, b"x" * size, 1, 0, 0, 0, 1000)


def fill(raft: Raft) -> int:
    count = 0
    while propose(raft):
        count += 1
        assert count < 100
    return count


def test_past_the_bound_proposals_are_refused_and_nothing_happens() -> None:
    raft = ready()
    assert fill(raft) == 3
    before = raft.log.last
    assert not propose(raft, 0)
    assert raft.log.last == before
    assert 1000 <= raft.log.uncommitted_bytes() < 1500
    work = obey(raft)
    assert work.role_change is not None
    assert (work.role_change.role, work.role_change.accepts) == ("leader", False)


def test_a_first_batch_of_any_size_is_taken() -> None:
    raft = ready()
    assert propose(raft, 5000)
    assert not propose(raft, 1)


def test_half_of_it_must_be_committed_before_more_is_taken() -> None:
    raft = ready()
    fill(raft)
    obey(raft)
    accept(raft, "2", raft.log.last - 2)
    assert not propose(raft, 1)
    assert obey(raft).role_change is None
    accept(raft, "2", raft.log.last - 1)
    work = obey(raft)
    assert work.role_change is not None
    assert work.role_change.accepts
    assert propose(raft, 1)


def test_a_membership_change_is_taken_all_the_same() -> None:
    raft = ready()
    fill(raft)
    obey(raft)
    for nid in ("3", "4"):
        accept(raft, nid, raft.log.commit)
    assert raft.propose_change("remove", "4", "", 0, 1000) == raft.log.last


def test_the_first_entry_of_a_term_is_taken_all_the_same() -> None:
    raft = ready()
    fill(raft)
    obey(raft)
    tick(raft, 2 * CONFIG.election_ticks_max + 2)
    assert not raft.is_leader
    last = raft.log.last
    lead(raft)
    assert raft.log.last == last + 1
    assert not propose(raft), "what the term before left counts as well"
    obey(raft)
    accept(raft, "2", raft.log.last)
    assert propose(raft)


def test_the_number_of_entries_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_module, "UNCOMMITTED_ENTRIES_MAX", 10)
    raft = ready(CONFIG)
    assert fill(raft) == 10
    obey(raft)
    accept(raft, "2", raft.log.last - 6)
    assert not propose(raft)
    accept(raft, "2", raft.log.last - 5)
    assert propose(raft)


def test_what_is_not_committed_stays_in_memory_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "LOG_CACHE_ENTRIES_MAX", 4)
    raft = ready(CONFIG._replace(uncommitted_bytes_max=5000))
    for _ in range(10):
        assert propose(raft, 100)
        obey(raft)
    reads = raft.log.read(raft.log.commit + 1, raft.log.last + 1, 10**9)
    assert len(reads) == 10
    assert raft.log.uncommitted_bytes() == sum(entry.size for entry in reads)


def test_a_leader_cut_off_stops_growing_and_its_cluster_goes_on() -> None:
    cluster = Cluster(3, config=SMALL)
    old = cluster.elect("1")
    cluster.run(5)
    cluster.isolate("1")
    taken = sum(old.propose(b"y" * 100) for _ in range(1000))
    old.turn()
    assert 0 < taken < 10
    cluster.run(60)
    cluster.heal()
    leader = cluster.wait_for_leader()
    index = cluster.propose(leader)
    cluster.run_until(lambda: all(node.applied >= index for node in cluster.nodes.values()))
