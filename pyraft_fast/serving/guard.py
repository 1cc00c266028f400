"""The divergence guard: tells other nodes this one's digests, and stops it when it is wrong.

It ties the running digest (`track`) and the judgement (`digests`) to the serving loop. When this
node's data are not the majority's it serves nothing from that moment on, asks those who differ
which command made the difference, waits for the answer for at most HALT_SECONDS, and fails the
node with a text that names entry and handler. Files are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pyraft_fast.errors import ProtocolError
from pyraft_fast.serving.digests import (
    PAIRS_MAX,
    Answer,
    Ask,
    Judge,
    Report,
    Verdict,
    decode,
    encode,
    first_command,
    first_difference,
)
from pyraft_fast.serving.diverged import mark_diverged
from pyraft_fast.serving.holding import Holder
from pyraft_fast.serving.host import Host
from pyraft_fast.serving.members import Members
from pyraft_fast.serving.track import ALL, Track
from pyraft_fast.serving.treaty import Consensus

logger = logging.getLogger(__name__)

TELL_SECONDS: Final = 0.1  # between notes in mode `sampled`: each wakes every process there is
HALT_SECONDS: Final = 0.5  # between serving nothing and stopping: time to ask, and to be asked
EXIT_DIVERGED: Final = 4
NAMES_SHOWN: Final = 10
CURE: Final = (
    "A handler must not use the clock, random or the order of a set (node.now(), node.random and "
    "sorted() are there for that), and all nodes must run the same handlers. The files of this "
    "node are kept; when the handler is mended, delete them and start the node again: it gets "
    "its data from the others"
)


class Means(NamedTuple):
    """What the guard does to its node."""

    consensus: Callable[[], Consensus | None]  # who passes notes on
    halt: Callable[[], None]  # serve nothing from now on
    fail: Callable[[str, int], None]  # stop the node
    arm: Callable[[], None]  # call `sweep` in a while


class Guard:
    """Loop thread only. `halted` from the moment this node is known to be wrong."""

    def __init__(
        self,
        host: Host,
        mode: str,
        loop: asyncio.AbstractEventLoop,
        means: Means,
        folder: str,
    ) -> None:
        self.track = Track(mode, host.store)
        self.judge = Judge(host.nid, self.track)
        self.halted = False
        self.agreed = 0  # in mode `all`: the highest index a majority is known to agree up to
        self.holder: Holder | None = None
        if mode == ALL:
            self.holder = Holder(loop, lambda: self.track.index, lambda: self.agreed, means.arm)
        self._host = host
        self._loop = loop
        self._means = means
        self._folder = folder
        self._told = 0.0  # loop time of the last note about this node
        self._judged = 0  # the index at the last `turn`
        self._warned: set[str] = set()
        self._verdict: Verdict | None = None
        self._culprit = ""

    def members(self, members: Members) -> None:
        """The membership changed."""
        self.judge.members(
            (member.nid, member.incarnation, member.role == "voter") for member in members.members
        )
        self._changed()

    def turn(self) -> bool:
        """Entries were applied: compare, tell, and judge, before any answer leaves.

        False when nothing may leave any more.
        """
        track = self.track
        if track.every and track.index != self._judged and not self.halted:
            self._judged = track.index
            judge = self.judge
            waited = judge.waits
            if waited:
                judge.applied()
            if judge.is_asked_for_all or (track.fresh and self._is_due()):
                self._tell()
            if waited or self.holder is not None:
                self._changed()
        return not self.halted

    def _is_due(self) -> bool:
        """Where no answer waits for it, what others are told may gather for a moment."""
        return self.holder is not None or self._loop.time() - self._told >= TELL_SECONDS

    def tick(self) -> None:
        """About a second passed: say again how far this node is, since notes may be lost."""
        if not self.halted:
            self._tell()

    def _tell(self) -> None:
        self._told = self._loop.time()
        if self.judge.alone:
            self.track.fresh.clear()
        else:
            self._send("", encode(self.judge.report()))

    def _send(self, nid: str, note: bytes) -> None:
        consensus = self._means.consensus()
        if consensus is not None:
            consensus.digests(nid, note)

    def heard(self, nid: str, data: bytes) -> None:
        """A note of another node came."""
        try:
            note = decode(data)
        except ProtocolError as error:
            logger.warning("node %s: %s", nid, error)
            return
        if isinstance(note, Report):
            if not self.halted:
                self.judge.heard(nid, note)
                self._changed()
        elif isinstance(note, Ask):
            self._answer(nid, note)
        elif note is not None and self.halted:
            self._answered(note)

    def _changed(self) -> None:
        """Something new is known: go on, warn, or halt."""
        if self.track.mode == ALL:
            self.agreed = self.judge.agreed()
        differing = self.judge.differing()
        if differing:
            verdict = self.judge.verdict()
            if verdict is not None and not self.halted:
                self._halt(verdict)
                return
            for nid in differing.keys() - self._warned:
                self._warn(nid, differing[nid].differs)
        self._warned &= differing.keys()
        if self.holder is not None:
            self.holder.release()

    def sweep(self, now: float) -> bool:
        """Give up answers that were on hold too long; whether some still are."""
        if self.holder is None:
            return False
        self.holder.sweep(now)
        return not self.holder.idle

    def _warn(self, nid: str, index: int) -> None:
        self._warned.add(nid)
        self._host.log_warn(
            f"node {nid} has other data than this node since entry {index} or before; "
            f"a majority agrees with this node up to entry {self.judge.agreed()}"
        )

    # The end

    def _halt(self, verdict: Verdict) -> None:
        self.halted = True
        self._verdict = verdict
        self._means.halt()
        self._tell()  # the others must know what this node had, or they could not judge themselves
        text = f"data differ from those of {_nodes(verdict.others)} at entry {verdict.index}"
        self._host.log_error(f"{text}; serving nothing any more")
        try:
            mark_diverged(self._folder, self._host.nid, text)
        except OSError as error:  # the sums in the next snapshot still show it
            self._host.log_error(f"the mark of that cannot be written: {error.strerror}")
        low = verdict.index if verdict.exact else verdict.agreed + 1
        self._ask(low, verdict.index)
        self._loop.call_later(HALT_SECONDS, self._stop)

    def _ask(self, low: int, high: int) -> None:
        if self._verdict is not None:
            for nid in self._verdict.others:
                self._send(nid, encode(Ask(low, high)))

    def _answer(self, nid: str, ask: Ask) -> None:
        details = self.track.details(ask.low) if ask.low == ask.high else None
        commands = [] if details is None else list(details.digests)
        pairs = self.track.between(ask.low, ask.high, PAIRS_MAX)
        self._send(nid, encode(Answer(ask.low, ask.high, pairs, commands)))

    def _answered(self, answer: Answer) -> None:
        verdict = self._verdict
        if verdict is None or self._culprit:
            return
        if not verdict.exact:
            mine = self.track.between(answer.low, answer.high, PAIRS_MAX)
            index = first_difference(mine, answer.pairs)
            if index:
                self._verdict = verdict._replace(index=index, exact=True)
                self._ask(index, index)
        elif answer.low == answer.high == verdict.index:
            details = self.track.details(verdict.index)
            place = -1 if details is None else first_command(details.digests, answer.commands)
            if details is not None and place >= 0:
                self._culprit = (
                    f"handler {details.names[place]!r} (command {place + 1} of the entry) had "
                    f"another result here than on {_nodes(verdict.others)}"
                )

    def _stop(self) -> None:
        verdict = self._verdict
        if verdict is not None:
            self._means.fail(self._text(verdict), EXIT_DIVERGED)

    def _text(self, verdict: Verdict) -> str:
        whose = (
            "those of the majority"
            if verdict.known
            else f"those of {_nodes(verdict.others)}, and no majority of the voters agrees,"
        )
        where = f"entry {verdict.index}"
        if not verdict.exact:
            where += f" or one before it, behind entry {verdict.agreed}"
        return f"this node's data differ from {whose} since {where}: {self._what(verdict)}. {CURE}"

    def _what(self, verdict: Verdict) -> str:
        if self._culprit:
            return self._culprit
        details = self.track.details(verdict.index) if verdict.exact else None
        if details is None:
            return "which handler had another result here cannot be told any more"
        names = sorted(set(details.names))
        shown = ", ".join(map(repr, names[:NAMES_SHOWN]))
        more = "" if len(names) <= NAMES_SHOWN else f" and {len(names) - NAMES_SHOWN} more"
        return (
            f"one of its handlers {shown}{more} had another result here than on "
            f"{_nodes(verdict.others)}"
        )

    def facts(self) -> dict[str, Any]:
        """What INFO shows of the guard."""
        judge = self.judge
        return {
            "digests": self.track.mode,
            "digests_count": self.track.count,
            "digests_agreed": judge.agreed() if self.track.every else 0,
            "digests_agreed_by_all": judge.agreed_by_all() if self.track.every else 0,
            "digests_differing": sorted(judge.differing()),
        }


def _nodes(nids: list[str]) -> str:
    return f"node{'s' if len(nids) > 1 else ''} {', '.join(nids)}"
