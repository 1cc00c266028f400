"""The facts INFO and its relatives show, gathered from what the serving loop already knows.

Nothing here asks or waits: consensus' own facts are those of its last status, at most a second
old. The keys are documented in `worker.info`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from pyraft_fast.limits import CLIENTS_MAX
from pyraft_fast.serving.host import Host
from pyraft_fast.serving.members import Member
from pyraft_fast.serving.removal import REMOVED
from pyraft_fast.serving.roles import LETTERS
from pyraft_fast.serving.settings import Settings
from pyraft_fast.version import VERSION

if TYPE_CHECKING:
    from pyraft_fast.serving.service import Service

PROGRESS: Final = ("match", "lag", "contact_ms", "state", "inflight_bytes", "queued_bytes")


def memory_bytes() -> int:
    """Resident memory of this process; 0 where /proc cannot tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def known_members(service: Service) -> list[Member]:
    """Everyone in the cluster; a removed node is not, though its log never says so."""
    is_out = service.role.role == REMOVED
    nid = service.settings.nid
    return [m for m in service.applier.members.members if not (is_out and m.nid == nid)]


def members_of(service: Service) -> list[dict[str, Any]]:
    """Everyone in the cluster, with what a leader knows of their progress."""
    peers = {peer.get("nid"): peer for peer in service.status.get("peers", [])}
    listed = []
    for member in known_members(service):
        shown: dict[str, Any] = {"nid": member.nid, "addr": member.addr, "role": member.role}
        progress = peers.get(member.nid, {})
        for name in PROGRESS:
            if name in progress:
                shown[name] = progress[name]
        listed.append(shown)
    return listed


def gather(host: Host, settings: Settings, service: Service | None) -> dict[str, Any]:
    """One flat dict; without a service only what is known before the start."""
    found: dict[str, Any] = {
        "version": VERSION,
        "nid": settings.nid,
        "addr": settings.addr,
        "clients_max": CLIENTS_MAX,
        "process_id": os.getpid(),
        "fsync": settings.fsync,
        "reads": settings.reads,
        "password": settings.password is not None,
        "used_memory": memory_bytes(),
        "role": "joining",
        "state": "c",
    }
    if service is None:
        return found
    role, stats, writer, status = service.role, service.desk.stats, service.writer, service.status
    members = known_members(service)
    found.update(
        run_id=f"{service.applier.incarnation:020x}{os.getpid():020x}"[-40:],
        cluster=service.cluster or status.get("cluster", 0),
        incarnation=service.applier.incarnation,
        uptime_seconds=int(time.monotonic() - service.born),
        connected_clients=len(service.desk.clients),
        connections_total=stats.connections,
        connections_rejected=stats.rejected,
        commands_total=stats.commands,
        commands_per_second=stats.per_second,
        input_bytes=stats.bytes_in,
        output_bytes=stats.bytes_out,
        handlers_failed=sum(service.rows.failures.values()),
        callbacks_failed=service.callbacks.failures,
        loading=service.desk.loading,
        last_save_seconds=service.snapshot_seconds,
        saving=writer.busy,
        last_save_ok=not writer.last_error,
        log_commands=service.applier.commands,
        snapshot_index=service.snapshot_index,
        role=role.role,
        state=LETTERS.get(role.role, "c"),
        term=role.term,
        index=service.applier.index,
        commit_index=max(service.applier.index, int(status.get("commit", 0) or 0)),
        last_index=int(status.get("last", 0) or 0),
        leader_nid=role.leader_nid,
        leader_addr=role.leader_addr,
        serving=role.serving,
        members=members_of(service),
        voters=[member.nid for member in members if member.role == "voter"],
        learners=[member.nid for member in members if member.role != "voter"],
        wal=status.get("wal", {}),
        consensus_pid=service.consensus.pid if service.consensus is not None else 0,
        consensus_restarts=service.restarts.total,
        **{f"reads_{level}": count for level, count in service.gate.reads.items()},
        pending_batches=service.proposer.pending_batches,
        **service.guard.facts(),
    )
    return found
