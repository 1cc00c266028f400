"""The lock of a node's files: whoever holds it may write them, and nobody else.

It is an flock, so the kernel gives it back when the last process that holds it is gone; the pid in
the file is only for the message.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import Final

from pyraft_fast.errors import StartError
from pyraft_fast.storage.names import lock_name

LOCK_SECONDS: Final = 2.0  # how long a node that stops may still hold its folder
LOCK_POLL_SECONDS: Final = 0.05
ELSEWHERE: Final = "stop it, or use another folder or node id"


def lock_folder(
    folder: str,
    nid: str,
    seconds: float = LOCK_SECONDS,
    *,
    advice: str = ELSEWHERE,
    traceless: bool = False,
) -> int:
    """Take the lock of this node's files; returns the descriptor that holds it.

    `traceless` leaves the folder as it is, byte for byte; -1 is returned where there is no lock
    file, for then nobody holds it. Raises StartError naming the folder, the pid that holds the
    lock where the file tells, and `advice`.
    """
    path = os.path.join(folder, lock_name(nid))
    try:
        fd = os.open(path, os.O_RDONLY if traceless else os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError as error:
        if traceless and os.path.isdir(folder):
            return -1
        raise StartError(f"cannot open {path}: {error.strerror}") from None
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
                    f"folder {folder} is in use by node {nid} in {who}; {advice}"
                ) from None
        time.sleep(LOCK_POLL_SECONDS)
    if not traceless:
        with contextlib.suppress(OSError):  # the text is only for people
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd
