"""The mark of a node that was stopped because its data were wrong: it must not serve them again.

The running sums would show most of it after a restart, but not what lies between two sampled
entries, and only after a while. So the node leaves a file that says why, and does not start as
long as the file is there.
"""

from __future__ import annotations

import os

from pyraft_fast.errors import StartError
from pyraft_fast.storage.names import diverged_name

MARK_BYTES_MAX = 4096


def mark_diverged(folder: str, nid: str, text: str) -> None:
    """Leave the mark, durable when this returns. Raises OSError."""
    data = (text.replace("\n", " ") + "\n").encode("utf-8", "replace")[:MARK_BYTES_MAX]
    path = os.path.join(folder, diverged_name(nid))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_diverged(folder: str, nid: str) -> None:
    """Raise StartError when the mark is there."""
    path = os.path.join(folder, diverged_name(nid))
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            why = file.read(MARK_BYTES_MAX).strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None
    raise StartError(
        f"node {nid} was stopped since its data were wrong ({why}); delete its files in {folder} "
        f"and start it again to get the data of the others, or delete {path} alone to keep what "
        "it has"
    )
