"""What a node must hold before it may start: its folder, the folder's lock and its two ports.

Each refusal is one line that names the thing and says what to do. The lock is an flock, so the
kernel gives it back when the last process that holds it is gone; the pid in the file is only
for the message.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Final

from pyraft_fast.errors import StartError, StorageError
from pyraft_fast.storage.names import lock_name
from pyraft_fast.storage.snapshot import remove_leftovers

LOCK_SECONDS: Final = 2.0  # how long a node that stops may still hold its folder
LOCK_POLL_SECONDS: Final = 0.05
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


def lock_folder(folder: str, nid: str, seconds: float = LOCK_SECONDS) -> int:
    """Take the lock of this node's files; returns the descriptor that holds it.

    Raises StartError naming the folder, and the pid that holds it where the file tells.
    """
    path = os.path.join(folder, lock_name(nid))
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(f"cannot open {path}: {error.strerror}") from None
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(fd)
                raise StartError(f"cannot lock {path}: {error.strerror}") from None
            if time.monotonic() >= deadline:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                who = f"process {holder}" if holder.isdigit() else "another process"
                raise StartError(
                    f"folder {folder} is in use by node {nid} in {who}; stop it, or use another "
                    "folder or node id"
                ) from None
        time.sleep(LOCK_POLL_SECONDS)
    with contextlib.suppress(OSError):  # the text is only for people
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def clean_folder(folder: str, nid: str) -> None:
    """Remove what a crash left of a snapshot; the lock must be held. Raises StartError."""
    try:
        remove_leftovers(folder, nid)
    except StorageError as error:
        raise StartError(str(error)) from None


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
