"""CLUSTER: the group as one shard, so that clients with topology discovery find every node.

The leader shows as the master of all 16384 slots and the others as its replicas. Every node
takes every command, so a client that ignores this loses nothing.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.protocol.replies import Map, Status
from pyraft_fast.worker.info import Facts, is_removed, split_addr
from pyraft_fast.worker.words import Words, arity_error, integer, option, raw, subcommand_error

SLOTS: Final = 16384
_PEER_PORT_STEP: Final = 1


def slot_of(key: str) -> int:
    """The slot of a key: CRC16 (XMODEM) of the key, or of what stands in its first braces."""
    data = raw(str(key))
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return binascii.crc_hqx(data, 0) % SLOTS


def node_id(nid: str) -> str:
    """The 40 hex digits by which CLUSTER names a node."""
    return hashlib.sha1(raw(str(nid)), usedforsecurity=False).hexdigest()


def _members(facts: Facts) -> list[dict[str, Any]]:
    """The members, the one to show as master first: the leader, or this node without one."""
    members = list(facts.get("members", []))
    if not members:
        members = [{"nid": facts.get("nid", ""), "addr": facts.get("addr", "")}]
    first = facts.get("leader_nid") or facts.get("nid")
    return sorted(members, key=lambda member: (member["nid"] != first, member["nid"]))


def _slots(node: Any, words: Words) -> list[Any]:
    nodes = []
    for member in _members(node.info_facts()):
        host, port = split_addr(member["addr"])
        nodes.append([host, port, node_id(member["nid"]), []])
    return [[0, SLOTS - 1, *nodes]]


def _shards(node: Any, words: Words) -> list[Any]:
    facts = node.info_facts()
    nodes = []
    for at, member in enumerate(_members(facts)):
        host, port = split_addr(member["addr"])
        nodes.append(
            Map(
                {
                    "id": node_id(member["nid"]),
                    "port": port,
                    "ip": host,
                    "endpoint": host,
                    "role": "replica" if at else "master",
                    "replication-offset": int(member.get("match", facts.get("index", 0)) or 0),
                    "health": "online",
                }
            )
        )
    return [Map({"slots": [0, SLOTS - 1], "nodes": nodes})]


def _nodes(node: Any, words: Words) -> str:
    facts = node.info_facts()
    members = _members(facts)
    master = node_id(members[0]["nid"])
    lines = []
    for at, member in enumerate(members):
        host, port = split_addr(member["addr"])
        flags = "slave" if at else "master"
        if member["nid"] == facts.get("nid"):
            flags = f"myself,{flags}"
        own, parent = node_id(member["nid"]), master if at else "-"
        line = f"{own} {host}:{port}@{port + _PEER_PORT_STEP} {flags} {parent} 0 0 "
        lines.append(f"{line}{facts.get('term', 0)} connected" + ("" if at else " 0-16383"))
    if is_removed(facts):
        host, port = split_addr(facts.get("addr", ""))
        line = f"{node_id(facts['nid'])} {host}:{port}@{port + _PEER_PORT_STEP}"
        lines.append(f"{line} myself,slave,fail - 0 0 {facts.get('term', 0)} disconnected")
    return "\n".join(lines) + "\n"


def _info(node: Any, words: Words) -> str:
    facts = node.info_facts()
    state = "ok" if facts.get("leader_nid") else "fail"
    return (
        f"cluster_enabled:0\r\ncluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\n"
        f"cluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n"
        f"cluster_known_nodes:{len(_members(facts))}\r\ncluster_size:1\r\n"
        f"cluster_current_epoch:{facts.get('term', 0)}\r\n"
        f"cluster_my_epoch:{facts.get('term', 0)}\r\n"
        f"cluster_my_role:{facts.get('role', '')}\r\n"
    )


def _myid(node: Any, words: Words) -> str:
    return node_id(node.nid)


def _keyslot(node: Any, words: Words) -> int:
    return slot_of(words[2])


def _count_keys(node: Any, words: Words) -> int:
    slot = integer(words[2])
    if not 0 <= slot < SLOTS:
        raise CommandError("Invalid slot")
    return sum(slot_of(key) == slot for key in node.store.live_keys())


def _help(node: Any, words: Words) -> list[Status]:
    return [Status(f"CLUSTER {name}") for name in SUBCOMMANDS]


SUBCOMMANDS: Final[dict[str, tuple[Any, int]]] = {
    "SLOTS": (_slots, 2),
    "SHARDS": (_shards, 2),
    "NODES": (_nodes, 2),
    "INFO": (_info, 2),
    "MYID": (_myid, 2),
    "KEYSLOT": (_keyslot, 3),
    "COUNTKEYSINSLOT": (_count_keys, 3),
    "HELP": (_help, 2),
}


def do_cluster(node: Any, words: Words) -> Any:
    """`CLUSTER subcommand [argument ...]`: the group as one Redis Cluster shard."""
    found = SUBCOMMANDS.get(option(words[1]))
    if found is None:
        raise subcommand_error("cluster", words[1])
    function, size = found
    if len(words) != size:
        raise arity_error(f"cluster|{str(words[1]).lower()}")
    return function(node, words)
