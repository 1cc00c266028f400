"""CONFIG: a node's own settings, and the few of Redis that clients ask for.

`node.config_get()` returns the node's settings as {name: text}; `node.config_set(name, text)`
changes one or raises CommandError; `node.reset_stats()` zeroes the counters.
"""

from __future__ import annotations

from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.protocol.replies import Map, Status
from pyraft_fast.worker.words import Words, arity_error, glob, option, subcommand_error

# What Redis would answer to be used as this node can be used.
FIXED: Final = {
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "timeout": "0",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "replica-read-only": "no",
    "slave-read-only": "no",
    "cluster-enabled": "no",
    "notify-keyspace-events": "",
}


def do_config(node: Any, words: Words) -> Any:
    """`CONFIG <GET|SET|RESETSTAT> [argument ...]`: reads or changes settings."""
    name = option(words[1])
    if name == "GET" and len(words) > 2:
        return _get(node, words[2:])
    if name == "SET" and len(words) > 3 and len(words) % 2 == 0:
        return _set(node, words)
    if name == "RESETSTAT" and len(words) == 2:
        node.reset_stats()
        return True
    if name == "REWRITE" and len(words) == 2:
        raise CommandError("The server is running without a config file")
    if name == "HELP" and len(words) == 2:
        return [Status(f"CONFIG {line}") for line in ("GET <pattern>", "SET <name> <value>")]
    if name in ("GET", "SET", "RESETSTAT", "REWRITE", "HELP"):
        raise arity_error(f"config|{name.lower()}")
    raise subcommand_error("config", words[1])


def _get(node: Any, patterns: Words) -> Map:
    settings = {**FIXED, **node.config_get()}
    tests = [glob(str(pattern).lower()) for pattern in patterns]
    return Map(
        {name: value for name, value in settings.items() if any(test(name) for test in tests)}
    )


def _set(node: Any, words: Words) -> bool:
    pairs = [(str(words[at]).lower(), words[at + 1]) for at in range(2, len(words), 2)]
    own = node.config_get()
    for name, value in pairs:
        if name not in own and str(value) != FIXED.get(name):
            raise CommandError(
                f"Unknown option or number of arguments for CONFIG SET - '{name[:128]}'"
            )
    for name, value in pairs:
        if name in own:
            node.config_set(name, str(value))
    return True
