"""What bytes of a segment prove: whole, torn by a crash, or damaged."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast.consensus.wal import Wal
from pyraft_fast.errors import DamagedFile, InvariantError, StorageError
from pyraft_fast.storage import names
from pyraft_fast.storage.groups import (
    Broken,
    Group,
    HardState,
    Head,
    Identity,
    claims_beyond,
    decode_head,
    encode_group,
    encode_head,
    parse_group,
)
from pyraft_fast.storage.segments import Positions, find_segments, read_log, read_segment

from .fakedisk import SECTOR, FakeDisk
from .model import CLUSTER, FOLDER, INCARNATION, NID, record

HEAD = Head(Identity(CLUSTER, NID, INCARNATION), 3, 10, 2, 1 << 16)
STATE = HardState(4, NID, 12)


def placed(records: list[bytes], offset: int, durable: int = 0) -> tuple[bytes, int]:
    """A segment's bytes with one group at `offset`, and where it ends."""
    group, places = encode_group(HEAD, offset, STATE, 5, durable, records)
    found = zip(places, records, strict=True)
    assert [group[at - offset :][: len(record)] for at, record in found] == records
    return bytes(offset) + group + bytes(HEAD.size_bytes - offset - len(group)), offset + len(group)


payloads = st.one_of(
    st.binary(max_size=1600),
    st.integers(0, 3000).map(bytes),
    st.tuples(st.binary(max_size=700), st.integers(0, 3000), st.binary(max_size=700)).map(
        lambda parts: parts[0] + bytes(parts[1]) + parts[2]
    ),
)
groups = st.tuples(st.lists(payloads, max_size=4), st.integers(0, 200).map(lambda n: 8 * n)).map(
    lambda drawn: ([record(20 + i, 4, data) for i, data in enumerate(drawn[0])], drawn[1])
)


@given(groups)
def test_a_group_is_read_as_it_was_written(drawn):
    records, offset = drawn
    data, end = placed(records, offset, durable=8)
    group = parse_group(data, HEAD, offset)
    assert isinstance(group, Group)
    assert (group.state, group.start, group.durable_offset, group.end) == (STATE, 5, 8, end)
    assert [data[at : at + found.length] for at, found in group.records] == records
    assert parse_group(data, HEAD, end) is None


@settings(deadline=None, max_examples=300)
@given(groups, st.data())
def test_one_wrong_byte_never_looks_torn(drawn, data):
    records, offset = drawn
    good, end = placed(records, offset)
    at = data.draw(st.integers(offset, end - 1))
    value = data.draw(st.sampled_from([0, good[at] ^ 1, good[at] ^ 128, good[at] ^ 255]))
    bad = good[:at] + bytes([value]) + good[at + 1 :]
    group = parse_group(bad, HEAD, offset)
    if group != parse_group(good, HEAD, offset):
        assert isinstance(group, Broken)
        assert not group.blank


