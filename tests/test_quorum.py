"""Majority arithmetic against its plain twin, over all small cases and random large ones."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyraft_fast._quorum import commit_index, vote_result
from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import MEMBERS_MAX
from tests.twins import quorum_twin

INDEXES = st.integers(min_value=0, max_value=2**64 - 1)


def test_commit_index_of_all_small_clusters() -> None:
    for voters in range(1, 6):
        for matches in product(range(4), repeat=voters):
            assert commit_index(matches) == quorum_twin.commit_index(matches), matches


@given(st.lists(INDEXES | st.integers(0, 5), min_size=1, max_size=MEMBERS_MAX))
def test_commit_index_agrees_with_the_twin(matches: list[int]) -> None:
    assert commit_index(matches) == quorum_twin.commit_index(matches)


def test_commit_index_takes_any_iterable() -> None:
    assert commit_index({1: 7, 2: 9, 3: 8}.values()) == 8
    assert commit_index(iter([2**64 - 1])) == 2**64 - 1


def test_commit_index_refuses_what_is_no_cluster() -> None:
    with pytest.raises(InvariantError, match="needs a voter"):
        commit_index([])
    with pytest.raises(InvariantError, match=str(MEMBERS_MAX)):
        commit_index([1] * (MEMBERS_MAX + 1))
    for index in (-1, 2**64):
        with pytest.raises(OverflowError):
            commit_index([1, index, 1])
    with pytest.raises(TypeError):
        commit_index([1, "2", 3])  # type: ignore[list-item]


def test_vote_result_of_all_small_clusters() -> None:
    for voters in range(1, 10):
        for granted in range(voters + 1):
            for rejected in range(voters - granted + 1):
                want = quorum_twin.vote_result(granted, rejected, voters)
                assert vote_result(granted, rejected, voters) == want, (granted, rejected, voters)


@pytest.mark.parametrize("votes", [(0, 0, 0), (2, 2, 3), (-1, 0, 3), (0, -1, 3), (4, 0, 3)])
def test_vote_result_refuses_impossible_counts(votes: tuple[int, int, int]) -> None:
    with pytest.raises(InvariantError, match="known voters"):
        vote_result(*votes)
