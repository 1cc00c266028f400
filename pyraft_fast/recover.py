"""`pyraft-fast recover`: what it asks, what it says, and nothing it does without a yes.

The work is `consensus.rescue`'s. Here a person is told what the files hold and what may be lost,
and has to agree: by `--yes`, or by typing the node's id at a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import socket
import time
from collections.abc import Sequence
from typing import Final, TextIO

from pyraft_fast.address import check_nid, parse_address
from pyraft_fast.consensus import rescue
from pyraft_fast.consensus.rescue import Survivor
from pyraft_fast.errors import ConfigError, StartError
from pyraft_fast.storage.lock import lock_folder

DESCRIPTION: Final = """\
Make a cluster of one out of the files of a node that survived, when a majority of its cluster is
lost for good. Nothing else can help then, and nothing else needs this: as long as a majority can
be started again, start it, and remove the dead members with `raft node remove`.

Writes that other members acknowledged and this node never received are gone. Run with --dry-run on
every survivor, and recover the one with the highest last term, then the highest last index. The
node must be stopped. Its old files are kept in a folder beside the new ones.
"""
EPILOG: Final = """\
After it, start the node as always, without -e. Every other node, an old member too, must join it
with an empty folder and -e; old members with their files are refused by name.

exit status: 0 done (or --dry-run said what would be done); 1 nothing was done, or an interrupted
run has to be repeated: the reason is the last line; 2 flags that cannot be used.
"""
STOP_IT: Final = "stop it first"


def run(argv: Sequence[str], out: TextIO, terminal: TextIO | None = None) -> int:
    """Carry out the command; returns the exit status. `terminal` answers prompts, if it is one.

    Raises StartError and StorageError when it cannot or must not be done, ConfigError for flags.
    """
    args = _parser().parse_args(argv)
    addr = str(parse_address(args.addr)) if args.addr else ""
    nid = _which_node(args.folder, args.nid)
    lock = lock_folder(args.folder, nid, advice=STOP_IT, traceless=args.dry_run)
    try:
        if rescue.is_unfinished(args.folder, nid):
            out.write(f"An interrupted recover of node {nid} in {args.folder} can be finished.\n")
            if not args.dry_run:
                _confirm(nid, args.yes, out, terminal)
                _say_done(args.folder, nid, rescue.finish(args.folder, nid), out)
            return 0
        survivor = rescue.examine(args.folder, nid)
        addr = addr or (survivor.me.addr if survivor.me is not None else "")
        if not addr:
            raise ConfigError(f"node {nid} is no member in its own files; give its address with -a")
        out.write(report(survivor, addr))
        if args.dry_run:
            out.write("\nDry run: nothing was changed.\n")
            return 0
        _confirm(nid, args.yes, out, terminal)
        cluster = random.SystemRandom().getrandbits(64) | 1
        backup = rescue.rescue(survivor, cluster, addr)
        out.write(f"\nNode {nid} is now the one member of cluster {cluster:016x}.\n")
        _say_done(args.folder, nid, backup, out, addr)
        return 0
    finally:
        if lock >= 0:
            os.close(lock)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyraft-fast recover",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dir", dest="folder", default=".", help="folder of the survivor's files")
    parser.add_argument(
        "-i", dest="nid", metavar="ID", help="node id (may be left out for the only one there)"
    )
    parser.add_argument(
        "-a", dest="addr", metavar="IP:PORT", help="its address from now on (default: as before)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what is there and what would be done; no more"
    )
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    return parser


def _which_node(folder: str, nid: str | None) -> str:
    if nid is not None:
        return check_nid(socket.gethostname() if nid == "HOSTNAME" else nid)
    found = rescue.list_nodes(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        raise StartError(f"{folder} holds no log of any node: there is nothing to recover")
    raise ConfigError(f"{folder} holds files of several nodes ({', '.join(found)}); choose with -i")


def _confirm(nid: str, yes: bool, out: TextIO, terminal: TextIO | None) -> None:
    """Return if somebody wants it. Raises StartError."""
    if yes:
        return
    if terminal is None or not terminal.isatty():
        raise StartError("nothing was changed: without a terminal to ask at, --yes is needed")
    out.write(f"\nType the node's id ({nid}) to go on, anything else to leave it: ")
    out.flush()
    if terminal.readline().strip() != nid:
        raise StartError("nothing was changed: not confirmed")


def report(survivor: Survivor, addr: str) -> str:
    """What is there, and what may be lost, for people."""
    identity, me = survivor.identity, survivor.me
    role = "no member of its cluster in its own files" if me is None else me.role
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(survivor.last_time_ms / 1000))
    snapshot = survivor.snapshot
    lines = [
        f"Files of node {identity.nid} in {survivor.folder}:",
        f"  node             {identity.nid} ({role}), incarnation {identity.incarnation}",
        f"  address          {addr}",
        f"  cluster          {identity.cluster:016x}",
        f"  term             {survivor.term} (of the last entry: {survivor.last_term})",
        f"  last index       {survivor.last}, written {stamp} UTC by the cluster's clock",
        f"  committed        up to index {survivor.commit}, as far as this node was told",
        f"  snapshot         {'none' if snapshot is None else os.path.basename(snapshot.path)}",
    ]
    lines += [f"  note             {note}" for note in survivor.notes]
    lines += ["", "THIS MAKES A NEW CLUSTER OF THIS NODE ALONE, AND MAY LOSE WRITES:"]
    lines += _warnings(survivor)
    if survivor.others:
        lines += ["", "These members will not be part of it:"]
        lines += [f"  {m.nid} at {m.addr} ({m.role})" for m in survivor.others]
    return "\n".join(lines) + "\n"


def _warnings(survivor: Survivor) -> list[str]:
    lines = [
        "- Writes that others acknowledged and this node never received are gone for good.",
    ]
    if survivor.doubtful:
        lines += [
            f"- Behind index {survivor.commit}, entries not known to be committed: "
            f"{survivor.doubtful}; commands in them: {survivor.doubtful_commands}.",
            "  They will be taken as committed, since a majority may have acknowledged them; so",
            "  writes that were answered with UNCERTAIN, or not at all, may show.",
        ]
    else:
        lines.append("- All entries here are known to be committed; whether there are more is not.")
    if survivor.others:
        lines += [
            "- Were a majority of the old members started again, there would be two clusters: make",
            "  sure that they stay stopped. They can join the new one after their folders are "
            "emptied.",
        ]
    return lines


def _say_done(folder: str, nid: str, backup: str, out: TextIO, addr: str = "IP:PORT") -> None:
    words = ["pyraft-fast", "-i", nid, "-a", addr, "--dir", folder]
    out.write(f"The old files are kept in {backup}.\n")
    out.write(f"Start it:          {shlex.join(words)}\n")
    out.write(f"Let others join:   pyraft-fast -i ID -a IP:PORT -e {addr}   (in an empty folder)\n")
    with contextlib.suppress(OSError):
        out.flush()
