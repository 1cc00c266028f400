"""The figures of a member for INFO, all from memory."""

from __future__ import annotations

import asyncio

from pyraft_fast.consensus.diskwork import WalStats
from pyraft_fast.consensus.driver import Driver
from pyraft_fast.consensus.identity import Identity


def status_of(driver: Driver, me: Identity, fsync: str, wal: WalStats) -> dict[str, object]:
    """One map; `lag` counts entries, `contact_ms` is since the last frame (-1: never).

    What a peer costs: `inflight_bytes` of entries sent ahead of its answers, and `queued_bytes` of
    the link to it that the kernel has not taken yet.
    """
    raft = driver.raft
    membership = raft.membership
    return {
        "role": driver.role,
        "term": raft.term,
        "leader": raft.leader,
        "leader_addr": driver.address_of(raft.leader),
        "commit": raft.log.commit,
        "last": raft.log.last,
        "first": raft.log.first,
        "published": driver.publisher.published,
        "snapshot_index": 0 if driver.snapshot is None else driver.snapshot.index,
        "voters": [member.nid for member in membership.voters],
        "learners": [member.nid for member in membership.learners],
        "peers": _peers(driver, me),
        "fsync": fsync,
        "wal": wal._asdict(),
        "cluster": me.cluster,
        "incarnation": me.incarnation,
    }


def _peers(driver: Driver, me: Identity) -> list[dict[str, object]]:
    raft = driver.raft
    now = asyncio.get_running_loop().time()
    peers: list[dict[str, object]] = []
    for member in raft.membership.members:
        if member.nid == me.nid:
            continue
        heard = driver.heard.get(member.nid)
        peer: dict[str, object] = {
            "nid": member.nid,
            "addr": member.addr,
            "role": member.role,
            "contact_ms": -1 if heard is None else int((now - heard) * 1000),
        }
        progress = raft.progress.get(member.nid)
        if progress is not None:
            peer["match"] = progress.match
            peer["lag"] = max(raft.log.last - progress.match, 0)
            peer["state"] = progress.state
            peer["inflight_bytes"] = progress.inflight_bytes
            peer["queued_bytes"] = driver.queued_bytes(member.nid)
        peers.append(peer)
    return peers
