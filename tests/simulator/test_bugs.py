"""The simulator can fail: it sees each quick bug within the seeds stated for it.

The others take longer; `python -m tests.simulator.bugs` tries them all.
"""

from __future__ import annotations

import pytest

from tests.simulator.bug import Bug
from tests.simulator.bugs import BUGS, QUICK, hunt


@pytest.mark.parametrize("bug", QUICK, ids=lambda bug: bug.name)
def test_the_bug_is_seen(bug: Bug) -> None:
    found = hunt(bug.name, bug.seeds)
    assert found.seeds, f"{bug.seeds} seeds did not show {bug.name}: {bug.text}"


def test_there_are_many_bugs_with_a_stated_number_of_seeds() -> None:
    assert len([bug for bug in BUGS if bug.seeds]) >= 50
    assert len(QUICK) >= 30
