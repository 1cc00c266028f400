"""Edits of the product's source: they take effect everywhere, fit, and leave no trace."""

from __future__ import annotations

import pytest

from pyraft_fast.core import election
from pyraft_fast.core.messages import MessageKind
from pyraft_fast.core.raft import TABLE
from pyraft_fast.core.work import Config, Role
from tests.simulator.bug import Bug
from tests.simulator.bugs_core import CORE
from tests.simulator.bugs_serving import SERVING
from tests.simulator.bugs_storage import STORAGE
from tests.simulator.edits import Edit, Misfit, made

BUGS = [*CORE, *STORAGE, *SERVING]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_edits_of_a_bug_fit_the_product_and_change_it(bug: Bug) -> None:
    for edit in bug.edits:
        assert edit.old != edit.new
    with bug.apply():
        pass


def test_names_of_bugs_differ() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)


def test_an_edit_reaches_tables_that_hold_the_function() -> None:
    before = election.on_vote.__code__
    edit = Edit("core.election:on_vote", "is_free = ", "is_free = True or ")
    with made(edit):
        found = TABLE[Role.FOLLOWER][MessageKind.VOTE]
        assert found is election.on_vote
        assert found.__code__ is not before
    assert election.on_vote.__code__ is before


def test_an_edit_of_a_property_changes_what_it_gives() -> None:
    config = Config("1", 1)
    before = config.lease_ms
    with made(Edit("core.work:Config.lease_ms", "ticks = self.election_ticks_min", "return -1")):
        assert config.lease_ms == -1
    assert config.lease_ms == before


def test_all_is_as_before_after_an_error() -> None:
    config = Config("1", 1)
    before = config.lease_ms
    edit = Edit("core.work:Config.lease_ms", "ticks = self.election_ticks_min", "return -1")
    with pytest.raises(ZeroDivisionError), made(edit):
        _ = 1 // (config.lease_ms + 1)
    assert config.lease_ms == before


@pytest.mark.parametrize(
    "edit",
    [
        Edit("core.election:on_vote", "no such text", "x"),
        Edit("core.election:on_vote", "raft", "x"),
        Edit("core.election:no_such_function", "a", "b"),
        Edit("core.raft:Raft.role", "a", "b"),
    ],
    ids=["absent", "found twice", "no function", "a field"],
)
def test_an_edit_that_does_not_fit_says_so(edit: Edit) -> None:
    with pytest.raises(Misfit), made(edit):
        pytest.fail("it was made")
