"""The log: window and storage, terms, truncation, compaction (thesis 3.5, 4.1 and 5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import UNKNOWN, RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.errors import InvariantError
from tests.core.single import Shelf, config_entry, entries_of, entry, log_of, members


def founded(log: RaftLog) -> RaftLog:
    log.found(members())
    return log


def test_terms_are_known_for_all_entries_and_the_one_before() -> None:
    log = founded(log_of((1, 1, 3, 3, 5)))
    assert [log.term(i) for i in range(7)] == [0, 1, 1, 3, 3, 5, UNKNOWN]


def test_entries_come_from_storage_and_window_alike() -> None:
    log = founded(log_of((1, 1)))
    for new in entries_of((2, 2, 2), 3):
        log.append(new)
    assert [e.index for e in log.read(1, 6, 10_000)] == [1, 2], "storage first"
    assert [e.index for e in log.read(3, 6, 10_000)] == [3, 4, 5]
    assert [e.index for e in log.read(4, 5, 10_000)] == [4]
    assert not log.read(6, 7, 10_000)
    assert not log.read(0, 2, 10_000)


def test_a_read_gives_one_entry_at_least_and_then_keeps_to_the_bound() -> None:
    log = founded(log_of())
    for index in range(1, 6):
        log.append(entry(index, 1, b"x" * 100))
    size = log.read(1, 2, 1)[0].size
    assert [len(log.read(1, 6, bound)) for bound in (1, size, 2 * size - 1, 2 * size)] == [
        1,
        1,
        1,
        2,
    ]
    assert [e.index for e in log.read(3, 6, 2 * size)] == [3, 4]


def test_entries_on_disk_leave_the_window_when_it_is_full() -> None:
    shelf = Shelf()
    log = founded(RaftLog(shelf, bytes_max=1000))
    for index in range(1, 101):
        log.append(entry(index, 1, b"x" * 36))
        handed = log.hand_out()
        if index <= 50:
            shelf.entries += handed
            log.commit = max(0, index - 20)
            assert log.persisted(index, 1)
    assert log.read(1, 101, 10**9)[-1].index < 31
    assert shelf.reads
    reads = shelf.reads
    assert [e.index for e in log.read(31, 101, 10**9)] == list(range(31, 101))
    assert shelf.reads == reads, "what is not on disk and committed is in memory"


def test_3_5_gaps_and_falling_terms_are_refused() -> None:
    log = founded(log_of((1, 2)))
    with pytest.raises(InvariantError, match="no gap"):
        log.append(entry(4, 2))
    with pytest.raises(InvariantError, match="terms never fall"):
        log.append(entry(3, 1))


def test_truncation_takes_back_a_membership() -> None:
    log = founded(log_of((1,)))
    old = log.membership
    new = old.with_added("9", "h:1", 9)
    log.append(config_entry(2, 1, new))
    assert (log.membership, log.config_index) == (new, 2)
    log.append(entry(3, 1))
    log.truncate(1)
    assert (log.membership, log.config_index, log.last) == (old, 0, 1)


def test_3_5_a_truncated_entry_is_on_disk_no_more() -> None:
    log = founded(log_of((1, 1, 1)))
    assert log.stable == 3
    log.truncate(1)
    assert log.stable == 1
    log.append(entry(2, 2))
    assert [e.term for e in log.hand_out()] == [2]
    assert log.stable == 1


def test_the_committed_membership_is_another_one_while_a_change_is_under_way() -> None:
    log = founded(log_of((1,)))
    old = log.membership
    new = old.with_added("9", "h:1", 9)
    log.append(config_entry(2, 1, new))
    assert log.committed_membership() == old
    log.commit = 2
    assert log.committed_membership() == new


def test_two_voters_may_not_change_at_once() -> None:
    log = founded(log_of((1,)))
    with pytest.raises(InvariantError, match="one voter"):
        log.append(config_entry(2, 1, members(5)))


def test_memberships_are_recovered_from_the_log_above_the_snapshot() -> None:
    one, two = members(3), members(3).with_added("9", "h:1", 9)
    entries = [config_entry(1, 1, one), entry(2, 1), config_entry(3, 1, two), entry(4, 1)]
    configs = [entries[0], entries[2]]
    log = RaftLog(Shelf(entries), 1, 4, 1, (2, 1), configs)
    log.found(one)
    assert [index for index, _ in log.configs] == [2, 3]
    assert log.membership == two


def test_5_1_compaction_keeps_the_term_of_the_last_entry_dropped() -> None:
    log = founded(log_of((1, 1, 2, 2, 3)))
    log.commit = 5
    log.compact(3)
    assert [log.term(i) for i in range(2, 6)] == [UNKNOWN, 2, 2, 3]
    assert not log.read(3, 6, 1000)
    log.compact(2)
    assert log.first == 4, "compaction never goes back"
    log.compact(5)
    assert (log.first, log.term(5), log.term(4)) == (6, 3, UNKNOWN)
    log.append(entry(6, 4))
    assert [log.term(5), log.term(6)] == [3, 4]


def test_5_1_only_what_is_committed_and_on_disk_is_forgotten() -> None:
    log = founded(log_of((1, 1)))
    with pytest.raises(InvariantError, match="only what is safe"):
        log.compact(1)


def test_5_1_compaction_keeps_the_membership_in_force() -> None:
    log = founded(log_of())
    new = members().with_added("9", "h:1", 9)
    log.append(entry(1, 1))
    log.append(config_entry(2, 1, new))
    log.append(entry(3, 1))
    log.hand_out()
    log.persisted(3, 1)
    log.commit = 3
    log.compact(3)
    assert (log.membership, log.committed_membership()) == (new, new)


def test_a_log_restarts_behind_a_snapshot() -> None:
    log = founded(log_of((1, 1)))
    log.append(entry(3, 1))
    log.hand_out()
    log.restart(10, 4, members(5))
    assert (log.first, log.last, log.last_term, log.commit, log.stable) == (11, 10, 4, 10, 10)
    assert (log.term(10), log.term(9)) == (4, UNKNOWN)
    assert log.membership == members(5)
    assert not log.persisted(3, 1)
    log.append(entry(11, 4))
    assert [e.index for e in log.hand_out()] == [11]


def test_a_log_that_begins_before_its_snapshot_may_not_know_what_was_before() -> None:
    log = RaftLog(Shelf(), 5, 9, 2, (7, 2))
    assert log.term(4) == UNKNOWN
    log = RaftLog(Shelf(), 8, 9, 2, (7, 2))
    assert log.term(7) == 2


def test_a_log_must_join_its_snapshot() -> None:
    with pytest.raises(InvariantError, match="joins"):
        RaftLog(Shelf(), 9, 12, 2, (7, 2))
    with pytest.raises(InvariantError, match="joins"):
        RaftLog(Shelf(), 1, 5, 2, (7, 2))


def test_jobs_of_the_disk_are_reported_in_order_and_may_be_reported_together() -> None:
    log = founded(log_of())
    for index in (1, 2, 3):
        log.append(entry(index, 1))
        log.hand_out()
    assert log.persisted(2, 1)
    assert log.stable == 2
    assert not log.persisted(1, 1)
    assert log.persisted(3, 1)


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(0, 35), st.integers(0, 5), st.data())
@settings(max_examples=300, deadline=None)
def test_5_3_agreement_is_found_as_by_walking_back(
    steps: list[int], index: int, term: int, data: st.DataObject
) -> None:
    terms = [sum(steps[: n + 1]) // 3 + 1 for n in range(len(steps))]
    on_disk = data.draw(st.integers(0, len(terms)))
    log = founded(log_of(terms[:on_disk]))
    for new in entries_of(terms[on_disk:], on_disk + 1):
        log.append(new)
    floor = data.draw(st.integers(0, len(terms)))
    walked = min(index, len(terms))
    while walked > floor and terms[walked - 1] > term:
        walked -= 1
    assert log.find_agreement(index, term, floor) == max(walked, floor)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 1), st.integers(0, 80)),
        st.tuples(st.just("truncate"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("hand"), st.just(0), st.just(0)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("compact"), st.integers(0, 5), st.just(0)),
    ),
    max_size=120,
)


@given(OPERATIONS)
@settings(max_examples=300, deadline=None)
def test_the_log_equals_a_plain_list(operations: list[tuple[str, int, int]]) -> None:
    shelf = Shelf()
    log = RaftLog(shelf, bytes_max=600)
    log.found(Membership(0))
    model: list[int] = []
    jobs: list[list[int]] = []
    pending: list[tuple[int, int, list[Entry]]] = []
    for name, number, size in operations:
        if name == "append":
            term = (model[-1] if model else 1) + number
            model.append(term)
            log.append(entry(len(model), term, b"x" * size))
        elif name == "truncate":
            keep = max(len(model) - number, log.commit)
            if keep < len(model):
                log.truncate(keep)
                del model[keep:]
                jobs = [[job[0], min(job[1], keep)] for job in jobs]
        elif name == "hand":
            handed = list(log.hand_out())
            if handed:
                jobs.append([len(model), len(model)])
                pending.append((handed[-1].index, handed[-1].term, handed))
        elif name == "sync" and pending:
            index, term, handed = pending.pop(0)
            del shelf.entries[handed[0].index - 1 :]
            shelf.entries += handed
            stable = max(log.stable, jobs.pop(0)[1])
            log.persisted(index, term)
            assert log.stable == stable
        elif name == "commit":
            log.commit = min(log.commit + number, len(model))
        elif name == "compact":
            index = min(log.commit, log.stable) - number
            if index > 0:
                log.compact(index)
        _check_against(log, model)


def _check_against(log: RaftLog, model: list[int]) -> None:
    assert log.last == len(model)
    for index in range(log.first, len(model) + 1):
        assert log.term(index) == model[index - 1]
    index = log.first
    while index <= log.last:
        found = log.read(index, log.last + 1, 200)
        assert found
        for each in found:
            assert (each.index, each.term) == (index, model[index - 1])
            index += 1
