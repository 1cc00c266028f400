"""The judge of digests: machines with a track and a judge each, that hear each other or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyraft_fast import _entry
from pyraft_fast.errors import ConfigError, ProtocolError
from pyraft_fast.serving.digests import (
    PAIRS_MAX,
    WAITING_MAX,
    Answer,
    Ask,
    Judge,
    Report,
    decode,
    encode,
    first_command,
    first_difference,
)
from pyraft_fast.serving.rows import Row
from pyraft_fast.serving.track import ALL, COMMANDS_MAX, ENTRIES_MAX, OFF, SAMPLED, Sum, Track
from pyraft_fast.storage.snapshot import Meta, read_meta, write_snapshot
from pyraft_fast.worker.store import Store

WORDS = st.integers(0, 2**64 - 1)
SUMS = st.tuples(WORDS, WORDS).map(lambda pair: Sum(*pair))
PAIRS = st.lists(st.tuples(WORDS, WORDS), max_size=5)


class Machine:
    """A node's track and judge; `do` applies an entry whose handlers left `value` behind."""

    def __init__(self, nid: str, mode: str = ALL, voters: str = "123", learners: str = "") -> None:
        self.store = Store()
        self.nid = nid
        self.track = Track(mode, self.store)
        self.judge = Judge(nid, self.track)
        self.row = Row("put", self._put, 0, 9, {})
        self.members(voters, learners)

    def _put(self, _: Any, words: list[Any]) -> None:
        self.store.data["key"] = words[1]

    def members(self, voters: str, learners: str = "", reborn: str = "") -> None:
        self.judge.members(
            (nid, 2 if nid in reborn else 1, nid in voters) for nid in voters + learners
        )

    def do(self, *values: object) -> None:
        for value in values:
            index = self.track.index + 1
            if self.track.every and index % self.track.every == 0:
                self.track.begin()
                self.track.noted(self.row).function(None, ["put", value])
                self.track.end(index)
            self.track.index = index
        self.judge.applied()

    def report(self) -> Report:
        note = decode(encode(self.judge.report()))
        assert isinstance(note, Report)
        return note

    def hear(self, *others: Machine) -> None:
        for other in others:
            self.judge.heard(other.nid, other.report())


def three(mode: str = ALL) -> tuple[Machine, Machine, Machine]:
    return Machine("1", mode), Machine("2", mode), Machine("3", mode)


def test_equal_nodes_agree() -> None:
    one, two, three_ = three()
    for machine in (one, two, three_):
        machine.do("a", "b", "c")
    one.hear(two)
    assert (one.judge.agreed(), one.judge.agreed_by_all()) == (3, 0)
    one.hear(three_)
    assert one.judge.agreed_by_all() == 3
    assert one.judge.verdict() is None and not one.judge.differing()


def test_the_minority_node_must_stop_and_the_others_go_on() -> None:
    one, two, odd = three()
    for machine, value in ((one, "b"), (two, "b"), (odd, "c")):
        machine.do("a", value, "a")
    one.hear(odd)
    assert one.judge.verdict() is None, "node 2 may agree"
    one.hear(two)
    assert one.judge.verdict() is None
    assert [(nid, peer.differs) for nid, peer in one.judge.differing().items()] == [("3", 2)]
    odd.hear(one)
    assert odd.judge.verdict() is None, "node 2 may agree"
    odd.hear(two)
    verdict = odd.judge.verdict()
    assert verdict is not None
    assert (verdict.index, verdict.exact, verdict.others, verdict.known) == (2, True, ["1", "2"], 1)


def test_where_all_differ_all_stop() -> None:
    machines = three()
    for machine in machines:
        machine.do(machine.nid)
    for machine in machines:
        machine.hear(*(other for other in machines if other is not machine))
        assert machine.judge.verdict() is not None


def test_of_two_nodes_that_differ_both_stop() -> None:
    one, two = Machine("1", voters="12"), Machine("2", voters="12")
    one.do("a")
    two.do("b")
    one.hear(two)
    verdict = one.judge.verdict()
    assert verdict is not None and not verdict.known, "one of two is no majority"


def test_a_learner_is_judged_and_does_not_judge() -> None:
    voters = [Machine(nid, voters="12", learners="3") for nid in "12"]
    learner = Machine("3", voters="12", learners="3")
    for machine, value in zip([*voters, learner], "aab", strict=True):
        machine.do(value)
    learner.hear(voters[0])
    assert learner.judge.verdict() is not None, "the other voter alone is no majority"
    voters[0].hear(learner)
    assert voters[0].judge.verdict() is None
    assert list(voters[0].judge.differing()) == ["3"]


