"""The front door under pyraft's module path: `RaftNode` and the command line every node shares.

A program of your own either calls `make_default_node()` or adds its flags to a parser first:

    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=float, default=5.0)
    args = raft.parse_default_args(parser)
    node = raft.RaftNode(args.nid, args.addr, args.ensemble_map, **raft.settings_of(args))
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from types import ModuleType
from typing import Any

from pyraft_fast import common
from pyraft_fast.address import check_nid, parse_address, parse_ensemble
from pyraft_fast.common import (
    CONF_LOG_FILE_MAX,
    CONF_LOG_MAX,
    CONF_PING_TIMEOUT,
    CONF_VOTING_TIME,
    ERROR_APPEND_ENTRY,
    ERROR_CAST,
    ERROR_INVALID_PARAM,
    ERROR_NOT_EXISTS,
    ERROR_TYPE,
    Future,
    RaftException,
    bytes_to_str,
    intcast,
)
from pyraft_fast.errors import ConfigError
from pyraft_fast.limits import MIB
from pyraft_fast.node import RaftNode
from pyraft_fast.read_level import parse_level
from pyraft_fast.version import VERSION

__all__ = [
    "CONF_LOG_FILE_MAX",
    "CONF_LOG_MAX",
    "CONF_PING_TIMEOUT",
    "CONF_VOTING_TIME",
    "ERROR_APPEND_ENTRY",
    "ERROR_CAST",
    "ERROR_INVALID_PARAM",
    "ERROR_NOT_EXISTS",
    "ERROR_TYPE",
    "Future",
    "RaftException",
    "RaftNode",
    "bytes_to_str",
    "intcast",
    "make_default_node",
    "parse_default_args",
    "settings_of",
]

LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
LOG_FILE_BYTES = 1 * MIB
LOG_FILES_KEPT = 10


def _checked(read: Any) -> Any:
    """Turn a reader that raises ConfigError into an argparse type with the same message."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _election_range(text: str) -> tuple[int, int]:
    """Read `MIN-MAX` or one number (then MAX is twice MIN), in milliseconds."""
    low, dash, high = text.partition("-")
    try:
        least = int(low)
        most = int(high) if dash else 2 * least
    except ValueError:
        raise ConfigError(f"{text!r} is not MIN-MAX in milliseconds, such as 300-600") from None
    if not 0 < least < most:
        raise ConfigError(f"{text!r}: MIN must be positive and below MAX, such as 300-600")
    return least, most


def add_default_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of a node; pyraft's spellings first, then ours."""
    own = parser.add_argument_group("node")
    own.add_argument(
        "-a",
        dest="addr",
        required=True,
        metavar="IP:PORT",
        type=_checked(lambda text: str(parse_address(text))),
        help="address other nodes and clients reach this node at; port + 1 is for nodes",
    )
    own.add_argument("-i", dest="nid", metavar="ID", help="node id (default: the address)")
    own.add_argument(
        "-e",
        dest="ensemble",
        metavar="LIST",
        help="other members, comma separated: [ID/]HOST:PORT (a name may stand for several)",
    )
    own.add_argument("-l", dest="load", metavar="FILE", help="start a new cluster from a snapshot")
    own.add_argument(
        "-o",
        dest="overwrite_peer",
        action="store_true",
        help="take over this id when a member with another address holds it",
    )
    own.add_argument("-loglevel", choices=list(LOG_LEVELS), default="info", help="default: info")
    own.add_argument("-logfile", metavar="FILE", help="also log to this file (10 of 1 MiB kept)")
    own.add_argument("--dir", dest="folder", default=".", help="folder of the log and snapshots")
    own.add_argument(
        "--bind", metavar="HOST", help="address to listen on when it is not the advertised one"
    )
    own.add_argument(
        "--reads",
        type=_checked(lambda text: str(parse_level(text))),
        default="linearizable",
        metavar="LEVEL",
        help="how current reads are: linearizable (default), lease, local or max-age:MS; "
        "connections may choose by CLIENT CONSISTENCY",
    )
    own.add_argument(
        "--fsync",
        choices=["always", "everysec", "never"],
        default="always",
        help="'everysec' and 'never' may lose acknowledged writes when machines lose power",
    )
    own.add_argument(
        "--digests",
        choices=["off", "sampled", "all"],
        default="sampled",
        help="entries whose effect nodes compare; 'all' also holds answers until a majority agrees",
    )
    own.add_argument("--heartbeat-ms", type=int, default=50, metavar="MS", help="default: 50")
    own.add_argument(
        "--election-ms",
        type=_checked(_election_range),
        default=(300, 600),
        metavar="MIN-MAX",
        help="election timeout, drawn at random (default: 300-600)",
    )
    own.add_argument(
        "--log-max", type=int, metavar="N",
        help="commands between snapshots (default: 100000, and a log as large as the data)",
    )  # fmt: skip
    own.add_argument("--requirepass", metavar="PASSWORD", help="clients must AUTH with this")
    own.add_argument("--version", action="version", version=f"pyraft-fast {VERSION}")


