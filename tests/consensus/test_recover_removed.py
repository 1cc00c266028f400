"""`pyraft-fast recover` of a node that had been removed: nobody may take it for removed again."""

from __future__ import annotations

import random
from pathlib import Path

from pyraft_fast._entry import KIND_CONFIG
from pyraft_fast.consensus import rescue
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, HardState
from pyraft_fast.storage.snapshot import Meta, newest_valid, snapshot_path, write_snapshot
from tests.consensus.test_recover import HISTORY, LAST, ME, NEW, NID, OLD, SEGMENT, write_log
from tests.core.single import Shelf

OUT = HISTORY[-1].with_removed(NID)


def write_removal(folder: str) -> None:
    """Its log goes on behind its removal, as that of a leader that removes itself does."""
    write_log(folder)
    wal, _ = Wal.open(folder, NID, segment_bytes=SEGMENT)
    later = OUT.with_removed("2")
    wal.append(
        HardState(5, "", LAST + 2),
        [
            Entry.make(KIND_CONFIG, LAST + 1, 4, 13_000, OUT.encode()).record,
            Entry.make(KIND_CONFIG, LAST + 2, 5, 14_000, later.encode()).record,
        ],
    )
    wal.close()


def recovered(folder: str) -> list[Entry]:
    """The entries of the new log."""
    rescue.rescue(rescue.examine(folder, NID), NEW, ME.addr, segment_bytes=SEGMENT)
    wal, _ = Wal.open(folder, NID, segment_bytes=SEGMENT)
    entries = list(wal.read(wal.first, wal.last + 1, 10**9))
    wal.close()
    return entries


def test_a_newcomer_that_catches_up_does_not_tell_its_leader_to_leave(tmp_path: Path) -> None:
    write_removal(str(tmp_path))
    config = Config("4", 44)
    raft = Raft(config, RaftLog(Shelf(), 1, 0), HardState(), Membership(NEW), random.Random(1))
    term, place = 0, 0
    for entry in recovered(str(tmp_path)):
        append = Message(
            MessageKind.APPEND, NID, "4", 9, place, term, entry.index,
            entries=[entry], incarnation=ME.incarnation, to_incarnation=44,
        )  # fmt: skip
        raft.step(append)
        assert [m.kind for m in raft.take().send_now if m.kind == MessageKind.REMOVED] == []
        place, term = entry.index, entry.term
    assert raft.membership.members == (ME,)
    assert raft.log.commit == place


def test_its_snapshot_does_not_name_it_as_removed(tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_removal(folder)
    index = LAST + 1
    meta = Meta(OLD, index, 4, 13_000, OUT.encode(), {}, 0)
    write_snapshot(snapshot_path(folder, NID, 100, index), meta, [])
    recovered(folder)
    found, _ = newest_valid(folder, NID)
    assert found is not None
    assert Membership.decode(found.meta.membership).removed == (4,)
