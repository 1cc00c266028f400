"""Files that hold nothing needed any more, on their way out.

Deleting takes milliseconds each on a busy disk, so it is not done where writes wait. It is done
oldest first, each durably before the next: whenever the power goes, what is left of them is their
newest part, without a gap to what is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from pyraft_fast.storage.disk import Disk, failed


class OldFiles:
    """Paths to be deleted, oldest first. Any thread; only one deletes at a time."""

    def __init__(self, disk: Disk, sync_folder: Callable[[], None]) -> None:
        self._disk = disk
        self._sync_folder = sync_folder
        self._paths: deque[str] = deque()
        self._deleting = threading.Lock()

    def add(self, paths: Iterable[str]) -> None:
        """Nobody needs these; they are newer than those before."""
        self._paths.extend(paths)

    @property
    def are_there(self) -> bool:
        """True while there is something to delete."""
        return bool(self._paths)

    def delete_all(self) -> None:
        """Delete what there is. Raises StorageError; the rest is for another time."""
        with self._deleting:
            while self._paths:
                path = self._paths[0]
                try:
                    self._disk.unlink(path)
                except OSError as error:
                    raise failed("delete", path, error) from error
                self._paths.popleft()
                self._sync_folder()
