"""Whether others' disks are enough to commit: then the leader's own may write less often."""

from __future__ import annotations

import pytest

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core import replication
from tests.core.single import CONFIG, accept, lead, members, obey, raft_of


@pytest.mark.parametrize(
    ("voters", "answering", "enough"),
    [
        (1, (), False),
        (2, ("2",), False),
        (3, ("2",), False),
        (3, ("2", "3"), True),
        (4, ("2", "3"), False),
        (5, ("2", "3"), False),
        (5, ("2", "3", "4"), True),
    ],
)
def test_others_commit_alone_where_a_majority_of_them_answers(
    voters: int, answering: tuple[str, ...], enough: bool
) -> None:
    config = CONFIG._replace(inflight_messages_max=100)
    raft = lead(raft_of(membership=members(voters, learners=1), config=config), answering)
    assert not replication.others_keep_pace(raft), "the term is not on the disk"
    obey(raft)
    for nid in (*answering, str(voters + 1)):
        accept(raft, nid, raft.log.last)
    obey(raft)
    assert replication.others_keep_pace(raft) is enough
    for _ in range(replication.PACE_MESSAGES_MAX):
        assert raft.propose(KIND_COMMANDS, b"", 1, 0, 0, 0, 1000)
        obey(raft)
    assert replication.others_keep_pace(raft) is enough, "that much may be under way"
    assert raft.propose(KIND_COMMANDS, b"", 1, 0, 0, 0, 1000)
    obey(raft)
    assert not replication.others_keep_pace(raft)
    for nid in answering:
        accept(raft, nid, raft.log.last)
    assert replication.others_keep_pace(raft) is enough
    if answering:
        raft.unreachable(answering[0])
        assert not replication.others_keep_pace(raft)
