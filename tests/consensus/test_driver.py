"""One driver over the real rules, with a disk that is done when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import MagicMock

import pytest

from pyraft_fast import _entry
from pyraft_fast._slot import NOT_ADDED, Slot
from pyraft_fast._wire import Frame
from pyraft_fast.consensus import driver
from pyraft_fast.consensus.diskwork import Write
from pyraft_fast.consensus.driver import Driver, Parts
from pyraft_fast.consensus.forward import Proposal
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import Identity
from pyraft_fast.consensus.lease_notice import WANTED_TICKS, LeaseNotice
from pyraft_fast.consensus.resending import WAIT_SECONDS
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config
from tests.core.single import CONFIG, accept, lead, led_alone, members, raft_of

CONFIG_SMALL = CONFIG._replace(uncommitted_bytes_max=1000)


class Bench:
    """A driver of node "1" of so many voters, and what it does to the outside."""

    def __init__(
        self,
        folder: Path,
        voters: int,
        config: Config = CONFIG_SMALL,
        membership: Membership | None = None,
    ) -> None:
        self.writes: list[Write] = []
        self.serves: list[bool] = []  # as told with every role
        self.resends = 0
        self.on_write: Callable[[Write], object] = lambda _: None
        self.links = MagicMock()
        self.links.moved_bytes.return_value = self.links.queued_bytes.return_value = 0
        self.slot = Slot.create(4096)
        self.hurries = 0
        self.fits = {driver.TAIL_BYTES: 1000, driver.TAIL_BYTES_MAX: 1000}  # entries in so much
        self.disk = SimpleNamespace(
            is_idle=False, is_gathering=False, submit=self._submit, hurry=self._hurry
        )
        serving = SimpleNamespace(role=self._role, resend=self._resend)
        host = MagicMock()
        host.identity = Identity(7, "1", "host1:1", 1)
        server = MagicMock()
        server.callers.return_value = {}
        raft = raft_of(membership=membership or members(voters), config=config)
        self.publisher = MagicMock(published=0)
        parts = SimpleNamespace(
            raft=raft,
            hard=raft.hard,
            wal=SimpleNamespace(
                begin_of_last=lambda bytes_max, index: index - self.fits[bytes_max]
            ),
            disk=self.disk,
            publisher=self.publisher,
            links=self.links,
            server=server,
            pool=None,
            snapshot=None,
            folder=str(folder),
            slot=self.slot,
        )
        self.driver = Driver(host, serving, cast(Parts, parts))

    def _submit(self, job: object) -> None:
        if isinstance(job, Write):
            self.writes.append(job)
            self.on_write(job)

    def _hurry(self) -> None:
        self.hurries += 1

    def _role(self, *told: object) -> None:
        self.serves.append(bool(told[-1]))

    def _resend(self) -> None:
        self.resends += 1

    def disk_done(self) -> None:
        """Everything handed to the disk is there."""
        writes, self.writes = self.writes, []
        for write in writes:
            write.done()

    def propose(self, number: int, size: int) -> None:
        self.driver.propose(Proposal(1, 1, number, 1, b"x" * size))


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 10)


async def leading(bench: Bench) -> None:
    await until(lambda: bench.driver.raft.is_leader)
    await until(lambda: bench.writes)
    bench.disk_done()
    await until(lambda: bench.driver.raft.log.commit)
    await until(lambda: bench.resends)


def test_a_turn_takes_what_lies_in_the_slot(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, voters=1)
        await leading(bench)
        log = bench.driver.raft.log
        last = log.last
        bench.slot.put(1, 5, 1, b"one")
        bench.slot.add(1, b"two")
        bench.driver.wake()
        await bench.driver.changed()
        assert log.last == last + 1
        header = _entry.header(log.read(log.last, log.last + 1, 1000)[0].record)
        assert (header.start, header.batch, header.count) == (1, 5, 2)
        assert bench.slot.add(1, b"three") == NOT_ADDED
        bench.driver.close()

    asyncio.run(main())


def test_a_batch_refused_by_a_full_leader_is_sent_again_when_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, voters=1)
        await leading(bench)
        before = bench.resends
        raft = bench.driver.raft
        bench.propose(1, 1200)
        last = raft.log.last
        bench.propose(2, 10)
        bench.propose(3, 10)
        await bench.driver.changed()
        assert raft.log.last == last, "refused"
        assert bench.resends == before, "not while it is full"
        await until(lambda: bench.writes)
        bench.disk_done()
        await until(lambda: bench.resends > before)
        bench.propose(2, 10)
        assert raft.log.last == last + 1
        await bench.driver.changed()
        assert bench.resends == before + 1, "once"
        bench.driver.close()

    asyncio.run(main())


def test_a_batch_refused_and_room_made_in_one_turn_is_sent_again(tmp_path: Path) -> None:
    """Nobody sees the leader full then, so no change of role can say that it is not any more."""

    async def main() -> None:
        bench = Bench(tmp_path, voters=1)
        await leading(bench)
        before = bench.resends
        bench.propose(1, 1200)
        await bench.driver.changed()
        await until(lambda: bench.writes)
        bench.propose(2, 10)
        bench.disk_done()
        await bench.driver.changed()
        assert bench.resends == before + 1
        bench.driver.close()

    asyncio.run(main())


def test_a_batch_refused_by_another_node_is_sent_again_less_and_less_often(tmp_path: Path) -> None:
    async def main() -> None:
        patient = CONFIG._replace(election_ticks_min=1000, election_ticks_max=2000)
        bench = Bench(tmp_path, voters=3, config=patient)
        caller = Identity(7, "2", "host2:1", 2)
        refusal = Frame(FrameType.FORWARD_REFUSED, {}, memoryview(b""))
        waits: list[float] = []
        loop = asyncio.get_running_loop()
        for _ in range(3):
            asked_at = loop.time()
            bench.driver.peer_frame(caller, refusal)
            await until(lambda: bench.resends > len(waits))
            waits.append(loop.time() - asked_at)
        assert waits[0] >= WAIT_SECONDS * 0.9
        assert waits[1] >= WAIT_SECONDS * 1.9
        assert waits[2] >= WAIT_SECONDS * 3.9
        bench.driver.close()

    asyncio.run(main())


def test_the_founder_of_three_does_not_serve_since_a_learner_lost_its_files(tmp_path: Path) -> None:
    """Node 2 joined, was wiped and joined again before it had a vote: one disk holds everything."""
    alone = members(1)._replace(bootstrap=3)
    waiting = alone.with_added("2", "host2:1", 22).with_rejoined("2", "host2:1", 2)

    async def main() -> None:
        bench = Bench(tmp_path, voters=1, membership=waiting)
        raft = bench.driver.raft
        await leading(bench)
        assert bench.serves
        assert not any(bench.serves)
        accept(raft, "2", raft.log.last)
        raft.propose_change("promote", "2", "", 0, 1000)
        bench.driver.wake()
        await until(lambda: bench.serves[-1])
        bench.driver.close()

    asyncio.run(main())


def test_own_writes_gather_while_the_others_keep_pace_and_none_is_alone(tmp_path: Path) -> None:
    async def main() -> None:
        config = CONFIG._replace(inflight_messages_max=100, election_ticks_min=1000)
        bench = Bench(tmp_path, voters=3, config=config._replace(election_ticks_max=2000))
        raft, driver_ = lead(bench.driver.raft), bench.driver

        async def gathered() -> list[bool]:
            await driver_.changed()
            writes = bench.writes[:]
            bench.disk_done()
            await driver_.changed()
            return [write.may_gather for write in writes]

        async def proposed(number: int) -> list[bool]:
            bench.propose(number, 1)
            return await gathered()

        driver_.wake()
        assert await gathered() == [False], "a leader's term is on its disk before anything else"
        for nid in ("2", "3"):
            accept(raft, nid, raft.log.last)
        assert await proposed(1) == [False], "alone"
        assert await proposed(2) == [True], "behind one that is not committed"
        bench.disk.is_gathering = True
        driver_.wake()
        await driver_.changed()
        assert bench.hurries == 0
        raft.unreachable("3")
        driver_.wake()
        await driver_.changed()
        assert bench.hurries == 1, "its disk is needed now"
        assert await proposed(3) == [False]
        driver_.close()

    asyncio.run(main())


def test_what_a_disk_commits_is_published_before_anything_else_happens(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, voters=1)
        await leading(bench)
        bench.propose(1, 10)
        await until(lambda: bench.writes)
        bench.publisher.pump.reset_mock()
        bench.disk_done()
        bench.publisher.pump.assert_called_once_with(bench.driver.raft.log.last, bench.driver)

    asyncio.run(main())


def test_what_is_committed_is_published_before_the_next_write(tmp_path: Path) -> None:
    """A loop that writes its log itself stands still meanwhile: clients would wait for both."""

    async def main() -> None:
        bench = Bench(tmp_path, voters=3)
        raft = bench.driver.raft
        lead(raft)
        bench.propose(1, 10)
        await until(lambda: bench.writes and bench.writes[-1].records)
        first = raft.log.last
        bench.disk_done()
        accept(raft, "2", first)
        bench.propose(2, 10)
        happened: list[tuple[str, int]] = []
        bench.publisher.pump.side_effect = lambda commit, _: happened.append(("published", commit))
        bench.on_write = lambda job: happened.append(("written", job.first_index))
        await bench.driver.changed()
        assert happened == [("published", first), ("written", first + 1)]

    asyncio.run(main())


def test_a_link_that_fails_as_it_is_sent_to_has_a_turn_of_its_own(tmp_path: Path) -> None:
    """Whoever is needed instead is sent what is missing then, not with whatever comes next."""

    async def main() -> None:
        config = CONFIG._replace(election_ticks_min=1000, election_ticks_max=2000)
        bench = Bench(tmp_path, voters=3, config=config)
        raft, driver_ = lead(bench.driver.raft), bench.driver
        pump = bench.publisher.pump
        await driver_.changed()
        bench.disk_done()
        for nid in ("2", "3"):
            accept(raft, nid, raft.log.last)
        await driver_.changed()
        driver_._timer.cancel()  # no tick brings a turn
        bench.links.send.side_effect = lambda nid, _: nid != "2"
        turns = pump.call_count
        bench.propose(1, 1)
        await until(lambda: pump.call_count == turns + 2)
        driver_.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("is_up", "lag", "fits", "fits_max", "kept"),
    [
        (False, 30, 100, 100, 5), (True, 3, 100, 100, 5), (True, 8, 100, 100, 8),
        (True, 30, 100, 100, 10), (False, 30, 2, 4, 3), (True, 4, 2, 6, 4), (True, 30, 2, 6, 7),
    ],
    ids=["dead", "near", "behind", "too far", "long: dead", "long: behind", "long: too far"],
)  # fmt: skip
def test_behind_a_snapshot_a_tail_of_the_log_is_kept_and_more_for_live_peers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_up: bool,
    lag: int,
    fits: int,
    fits_max: int,
    kept: int,
) -> None:
    monkeypatch.setattr(driver, "TAIL_ENTRIES", 5)
    monkeypatch.setattr(driver, "TAIL_ENTRIES_MAX", 10)

    async def main() -> None:
        bench = Bench(tmp_path, voters=1, membership=members(1, learners=1))
        bench.links.is_up.return_value = is_up
        bench.fits = {driver.TAIL_BYTES: fits, driver.TAIL_BYTES_MAX: fits_max}
        raft = bench.driver.raft
        await leading(bench)
        for number in range(1, 31):
            bench.propose(number, 10)
            await bench.driver.changed()
            bench.disk_done()
        await until(lambda: raft.log.commit == raft.log.last)
        index = raft.log.commit
        accept(raft, "2", index - lag)
        bench.driver.snapshot_taken(str(tmp_path / "snapshot"), index, raft.term)
        assert raft.log.first == index + 1 - kept
        bench.driver.close()

    asyncio.run(main())


def test_a_lease_shows_while_reads_ask_for_it_and_before_anything_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path, voters=1)
        driver_, events = bench.driver, MagicMock()
        events.attach_mock(driver_.publisher.post, "post")
        events.attach_mock(driver_.publisher.pump, "pump")
        await leading(bench)
        await driver_.changed()
        assert not events.post.called, "nobody asked"
        driver_.read(1, by_lease=False)
        await driver_.changed()
        assert not events.post.called
        driver_.read(2, by_lease=True)
        await driver_.changed()
        commit = driver_.raft.log.commit
        shown, _, until_ms = events.post.call_args.args
        assert shown == commit
        assert 0 < until_ms <= driver_.raft.steady_ms + driver_.raft.config.lease_ms
        events.reset_mock()
        bench.propose(1, 10)
        await until(lambda: bench.writes)
        bench.disk_done()
        await until(lambda: driver_.raft.log.commit > commit)
        await driver_.changed()
        posted = [name for name, args, _ in events.mock_calls if args[0] == commit + 1]
        assert posted[:2] == ["post", "pump"], "nobody hears of a commit before it shows"
        driver_.close()

    asyncio.run(main())


def notice_of(raft: Raft) -> tuple[LeaseNotice, list[tuple[int, ...]]]:
    """A notice of its lease, and what is posted there."""
    shown: list[tuple[int, ...]] = []
    return LeaseNotice(raft, lambda *words: shown.append(words)), shown


def test_a_lease_shows_for_a_while() -> None:
    raft = led_alone()
    notice, shown = notice_of(raft)
    notice.show()
    assert shown == []
    notice.want()
    notice.show()
    notice.show()
    until_ms = raft.steady_ms + raft.config.lease_ms
    assert [words[2] for words in shown] == [until_ms], "only what is new is posted"
    notice.tick(WANTED_TICKS - 1)
    notice.show()
    assert len(shown) == 1
    notice.tick(5)
    notice.show()
    notice.show()
    assert shown[1:] == [(0, 0, 0)]


def test_a_lease_is_taken_back_when_the_leader_steps_down() -> None:
    raft = led_alone()
    notice, shown = notice_of(raft)
    notice.want()
    notice.show()
    raft.become_follower(raft.term + 1, "")
    notice.show()
    assert [bool(words[2]) for words in shown] == [True, False]
