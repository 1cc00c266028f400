"""How a node without files finds its cluster, or founds one together with the nodes it was told of.

The danger is two clusters where people wanted one. So nobody founds a cluster because others are
silent: a node that was given a member list asks until everybody on it has answered. If anyone
belongs to a cluster, this node joins that one. Only if all are fresh, and all of them report the
very same list, the one with the smallest id (or the one that was given a snapshot to load) founds
the cluster; the others see that in its next answer and join.

`decide` is the whole rule, on values; `Joiner` asks and obeys it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pyraft_fast.address import Address
from pyraft_fast.consensus.dialing import Unreachable, ask, ask_any, look_up
from pyraft_fast.consensus.frames import Fields
from pyraft_fast.consensus.identity import INCARNATION_MAX, Identity
from pyraft_fast.errors import (
    ClusterDown,
    ProtocolError,
    RaftException,
    StartError,
    TryAgain,
)
from pyraft_fast.limits import MEMBERS_MAX

PROBE_SECONDS_MAX: Final = 2.0
JOIN_SECONDS_MAX: Final = 5.0
ROUND_SECONDS: Final = 0.2  # between rounds of questions, jittered
SAY_AGAIN_SECONDS: Final = 10.0  # between two log lines that say the same
REDIRECTS_MAX: Final = 5


class Answer(NamedTuple):
    """What a listed node says of itself. `listing` is empty until it has heard of all its own."""

    nid: str
    addr: str
    incarnation: int
    cluster: int
    loads: bool
    removed: bool
    listing: tuple[str, ...]
    leader_addr: str

    def value(self) -> dict[str, object]:
        """The fields as they are sent."""
        return {**self._asdict(), "listing": list(self.listing)}


def read_answer(value: dict[str, object]) -> Answer:
    """An Answer out of a received map; raises ProtocolError."""
    fields = Fields(value, "an answer to a probe")
    return Answer(
        fields.text("nid", 512),
        fields.text("addr", 512),
        fields.number("incarnation", INCARNATION_MAX),
        fields.number("cluster"),
        fields.flag("loads"),
        fields.flag("removed"),
        tuple(fields.texts("listing")),
        fields.text("leader_addr", 512),
    )


class Join(NamedTuple):
    """Join the cluster these addresses (leader first, if known) belong to."""

    cluster: int
    addresses: tuple[str, ...]


class Found(NamedTuple):
    """Found the cluster; it is complete when this many members vote."""

    voters: int


class Wait(NamedTuple):
    """Ask again later, because of `reason`."""

    reason: str


def listing_of(me: Answer, answers: Mapping[str, Answer | None]) -> tuple[str, ...]:
    """The ids of everybody on this node's list, itself included; empty while one is unknown."""
    if not answers or None in answers.values():
        return ()
    return tuple(sorted({me.nid, *(a.nid for a in answers.values() if a is not None)}))


def decide(
    me: Answer, answers: Mapping[str, Answer | None], given: Mapping[str, str]
) -> Join | Found | Wait:
    """What to do after a round of questions.

    `answers` maps every listed address to what it said, or None; `given` maps listed addresses to
    the id that the list gives them, where it does. This node itself may be among them.
    """
    others = [a for a in answers.values() if a is not None and not _is_same(me, a)]
    wrong = _contradiction(me, answers, given)
    if wrong:
        return Wait(wrong)
    settled = [a for a in others if a.cluster]
    clusters = {a.cluster for a in settled}
    if len(clusters) > 1:
        names = ", ".join(f"{a.nid} in {a.cluster:016x}" for a in settled)
        return Wait(f"the listed nodes belong to different clusters: {names}")
    alive = [a for a in settled if not a.removed]
    if alive:
        leaders = [a.leader_addr for a in alive if a.leader_addr]
        return Join(clusters.pop(), tuple(dict.fromkeys([*leaders, *(a.addr for a in alive)])))
    if settled:
        return Wait(f"node {settled[0].nid} was removed from its cluster; its files must go first")
    return _may_found(me, others, answers)


def _may_found(
    me: Answer, others: Sequence[Answer], answers: Mapping[str, Answer | None]
) -> Found | Wait:
    silent = [address for address, answer in answers.items() if answer is None]
    if silent:
        return Wait(f"no answer yet from {', '.join(silent)}")
    mine = listing_of(me, answers)
    if not mine:
        return Wait("the member list stands for no address yet")
    for other in others:
        if other.listing != mine:
            theirs = ", ".join(other.listing) or "not complete yet"
            return Wait(f"node {other.nid}'s list ({theirs}) is not ours ({', '.join(mine)})")
    founder = min([me, *others], key=lambda a: (not a.loads, a.nid))
    if founder.nid != me.nid:
        return Wait(f"node {founder.nid} is to found the cluster")
    return Found(len(mine))


def _is_same(me: Answer, other: Answer) -> bool:
    return me.nid == other.nid and me.incarnation == other.incarnation


