"""Groups of records as a segment holds them, judged by the plain twin."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast._entry import KIND_COMMANDS, check_records, seal, seal_group
from pyraft_fast.errors import CommandError, InvariantError, ProtocolError
from tests.fuzz.fuzz_group import difference, outcome
from tests.twins import group_twin

U64 = st.integers(0, 2**64 - 1)
ZEROS = st.sampled_from([0, 1, 200, 254, 255, 256, 510, 511, 512, 513, 1023, 1600, 5000]).map(bytes)
PAYLOADS = st.lists(st.binary(max_size=600) | ZEROS, max_size=5).map(b"".join)
PLACE = (7, 3, 4096, 5, 4096, 4, "n1", 12)  # incarnation, sequence, offset ... vote, commit


def record(index: int, payload: bytes = b"payload", term: int = 4) -> bytes:
    return seal(KIND_COMMANDS, index, term, 1, 2, 3, 4, 1, payload)


@settings(deadline=None)
@given(st.lists(PAYLOADS, max_size=5), U64, U64, st.integers(0, 9000), U64, U64, st.text(), U64)
def test_groups_agree_with_the_twin(
    payloads: list[bytes],
    incarnation: int,
    sequence: int,
    offset: int,
    start: int,
    term: int,
    vote: str,
    commit: int,
) -> None:
    records = [record(20 + number, payload) for number, payload in enumerate(payloads)]
    args = (records, incarnation, sequence, offset, start, offset, term, vote, commit)
    assert outcome(seal_group, *args) == outcome(group_twin.seal_group, *args)


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 12), st.integers(0, 12))
def test_checks_agree_with_the_twin(indexes: list[int], last: int, commit: int) -> None:
    records = [record(index, term=index + 1) for index in indexes]
    want = outcome(group_twin.check_records, records, last, commit)
    assert outcome(check_records, records, last, commit) == want


def test_a_short_run_of_the_fuzzer() -> None:
    dice = Random(3)
    for number in range(500):
        assert difference(dice) == "", number


def test_one_byte_less_than_blank_at_every_place_of_a_sector() -> None:
    for offset in range(0, 520, 8):
        for at in (0, 1, 254, 255, 256, 257, 511):
            payload = bytearray(700)
            payload[at] = 1
            args = ([record(1, bytes(payload))], 7, 3, offset, 5, 0, 4, "n1", 0)
            assert seal_group(*args) == group_twin.seal_group(*args)


def test_what_a_group_begins_and_ends_with() -> None:
    assert check_records([], 9, 4) == (10, 0)
    assert check_records([record(10), record(11, term=6)], 9, 4) == (10, 6)
    assert check_records((record(5),), 9, 4) == (5, 4)


@pytest.mark.parametrize(
    "records",
    [
        [record(11)],
        [record(4)],
        [record(10), record(10)],
        [record(10), record(12)],
        [record(10)[:-1]],
        [record(10) + b"\0"],
    ],
    ids=["gap", "committed", "twice", "gap inside", "cut", "tail"],
)
def test_what_replay_would_refuse_is_not_written(records: list[bytes]) -> None:
    with pytest.raises(InvariantError, match=r"ascend by one|is whole"):
        check_records(records, 9, 4)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(ProtocolError):
        check_records([b"x" * 63], 0, 0)
    for bad in ([None], ["text"], [bytearray(64)]):
        with pytest.raises(TypeError):
            check_records(bad, 0, 0)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            seal_group(bad, *PLACE)  # type: ignore[arg-type]


def test_numbers_and_votes_that_do_not_fit() -> None:
    for at in (0, 1, 2, 3, 4, 5, 7):
        for number in (-1, 2**64):
            with pytest.raises(OverflowError):
                seal_group([], *PLACE[:at], number, *PLACE[at + 1 :])  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        seal_group([], 7, 3, 2**63, 5, 0, 4, "n1", 0)
    with pytest.raises(CommandError, match=r"item 1: .*surrogate"):
        seal_group([], 7, 3, 0, 5, 0, 4, "\ud800", 0)
    with pytest.raises(InvariantError, match="room for the list of blank sectors"):
        seal_group([record(1, bytes(600))], 7, 3, 0, 5, 0, 4, "v" * 700, 0)
    assert len(seal_group([record(1)], 7, 3, 0, 5, 0, 4, "v" * 2000, 0)[0]) > 2000
