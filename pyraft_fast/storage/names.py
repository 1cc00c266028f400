"""How the files of a node are called, and which file is which.

All files of a node lie in one folder and begin with `raft_<nid>_`; the node id is quoted so that
`_`, `/` and `.`-tricks in it cannot make two nodes share a name or a file leave the folder:

    raft_<nid>_<first index, 10 digits>.log            a log segment
    raft_<nid>_<first index, 10 digits>.<sequence>.log the same, where that name was taken
    raft_<nid>_<epoch seconds>_<index>.dat             a snapshot
    raft_<nid>_<epoch seconds>_<index>.dat.tmp         a snapshot while it is written
    raft_<nid>_<number>.log.tmp                        a segment while it is made
    raft_<nid>_<index>_<term>_<bytes>.part             a snapshot while it is received
    raft_<nid>.lock                                    held while the node runs
    raft_<nid>.recover/                                new files that `recover` makes
    raft_<nid>.recover-out, raft_<nid>.recover-in      it puts these in place of the old ones
    before-recover-<nid>-<time>/                       the old ones

Names only help people and listings. The order of segments is decided by the sequence number
inside them: after a truncation two segments may well begin with the same index.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote

from pyraft_fast.errors import StorageError
from pyraft_fast.limits import NID_BYTES_MAX

LOG = ".log"
SNAPSHOT = ".dat"
TEMPORARY = ".tmp"
PARTIAL = ".part"
BACKUP = "before-recover-"

_SEGMENT = re.compile(r"raft_([^_]+)_(\d{10,20})(?:\.(\d{1,20}))?\.log", re.ASCII)
_SNAPSHOT = re.compile(r"raft_([^_]+)_(\d{1,20})_(\d{1,20})\.dat", re.ASCII)
_PARTIAL = re.compile(r"raft_([^_]+)_(\d{1,20})_(\d{1,20})_(\d{1,20})\.part", re.ASCII)
_RECOVER_MARK = re.compile(r"raft_([^_]+)\.recover-(?:out|in)", re.ASCII)


class SegmentName(NamedTuple):
    """What a segment's file name tells; `sequence` is 0 when the plain name was free."""

    name: str
    nid: str
    first_index: int
    sequence: int


@dataclass(frozen=True)
class SnapshotName:
    """What a snapshot's file name tells; sorting by `(index, epoch_seconds)` is by age."""

    name: str
    nid: str
    epoch_seconds: int
    index: int


@dataclass(frozen=True)
class PartialName:
    """What the name of a half received snapshot tells."""

    name: str
    nid: str
    index: int
    term: int
    total_bytes: int


def quoted(nid: str) -> str:
    """The node id as it stands in file names: no `/`, no `_`, never `.` or `..` alone.

    Raises StorageError for an empty id or one longer than `NID_BYTES_MAX` bytes.
    """
    if not nid or len(nid.encode("utf-8", "surrogateescape")) > NID_BYTES_MAX:
        raise StorageError(f"a node id has 1 to {NID_BYTES_MAX} bytes, not {nid!r}")
    return quote(nid, safe="", errors="surrogateescape").replace("_", "%5F")


def unquoted(text: str) -> str:
    """The node id behind `quoted(nid)`."""
    return unquote(text, errors="surrogateescape")


def prefix(nid: str) -> str:
    """How the name of every file of this node begins (the lock file's apart)."""
    return f"raft_{quoted(nid)}_"


def segment_name(nid: str, first_index: int, sequence: int = 0) -> str:
    """The name of a segment; a `sequence` other than 0 makes it unique among equal indexes."""
    unique = f".{sequence}" if sequence else ""
    return f"{prefix(nid)}{first_index:010d}{unique}{LOG}"


def snapshot_name(nid: str, epoch_seconds: int, index: int) -> str:
    """The name of a snapshot of everything up to `index`, taken at `epoch_seconds`."""
    return f"{prefix(nid)}{epoch_seconds}_{index}{SNAPSHOT}"