def parse_default_args(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Add a node's flags to `parser`, parse, and set up logging as `-loglevel`/`-logfile` say.

    Returns the namespace with `nid` filled in and `ensemble_map` ({nid: "host:port"}) added.
    Usage errors end the program with status 2, as argparse does.
    """
    add_default_flags(parser)
    args = parser.parse_args(argv)
    try:
        args.ensemble_map = parse_ensemble(args.ensemble)
        if args.nid is None:
            args.nid = args.addr
        elif args.nid == "HOSTNAME":
            args.nid = socket.gethostname()
        check_nid(args.nid)
        if args.heartbeat_ms <= 0 or args.election_ms[0] < 3 * args.heartbeat_ms:
            raise ConfigError(
                f"--election-ms {args.election_ms[0]}-{args.election_ms[1]} must start at three "
                f"times --heartbeat-ms {args.heartbeat_ms} or more"
            )
    except ConfigError as error:
        parser.error(str(error))
    configure_logging(args.loglevel, args.logfile)
    return args


class LineFormatter(logging.Formatter):
    """pyraft's lines: `[INFO][1-2(l):2026-11-23 20:51:00.123456] text`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line (and a traceback behind it, if there is one)."""
        stamp = datetime.fromtimestamp(record.created).isoformat(" ", "microseconds")
        text = super().format(record)
        node = getattr(record, "node", None)
        if node is None:
            return f"[{record.levelname}][{record.name}:{stamp}] {text}"
        return f"[{record.levelname}][{node}:{stamp}] {text[len(node) + 3 :]}"


def configure_logging(level: str, file_name: str | None) -> None:
    """Send the package's log lines to standard error and, when named, to a rotating file."""
    logger = logging.getLogger("pyraft_fast")
    logger.setLevel(LOG_LEVELS[level])
    form = LineFormatter()
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file_name:
        try:
            handlers.append(
                logging.handlers.RotatingFileHandler(
                    file_name, maxBytes=LOG_FILE_BYTES, backupCount=LOG_FILES_KEPT
                )
            )
        except OSError as error:
            raise SystemExit(f"pyraft-fast: cannot log to {file_name}: {error.strerror}") from None
    for handler in handlers:
        handler.setFormatter(form)
        logger.addHandler(handler)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of RaftNode that the parsed flags stand for."""
    return {
        "overwrite_peer": args.overwrite_peer,
        "folder": args.folder,
        "bind": args.bind,
        "reads": args.reads,
        "fsync": args.fsync,
        "digests": args.digests,
        "heartbeat_ms": args.heartbeat_ms,
        "election_ms": args.election_ms,
        "log_max": args.log_max,
        "password": args.requirepass,
    }


def make_default_node(
    parser: argparse.ArgumentParser | None = None, argv: Sequence[str] | None = None
) -> RaftNode:
    """Build the node that the command line asks for, not yet started.

    `parser` may hold flags of your own; what was parsed is kept as `node.args`.
    """
    if parser is None:
        parser = argparse.ArgumentParser(description="A node of a replicated Redis-like store.")
    args = parse_default_args(parser, argv)
    node = RaftNode(args.nid, args.addr, args.ensemble_map, **settings_of(args))
    node.args = args
    if args.load:
        node.load(args.load)
    return node


class _Front(ModuleType):
    """Lets a program say `raft.CONF_LOG_MAX = 1000`: the value is read from `common`."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name.startswith("CONF_"):
            setattr(common, name, value)


sys.modules[__name__].__class__ = _Front
