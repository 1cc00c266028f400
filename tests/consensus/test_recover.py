"""`pyraft-fast recover`: one node's files become a cluster of one, wholly or not at all."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pyraft_fast import cli, recover
from pyraft_fast._entry import KIND_COMMANDS, KIND_CONFIG, header, packb, seal
from pyraft_fast.consensus import recovery, rescue
from pyraft_fast.consensus.node import make_raft
from pyraft_fast.consensus.settings import read_settings
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import LEARNER, VOTER, Member, Membership
from pyraft_fast.core.work import HardState
from pyraft_fast.errors import ConfigError, DamagedFile, StartError, StorageError
from pyraft_fast.limits import KIB
from pyraft_fast.serving.startup import clean_folder
from pyraft_fast.storage.disk import OS_DISK, Disk
from pyraft_fast.storage.lock import lock_folder
from pyraft_fast.storage.snapshot import Meta, newest_valid, read_items, snapshot_path
from pyraft_fast.storage.snapshot import write_snapshot as write_file
from tests.storage.fakedisk import FakeDisk, PowerLoss

OLD, NEW = 7, 9
NID = "1"
ME = Member(NID, "127.0.0.1:1", 5, VOTER)
TWO = Member("2", "127.0.0.1:2", 6, VOTER)
THREE = Member("3", "127.0.0.1:3", 8, VOTER)
HISTORY = (
    Membership(OLD, (ME,), (), 3),
    Membership(OLD, (ME, TWO._replace(role=LEARNER)), (), 3),
    Membership(OLD, (ME, TWO), (), 3),
    Membership(OLD, (ME, TWO, THREE._replace(role=LEARNER)), (), 3),
    Membership(OLD, (ME, TWO, THREE), (4,), 3),
)
LAST, COMMIT, TERM = 12, 9, 3
SEGMENT = 64 * KIB


def entry_of(index: int) -> Entry:
    """Five memberships, then commands of three origins, two of them in each."""
    if index <= len(HISTORY):
        return Entry.make(KIND_CONFIG, index, 1, index * 1000, HISTORY[index - 1].encode())
    payload = packb([0, "set", f"key{index}", "value", 0, "incr", "count"])
    origin = (ME, TWO, THREE)[index % 3].incarnation
    record = seal(KIND_COMMANDS, index, 2, index * 1000, origin, 1, index // 3, 2, payload)
    return Entry.from_record(record)


def write_log(folder: str, disk: Disk = OS_DISK, last: int = LAST) -> None:
    for _ in range(3):  # the log is opened a few times, as restarts do
        wal, _ = Wal.open(folder, NID, cluster=OLD, incarnation=5, disk=disk, segment_bytes=SEGMENT)
        wal.close()
    wal, _ = Wal.open(folder, NID, disk=disk, segment_bytes=SEGMENT)
    wal.append(HardState(1, NID, 0), [entry_of(index).record for index in range(1, 6)])
    wal.append(HardState(2, "2", 5), [entry_of(index).record for index in range(6, last + 1)])
    wal.append(HardState(TERM, "3", COMMIT), [])
    wal.close()


def write_snapshot(folder: str, index: int, disk: Disk = OS_DISK) -> str:
    path = snapshot_path(folder, NID, 100 + index, index)
    sessions = {5: (4, 2), 6: (1, 2)}
    meta = Meta(OLD, index, 2, index * 1000, HISTORY[-1].encode(), sessions, 2)
    write_file(path, meta, [("a", 1, "x", None), ("b", 1, "\udcff", 99)], disk)
    return path


def opened(folder: str, disk: Disk = OS_DISK) -> tuple[Wal, HardState, int]:
    wal, found = Wal.open(folder, NID, disk=disk, segment_bytes=SEGMENT)
    assert (found.identity.cluster, found.identity.incarnation) == (NEW, 5)
    return wal, HardState(*found.state), found.start


def check_new(folder: str, disk: Disk = OS_DISK, base: int = 0) -> None:
    """Every entry of old is there, all are committed, and the one member is this node."""
    wal, state, start = opened(folder, disk)
    entries = wal.read(base + 1, wal.last + 1, 10**9)
    assert wal.last == LAST + 3  # this node, then without 2, then without 3
    assert [entry.index for entry in entries] == list(range(base + 1, LAST + 4))
    for entry in entries[: LAST - base]:
        old = entry_of(entry.index)
        assert (entry.term, entry.kind, entry.time_ms) == (old.term, old.kind, old.time_ms)
        if entry.kind == KIND_CONFIG:
            assert Membership.decode(entry.payload) == HISTORY[entry.index - 1]._replace(
                cluster=NEW
            )
        else:
            assert entry.record == old.record
    assert {entry.term for entry in entries[LAST - base :]} == {TERM + 1}
    membership = Membership.decode(entries[-1].payload)
    assert membership == Membership(NEW, (ME,), (4, 6, 8), 0)
    assert (state.term, state.commit) == (TERM + 1, LAST + 3)
    assert start == 5, "a start number of the old log comes never again"
    wal.close()


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def call(folder: Path, *flags: str, terminal: io.StringIO | None = None) -> tuple[int, str]:
    out = io.StringIO()
    return recover.run(["--dir", str(folder), *flags], out, terminal), out.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# What comes of it


def test_every_entry_stays_and_the_node_is_alone(tmp_path: Path) -> None:
    write_log(str(tmp_path))
    before = content(tmp_path)
    survivor = rescue.examine(str(tmp_path), NID)
    assert content(tmp_path) == before, "looking changes nothing"
    backup = rescue.rescue(survivor, NEW, ME.addr, segment_bytes=SEGMENT)
    kept = content(Path(backup))
    assert kept == {name: data for name, data in before.items() if not name.endswith(".lock")}
    assert sorted(os.listdir(tmp_path)) == sorted(
        [os.path.basename(backup), "raft_1_0000000001.log"]
    )
    check_new(str(tmp_path))


def test_the_snapshot_comes_along_under_the_new_id_with_its_sessions(tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_log(folder)
    old = write_snapshot(folder, 8)
    items = list(read_items(old))
    rescue.rescue(rescue.examine(folder, NID), NEW, ME.addr, segment_bytes=SEGMENT)
    found, complaints = newest_valid(folder, NID)
    assert found is not None
    assert not complaints
    assert (found.meta.cluster, found.meta.index, found.meta.term) == (NEW, 8, 2)
    assert found.meta.sessions == {5: (4, 2), 6: (1, 2)}
    assert Membership.decode(found.meta.membership) == HISTORY[-1]._replace(cluster=NEW)
    assert list(read_items(found.path)) == items
    check_new(folder, base=8)


def test_it_starts_and_leads_alone_and_others_can_replay_its_log(tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_log(folder)
    rescue.rescue(rescue.examine(folder, NID), NEW, ME.addr, segment_bytes=SEGMENT)
    given = {"nid": NID, "addr": ME.addr, "folder": folder, "segment_bytes": SEGMENT}
    settings = read_settings(given)
    found = recovery.open_log(settings, recovery.look(settings))
    raft = make_raft(settings, found, random.Random(1))
    assert raft.log.commit == LAST + 3
    assert raft.membership.voters == (ME,)
    for _ in range(100):
        raft.tick(0)
        work = raft.take()
        if work.entries:
            raft.persisted(work.entries[-1].index, work.entries[-1].term)
    assert raft.is_leader
    assert raft.log.commit == LAST + 4
    newcomer = RaftLog(found.wal, 1, 0)
    newcomer.found(Membership(NEW))
    for entry in found.wal.read(1, LAST + 4, 10**9):
        newcomer.append(entry)  # holds every membership against the one before
    assert newcomer.membership.members == (ME,)
    found.wal.close()


def test_a_new_address_and_a_node_without_a_vote() -> None:
    me = ME._replace(role=LEARNER)
    survivor = make_survivor(Membership(OLD, (me, TWO), (3,), 2))
    steps = rescue.plan(survivor, NEW, "10.0.0.1:5")
    assert steps[-1] == Membership(NEW, (Member(NID, "10.0.0.1:5", 5, VOTER),), (3, 6), 0)


def test_a_node_whose_name_another_took_takes_it_back() -> None:
    other = Member(NID, "127.0.0.1:9", 77, VOTER)
    steps = rescue.plan(make_survivor(Membership(OLD, (other,), (5,), 1)), NEW, ME.addr)
    assert steps[-1] == Membership(NEW, (ME,), (77,), 0)


def make_survivor(membership: Membership) -> rescue.Survivor:
    identity = rescue.Identity(OLD, NID, 5)
    return rescue.Survivor("", identity, 1, 1, 1, 1, 1, 0, 0, 1, None, membership, [])


# Crashes


class Folders(FakeDisk):
    """A fake disk with folders: each is listed, and made durable, by itself."""

    def listdir(self, folder: str) -> list[str]:
        if self.dead:
            raise PowerLoss
        return [os.path.basename(path) for path in self.names if os.path.dirname(path) == folder]

    def fsync_dir(self, folder: str) -> None:
        self._step("fsync_dir", folder)
        if not self._half():
            changes, self.folder_changes = self.folder_changes, []
            for change in changes:
                if getattr(change, "folder", None) == folder:
                    change(self.durable_names)
                else:
                    self.folder_changes.append(change)
        self._finish()

    def _change(self, change: Callable[[dict[str, object]], object]) -> None:
        before = set(self.names)
        change(self.names)
        (path,) = set(self.names) - before or before - set(self.names)
        change.folder = os.path.dirname(path)  # type: ignore[attr-defined]
        self.folder_changes.append(change)  # type: ignore[arg-type]


def no_folder(path: str) -> None:
    """Folders need not be made on a fake disk."""


def prepared(seed: int, with_snapshot: bool) -> Folders:
    disk = Folders(seed)
    write_log("/f", disk)
    if with_snapshot:
        write_snapshot("/f", 8, disk)
    return disk


def attempt(disk: Folders) -> None:
    if rescue.is_unfinished("/f", NID, disk):
        rescue.finish("/f", NID, disk)
    else:
        survivor = rescue.examine("/f", NID, disk)
        rescue.rescue(survivor, NEW, ME.addr, disk, no_folder, SEGMENT)


@pytest.mark.parametrize("with_snapshot", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_power_lost_at_every_step(seed: int, with_snapshot: bool) -> None:
    """Old, or on the way with a mark that says so, or new; and a second try gets there."""
    whole = prepared(seed, with_snapshot)
    begun = whole.steps
    before = rescue.examine("/f", NID, whole)
    attempt(whole)
    seen = set()
    for at in range(1, whole.steps - begun + 1):
        disk = prepared(seed * 1000 + at, with_snapshot)
        disk.crash_at = disk.steps + at
        with pytest.raises(PowerLoss):
            attempt(disk)
        disk.reboot()
        if rescue.is_unfinished("/f", NID, disk):
            seen.add("on the way")
            disk.crash_at = disk.steps + disk.random.randrange(1, 12)
            try:
                attempt(disk)
            except PowerLoss:
                disk.reboot()
            disk.crash_at = None
            if rescue.is_unfinished("/f", NID, disk):
                attempt(disk)
        elif rescue.examine("/f", NID, disk).identity.cluster == OLD:
            seen.add("old")
            assert rescue.examine("/f", NID, disk) == before
            attempt(disk)
        else:
            seen.add("new")
        check_new("/f", disk, 8 if with_snapshot else 0)
    assert seen >= {"old", "on the way"}


@pytest.mark.parametrize("operation", ["create", "pwrite", "fdatasync", "rename", "fsync_dir"])
@pytest.mark.parametrize("calls", range(1, 14, 3))
def test_an_operation_that_fails_can_be_repeated(operation: str, calls: int) -> None:
    disk = prepared(calls, True)
    disk.fail(operation, calls)
    try:
        attempt(disk)
    except StorageError:
        disk.faults = {}
        begun = rescue.is_unfinished("/f", NID, disk)
        if begun or rescue.examine("/f", NID, disk).identity.cluster == OLD:
            attempt(disk)
    disk.faults = {}
    check_new("/f", disk, 8)


def test_a_full_disk_leaves_everything_as_it_was() -> None:
    disk = prepared(1, True)
    before = rescue.examine("/f", NID, disk)
    paths = sorted(disk.names)
    disk.capacity = sum(len(each.live) for each in disk.names.values()) + 40_000
    with pytest.raises(StorageError, match="No space"):
        attempt(disk)
    assert sorted(disk.names) == paths
    assert rescue.examine("/f", NID, disk) == before


def test_a_node_does_not_start_between_old_files_and_new(tmp_path: Path) -> None:
    folder = str(tmp_path)
    write_log(folder)
    before = content(tmp_path)

    class Stuck(type(OS_DISK)):  # type: ignore[misc]
        def rename(self, old: str, new: str) -> None:
            if "before-recover" in new:
                raise OSError(5, "stuck")
            super().rename(old, new)

    with pytest.raises(StorageError, match="stuck"):
        rescue.rescue(rescue.examine(folder, NID), NEW, ME.addr, Stuck(), segment_bytes=SEGMENT)
    with pytest.raises(StartError, match="run it again to finish it"):
        clean_folder(folder, NID)
    status, said = call(tmp_path, "--dry-run")
    assert (status, "can be finished" in said) == (0, True)
    with pytest.raises(StartError, match="--yes is needed"):
        call(tmp_path)
    status, said = call(tmp_path, "--yes")
    assert status == 0
    clean_folder(folder, NID)
    check_new(folder)
    (backup,) = tmp_path.glob("before-recover-1-*")
    assert str(backup) in said
    assert content(backup) == before


def test_what_is_finished_needs_no_name_where_no_log_lies(tmp_path: Path) -> None:
    """The old log is out and the new one not yet in."""
    write_log(str(tmp_path))

    class Stuck(type(OS_DISK)):  # type: ignore[misc]
        def rename(self, old: str, new: str) -> None:
            if ".recover/" in old and not old.endswith(".tmp"):
                raise OSError(5, "stuck")
            super().rename(old, new)

    survivor = rescue.examine(str(tmp_path), NID)
    with pytest.raises(StorageError, match="stuck"):
        rescue.rescue(survivor, NEW, ME.addr, Stuck(), segment_bytes=SEGMENT)
    assert not list(tmp_path.glob("*.log"))
    status, _ = call(tmp_path, "--yes")
    assert status == 0
    check_new(str(tmp_path))


# What it says and refuses


def test_a_node_that_was_stopped_for_wrong_data_is_no_choice_unseen(tmp_path: Path) -> None:
    write_log(str(tmp_path))
    (tmp_path / "raft_1.diverged").write_text("entry 7\n")
    _, said = call(tmp_path, "--dry-run")
    assert "this node was stopped since its data were wrong" in said
    assert "raft_1.diverged" in said


def test_the_report_is_loud(tmp_path: Path) -> None:
    write_log(str(tmp_path))
    before = content(tmp_path)
    status, said = call(tmp_path, "--dry-run")
    assert status == 0
    assert content(tmp_path) == before, "a dry run changes nothing"
    for text in (
        "node             1 (voter), incarnation 5",
        "address          127.0.0.1:1",
        "cluster          0000000000000007",
        "term             3 (of the last entry: 2)",
        "last index       12, written 1970-01-01 00:00:12 UTC",
        "committed        up to index 9",
        "Behind index 9, entries not known to be committed: 3; commands in them: 6.",
        "Writes that others acknowledged and this node never received are gone for good",
        "2 at 127.0.0.1:2 (voter)",
        "3 at 127.0.0.1:3 (voter)",
        "Dry run: nothing was changed.",
    ):
        assert text in said, said


@pytest.mark.parametrize("typed", ["", "yes\n", "2\n"])
def test_nothing_happens_without_a_yes(tmp_path: Path, typed: str) -> None:
    write_log(str(tmp_path))
    before = content(tmp_path)
    with pytest.raises(StartError, match="without a terminal"):
        call(tmp_path, terminal=io.StringIO("1\n"))
    with pytest.raises(StartError, match="not confirmed"):
        call(tmp_path, terminal=Terminal(typed))
    found = content(tmp_path)
    found.pop("raft_1.lock")
    assert found == before


def test_the_node_s_id_typed_at_a_terminal_is_a_yes(tmp_path: Path) -> None:
    write_log(str(tmp_path))
    status, said = call(tmp_path, "-a", "127.0.0.1:77", terminal=Terminal("1\n"))
    assert status == 0
    survivor = rescue.examine(str(tmp_path), NID)
    assert survivor.membership.members == (ME._replace(addr="127.0.0.1:77"),)
    assert f"the one member of cluster {survivor.identity.cluster:016x}" in said
    assert survivor.identity.cluster != OLD
    assert "-a 127.0.0.1:77" in said


@pytest.mark.parametrize("flag", ["--yes", "--dry-run"])
def test_a_running_node_is_left_alone(
    tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_folder, "__defaults__", (0.0,))
    write_log(str(tmp_path))
    lock = lock_folder(str(tmp_path), NID)
    try:
        with pytest.raises(StartError, match=f"in use by node 1 in process {os.getpid()}; stop it"):
            call(tmp_path, flag)
    finally:
        os.close(lock)


def test_a_damaged_log_is_refused_and_named(tmp_path: Path) -> None:
    write_log(str(tmp_path))
    path = tmp_path / "raft_1_0000000001.log"
    data = bytearray(path.read_bytes())
    data[data.index(b"key7")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"raft_1_0000000001.log is damaged at offset"):
        call(tmp_path, "--yes")
    assert path.read_bytes() == data


def test_a_damaged_newest_snapshot_is_passed_over_where_the_log_joins_the_older(
    tmp_path: Path,
) -> None:
    write_log(str(tmp_path))
    write_snapshot(str(tmp_path), 6)
    newest = Path(write_snapshot(str(tmp_path), 8))
    data = bytearray(newest.read_bytes())
    data[100] ^= 1
    newest.write_bytes(data)
    status, said = call(tmp_path, "--yes")
    assert status == 0
    (note,) = (line for line in said.splitlines() if "note " in line)
    assert str(newest) in note
    assert "damaged" in note
    found, _ = newest_valid(str(tmp_path), NID)
    assert found is not None
    assert found.meta.index == 6


def test_a_hole_between_snapshot_and_log_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path)
    wal, _ = Wal.open(folder, NID, cluster=OLD, incarnation=5, segment_bytes=SEGMENT)
    wal.reset(20, 2, HardState(2, "", 20))
    wal.close()
    write_snapshot(folder, 10)
    with pytest.raises(DamagedFile, match="what lies between is gone"):
        call(tmp_path, "--yes")


def test_there_must_be_one_node_with_data(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no log of any node"):
        call(tmp_path, "--yes")
    wal, _ = Wal.open(str(tmp_path), NID, cluster=OLD, incarnation=5, segment_bytes=SEGMENT)
    wal.append(HardState(1, "", 0), [])
    wal.close()
    with pytest.raises(StartError, match="has no data"):
        call(tmp_path, "--yes")
    wal, _ = Wal.open(str(tmp_path), "2", cluster=OLD, incarnation=6, segment_bytes=SEGMENT)
    wal.close()
    with pytest.raises(ConfigError, match=r"several nodes \(1, 2\)"):
        call(tmp_path, "--yes")
    with pytest.raises(StartError, match="no log of node 4"):
        call(tmp_path, "--yes", "-i", "4")


def test_exit_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(str(tmp_path))
    assert cli.main(["recover", "--dir", str(tmp_path), "--dry-run"]) == 0
    assert cli.main(["recover", "--dir", str(tmp_path), "-a", "nonsense"]) == 2
    assert cli.main(["recover", "--dir", str(tmp_path / "none")]) == 1
    assert "pyraft-fast: cannot list" in capsys.readouterr().err
    for flags in (["--help"], ["recover", "--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(flags)
        assert ended.value.code == 0
        assert "lost for" in capsys.readouterr().out


def test_commands_are_counted_as_the_header_says() -> None:
    assert header(entry_of(7).record).count == 2
