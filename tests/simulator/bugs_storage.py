"""Bugs on the way to the disk: what is written, synced, named, deleted and believed again."""

from __future__ import annotations

from typing import Final

from tests.simulator.bug import Bug, bug

_WAL: Final = "consensus.wal:Wal."
_WRITER: Final = "consensus.diskwork:LogWriter."
_SNAPSHOT: Final = "storage.snapshot:"
_GROUPS: Final = "storage.groups:"

LOG: Final[list[Bug]] = [
    bug(
        "log-not-synced",
        "the log is written and called durable without a sync",
        (f"{_WAL}sync", "self._sync_file(self._files[-1].fd, self._files[-1].path)", "pass"),
        (f"{_WRITER}_begin", "piece.offset, synced)", "piece.offset, False)"),
        seeds=40,
    ),
    bug(
        "sync-left-for-later",
        "a group is reported when it is written, and synced when the log is idle",
        (f"{_WRITER}_must_sync", "or self._fsync == ALWAYS", ""),
        seeds=40,
    ),
    bug(
        "failed-sync-ignored",
        "the system could not sync, and the log goes on as if it had",
        (f"{_WAL}_sync_file", "raise problem from error", 'self._dead = ""'),
        (f"{_WRITER}_take", "return self._wal.lost(error)", "took_us = 0"),
        seeds=300,
    ),
    bug(
        "short-write-ignored",
        "a write that took fewer bytes than given is not finished",
        ("storage.disk:write_all", "if done == len(data):", "if done > 0:"),
        seeds=300,
    ),
    bug(
        "segment-named-before-sync",
        "a new log segment gets its name before its bytes are on disk",
        (f"{_WAL}_rotate", "self._sync_file(spare.fd, spare.path)", "pass"),
    ),
    bug(
        "segment-name-not-synced",
        "the folder is not synced after a new segment was named",
        (f"{_WAL}_rotate", "self._sync_folder()", "pass"),
        seeds=300,
    ),
    bug(
        "segments-deleted-at-once",
        "old segments are deleted newest first and without a sync in between",
        ("storage.oldfiles:OldFiles.delete_all", "self._sync_folder()", "pass"),
    ),
    bug(
        "torn-tail-accepted",
        "recovery believes a record by its length, without its checksum",
        (f"{_GROUPS}_walk", "and verify(data, offset)", "and header(data, offset).length >= 64"),
        ("storage.reader:_read_run", "not verify(data, at) or ", ""),
        seeds=300,
    ),
    bug(
        "long-entry-cut-short",
        "of several entries read together a long one is taken for damaged",
        ("storage.reader:_read_run", "(anyhow or length <= bytes_max)", "anyhow"),
        seeds=40,
    ),
    bug(
        "damage-taken-for-torn-write",
        "recovery cuts the log at any bad bytes, acknowledged ones too",
        ("storage.segments:_Replay._judge", "elif not broken.blank:", "elif False:"),
        (
            "storage.segments:_Replay._judge",
            "claim := claims_beyond(data, segment.head, broken.offset)",
            "claim := 0",
        ),
        seeds=300,
    ),
    bug(
        "start-counted-twice",
        "a restarted node begins the very session it had before",
        (f"{_WAL}_take_over", "found.start + 1", "found.start"),
        seeds=40,
    ),
]

SNAPSHOTS: Final[list[Bug]] = [
    bug(
        "snapshot-renamed-before-sync",
        "a snapshot gets its name before its bytes are on disk, and the log goes",
        (f"{_SNAPSHOT}write_snapshot", "disk.fdatasync(fd)", "pass"),
        seeds=300,
    ),
    bug(
        "segments-deleted-before-snapshot-durable",
        "the log goes while the snapshot's name may still be lost",
        (f"{_SNAPSHOT}write_snapshot", 'disk.fsync_dir(os.path.dirname(path) or ".")', "pass"),
    ),
    bug(
        "received-snapshot-not-synced",
        "a snapshot from the leader counts before its bytes are on disk",
        (
            f"{_SNAPSHOT}PartialSnapshot.finish",
            "self._disk.fdatasync(self._fd)",
            "pass",
        ),
    ),
    bug(
        "snapshot-not-verified",
        "a snapshot is believed without its checksums",
        (f"{_SNAPSHOT}_read_record", " or not verify(record)", ""),
        (f"{_SNAPSHOT}_checked_records", "!= [count, checksum]", "is None"),
    ),
    bug(
        "stale-snapshot-over-newer-log",
        "a restarted node begins at its snapshot, whatever its log holds behind it",
        ("consensus.recovery:agrees", "if wal.last < snapshot.index:", "if True:"),
        seeds=40,
    ),
    bug(
        "log-cut-past-snapshot",
        "entries go that no snapshot holds",
        (
            "consensus.driver:Driver.snapshot_taken",
            "keep_from = self._keep_from(index)",
            "keep_from = self.raft.log.stable + 1",
        ),
        seeds=300,
    ),
    bug(
        "snapshot-claims-one-more",
        "a snapshot says it holds one entry more than it does",
        ("serving.apply:Applier.meta", "index=self.index,", "index=self.index + 1,"),
        seeds=40,
    ),
    bug(
        "snapshot-without-membership",
        "a snapshot is sent without who belongs to the cluster",
        ("consensus.driver:_membership_at", "return found", "return found._replace(members=())"),
        seeds=300,
    ),
    bug(
        "snapshot-with-older-membership",
        "a snapshot carries the membership with which the log begins",
        ("consensus.driver:_membership_at", "if place <= index:", "if False:"),
        seeds=300,
    ),
]

STORAGE: Final[list[Bug]] = [*LOG, *SNAPSHOTS]
