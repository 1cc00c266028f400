"""Reads by ReadIndex (thesis section 6.4): linearizable, on any node, without touching the log.

A leader notes its commit index, asks a majority whether it still leads, and when it does, whoever
has applied that index may answer. All reads that wait share such a round; several rounds may be
under way, and an answer to a later one confirms the earlier ones. The index counts only once an
entry of the leader's own term is committed: before, it may not know what its predecessors did.

A read that may be answered by lease needs no round while the leader holds one (see `leases`), and
else shares one with the others. Other nodes bundle their reads and ask the leader. Whoever cannot
learn an index says so: no read is ever answered by a leader that was deposed, and none is
forgotten.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from pyraft_fast._quorum import commit_index
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import ReadState, Role

if TYPE_CHECKING:
    from pyraft_fast.core.raft import Raft

ROUNDS_MAX: Final = 4  # under way at once; further reads gather for the next


class Shown(NamedTuple):
    """A lease as others may use it: until `until_ms`, by the steady clock, all that is committed
    are entries up to `commit`. `clock_ms` is the cluster time of reads of that much.
    """

    commit: int
    clock_ms: int
    until_ms: int


NOT_SHOWN: Final = Shown(0, 0, 0)


class _Round(NamedTuple):
    """Reads that share a confirmation: (asking nid or "", its incarnation, context) each."""

    number: int
    commit: int
    clock_ms: int
    asks: list[tuple[str, int, int]]


class _Bundle(NamedTuple):
    """Own reads that were sent to the leader together."""

    tick: int
    contexts: list[int]


def _before_what_follows(raft: Raft, clock_ms: int) -> int:
    """The time for a read at the commit index: not past the entry that comes next.

    Else the read would find a key over that the next entry, stamped earlier, still keeps (PERSIST).
    """
    following = raft.log.read(raft.log.commit + 1, raft.log.commit + 2, 1)
    return min(clock_ms, following[0].time_ms) if following else clock_ms


class Reads:
    """Reads of one node, and those asked of it while it leads."""

    __slots__ = (
        "_bundle_number",
        "_bundles",
        "_rounds",
        "by_lease",
        "clock_ms",
        "done",
        "failed",
        "number",
        "waiting",
    )

    def __init__(self, first_bundle: int) -> None:
        self.waiting: list[tuple[str, int, int]] = []
        self.by_lease: list[tuple[str, int, int]] = []  # the same, where a lease will do
        self.done: list[ReadState] = []
        self.failed: list[int] = []
        self.number = 0  # of the newest round
        self.clock_ms = 0  # the newest cluster time that was given with an answer
        self._rounds: deque[_Round] = deque()
        self._bundles: dict[int, _Bundle] = {}
        self._bundle_number = first_bundle  # no two lives of a node may use the same ones

    # Leading

    def answer_by_lease(self, raft: Raft) -> None:
        """Answer at once what a lease is good for; without one it needs a round like the rest."""
        asks, self.by_lease = self.by_lease, []
        shown = self.by_lease_now(raft)
        if raft.steady_ms < shown.until_ms:
            self._finish(raft, _Round(self.number, shown.commit, shown.clock_ms, asks))
        else:
            self.waiting += asks

    def by_lease_now(self, raft: Raft) -> Shown:
        """What the lease is good for: reads of entries up to the commit index, until it ends."""
        until_ms = raft.lease.until_ms(raft) if raft.role is Role.LEADER else 0
        commit = raft.log.commit
        newest = raft.log.read(commit, commit + 1, 1) if until_ms else ()
        if not newest:
            return NOT_SHOWN
        clock_ms = max(self.clock_ms, newest[0].time_ms, raft.lease.clock_ms(raft))
        clock_ms = _before_what_follows(raft, clock_ms)
        self.clock_ms = max(self.clock_ms, clock_ms)
        return Shown(commit, clock_ms, until_ms)

    def begin_round(self, raft: Raft) -> bool:
        """Let what waits share a round; True when others must be asked to confirm it."""
        if raft.log.commit < raft.term_start or len(self._rounds) >= ROUNDS_MAX:
            return False
        self.number += 1
        asks, self.waiting = self.waiting, []
        clock_ms = _before_what_follows(raft, raft.clock_ms)
        self._rounds.append(_Round(self.number, raft.log.commit, clock_ms, asks))
        if raft.voting_peers:
            return True
        self.confirm(raft)
        return False

    def confirm(self, raft: Raft) -> None:
        """Answer the rounds that a majority has confirmed."""
        if not self._rounds:
            return
        confirmed = [peer.read_round for peer in raft.voting_peers]
        if raft.is_voter:
            confirmed.append(self.number)
        upto = commit_index(confirmed)
        while self._rounds and self._rounds[0].number <= upto:
            self._finish(raft, self._rounds.popleft())

    def _finish(self, raft: Raft, done: _Round) -> None:
        self.clock_ms = max(self.clock_ms, done.clock_ms)
        for nid, incarnation, context in done.asks:
            if nid:
                self._answer(raft, nid, incarnation, context, done)
            else:
                self.done.append(ReadState(context, done.commit, done.clock_ms))

    def _answer(
        self, raft: Raft, nid: str, incarnation: int, context: int, done: _Round | None
    ) -> None:
        peer = raft.progress.get(nid)
        if done and peer is not None:
            peer.awaits = max(peer.awaits, done.commit)
        raft.send_now.append(
            Message(
                MessageKind.READ_REPLY,
                raft.nid,
                nid,
                raft.term,
                index=done.commit if done else 0,
                flag=done is not None,
                context=context,
                clock_ms=done.clock_ms if done else raft.clock_ms,
                incarnation=raft.incarnation,
                to_incarnation=incarnation,
            )
        )

    # Following

    def ask_leader(self, raft: Raft) -> None:
        """Send what waits to the leader, a bundle of each sort; without a leader it has failed."""
        asks, self.waiting = self.waiting, []
        self._ask(raft, asks, by_lease=False)
        asks, self.by_lease = self.by_lease, []
        self._ask(raft, asks, by_lease=True)

    def _ask(self, raft: Raft, asks: list[tuple[str, int, int]], by_lease: bool) -> None:
        contexts = [context for nid, _, context in asks if not nid]
        if not contexts:
            return
        if not raft.leader or raft.leader == raft.nid:
            self.failed += contexts
            return
        self._bundle_number += 1
        self._bundles[self._bundle_number] = _Bundle(raft.ticks, contexts)
        raft.send_now.append(
            Message(
                MessageKind.READ,
                raft.nid,
                raft.leader,
                raft.term,
                flag=by_lease,
                context=self._bundle_number,
                clock_ms=raft.clock_ms,
                incarnation=raft.incarnation,
                to_incarnation=raft.known.get(raft.leader, 0),
            )
        )

    def on_reply(self, message: Message) -> None:
        """The leader gave an index for a bundle, or refused."""
        bundle = self._bundles.pop(message.context, None)
        if bundle is None:
            return
        if not message.flag:
            self.failed += bundle.contexts
            return
        for context in bundle.contexts:
            self.done.append(ReadState(context, message.index, message.clock_ms))

    def expire(self, before_tick: int) -> None:
        """Give up bundles asked before `before_tick`: question or answer may be lost."""
        while self._bundles:
            number = next(iter(self._bundles))
            if self._bundles[number].tick >= before_tick:
                return
            self.failed += self._bundles.pop(number).contexts

    # Either

    def refuse(self, raft: Raft, message: Message) -> None:
        """This node does not lead."""
        self._answer(raft, message.sender, message.incarnation, message.context, None)

    def fail_all(self, raft: Raft) -> None:
        """The leader this node had, or was, is none any more. Own reads not begun may begin yet."""
        asks = [ask for done in self._rounds for ask in done.asks]
        asks += [ask for ask in self.waiting + self.by_lease if ask[0]]
        self._rounds.clear()
        self.waiting = [ask for ask in self.waiting if not ask[0]]
        self.by_lease = [ask for ask in self.by_lease if not ask[0]]
        for nid, incarnation, context in asks:
            if nid:
                self._answer(raft, nid, incarnation, context, None)
            else:
                self.failed.append(context)
        for bundle in self._bundles.values():
            self.failed += bundle.contexts
        self._bundles.clear()
