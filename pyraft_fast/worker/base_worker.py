"""The control worker: what a node answers about itself, and pyraft's control commands.

Rows with flag `a` run at once on the node that was asked. Commands about the connection itself
(HELLO, AUTH, CLIENT, SELECT, RESET, QUIT) belong to serving, which lists them in `extra_rows`
so that COMMAND shows them.
"""

from __future__ import annotations

import sys
import time
from itertools import islice
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.protocol.replies import Status, Verbatim
from pyraft_fast.version import VERSION
from pyraft_fast.worker import raft_control
from pyraft_fast.worker.cluster import do_cluster
from pyraft_fast.worker.command import do_command
from pyraft_fast.worker.config import do_config
from pyraft_fast.worker.info import do_info, do_role
from pyraft_fast.worker.words import Words, arity_error, option, positive, subcommand_error
from pyraft_fast.worker.worker import RespProtocol, Worker

_SAMPLES: Final = 5


def do_ping(node: Any, words: Words) -> Any:
    """`PING [message]`: returns PONG or the message."""
    return words[1] if len(words) > 1 else Status("PONG")


def do_echo(node: Any, words: Words) -> Any:
    """`ECHO message`: returns the message."""
    return words[1]


def do_time(node: Any, words: Words) -> list[str]:
    """`TIME`: this node's clock."""
    # This node's own clock, for people and health checks: no log entry ever sees it.
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return [str(seconds), str(nanoseconds // 1000)]


def do_wait(node: Any, words: Words) -> int:
    """Others that surely hold every write acknowledged so far: a majority less this node."""
    positive(words[1])
    positive(words[2], "timeout is negative")
    voters = [m for m in node.info_facts().get("members", []) if m.get("role") != "learner"]
    return len(voters) // 2


def do_ok(node: Any, words: Words) -> bool:
    """`READONLY`: accepted; every node answers reads."""
    return True


def do_sentinel(node: Any, words: Words) -> Any:
    """`SENTINEL subcommand ...`: refused; this is no Sentinel."""
    raise CommandError("this is a data node, not a Sentinel")


def do_debug(node: Any, words: Words) -> Any:
    """`DEBUG subcommand ...`: refused."""
    raise CommandError("DEBUG command not allowed")


def do_lolwut(node: Any, words: Words) -> Verbatim:
    """`LOLWUT [VERSION version]`: shows the version."""
    return Verbatim(f"One log, many nodes.\npyraft-fast ver. {VERSION}\n")


def do_memory(node: Any, words: Words) -> Any:
    """`MEMORY <USAGE|HELP> [argument ...]`: estimates the memory of a key."""
    name = option(words[1])
    if name == "HELP":
        return [Status("MEMORY USAGE <key> [SAMPLES <count>]")]
    if name != "USAGE":
        raise subcommand_error("memory", words[1])
    if len(words) not in (3, 5):
        raise arity_error("memory|usage")
    samples = _SAMPLES
    if len(words) == 5:
        if option(words[3]) != "SAMPLES":
            raise CommandError("syntax error")
        samples = positive(words[4])
    value = node.store.find(words[2])
    if value is None:
        return None
    return sys.getsizeof(words[2]) + _bytes_of(value, samples or sys.maxsize)


def _bytes_of(value: Any, samples: int) -> int:
    """About how much memory a value takes, judged by its first `samples` elements."""
    own = sys.getsizeof(value)
    if isinstance(value, (str, bytes, int, float)):
        return own
    size = len(value) if hasattr(value, "__len__") else 0
    if not size:
        return own
    if isinstance(value, dict):
        parts = [sys.getsizeof(k) + _bytes_of(v, 1) for k, v in islice(value.items(), samples)]
    else:
        parts = [_bytes_of(part, 1) for part in islice(value, samples)]
    per_slot = 100 if hasattr(value, "items") else 8
    return own + size * (per_slot + sum(parts) // len(parts))


TABLE: Final[dict[str, list[Any]]] = {
    "ping": [do_ping, "a", 0, 1],
    "echo": [do_echo, "a", 1, 1],
    "time": [do_time, "a", 0, 0],
    "info": [do_info, "a", 0, 0],
    "role": [do_role, "a", 0, 0],
    "command": [do_command, "a", 0, 0],
    "config": [do_config, "a", 1, 0],
    "cluster": [do_cluster, "a", 1, 0],
    "wait": [do_wait, "a", 2, 2],
    "readonly": [do_ok, "a", 0, 0],
    "readwrite": [do_ok, "a", 0, 0],
    "sentinel": [do_sentinel, "a", 0, 0],
    "debug": [do_debug, "a", 1, 0],
    "lolwut": [do_lolwut, "a", 0, 0],
    "memory": [do_memory, "r", 1, 0],
}


class BaseWorker(Worker):
    """Control commands; part of every node's default worker."""

    def __init__(self, addr: str | None = None) -> None:
        super().__init__(addr)
        self.handler.update(TABLE)
        self.handler.update(raft_control.TABLE)
        self.set_protocol(RespProtocol())
