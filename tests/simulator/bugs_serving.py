"""Bugs between consensus and clients: ring, sessions, reads, answers, time and dice."""

from __future__ import annotations

from typing import Final

from tests.simulator.bug import Bug, bug

_APPLIER: Final = "serving.apply:Applier."
_PROPOSER: Final = "serving.propose:Proposer."
_GATE: Final = "serving.reads:ReadGate."
_JUDGE: Final = "serving.sessions:Sessions.judge"
_CLOCK: Final = '__import__("pyraft_fast.serving.service", fromlist=["time"]).time'
_OWN: Final = (
    f"{_APPLIER}_own",
    "head.start == self._proposer.start",
    "head.start == self._proposer.start"
    " and [b.number for b in list(self._proposer._sent)[:1]] == [head.batch]",
)  # so that a copy of an own batch does not meet the check that batches apply in order

SESSIONS: Final[list[Bug]] = [
    bug(
        "no-dedup",
        "a batch that is sent again takes effect again",
        (_JUDGE, "return DUPLICATE if batch <= last else GAP", "return FRESH"),
        _OWN,
        seeds=40,
    ),
    bug(
        "dedup-by-position",
        "only a copy right behind its original is known as one",
        (_JUDGE, "if batch == last + 1:", "if batch != last:"),
        _OWN,
        seeds=40,
    ),
    bug(
        "gap-accepted",
        "a batch takes effect although an earlier one of its session is missing",
        (_JUDGE, "if batch == last + 1:", "if batch > last:"),
        _OWN,
        seeds=300,
    ),
    bug(
        "snapshot-without-sessions",
        "whoever starts from a snapshot knows no batch that was applied before",
        (f"{_APPLIER}meta", "self.sessions.copy()", "{}"),
        _OWN,
        seeds=40,
    ),
    bug(
        "sessions-lost-at-load",
        "loading a snapshot leaves out the sessions in it",
        (f"{_APPLIER}_take_over", "self.sessions.replace(meta.sessions)", "pass"),
        _OWN,
        seeds=40,
    ),
    bug(
        "sessions-cleared-by-change",
        "a membership entry makes the cluster forget which batches it has applied",
        (
            f"{_APPLIER}_config",
            "self.sessions.keep(member.incarnation for member in self.members.members)",
            "self.sessions.keep(())",
        ),
        _OWN,
        seeds=40,
    ),
]

RING: Final[list[Bug]] = [
    bug(
        "ring-skips-after-block",
        "when the ring was full, the entry that found no room is left out",
        (
            "consensus.publish:Publisher.pump",
            "if self._blocked is None or self._put(self._blocked):",
            "if True:",
        ),
        seeds=300,
    ),
    bug(
        "ring-begins-late",
        "publishing goes on one entry behind what the serving side lacks first",
        ("consensus.publish:Publisher.begin", "_published = applied", "_published = applied + 1"),
        seeds=40,
    ),
    bug(
        "ring-begins-early",
        "publishing goes on with an entry that the serving side has",
        (
            "consensus.publish:Publisher.begin",
            "_published = applied",
            "_published = max(0, applied - 1)",
        ),
    ),
    bug(
        "published-before-commit",
        "the ring takes what the log holds, committed or not",
        (
            "consensus.driver:Driver._turn",
            "self.publisher.pump(work.commit, self)",
            "self.publisher.pump(self.raft.log.last, self)",
        ),
        seeds=40,
    ),
]

READS: Final[list[Bug]] = [
    bug(
        "read-before-applied",
        "a read runs when its index is known, not when it is applied",
        (f"{_GATE}came_back", "if index <= applied:", "if True:"),
        seeds=40,
    ),
    bug(
        "read-joins-older-round",
        "a read that arrives now is answered by a round that was asked before",
        (
            f"{_GATE}came_back",
            "group.clock_ms = clock_ms\n",
            "group.clock_ms = clock_ms\n"
            "    for late, other in list(self._asked.items()):\n"
            "        if late > context and other.level == group.level:\n"
            "            self.came_back(late, index, clock_ms, applied)\n",
        ),
        seeds=600,
    ),
    bug(
        "shown-lease-kept",
        "the lease that shows is not taken back from a leader that steps down or hands over",
        ("consensus.lease_notice:LeaseNotice.show", "if lease != self._shown:", "if lease[2]:"),
        seeds=300,
    ),
    bug(
        "shown-lease-late",
        "a new commit index shows only after other nodes were told of it",
        (
            "consensus.driver:Driver._turn",
            "self._notice.show()",
            "self._loop.call_later(0.02, self._notice.show)",
        ),
        seeds=40,
    ),
    bug(
        "shown-lease-unapplied",
        "a read by the lease that shows does not wait for what the lease covers",
        ("serving.service:Service.lease", "and shown[0] == self.applier.index", ""),
        seeds=300,
    ),
    bug(
        "shown-lease-endless",
        "nobody looks whether the lease that shows has ended",
        (f"{_GATE}is_leased", "or self.steady_ns() >= shown[1] * NS_PER_MS", "or not shown[1]"),
    ),
    bug(
        "max-age-from-answer",
        "the age of data counts from when a round was confirmed, not from when it was asked",
        (f"{_GATE}_fulfil", "group.asked_ns", "self.steady_ns()"),
    ),
]

ANSWERS: Final[list[Bug]] = [
    bug(
        "uncertain-called-refused",
        "a write that may have happened is answered as one that did not",
        (
            f"{_PROPOSER}drop_session",
            "error = error or Uncertain(",
            "error = error or ClusterDown(",
        ),
        (f"{_PROPOSER}sweep", "uncertain or Uncertain(", "uncertain or ClusterDown("),
        seeds=40,
    ),
    bug(
        "expiry-by-local-clock",
        "keys end by the clock of the node that applies, not by the entry's time",
        (
            "worker.store:Store.begin",
            "self.now_ms = time_ms\n",
            f"self.now_ms = time_ms = {_CLOCK}.time_ns() // 1_000_000\n",
        ),
        seeds=40,
    ),
    bug(
        "entry-time-goes-back",
        "a leader stamps entries with its own clock, even if the log is ahead of it",
        ("core.raft:Raft.propose", "if now_ms > self.clock_ms:", "if now_ms:"),
        seeds=40,
    ),
    bug(
        "dice-of-the-process",
        "random commands draw from the node's own dice, not from the entry's",
        (f"{_APPLIER}dice", "self._dice.seed(seed)", "self._dice.seed(seed ^ self.incarnation)"),
        seeds=40,
    ),
]

SERVING: Final[list[Bug]] = [*SESSIONS, *RING, *READS, *ANSWERS]
