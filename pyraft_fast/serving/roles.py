"""What part of the cluster a node shows itself as, and which callbacks a change of it calls.

A leader shows as one when it has applied the log up to its own term, not before: what `on_leader`
finds in the data must not be older than what others have written.
"""

from __future__ import annotations

from typing import Final

from pyraft_fast.serving.treaty import RoleFact

NO_ROLE: Final = RoleFact("joining", 0, "", "", False)
LETTERS: Final = {"leader": "l", "follower": "f", "learner": "f"}  # any other: "c"
_EVENTS: Final = {"l": "on_leader", "f": "on_follower", "c": "on_candidate"}


def shown(said: RoleFact, before: RoleFact, applied_term: int) -> RoleFact:
    """What to show after consensus said `said`; `before` is what was shown until now."""
    if said.role != "leader" or applied_term >= said.term:
        return said
    return said._replace(role="candidate" if before.role == "leader" else before.role)


def callbacks_of(before: str, now: str) -> list[str]:
    """The callbacks for a change from role `before` to role `now`."""
    events = ["on_leader_lost"] if before == "leader" else []
    old, new = LETTERS.get(before, "c"), LETTERS.get(now, "c")
    return events if old == new else [*events, _EVENTS[new]]


def line_of(now: RoleFact) -> str:
    """The log line for a change of role or term."""
    follows = now.leader_nid and now.role != "leader"
    return f"{now.role} in term {now.term}" + (f", leader {now.leader_nid}" if follows else "")
