"""pyraft-fast: a replicated, linearizable state machine that speaks the Redis protocol.

from pyraft_fast import raft

node = raft.make_default_node()
node.worker.handler["cas"] = [do_cas, "we", 3, 3]
node.start()
node.join()

The names below are loaded when they are first used: the consensus process imports this package
too, and must not load the serving side with it.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyraft_fast.version import VERSION as __version__

if TYPE_CHECKING:
    from pyraft_fast.common import Future
    from pyraft_fast.errors import RaftException
    from pyraft_fast.node import RaftNode
    from pyraft_fast.raft import make_default_node, parse_default_args

__all__ = [
    "Future",
    "RaftException",
    "RaftNode",
    "__version__",
    "make_default_node",
    "parse_default_args",
]

_HOMES = {
    "Future": "common",
    "RaftException": "errors",
    "RaftNode": "node",
    "make_default_node": "raft",
    "parse_default_args": "raft",
}

logging.getLogger("pyraft_fast").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pyraft_fast' has no attribute {name!r}")
    return getattr(import_module(f"pyraft_fast.{home}"), name)