def partial_name(nid: str, index: int, term: int, total_bytes: int) -> str:
    """The name of a snapshot that is being received."""
    return f"{prefix(nid)}{index}_{term}_{total_bytes}{PARTIAL}"


def temporary_segment_name(nid: str, number: int) -> str:
    """The name of a segment that is being made; `number` tells apart what one process makes."""
    return f"{prefix(nid)}{number}{LOG}{TEMPORARY}"


def lock_name(nid: str) -> str:
    """The name of the file a running node holds locked."""
    return f"raft_{quoted(nid)}.lock"


def diverged_name(nid: str) -> str:
    """The name of the file that says why a node with wrong data was stopped."""
    return f"raft_{quoted(nid)}.diverged"


def recover_folder_name(nid: str) -> str:
    """The folder in which `recover` makes a node's new files."""
    return f"raft_{quoted(nid)}.recover"


def recover_marks(nid: str) -> tuple[str, str]:
    """The files that say how far `recover` is: the old files go out, the new ones come in."""
    return f"raft_{quoted(nid)}.recover-out", f"raft_{quoted(nid)}.recover-in"


def parse_recover_mark(name: str) -> str | None:
    """The node id if `name` is one of its `recover_marks`, else None."""
    match = _RECOVER_MARK.fullmatch(name)
    return None if match is None else unquoted(match[1])


def backup_folder_name(nid: str, time_text: str) -> str:
    """The folder in which `recover` keeps the files it found."""
    return f"{BACKUP}{quoted(nid)}-{time_text}"


def parse_segment(name: str) -> SegmentName | None:
    """What `name` says if it is a segment's, else None."""
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    return SegmentName(name, unquoted(match[1]), int(match[2]), int(match[3] or 0))


def parse_snapshot(name: str) -> SnapshotName | None:
    """What `name` says if it is a snapshot's, else None."""
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        return None
    return SnapshotName(name, unquoted(match[1]), int(match[2]), int(match[3]))


def parse_partial(name: str) -> PartialName | None:
    """What `name` says if it is a half received snapshot's, else None."""
    match = _PARTIAL.fullmatch(name)
    if match is None:
        return None
    nid, index, term, total_bytes = unquoted(match[1]), int(match[2]), int(match[3]), int(match[4])
    return PartialName(name, nid, index, term, total_bytes)


def segments(names: list[str], nid: str) -> list[SegmentName]:
    """The segments of this node among `names`, by first index (not yet by sequence)."""
    found = [parsed for name in names if (parsed := parse_segment(name)) and parsed.nid == nid]
    return sorted(found, key=lambda parsed: (parsed.first_index, parsed.sequence))


def snapshots(names: list[str], nid: str) -> list[SnapshotName]:
    """The snapshots of this node among `names`, newest first."""
    found = [parsed for name in names if (parsed := parse_snapshot(name)) and parsed.nid == nid]
    return sorted(found, key=lambda parsed: (parsed.index, parsed.epoch_seconds), reverse=True)


def temporary_segments(names: list[str], nid: str) -> list[str]:
    """Half made segments of this node among `names`; they never held anything of worth."""
    return _leftovers(names, nid, LOG + TEMPORARY)


def temporary_snapshots(names: list[str], nid: str) -> list[str]:
    """Half written snapshots of this node among `names`."""
    return _leftovers(names, nid, SNAPSHOT + TEMPORARY)


def partials(names: list[str], nid: str) -> list[PartialName]:
    """Half received snapshots of this node among `names`."""
    return [parsed for name in names if (parsed := parse_partial(name)) and parsed.nid == nid]


def joined(folder: str, name: str) -> str:
    """The path of `name` in `folder`."""
    return os.path.join(folder, name)


def _leftovers(names: list[str], nid: str, ending: str) -> list[str]:
    start = prefix(nid)
    return sorted(name for name in names if name.startswith(start) and name.endswith(ending))
