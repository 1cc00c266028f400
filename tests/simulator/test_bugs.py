"""The simulator can fail: it sees each quick bug within the seeds stated for it."""

from __future__ import annotations

import pytest

from tests.simulator.bug import Bug
from tests.simulator.bugs import BUGS, hunt

QUICK = [bug for bug in BUGS if bug.seeds]


@pytest.mark.parametrize("bug", QUICK, ids=lambda bug: bug.name)
def test_the_bug_is_seen(bug: Bug) -> None:
    found = hunt(bug.name, bug.seeds)
    assert found.seeds, f"{bug.seeds} seeds did not show {bug.name}: {bug.text}"
