"""Leases: what a leader may believe without asking, because a majority has promised (thesis 6.4.1).

Who answers a heartbeat promises to vote for nobody else for `election_ticks_min` ticks, counted
from when it arrived. The leader counts from when it was sent, on its own clock and for a fifth less
(`Config.lease_ms`): so while a majority's answers are that young, no other leader can have been
elected, and what is committed here is all that is. Clocks may drift by that fifth, not more.

What keeps that true:

- The majority is that of the membership in force at the moment of use. Memberships that follow each
  other share a node in any two majorities, those further apart need not.
- A leader that does not vote itself holds none: a sole voter elects itself without waiting.
- The promise is the node's, not its term's nor its leader's: news of another term do not end it.
- What a node promised before it restarted it does not know, so it votes for nobody at first.
- A transfer asks others to break their promise, so the lease is void from its beginning. When it is
  given up, its messages may still be under way for any time, say towards a process that stands
  still. Therefore a leader counts the transfers that it gave up; a heartbeat tells that number, and
  whoever answered it does not obey what an earlier transfer has sent. The lease is valid again when
  a majority has answered heartbeats that were sent later.

A lease may be shown to others (`Reads.by_lease_now`), who then need not ask. What is shown stays
right until it ends, whatever becomes of the leader, as long as it is taken back before anything
leaves the node that says of a later commit, a vote, a transfer or another membership.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyraft_fast._quorum import commit_index
from pyraft_fast.core.messages import Message
from pyraft_fast.core.work import Config, Role

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft


class Lease:
    """Both ends of the promise: the lease of a leader, and what a follower has promised.

    heard_tick: when a leader was last heard. vote_hold: before this tick the node votes for nobody.
    given_up: transfers that were given up in the term this node leads.
    """

    __slots__ = ("_lease_ms", "_promised", "_valid_after_ms", "given_up", "heard_tick", "vote_hold")

    def __init__(self, config: Config) -> None:
        self._lease_ms = config.lease_ms
        self.heard_tick = -config.election_ticks_min
        self.vote_hold = config.election_ticks_min
        self.given_up = 0
        self._promised = (0, 0)  # (term, transfers given up) of the newest heartbeat
        self._valid_after_ms = 0

    # Leading

    def begin(self) -> None:
        """A term begins that this node leads."""
        self.given_up = 0
        self._valid_after_ms = 0

    def until_ms(self, raft: Raft) -> int:
        """Up to when, by the steady clock, it is certain that nobody else leads and that all
        committed entries are known here; 0 where it is not.
        """
        if raft.transferee or not raft.is_voter or raft.log.commit < raft.term_start:
            return 0
        if not raft.voting_peers:  # not for ever: who stands still must not keep the time with it
            return raft.steady_ms + self._lease_ms
        answered = [peer.answered_ms for peer in raft.voting_peers]
        answered.append(raft.steady_ms)
        since_ms = commit_index(answered)
        return since_ms + self._lease_ms if since_ms > self._valid_after_ms else 0

    def clock_ms(self, raft: Raft) -> int:
        """The cluster time that a majority has seen, so that no later leader's can lie before it.

        The leader's own will not do: it may run ahead of that for as long as a lease lasts, and the
        next leader's machine may be set to an earlier time.
        """
        seen = [peer.clock_ms for peer in raft.voting_peers]
        seen.append(raft.clock_ms)
        return int(commit_index(seen))

    def give_up_transfer(self, raft: Raft) -> None:
        """A transfer is over without a newer term, as far as this leader knows."""
        self.given_up += 1
        self.promise(raft.term, self.given_up)
        self._valid_after_ms = raft.steady_ms

    # Following

    def promise(self, term: int, given_up: int) -> None:
        """A heartbeat of the leader of `term` came, which has given up so many transfers."""
        if (term, given_up) > self._promised:
            self._promised = (term, given_up)

    def forbids_vote(self, raft: Raft, message: Message) -> bool:
        """Has this node promised not to vote for the sender of PREVOTE or VOTE now?"""
        if raft.ticks < self.vote_hold:
            return True
        if raft.role is not Role.LEADER:
            if raft.ticks - self.heard_tick >= raft.config.election_ticks_min:
                return False
            if _is_own_leader(raft, message):
                return False
        # The leader that sent the candidate led the term before the one that is asked about.
        return not message.flag or (message.term - 1, message.context) < self._promised

    def forbids_campaign(self, raft: Raft, message: Message) -> bool:
        """Is this TIMEOUT_NOW one that must not be obeyed, not even with the own vote?"""
        is_stale = (message.term, message.context) < self._promised
        return is_stale or raft.ticks < self.vote_hold

    def release(self, raft: Raft, message: Message) -> None:
        """Forget the promise if VOTE, in a newer term, comes from whom it was made to."""
        if raft.role is not Role.LEADER and _is_own_leader(raft, message):
            self.heard_tick = raft.ticks - raft.config.election_ticks_min


def _is_own_leader(raft: Raft, message: Message) -> bool:
    """Does the leader itself ask? Then it leads no more, and its lease is over."""
    return raft.leader == message.sender and raft.known.get(raft.leader) == message.incarnation