def _contradiction(
    me: Answer, answers: Mapping[str, Answer | None], given: Mapping[str, str]
) -> str:
    seen: dict[str, Answer] = {}
    for address, answer in answers.items():
        if answer is None:
            continue
        if given.get(address, answer.nid) != answer.nid:
            return f"{address} is listed as node {given[address]}, but is node {answer.nid}"
        if answer.nid == me.nid and not _is_same(me, answer) and answer.cluster == 0:
            return f"{answer.addr} calls itself {answer.nid} too; ids must differ"
        earlier = seen.setdefault(answer.nid, answer)
        if earlier.incarnation != answer.incarnation:
            return f"{earlier.addr} and {answer.addr} are both called {answer.nid}"
    return ""


class Joiner:
    """Asks the listed nodes round after round until this node has a cluster."""

    def __init__(
        self,
        me: Identity,
        ensemble: Sequence[tuple[str, str]],
        loads: bool,
        overwrite_peer: bool,
        rng: random.Random,
        log: Callable[[int, str], None],
    ) -> None:
        self._me = Answer(me.nid, me.addr, me.incarnation, 0, loads, False, (), "")
        self._ensemble = list(ensemble)
        self._overwrite_peer = overwrite_peer
        self._rng = rng
        self._log = log
        self._said: tuple[str, float] = ("", 0.0)

    def answer(self) -> Answer:
        """What this node tells others that ask it meanwhile."""
        return self._me

    def invite(self, address: str) -> None:
        """A member of a cluster at `address` wants this node in: ask there too."""
        entry = ("", address)
        if entry not in self._ensemble and len(self._ensemble) < MEMBERS_MAX:
            self._ensemble.append(entry)

    async def run(self) -> Join | Found:
        """Return once a cluster accepted this node (Join), or it is this node's to found.

        Raises StartError when a cluster refuses it for good.
        """
        while True:
            answers, given = await self._ask_all()
            self._me = self._me._replace(listing=listing_of(self._me, answers))
            verdict = decide(self._me, answers, given)
            if isinstance(verdict, Found):
                return verdict
            if isinstance(verdict, Join):
                if self._me.loads:
                    raise StartError(
                        "a snapshot to load starts a new cluster, but the listed nodes have one"
                    )
                reason = await self._join(verdict)
                if not reason:
                    return verdict
                verdict = Wait(reason)
            self._say(verdict.reason)
            await asyncio.sleep(ROUND_SECONDS * self._rng.uniform(0.5, 1.5))

    async def _ask_all(self) -> tuple[dict[str, Answer | None], dict[str, str]]:
        entries = list(self._ensemble)  # an invitation may come meanwhile
        rounds = await asyncio.gather(*(self._ask_entry(*entry) for entry in entries))
        answers: dict[str, Answer | None] = {}
        given: dict[str, str] = {}
        for (nid, _), heard in zip(entries, rounds, strict=True):
            answers.update(heard)
            if nid:
                given.update(dict.fromkeys(heard, nid))
        return answers, given

    async def _ask_entry(self, nid: str, text: str) -> dict[str, Answer | None]:
        if nid == self._me.nid or text == self._me.addr:
            return {text: self._me}
        try:
            addresses = await look_up(text)
        except Unreachable:
            return {text: None}
        heard = await asyncio.gather(*(self._probe(address) for address in addresses))
        if nid:  # one node by name: a name with several addresses is still one node
            return {text: next((answer for answer in heard if answer is not None), None)}
        found: dict[str, Answer | None] = {}
        for address, answer in zip(addresses, heard, strict=True):
            found[str(address)] = answer
        if len(found) == 1 and all(a is not None and _is_same(self._me, a) for a in heard):
            found[f"{text} (which stands for this node alone)"] = None
        return found

    async def _probe(self, address: Address) -> Answer | None:
        try:
            return read_answer(await ask(address, "PROBE", {}, PROBE_SECONDS_MAX))
        except RaftException:  # not there yet, still starting, or no node of ours
            return None

    async def _join(self, verdict: Join) -> str:
        """Ask to be added; the empty string when this node is a member now, else why not yet."""
        args: dict[str, object] = {
            "cluster": verdict.cluster,
            "nid": self._me.nid,
            "addr": self._me.addr,
            "incarnation": self._me.incarnation,
            "overwrite": self._overwrite_peer,
        }
        reason = "nobody answered the request to join"
        for address in verdict.addresses:
            try:
                await ask_leader(address, "JOIN", args, JOIN_SECONDS_MAX)
                return ""
            except (Unreachable, ProtocolError, TryAgain, ClusterDown) as error:
                reason = f"not joined yet: {error}"
            except RaftException as error:
                raise StartError(f"the cluster does not take this node: {error}") from error
        return reason

    def _say(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if reason != self._said[0] or now - self._said[1] > SAY_AGAIN_SECONDS:
            self._said = (reason, now)
            self._log(logging.INFO, f"looking for the cluster: {reason}")


async def ask_leader(
    address: str, op: str, args: dict[str, object], seconds: float
) -> dict[str, object]:
    """`ask_any`, following answers that name the leader instead. Raises as `ask` does."""
    for _ in range(REDIRECTS_MAX):
        value = await ask_any(address, op, args, seconds)
        leader = value.get("redirect")
        if leader is None:
            return value
        if not isinstance(leader, str) or not leader or leader == address:
            raise ClusterDown("no leader is known at the moment")
        address = leader
    raise ClusterDown("the leader moved too often to be found")
