"""pyraft's log classes, as read-only views of a node's log files.

Consensus alone writes the log. These read it from the files, for GETLOG, RAFT LOG and people's
scripts, also while the node runs: an entry that is being written is simply not there yet. An
entry shown here may be uncommitted; a running node shows only what it has applied.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any

from pyraft_fast._entry import KIND_COMMANDS, decode_record
from pyraft_fast.common import Future
from pyraft_fast.errors import RaftException, StorageError
from pyraft_fast.limits import LOG_ITEMS_MAX
from pyraft_fast.storage import names
from pyraft_fast.storage.disk import OS_DISK
from pyraft_fast.storage.groups import Broken, parse_group
from pyraft_fast.storage.segments import Segment, find_segments, read_segment


@dataclass(slots=True)
class LogItem:
    """One command of the log. `ts` is the entry's time in epoch seconds."""

    term: int
    index: int
    ts: float
    worker_offset: int
    cmd: list[Any]

    def to_list(self) -> list[Any]:
        """pyraft's form of an item."""
        return list(astuple(self))

    def to_dict(self) -> dict[str, Any]:
        """By name, ready for JSON."""
        return asdict(self)


class LogFile:
    """One segment of a node's log."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.fn = segment.path

    def start_index(self) -> int:
        """Index of the first entry the segment was made for."""
        return self.segment.head.first_index

    def items(self) -> Iterator[LogItem]:
        """Every command in the segment, in the order written (a conflict may show an index twice).

        Raises StorageError when the file cannot be read.
        """
        data = read_segment(OS_DISK, self.segment)
        offset = self.segment.begin
        while (group := parse_group(data, self.segment.head, offset)) is not None:
            if isinstance(group, Broken):  # the part being written, or damage: dump tells which
                return
            for at, head in group.records:
                if head.kind != KIND_COMMANDS:
                    continue
                for worker, cmd in decode_record(data[at : at + head.length]):
                    yield LogItem(head.term, head.index, head.time_ms / 1000, worker, cmd)
            offset = group.end


class LogFileStorage:
    """All segments of a node, oldest first."""

    def __init__(self, folder: str, nid: str) -> None:
        self.folder = folder
        self.nid = nid

    @property
    def file_list(self) -> list[LogFile]:
        """The segments that are there now."""
        return [LogFile(segment) for segment in find_segments(OS_DISK, self.folder, self.nid)]

    def exists(self) -> bool:
        """Whether the folder holds a log of this node."""
        try:
            return bool(names.segments(os.listdir(self.folder), self.nid))
        except OSError:
            return False

    def get_range(self, start: int, end: int = -1) -> list[LogItem]:
        """Commands of entries `start` up to `end` (excluded; -1: all), at most LOG_ITEMS_MAX.

        Raises StorageError when the files cannot be read.
        """
        found: list[LogItem] = []
        for file in self.file_list:
            for item in file.items():
                if item.index < start or 0 <= end <= item.index:
                    continue
                while found and found[-1].index >= item.index and found[-1].term < item.term:
                    found.pop()  # a later leader's entry took its place
                if len(found) >= LOG_ITEMS_MAX:
                    return found
                found.append(item)
        return found

    def start_index(self) -> int:
        """Index of the oldest entry (0: there is no log)."""
        files = self.file_list
        return files[0].start_index() if files else 0


class RaftLog(LogFileStorage):
    """A node's log by pyraft's name. Raises StorageError where files cannot be read."""

    def size(self) -> int:
        """How many commands the log holds."""
        return sum(1 for file in self.file_list for _ in file.items())


def read_later(folder: str, nid: str, start: int, end: int) -> Future:
    """A future of the entries `start` up to `end` (excluded) as dicts, read in a thread."""
    found = Future(("getlog", start, end))

    def read() -> None:
        try:
            items = RaftLog(folder, nid).get_range(start, end)
        except RaftException as error:
            found.set(error)
        else:
            found.set([item.to_dict() for item in items])

    threading.Thread(target=read, name=f"pyraft-getlog-{nid}", daemon=True).start()
    return found


__all__ = ["LogFile", "LogFileStorage", "LogItem", "RaftLog", "StorageError", "read_later"]
