"""A node with files comes back, perhaps at another address: it finds the members and tells them.

The log knows the members, but not where they are after a restart of everything (pods that got new
addresses). So the listed addresses are asked who lives there now, links dial those places, and once
a leader can be asked, this node's own address is put right in the membership, through the log.
Later, too, the list is asked whenever a member is out of reach: both may have moved at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, Protocol

from pyraft_fast.consensus.control import Control
from pyraft_fast.consensus.dialing import Unreachable, ask, look_up
from pyraft_fast.consensus.driver import Driver
from pyraft_fast.consensus.identity import Identity
from pyraft_fast.consensus.joining import (
    JOIN_SECONDS_MAX,
    PROBE_SECONDS_MAX,
    ask_leader,
    read_answer,
)
from pyraft_fast.consensus.peers import PeerLinks
from pyraft_fast.consensus.settings import Settings
from pyraft_fast.core.work import Role
from pyraft_fast.errors import (
    ClusterDown,
    MembershipError,
    ProtocolError,
    RaftException,
    TryAgain,
)

AGAIN_SECONDS: Final = 1.0


class Announcer(Protocol):
    """What is needed of the node."""

    @property
    def identity(self) -> Identity: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def links(self) -> PeerLinks: ...
    def log(self, level: int, text: str) -> None: ...


async def announce(driver: Driver, control: Control, node: Announcer) -> None:
    """Have the members know this node at its address, and look for those that are not found there.

    Returns when this node is removed, or refused for good.
    """
    rng = random.Random()
    is_told = False
    while driver.raft.role != Role.REMOVED:
        me = driver.raft.membership.get(node.identity.nid)
        if me is not None and me.addr == node.identity.addr and driver.raft.leader:
            is_told = True
        try:
            if not (is_told and _reaches_all(driver, node)):
                await _find_members(driver, node)
            # Without a leader, too: it may be one that this node has never heard of, and that looks
            # for it at its old address.
            is_moved = me is None or me.addr != node.identity.addr
            if not is_told and (driver.raft.leader or is_moved):
                await _tell_leader(driver, control, node)
                is_told = True
        except (Unreachable, ProtocolError, TryAgain, ClusterDown) as error:
            node.log(logging.DEBUG, f"address not announced yet: {error}")
        except RaftException as error:
            node.log(logging.ERROR, f"the cluster does not take this node: {error}")
            return
        await asyncio.sleep(AGAIN_SECONDS * rng.uniform(0.5, 1.5))


def _reaches_all(driver: Driver, node: Announcer) -> bool:
    nids = [member.nid for member in driver.raft.membership.members]
    return all(node.links.is_up(nid) for nid in nids if nid != node.identity.nid)


async def _tell_leader(driver: Driver, control: Control, node: Announcer) -> None:
    args: dict[str, object] = {
        "cluster": node.identity.cluster,
        "nid": node.identity.nid,
        "addr": node.identity.addr,
        "incarnation": node.identity.incarnation,
        "overwrite": False,
    }
    if driver.raft.leader:
        await control.ask_leader("JOIN", args)
        return
    last: RaftException = Unreachable("no other member answers")
    known = [m.addr for m in driver.raft.membership.members if m.nid != node.identity.nid]
    listed = [address for _, address in node.settings.ensemble]
    for address in dict.fromkeys([*listed, *known]):
        try:
            await ask_leader(address, "JOIN", args, JOIN_SECONDS_MAX)
            return
        except (Unreachable, ProtocolError, TryAgain, ClusterDown) as error:
            last = error
    raise last


async def _find_members(driver: Driver, node: Announcer) -> None:
    """Ask the listed addresses who lives there, and dial members where they are now."""
    for _, text in node.settings.ensemble:
        try:
            for address in await look_up(text):
                answer = read_answer(await ask(address, "PROBE", {}, PROBE_SECONDS_MAX))
                member = driver.raft.membership.get(answer.nid)
                if (
                    member is not None
                    and answer.cluster == node.identity.cluster
                    and answer.incarnation == member.incarnation
                    and answer.addr != member.addr
                ):
                    node.links.hint(answer.nid, answer.addr)
        except (Unreachable, ProtocolError, MembershipError, TryAgain):
            continue