@settings(deadline=None, max_examples=300)
@given(groups, st.data())
def test_sectors_that_did_not_arrive_look_torn(drawn, data):
    records, offset = drawn
    good, end = placed(records, offset)
    first, last = offset // SECTOR, (end - 1) // SECTOR
    lost = data.draw(st.sets(st.integers(first, last), min_size=1))
    bad = bytearray(good)
    for sector in lost:
        begin, behind = max(offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
        bad[begin:behind] = bytes(behind - begin)
    found = parse_group(bytes(bad), HEAD, offset)
    if bytes(bad) == good:
        assert isinstance(found, Group)
    elif found is not None:  # None: all of it was lost
        assert isinstance(found, Broken)
        short_of_zeros = any(
            good[sector * SECTOR : (sector + 1) * SECTOR].count(0) == SECTOR - 1 for sector in lost
        )
        assert found.blank or short_of_zeros


def test_many_blank_sectors_are_listed_in_bounded_room():
    zeros = b"".join(bytes(1000) + b"\x01\x02\x03" * 200 for _ in range(80))
    data, end = placed([record(20, 4, zeros[:60_000])], 400)
    group = parse_group(data, HEAD, 400)
    assert isinstance(group, Group)
    assert group.end == end
    begin = group.records[0][0]
    for at in range(begin, end, 509):
        bad = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
        found = parse_group(bad, HEAD, 400)
        assert isinstance(found, (Broken, Group))
        assert found == group or (isinstance(found, Broken) and not found.blank)


def test_a_group_copied_elsewhere_proves_nothing():
    group, _ = encode_group(HEAD, 800, STATE, 5, 700, [])
    data = bytes(256) + group + bytes(4096)
    assert isinstance(parse_group(data, HEAD, 256), Broken)
    assert claims_beyond(data, HEAD, 0) is None
    data = bytes(800) + group + bytes(4096)
    assert claims_beyond(data, HEAD, 0) == 800
    assert claims_beyond(data, HEAD, 700) is None
    other = HEAD._replace(sequence=4)
    assert claims_beyond(data, other, 0) is None


def test_a_head_is_read_as_it_was_written():
    data = encode_head(HEAD)
    assert decode_head(data + bytes(100)) == (HEAD, len(data))
    with pytest.raises(StorageError):
        decode_head(bytes(100))
    with pytest.raises(StorageError):
        decode_head(b"")
    with pytest.raises(StorageError, match="segment record"):
        decode_head(record(1, 1))


# A whole log


def make_log(close: bool) -> FakeDisk:
    """A log of three segments with groups of every kind of content."""
    disk = FakeDisk(1)
    wal, _ = Wal.open(
        FOLDER, NID, cluster=CLUSTER, incarnation=INCARNATION, disk=disk, segment_bytes=4096
    )
    random = Random(4)
    index = 1
    for data in [
        b"a" * 60,
        bytes(1800),
        random.randbytes(900),
        b"",
        bytes(1100),
        b"\1" + bytes(511),
    ]:
        for _ in range(2):
            wal.append(HardState(1, NID, index - 1), [record(index, 1, data)])
            wal.sync()
            index += 1
    if close:
        wal.close()
    return disk


def contents(disk: FakeDisk) -> tuple[object, ...]:
    """Everything a log says, read without changing it."""
    log = read_log(disk, FOLDER, NID)
    assert log is not None
    data = {each.head.sequence: read_segment(disk, each) for each in log.segments}
    places = [log.positions.locate(i) for i in range(log.positions.first, log.positions.last + 1)]
    entries = [data[sequence][at : at + 64 + 4000] for sequence, at in places]
    lengths = [int.from_bytes(entry[:4], "little") for entry in entries]
    records = [entry[:length] for entry, length in zip(entries, lengths, strict=True)]
    return log.state, log.positions.first, log.start, log.reset, records


@pytest.mark.parametrize("close", [False, True])
def test_every_wrong_byte_in_a_log_is_found_or_harmless(close):
    """Bits flipped anywhere in what was acknowledged: an error, or everything is still there."""
    disk = make_log(close)
    good = contents(disk)
    found = harmless = 0
    for path, inode in disk.names.items():
        end = len(bytes(inode.live).rstrip(b"\0"))
        for at in range(end):
            for mask in {1, 1 << at % 8, 255, inode.live[at]} - {0}:
                disk.rot(path, at, mask)
                try:
                    assert contents(disk) == good, (path, at, mask)
                    harmless += 1
                except DamagedFile as error:
                    assert path in str(error)
                    found += 1
                disk.rot(path, at, mask)
    assert contents(disk) == good
    assert found > 10 * harmless > 0


def test_wrong_bytes_behind_the_end_cost_nothing():
    disk = make_log(True)
    good = contents(disk)
    path = find_segments(disk, FOLDER, NID)[-1].path
    end = len(bytes(disk.names[path].live).rstrip(b"\0"))
    for at in range(end, len(disk.names[path].live)):
        disk.rot(path, at, 16)
        try:
            assert contents(disk) == good
        except DamagedFile:
            assert at < end + 64  # it looks like a group that was there
        disk.rot(path, at, 16)


def test_a_missing_segment_in_the_middle_is_named():
    disk = make_log(True)
    segments = find_segments(disk, FOLDER, NID)
    assert len(segments) >= 3
    del disk.names[segments[1].path]
    with pytest.raises(DamagedFile, match="files are missing"):
        Wal.open(FOLDER, NID, disk=disk)


def test_a_shortened_segment_is_named():
    disk = make_log(True)
    path = find_segments(disk, FOLDER, NID)[-1].path
    del disk.names[path].live[4000:]
    with pytest.raises(DamagedFile, match="4000 bytes"):
        Wal.open(FOLDER, NID, disk=disk)


def test_an_empty_or_strange_file_under_a_segment_name_is_named():
    disk = make_log(True)
    disk.close(disk.create(f"{FOLDER}/{names.segment_name(NID, 99)}"))
    with pytest.raises(DamagedFile, match="0000000099"):
        Wal.open(FOLDER, NID, disk=disk)


def test_a_segment_of_another_log_is_named():
    disk = make_log(True)
    path = find_segments(disk, FOLDER, NID)[-1].path
    other = FakeDisk()
    Wal.open(FOLDER, NID, cluster=CLUSTER, incarnation=5, disk=other, segment_bytes=4096)
    data = bytearray(other.names[f"{FOLDER}/{names.segment_name(NID, 1)}"].live)
    head, begin = decode_head(bytes(data))
    newest = find_segments(disk, FOLDER, NID)[-1].head.sequence
    moved = encode_head(head._replace(sequence=newest))
    data[:begin] = moved.ljust(begin, b"\0")
    disk.names[path].live[:] = data
    with pytest.raises(DamagedFile, match="another log"):
        Wal.open(FOLDER, NID, disk=disk)


# Positions


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), max_size=60))
def test_positions_know_where_the_living_entries_are(steps):
    positions = Positions(1)
    model: dict[int, tuple[int, int]] = {}
    sequence, offset = 1, 0
    for back, step in steps:
        index = max(positions.last + 1 - back, positions.first, 1)
        sequence, offset = (sequence + 1, 0) if step == 3 else (sequence, offset + 8)
        positions.put(index, sequence, offset)
        model = {i: place for i, place in model.items() if i < index} | {index: (sequence, offset)}
        assert positions.last == max(model)
    assert {i: positions.locate(i) for i in model} == model
    for wanted in range(sequence + 1):
        behind = [i for i, place in model.items() if place[0] > wanted]
        assert positions.first_behind(wanted) == (min(behind) if behind else positions.last + 1)


