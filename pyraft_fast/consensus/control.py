"""Membership changes, joins, transfers: questions that one node asks the leader of its cluster.

Each arrives from the serving side or on a connection of its own from another node, and is carried
out by the leader alone; every other node names the leader instead. An answer is given when the
change is committed, or an error that says whether to ask again. A name belongs to whoever holds it
in the membership: a newcomer with a known id is let in only if it plainly replaces the old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from pyraft_fast.address import check_nid, parse_address
from pyraft_fast.consensus.dialing import Unreachable, ask_any
from pyraft_fast.consensus.frames import Fields
from pyraft_fast.consensus.identity import INCARNATION_MAX
from pyraft_fast.consensus.joining import PROBE_SECONDS_MAX, ask_leader, read_answer
from pyraft_fast.core.membership import Member, Membership
from pyraft_fast.errors import ClusterDown, MembershipError, ProtocolError, TryAgain

COMMIT_SECONDS_MAX: Final = 3.0
FORWARD_SECONDS_MAX: Final = 3.5
TRANSFER_SECONDS_MAX: Final = 2.0
OPS: Final = ("add", "remove", "promote", "demote", "address")


class Leading(Protocol):
    """What is needed of the running member."""

    @property
    def cluster(self) -> int: ...
    @property
    def nid(self) -> str: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def leader_nid(self) -> str: ...
    @property
    def leader_addr(self) -> str: ...
    @property
    def committed_membership(self) -> Membership: ...
    @property
    def commit(self) -> int: ...
    @property
    def membership(self) -> Membership: ...
    def propose_change(self, op: str, nid: str, addr: str, incarnation: int) -> int: ...
    def begin_transfer(self, nid: str) -> None: ...
    async def changed(self) -> None:
        """Return after the next turn that moved commit, role or membership."""
        ...

    def log(self, level: int, text: str) -> None: ...


class Control:
    """Carries out control requests where this node leads, and passes them on where it does not."""

    def __init__(self, member: Leading) -> None:
        self._member = member

    async def from_peer(self, op: str, args: dict[str, object]) -> dict[str, object]:
        """Answer JOIN, CHANGE or TRANSFER of another node. Raises RaftException."""
        fields = Fields(args, f"a {op} request")
        if fields.number("cluster") != self._member.cluster:
            raise MembershipError(
                f"node {self._member.nid} belongs to another cluster "
                f"({self._member.cluster:016x}) than the one asked"
            )
        if not self._member.is_leader:
            return {"redirect": self._member.leader_addr}
        if op == "JOIN":
            return await self._join(fields)
        if op == "CHANGE":
            return await self._change(fields)
        if op == "TRANSFER":
            return await self._transfer(fields.text("nid", 512))
        raise ProtocolError(f"unknown request {op!r:.40}")

    async def change(self, op: str, nid: str, addr: str) -> None:
        """Change the membership, from wherever this node stands. Raises RaftException."""
        if op not in OPS:
            raise MembershipError(f"unknown membership change {op!r}")
        check_nid(nid)
        if addr:
            parse_address(addr)
        await self.ask_leader("CHANGE", {"op": op, "nid": nid, "addr": addr, "incarnation": 0})

    async def transfer(self, nid: str) -> None:
        """Move the leadership to `nid`, or to the most caught-up voter if "". Raises."""
        await self.ask_leader("TRANSFER", {"nid": nid})

    async def ask_leader(self, op: str, args: dict[str, object]) -> None:
        """Have the leader carry out `op`, which may be this node. Raises RaftException."""
        member = self._member
        args = {"cluster": member.cluster, **args}
        value = await self.from_peer(op, args)
        if "redirect" not in value:
            return
        if not member.leader_addr:
            raise ClusterDown("no leader is known; nothing was changed")
        try:
            await ask_leader(member.leader_addr, op, args, FORWARD_SECONDS_MAX)
        except (Unreachable, ProtocolError) as error:
            raise TryAgain(f"the leader cannot be asked: {error}") from error

    async def _join(self, fields: Fields) -> dict[str, object]:
        nid, addr = check_nid(fields.text("nid", 512)), fields.text("addr", 512)
        incarnation = fields.number("incarnation", INCARNATION_MAX)
        parse_address(addr)
        known = self._member.membership.get(nid)
        if known is None:
            await self._carry_out("add", nid, addr, incarnation)
        elif known.incarnation == incarnation:
            if known.addr != addr:
                await self._carry_out("address", nid, addr, incarnation)
            else:
                await self._settled(
                    lambda: _has(self._member.committed_membership, nid, incarnation)
                )
        elif known.addr == addr or fields.flag("overwrite"):
            self._member.log(
                logging.WARNING,
                f"node {nid} comes back from {addr} without its files; it starts over as a learner",
            )
            await self._carry_out("rejoin", nid, addr, incarnation)
        else:
            raise MembershipError(
                f"node id {nid} is taken by {known.addr}; "
                "start with -o to replace it, or choose another id with -i"
            )
        return {}

    async def _change(self, fields: Fields) -> dict[str, object]:
        op, nid, addr = fields.text("op", 16), fields.text("nid", 512), fields.text("addr", 512)
        incarnation = fields.number("incarnation", INCARNATION_MAX)
        if op not in OPS:
            raise MembershipError(f"unknown membership change {op!r}")
        if op == "add":
            await self._invite(nid, addr)
        else:
            await self._carry_out(op, nid, addr, incarnation)
        return {}

    async def _invite(self, nid: str, addr: str) -> None:
        """Add a node that runs and looks for a cluster: it is told whom to ask."""
        member = self._member
        known = member.membership.get(nid)
        if known is not None:
            raise MembershipError(f"node {nid} is a member already, at {known.addr}")
        try:
            answer = read_answer(await ask_any(addr, "PROBE", {}, PROBE_SECONDS_MAX))
            if answer.nid != nid:
                raise MembershipError(f"the node at {addr} is {answer.nid}, not {nid}")
            if answer.removed:
                raise MembershipError(
                    f"node {nid} at {addr} was removed from its cluster; stop it, empty its "
                    "folder and start it again with -e"
                )
            if answer.cluster:
                raise MembershipError(f"node {nid} at {addr} belongs to a cluster already")
            invitation: dict[str, object] = {"addr": member.leader_addr}
            await ask_any(addr, "INVITE", invitation, PROBE_SECONDS_MAX)
        except (Unreachable, ProtocolError) as error:
            raise MembershipError(
                f"node {nid} does not answer at {addr}; start it first, with -e naming a member"
            ) from error
        await self._settled(
            lambda: _has(self._member.committed_membership, nid, answer.incarnation)
        )

    async def _transfer(self, nid: str) -> dict[str, object]:
        self._member.begin_transfer(nid)
        try:
            await asyncio.wait_for(self._moved(), TRANSFER_SECONDS_MAX)
        except asyncio.TimeoutError as error:
            raise TryAgain("the leadership was not taken over in time") from error
        return {}

    async def _moved(self) -> None:
        while self._member.is_leader or not self._member.leader_nid:
            await self._member.changed()

    async def hand_over(self) -> None:
        """Give the leadership to the most caught-up voter, if there is another. Raises."""
        if len(self._member.membership.voters) > 1:
            self._member.begin_transfer("")
            await self._moved()

    async def _carry_out(self, op: str, nid: str, addr: str, incarnation: int) -> None:
        member = self._member
        index = member.propose_change(op, nid, addr, incarnation)
        await self._settled(lambda: member.commit >= index)

    async def _settled(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so`, which a committed entry brings about. Raises TryAgain."""
        member = self._member

        async def settled() -> None:
            while not is_so():
                if not member.is_leader:
                    raise TryAgain("the leadership moved; the change may still come to pass")
                await member.changed()

        try:
            await asyncio.wait_for(settled(), COMMIT_SECONDS_MAX)
        except asyncio.TimeoutError as error:
            raise TryAgain("no majority answered yet; the change may still come to pass") from error


def _has(membership: Membership, nid: str, incarnation: int) -> bool:
    found: Member | None = membership.get(nid)
    return found is not None and found.incarnation == incarnation
