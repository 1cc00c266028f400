"""What a node must hold before it may start: its folder, the folder's lock and its two ports.

Each refusal is one line that names the thing and says what to do.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

from pyraft_fast.errors import StartError, StorageError
from pyraft_fast.storage.lock import lock_folder
from pyraft_fast.storage.names import recover_marks
from pyraft_fast.storage.snapshot import remove_leftovers

__all__ = ["clean_folder", "listen", "lock_folder", "make_folder"]

CLIENT_BACKLOG: Final = 511
PEER_BACKLOG: Final = 128


def make_folder(folder: str) -> None:
    """Make the folder and check that files can be made in it; raises StartError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"folder {folder} is not writable by this user")


def clean_folder(folder: str, nid: str) -> None:
    """Remove what a crash left of a snapshot; the lock must be held.

    Raises StartError, also where `pyraft-fast recover` was interrupted between old files and new.
    """
    try:
        if any(mark in os.listdir(folder) for mark in recover_marks(nid)):
            raise StartError(
                f"`pyraft-fast recover` of node {nid} in {folder} was interrupted; run it again to "
                "finish it"
            )
        remove_leftovers(folder, nid)
    except StorageError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(f"cannot list {folder}: {error.strerror}") from None


def listen(host: str, port: int, backlog: int, purpose: str) -> socket.socket:
    """A non-blocking listening socket; raises StartError naming the port and what to do."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            hint = "is in use; stop the program that holds it or choose another port with -a"
        elif error.errno == errno.EADDRNOTAVAIL:
            hint = f"cannot be bound: {host} is no address of this machine; see --bind"
        else:
            hint = f"cannot be bound: {error.strerror}"
        raise StartError(f"port {port} ({purpose}) on {host} {hint}") from None
    return listener