def test_positions_are_kept_however_many_there_are():
    positions, count = Positions(1), 5_000_000
    positions.put_all(1, 1, range(0, 8 * count, 8))
    positions.put(count + 1, 2, 0)
    assert (positions.first, positions.last) == (1, count + 1)
    assert positions.locate(1) == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), max_size=12))
def test_positions_taken_together_are_those_taken_one_by_one(steps):
    one, all_at_once = Positions(1), Positions(1)
    for sequence, (back, count) in enumerate(steps, 1):
        index = max(one.last + 1 - back, one.first)
        offsets = [8 * number for number in range(count)]
        for number, offset in enumerate(offsets):
            one.put(index + number, sequence, offset)
        all_at_once.put_all(index, sequence, offsets)
        assert (one.first, one.last) == (all_at_once.first, all_at_once.last)
        assert [one.locate(i) for i in range(one.first, one.last + 1)] == [
            all_at_once.locate(i) for i in range(one.first, one.last + 1)
        ]


def test_positions_refuse_a_gap():
    with pytest.raises(InvariantError):
        Positions(5).put(6, 1, 0)


# Names


@pytest.mark.parametrize("nid", ["1", "n_1", "a/b", "..", "%5F", "héß", "x" * 128, "\udcff"])
def test_a_node_id_survives_its_quoting(nid):
    for name, parsed in [
        (names.segment_name(nid, 7), names.parse_segment),
        (names.segment_name(nid, 7, 3), names.parse_segment),
        (names.snapshot_name(nid, 1700000000, 7), names.parse_snapshot),
        (names.partial_name(nid, 1, 2, 3), names.parse_partial),
    ]:
        assert "/" not in name
        found = parsed(name)
        assert found is not None
        assert found.nid == nid
        assert found.name == name
    assert names.segments([names.segment_name(nid, 1)], "other") == []


@pytest.mark.parametrize("nid", ["", "x" * 129, "é" * 65])
def test_a_bad_node_id_is_refused(nid):
    with pytest.raises(StorageError):
        names.quoted(nid)


@pytest.mark.parametrize(
    "name",
    ["raft_1_12.log", "raft_1_0000000001.log.tmp", "x", "raft_a_b_0000000001.log", "raft__1"],
)
def test_other_files_are_left_alone(name):
    assert names.parse_segment(name) is None
    assert names.parse_snapshot(name) is None