@pytest.mark.parametrize("mode", [SAMPLED, ALL])
def test_reports_that_come_early_wait_for_the_entry(mode: str) -> None:
    one, two, odd = three(mode)
    for number in range(40):
        one.do(number)
        two.do(number)
        odd.judge.heard("1", one.report())
        odd.judge.heard("2", two.report())
    assert odd.judge.verdict() is None and odd.judge.agreed() == 0
    odd.do(*range(15), "other", *range(16, 33))
    verdict = odd.judge.verdict()
    assert verdict is not None and verdict.index == 16 and verdict.exact


def test_a_lost_report_shows_in_the_sums() -> None:
    one, two, odd = three()
    for machine in (one, two, odd):
        machine.do("a")
    odd.hear(one, two)
    for machine, value in ((one, "b"), (two, "b"), (odd, "c")):
        machine.do(value)
        machine.report()  # which nobody gets
        machine.do("a")
    odd.hear(one, two)
    verdict = odd.judge.verdict()
    assert verdict is not None
    assert (verdict.agreed, verdict.index, verdict.exact) == (1, 3, False)


def test_modes_compare_what_they_share() -> None:
    sampled, every = Machine("1", SAMPLED, "12"), Machine("2", ALL, "12")
    for machine in (sampled, every):
        machine.do(*range(20))
    sampled.hear(every)
    every.hear(sampled)
    assert sampled.judge.agreed_by_all() == every.judge.agreed_by_all() == 20
    assert sampled.judge.is_asked_for_all
    every.do(20, "other")
    sampled.do(20, 21)
    every.hear(sampled)
    assert every.judge.verdict() is None, "entry 22 is not sampled"
    for machine, values in ((sampled, range(22, 31)), (every, range(22, 31))):
        machine.do(*values)
    every.do("other")
    sampled.do("one")
    every.hear(sampled)
    verdict = every.judge.verdict()
    assert verdict is not None and verdict.index == 32


def test_a_node_that_digests_nothing_cannot_object() -> None:
    every, off = Machine("1", ALL, "12"), Machine("2", OFF, "12")
    every.do("a")
    assert every.judge.agreed() == 0
    every.hear(off)
    assert every.judge.agreed() == 1
    off.hear(every)
    assert off.judge.verdict() is None


def test_sums_outlive_a_restart_from_a_snapshot() -> None:
    one, two, odd = three()
    for machine, value in ((one, "b"), (two, "b"), (odd, "c")):
        machine.do("a", value)
    again = Machine("3")
    again.track.replace(2, odd.track.saved())
    again.hear(one, two)
    verdict = again.judge.verdict()
    assert verdict is not None and not verdict.exact
    cured = Machine("3")
    cured.track.replace(2, one.track.saved())
    cured.hear(one, two)
    assert cured.judge.verdict() is None and cured.judge.agreed_by_all() == 2


@pytest.mark.parametrize("mode", [SAMPLED, ALL])
def test_sums_with_other_beginnings_are_compared_from_the_first_common_index(mode: str) -> None:
    one, two = Machine("1", mode, "12"), Machine("2", mode, "12")
    one.do(*range(100))
    two.track.replace(100, ())  # a snapshot without sums
    one.hear(two)
    assert one.judge.agreed_by_all() == 100
    for machine in (one, two):
        machine.do(*range(100, 120))
    one.report()
    two.report()
    one.hear(two)
    two.hear(one)
    assert one.judge.agreed_by_all() == two.judge.agreed_by_all() == 120
    one.do(*range(120, 140))
    two.do(*range(120, 127), "other", *range(128, 140))
    one.report()  # which is lost
    two.report()
    one.hear(two)
    assert one.judge.verdict() is not None


def test_a_snapshot_of_another_mode_keeps_what_both_have() -> None:
    sampled = Machine("1", SAMPLED, "12")
    sampled.do(*range(40))
    every = Machine("2", ALL, "12")
    every.track.replace(40, sampled.track.saved())
    assert every.track.sampled == sampled.track.sampled
    assert every.track.all == Sum(40, 0)
    every.hear(sampled)
    assert every.judge.agreed_by_all() == 40


