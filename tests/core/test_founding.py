"""When a founded cluster is complete: client writes wait until a majority of the list has voted."""

from __future__ import annotations

from pyraft_fast.core.membership import OBSERVER, VOTER, Membership
from tests.core.single import members


def founded(asked: int) -> Membership:
    """What a founder writes: it votes alone, and others were asked for."""
    return members(1)._replace(bootstrap=asked)


def with_voter(value: Membership, nid: str, incarnation: int) -> Membership:
    """`nid` joins and catches up."""
    return value.with_added(nid, f"host{nid}:1", incarnation).with_role(nid, VOTER)


def test_a_founded_cluster_is_complete_when_a_majority_of_the_list_votes() -> None:
    assert founded(0).is_complete
    assert founded(1).is_complete
    for asked in (2, 3):
        assert not founded(asked).is_complete
        assert not founded(asked).with_added("2", "h:1", 2).is_complete
        assert with_voter(founded(asked), "2", 2).is_complete
    two_of_five = with_voter(founded(5), "2", 2)
    assert not two_of_five.is_complete
    assert with_voter(two_of_five, "3", 3).is_complete
    assert not Membership(0).is_complete  # a node that waits to be told of its cluster


def test_learners_that_leave_before_they_vote_do_not_make_a_cluster_complete() -> None:
    value = founded(3).with_added("2", "h:1", 2).with_rejoined("2", "h:1", 22)
    assert [m.nid for m in value.voters] == ["1"]
    assert value.removed == (2,)
    assert not value.is_complete
    assert with_voter(value, "3", 3).is_complete


def test_who_is_removed_on_purpose_is_not_waited_for() -> None:
    value = founded(3).with_added("2", "h:1", 2).with_removed("2")
    assert not value.is_complete
    assert with_voter(value, "3", 3).is_complete
    value = value.with_added("3", "h:1", 3).with_removed("3")
    assert value.is_complete  # the founder was left alone, and told so
    four_of_five = founded(5).with_added("2", "h:1", 2).with_removed("2")
    assert not with_voter(four_of_five, "3", 3).is_complete


def test_a_complete_cluster_may_be_made_smaller_by_any_change() -> None:
    value = with_voter(founded(3), "2", 2)
    for change in (
        lambda: value.with_removed("2"),
        lambda: value.with_rejoined("2", "h:1", 22),
        lambda: value.with_role("2", OBSERVER),
    ):
        smaller = change()
        assert [m.nid for m in smaller.voters] == ["1"]
        assert smaller.is_complete
        assert Membership.decode(smaller.encode()).is_complete


def test_a_majority_that_voted_before_the_first_change_counts_too() -> None:
    """As in files of before, where what was asked for stayed in the membership for ever."""
    value = members(3)._replace(bootstrap=3)
    assert value.is_complete
    assert value.with_removed("3").with_removed("2").is_complete
