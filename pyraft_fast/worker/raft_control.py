"""RAFT and pyraft's own control commands: membership, snapshots, the log, stopping.

They run on the node that was asked and are no log entries themselves. What takes a while comes
back as a future from the node, which serving awaits:

- `node.request_change(op, nid, addr)`: op is "add", "remove", "promote", "demote", "address"
- `node.request_transfer(nid)`: hand leadership over; "" lets the node choose
- `node.request_snapshot()`: write a snapshot; the result is True
- `node.read_log(start, end)`: entries of this node's log as a list of JSON-ready dicts, or a
  future of it; None for an open end
- `node.request_async(*words)`: run a command through the log
- `node.shutdown()`: stop this node, returning at once
- `node.shutdown_from_log(time_ms)`: stop too, unless the entry is from before this start
"""

from __future__ import annotations

import json
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.protocol.replies import Status
from pyraft_fast.worker.codes import freeze
from pyraft_fast.worker.words import (
    Words,
    arity_error,
    integer,
    option,
    positive,
    subcommand_error,
)

SHUTDOWN_ALL: Final = "raft.shutdown"
_PAGE_KEYS: Final = 100
_PAGE_KEYS_MAX: Final = 10_000

HELP: Final = (
    "RAFT INFO: state of this node as JSON",
    "RAFT LOG [start [end]]: entries of this node's log",
    "RAFT NODE ADD <nid> <host:port>: add a member (it learns first, then votes)",
    "RAFT NODE REMOVE <nid>: remove a member",
    "RAFT SNAPSHOT: write a snapshot here",
    "RAFT TRANSFER [nid]: hand leadership over",
    "RAFT SHUTDOWN ALL: stop every node",
)


def do_add_node(node: Any, words: Words) -> Any:
    """`ADD_NODE nid address`: adds a member to the cluster."""
    return node.request_change("add", str(words[1]), str(words[2]))


def do_del_node(node: Any, words: Words) -> Any:
    """`DEL_NODE nid`: removes a member from the cluster."""
    return node.request_change("remove", str(words[1]), "")


def do_checkpoint(node: Any, words: Words) -> Any:
    """`CHECKPOINT`: writes a snapshot and waits for it."""
    if len(words) > 1:
        raise CommandError("a client cannot name the snapshot's file; CHECKPOINT takes no words")
    return node.request_snapshot()


def do_bgsave(node: Any, words: Words) -> Status:
    """`BGSAVE [SCHEDULE]`: starts to write a snapshot."""
    if len(words) > 1 and option(words[1]) != "SCHEDULE":
        raise CommandError("syntax error")
    node.request_snapshot()
    return Status("Background saving started")


def do_lastsave(node: Any, words: Words) -> int:
    """`LASTSAVE`: when the last snapshot was written."""
    return int(node.info_facts().get("last_save_seconds", 0))


def do_shutdown(node: Any, words: Words) -> Any:
    """`SHUTDOWN [NOSAVE|SAVE]`: stops this node."""
    for word in words[1:]:
        if option(word) not in ("NOSAVE", "SAVE", "NOW", "FORCE"):
            raise CommandError("syntax error")
    node.shutdown()
    return {"quit": True}


def do_shutdown_all(node: Any, words: Words) -> bool:
    """Apply RAFT SHUTDOWN ALL: stop this node, unless the entry is an old one."""
    node.shutdown_from_log(node.store.now_ms)
    return True


def do_getlog(node: Any, words: Words) -> Any:
    """`GETLOG [start] [end]`: shows entries of this node's log."""
    return _log(node, words[1:])


def _log(node: Any, limits: Words) -> Any:
    start, end = ([positive(word) for word in limits] + [None, None])[:2]
    return node.read_log(start, end)


def do_getdump(node: Any, words: Words) -> list[Any]:
    """A page of the data: the cursor to go on from ("0": done), and a JSON object."""
    cursor = positive(words[1], "invalid cursor") if len(words) > 1 else 0
    count = integer(words[2]) if len(words) > 2 else _PAGE_KEYS
    if not 1 <= count <= _PAGE_KEYS_MAX:
        raise CommandError(f"count must be 1 to {_PAGE_KEYS_MAX}")
    store = node.store
    after, keys = store.scans.step("", store.data, store.version, cursor, count)
    page = {}
    for key in keys:
        value = store.find(key)
        if value is not None:
            page[str(key)] = freeze(value)[1]
    return [str(after), json.dumps(page, default=repr)]


def raft_info(node: Any) -> str:
    """RAFT INFO: pyraft's INFO keys and ours, as one JSON object."""
    facts = node.info_facts()
    names = "nid addr role state term index commit_index last_index leader_nid leader_addr cluster"
    shown = {name: facts.get(name) for name in names.split()}
    shown["last_checkpoint"] = facts.get("snapshot_index", 0)
    shown["peers"] = {
        member["nid"]: {name: value for name, value in member.items() if name != "nid"}
        for member in facts.get("members", [])
        if member["nid"] != facts.get("nid")
    }
    shown["wal"] = facts.get("wal", {})
    return json.dumps(shown, default=str)


def _raft_node(node: Any, words: Words) -> Any:
    name = option(words[2]) if len(words) > 2 else ""
    if name == "ADD" and len(words) == 5:
        return node.request_change("add", str(words[3]), str(words[4]))
    if name == "REMOVE" and len(words) == 4:
        return node.request_change("remove", str(words[3]), "")
    raise arity_error("raft|node")


def do_raft(node: Any, words: Words) -> Any:
    """`RAFT subcommand [argument ...]`: looks after the cluster."""
    name, size = option(words[1]), len(words)
    if name == "INFO" and size == 2:
        return raft_info(node)
    if name == "LOG" and size <= 4:
        return _log(node, words[2:])
    if name == "NODE":
        return _raft_node(node, words)
    if name == "SNAPSHOT" and size == 2:
        return node.request_snapshot()
    if name == "TRANSFER" and size <= 3:
        return node.request_transfer(str(words[2]) if size == 3 else "")
    if name == "SHUTDOWN" and size == 3 and option(words[2]) == "ALL":
        return node.request_async(SHUTDOWN_ALL)
    if name == "HELP" and size == 2:
        return [Status(line) for line in HELP]
    if name in ("INFO", "LOG", "SNAPSHOT", "TRANSFER", "SHUTDOWN", "HELP"):
        raise arity_error(f"raft|{name.lower()}")
    raise subcommand_error("raft", words[1])


TABLE: Final[dict[str, list[Any]]] = {
    "raft": [do_raft, "a", 1, 0],
    "add_node": [do_add_node, "a", 2, 2],
    "del_node": [do_del_node, "a", 1, 1],
    "checkpoint": [do_checkpoint, "a", 0, 0],
    "save": [do_checkpoint, "a", 0, 0],
    "bgsave": [do_bgsave, "a", 0, 1],
    "lastsave": [do_lastsave, "a", 0, 0],
    "shutdown": [do_shutdown, "a", 0, 0],
    SHUTDOWN_ALL: [do_shutdown_all, "e", 0, 0],
    "getlog": [do_getlog, "a", 0, 2],
    "getdump": [do_getdump, "r", 0, 2],
}