def test_a_node_that_is_set_up_anew_is_believed_again() -> None:
    one, two, odd = three()
    for machine, value in ((one, "a"), (two, "a"), (odd, "b")):
        machine.do(value)
    one.hear(two, odd)
    assert list(one.judge.differing()) == ["3"]
    one.members("123", reborn="3")
    assert not one.judge.differing()
    one.hear(odd)
    fresh = Machine("3")
    fresh.track.replace(1, one.track.saved())
    fresh.do("c")
    one.do("c")
    one.hear(fresh)
    assert not one.judge.differing(), "its sums agree from the beginning of the log"


def test_strangers_and_old_entries_are_ignored() -> None:
    one, two = Machine("1", voters="12"), Machine("2", voters="12")
    one.do(*range(ENTRIES_MAX + 100))
    two.do("other")
    one.judge.heard("9", two.report())
    one.hear(two)
    assert one.judge.verdict() is None, "entry 1 is long forgotten"
    assert one.judge.agreed() == 0


def test_what_is_remembered_is_bounded() -> None:
    one, two = Machine("1", voters="12"), Machine("2", voters="12")
    for number in range(2 * ENTRIES_MAX):
        two.do(number)
        one.hear(two)
    (peer,) = one.judge._peers.values()
    assert len(peer.early) == ENTRIES_MAX and len(peer.waiting) == WAITING_MAX
    assert len(two.track._known) == ENTRIES_MAX
    assert len(encode(Report(ALL, 1, Sum(0, 2**64 - 1), None, [(2**64 - 1,) * 2] * PAIRS_MAX)))
    track = one.track
    for index in range(1, 40):
        track.begin()
        for _ in range(4096):
            track.noted(one.row).function(None, ["put", 1])
        track.end(index)
    assert sum(len(log) // 2 for log in track._details.values()) <= COMMANDS_MAX
    assert track.details(39) is not None and track.details(1) is None


def test_expired_keys_count() -> None:
    one, two = Machine("1", voters="12"), Machine("2", voters="12")
    two.store.set_deadline("gone", 5)
    for machine in (one, two):
        machine.track.begin()
        machine.store.begin(10)
        machine.track.end(1)
        machine.track.index = 1
    one.hear(two)
    assert one.judge.verdict() is not None


@given(st.sampled_from([OFF, SAMPLED, ALL]), WORDS, SUMS, SUMS | st.none(), PAIRS)
def test_reports_come_back_as_they_were(
    mode: str, index: int, sampled: Sum, every: Sum | None, pairs: list[tuple[int, int]]
) -> None:
    report = Report(mode, index, sampled, every, pairs)
    assert decode(encode(report)) == report


@given(WORDS, WORDS, PAIRS, st.lists(WORDS, max_size=5))
def test_questions_and_answers_come_back_as_they_were(
    low: int, high: int, pairs: list[tuple[int, int]], commands: list[int]
) -> None:
    for note in (Ask(low, high), Answer(low, high, pairs, commands)):
        assert decode(encode(note)) == note


MALFORMED: list[Any] = [
    None, 7, [], [0], [9, 1, 0, 0], [0, 1, 3, 5, [0, 0], []], [0, 1, 0, -1, [0, 0], []],
    [0, 1, 0, 1, [0], []], [0, 1, 0, 1, [0, 0], [1]], [0, 1, 0, 1, "x", []], [1, 1, "a", 2],
    [2, 1, 0, 1, [], [1.5]], [2, 1, 0, 1, []], [0, 1, 0, 1, [0, 2**70 - 1][:1], []],
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED, ids=repr)
def test_malformed_notes_are_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(_entry.packb(value))


def test_notes_of_another_version_are_left_alone() -> None:
    assert decode(_entry.packb([0, 2, "whatever", {}])) is None


def test_first_differences() -> None:
    assert first_difference([(1, 5), (2, 6), (3, 7)], [(2, 6), (3, 8), (4, 1)]) == 3
    assert first_difference([(1, 5)], [(2, 5)]) == 0
    assert first_command([1, 2, 3], [1, 9, 9]) == 1
    assert first_command([1], [1]) == -1


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="off, sampled or all"):
        Track("some", Store())


def test_snapshots_carry_the_sums_and_old_ones_have_none(tmp_path: Path) -> None:
    meta = Meta(1, 2, 3, 4, b"", {}, 0, digests=(0, 2**64 - 1, 5, 6))
    write_snapshot(str(tmp_path / "raft_1_1_2.dat"), meta, [])
    assert read_meta(str(tmp_path / "raft_1_1_2.dat")).digests == meta.digests
    assert Meta(1, 2, 3, 4, b"", {}, 0).digests == ()
