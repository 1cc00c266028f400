"""What a leader knows of one peer, and how much more it may be sent.

    PROBE      where the logs agree is not known, or the peer does not answer: one message, then
               silence until it answers
    REPLICATE  it follows: messages are sent ahead of answers, up to a number and a size
    SNAPSHOT   it needs entries this node no longer has: heartbeats only, until a snapshot arrived

A peer that is dead costs one message and heartbeats; nothing is queued for it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from pyraft_fast.errors import check

PROBE: Final = "probe"
REPLICATE: Final = "replicate"
SNAPSHOT: Final = "snapshot"
MOVES: Final = frozenset(
    {
        (PROBE, REPLICATE),
        (PROBE, SNAPSHOT),
        (REPLICATE, PROBE),
        (REPLICATE, SNAPSHOT),
        (SNAPSHOT, PROBE),
        (PROBE, PROBE),
    }
)


class Progress:
    """One peer, as its leader sees it.

    match: its log agrees up to here, on its disk. next: what is sent next. heard_tick: when it was
    heard of last. read_round: the newest read round it confirmed. answered_ms: when the newest
    heartbeat it answered was sent, by the leader's steady clock. clock_ms: the cluster time it had
    seen by then. commit_sent: the commit index it was told. awaits: up to where its clients wait to
    hear that entries are committed. round_end, round_tick: the catch-up round of a learner (thesis
    section 4.2.1). is_spared, in_time: see `sparing`. sent_tick: when it was last sent an append
    message.
    """

    __slots__ = (
        "_inflight",
        "answered_ms",
        "awaits",
        "clock_ms",
        "commit_sent",
        "heard_tick",
        "in_time",
        "incarnation",
        "inflight_bytes",
        "is_paused",
        "is_spared",
        "is_voter",
        "match",
        "must_check",
        "next",
        "nid",
        "read_round",
        "round_end",
        "round_tick",
        "sent_tick",
        "stalled_at",
        "state",
    )

    def __init__(self, nid: str, incarnation: int, next_index: int, tick: int) -> None:
        self.nid = nid
        self.incarnation = incarnation
        self.is_voter = False
        self.is_spared = False
        self.in_time = 0
        self.match = 0
        self.next = next_index
        self.state = PROBE
        self.is_paused = False  # in PROBE: an answer is awaited
        self.must_check = False  # in REPLICATE: something sent may be lost
        self.stalled_at = -1  # `match` at the last heartbeat it answered
        self.heard_tick = tick
        self.read_round = 0
        self.answered_ms = 0
        self.clock_ms = 0
        self.commit_sent = 0
        self.awaits = 0
        self.round_end = next_index - 1
        self.round_tick = tick
        self.sent_tick = tick
        self._inflight: deque[tuple[int, int]] = deque()  # (last index, bytes) of each message
        self.inflight_bytes = 0

    @property
    def inflight(self) -> int:
        """Messages with entries that are not answered."""
        return len(self._inflight)

    def move(self, state: str) -> None:
        """Change state; in each of them nothing is in flight at first."""
        check((self.state, state) in MOVES, "a peer's legal move", self.nid, self.state, state)
        self.state = state
        self.is_paused = False
        self.must_check = False
        self._inflight.clear()
        self.inflight_bytes = 0
        if state == PROBE:
            self.next = self.match + 1
        elif state == REPLICATE:
            self.next = max(self.next, self.match + 1)

    def sent(self, last: int, size: int) -> None:
        """A message with entries up to `last`, `size` bytes of them, is on its way."""
        self._inflight.append((last, size))
        self.inflight_bytes += size
        self.next = last + 1

    def accepted(self, index: int) -> None:
        """Its log agrees up to `index`: messages up to there are answered."""
        self.match = index
        if self.next <= index:
            self.next = index + 1
        inflight = self._inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
