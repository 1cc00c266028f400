"""INFO and ROLE: facts of the node, in the lines Redis tools read.

The facts come as one dict from `node.info_facts()`; a missing one shows its neutral value.

- version (str), nid (str), addr ("host:port"), run_id (40 hex digits), cluster (int)
- uptime_seconds, connected_clients, clients_max, connections_total, commands_total,
  connections_rejected, input_bytes, output_bytes, commands_per_second, used_memory (int)
- loading (bool), fsync (str), reads (str), password (bool)
- last_save_seconds (int, epoch), saving (bool), last_save_ok (bool), log_commands (int, since the
  last snapshot), snapshot_index (int)
- role ("leader", "follower", "candidate", "learner", "joining", "removed"), state (one letter),
  term, index (last applied), commit_index, last_index, leader_nid, leader_addr
- voters, learners: lists of ids; members: list of dicts with nid, addr, role, contact_ms, and on
  a leader match, lag, state, inflight_bytes (sent ahead of answers), queued_bytes (of the link)
- reads_linearizable, reads_lease, reads_max-age, reads_local (int): reads that were let through at
  that level; one with an age that needed a round counts as linearizable
- digests (mode), digests_count (entries), digests_agreed, digests_agreed_by_all (indexes up to
  which a majority or all voters are known to have the same data), digests_differing: list of ids
- wal: dict of plain values, shown as wal_<name>
- callbacks_failed, handlers_failed (int)
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any, Final

from pyraft_fast.worker.words import Words

# Lines of the raft section, and the fact that each shows.
_RAFT_LINES: Final = {
    "node_id": "nid",
    "role": "role",
    "state": "state",
    "term": "term",
    "leader_id": "leader_nid",
    "leader_addr": "leader_addr",
    "commit_index": "commit_index",
    "applied_index": "index",
    "last_index": "last_index",
    "snapshot_index": "snapshot_index",
    "cluster_id": "cluster",
    "fsync": "fsync",
    "reads": "reads",
    "reads_linearizable": "reads_linearizable",
    "reads_lease": "reads_lease",
    "reads_max_age": "reads_max-age",
    "reads_local": "reads_local",
    "pending_batches": "pending_batches",
    "consensus_pid": "consensus_pid",
    "consensus_restarts": "consensus_restarts",
    "digests": "digests",
    "digests_count": "digests_count",
    "digests_agreed": "digests_agreed",
    "digests_agreed_by_all": "digests_agreed_by_all",
}
REDIS_VERSION: Final = "7.0.15"  # whose commands, errors and reply shapes ours are held against
Facts = Mapping[str, Any]


def do_info(node: Any, words: Words) -> str:
    """`INFO [section ...]`: tells about this node."""
    wanted = [str(word).lower() for word in words[1:]]
    every = not wanted or bool({"all", "default", "everything"} & set(wanted))
    facts = node.info_facts()
    parts = [
        f"# {name.capitalize()}\r\n" + "".join(f"{k}:{v}\r\n" for k, v in build(node, facts))
        for name, build in SECTIONS.items()
        if every or name in wanted
    ]
    return "\r\n".join(parts)


def split_addr(addr: str) -> tuple[str, int]:
    """("host", port) of "host:port"; ("", 0) for an empty text."""
    host, _, port = str(addr).rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


def is_leader(facts: Facts) -> bool:
    """Whether the node leads, as far as its serving side knows."""
    return facts.get("role") == "leader"


def is_removed(facts: Facts) -> bool:
    """Whether the node is out of the cluster for good."""
    return facts.get("role") == "removed"


def _server(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    uptime = int(facts.get("uptime_seconds", 0))
    return [
        ("redis_version", REDIS_VERSION),
        ("pyraft_fast_version", facts.get("version", "")),
        ("redis_mode", "standalone"),
        ("os", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("arch_bits", 64),
        ("process_id", facts.get("process_id", 0)),
        ("run_id", facts.get("run_id", "0" * 40)),
        ("tcp_port", split_addr(facts.get("addr", ""))[1]),
        ("python_version", platform.python_version()),
        ("uptime_in_seconds", uptime),
        ("uptime_in_days", uptime // 86400),
    ]


def _clients(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    return [
        ("connected_clients", facts.get("connected_clients", 0)),
        ("maxclients", facts.get("clients_max", 0)),
        ("blocked_clients", 0),
    ]


def _memory(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    used = int(facts.get("used_memory", 0))
    return [
        ("used_memory", used),
        ("used_memory_human", f"{used / 1048576:.2f}M"),
        ("used_memory_rss", used),
        ("maxmemory", 0),
        ("maxmemory_policy", "noeviction"),
    ]


def _persistence(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    lines = [
        ("loading", int(bool(facts.get("loading", False)))),
        ("rdb_changes_since_last_save", facts.get("log_commands", 0)),
        ("rdb_bgsave_in_progress", int(bool(facts.get("saving", False)))),
        ("rdb_last_save_time", facts.get("last_save_seconds", 0)),
        ("rdb_last_bgsave_status", "ok" if facts.get("last_save_ok", True) else "err"),
        ("aof_enabled", 1),
        ("fsync", facts.get("fsync", "always")),
        ("snapshot_index", facts.get("snapshot_index", 0)),
    ]
    return lines + [(f"wal_{name}", value) for name, value in facts.get("wal", {}).items()]


def _stats(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    return [
        ("total_connections_received", facts.get("connections_total", 0)),
        ("total_commands_processed", facts.get("commands_total", 0)),
        ("instantaneous_ops_per_sec", facts.get("commands_per_second", 0)),
        ("total_net_input_bytes", facts.get("input_bytes", 0)),
        ("total_net_output_bytes", facts.get("output_bytes", 0)),
        ("rejected_connections", facts.get("connections_rejected", 0)),
        ("handlers_failed", facts.get("handlers_failed", 0)),
        ("callbacks_failed", facts.get("callbacks_failed", 0)),
    ]


def _replication(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    others = [member for member in facts.get("members", []) if member["nid"] != facts.get("nid")]
    index = facts.get("index", 0)
    if is_leader(facts):
        lines: list[tuple[str, Any]] = [("role", "master"), ("connected_slaves", len(others))]
        for at, member in enumerate(others):
            host, port = split_addr(member["addr"])
            lag = max(0, int(member.get("contact_ms", 0))) // 1000
            offset = member.get("match", 0)
            line = f"ip={host},port={port},state=online,offset={offset},lag={lag}"
            lines.append((f"slave{at}", line))
    else:
        host, port = split_addr(facts.get("leader_addr", ""))
        lines = [
            ("role", "slave"),
            ("master_host", host),
            ("master_port", port),
            ("master_link_status", "up" if facts.get("leader_nid") else "down"),
            ("slave_repl_offset", index),
            ("slave_read_only", 0),
            ("connected_slaves", 0),
        ]
    return [*lines, ("master_repl_offset", facts.get("commit_index", index))]


def _raft(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    lines = [(f"raft_{shown}", facts.get(name, "")) for shown, name in _RAFT_LINES.items()]
    for name in ("voters", "learners", "digests_differing"):
        lines.append((f"raft_{name}", ",".join(facts.get(name, []))))
    others = [member for member in facts.get("members", []) if member["nid"] != facts.get("nid")]
    for at, member in enumerate(others):
        shown = ",".join(f"{name}={value}" for name, value in member.items())
        lines.append((f"raft_peer{at}", shown))
    return lines


def _keyspace(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    count = node.store.live_count()
    expires = len(node.store.deadlines)
    return [("db0", f"keys={count},expires={expires},avg_ttl=0")] if count else []


def _cluster(node: Any, facts: Facts) -> list[tuple[str, Any]]:
    return [("cluster_enabled", 0)]


SECTIONS: Final = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "raft": _raft,
    "cluster": _cluster,
    "keyspace": _keyspace,
}


def do_role(node: Any, words: Words) -> list[Any]:
    """`ROLE`: tells whether this node leads."""
    facts = node.info_facts()
    index = int(facts.get("index", 0))
    if not is_leader(facts):
        host, port = split_addr(facts.get("leader_addr", ""))
        link = "connected" if facts.get("leader_nid") else "connect"
        return ["slave", host, port, "removed" if is_removed(facts) else link, index]
    replicas = []
    for member in facts.get("members", []):
        if member["nid"] != facts.get("nid"):
            host, port = split_addr(member["addr"])
            replicas.append([host, str(port), str(member.get("match", 0))])
    return ["master", index, replicas]
