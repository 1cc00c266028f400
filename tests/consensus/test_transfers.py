"""Snapshots between two nodes over a link that breaks: they go on where they stopped.

Sender and receiver as they are, with real files; the link between them is the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from pyraft_fast._wire import Frame, FrameReader
from pyraft_fast.consensus import snapshots
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import Identity
from pyraft_fast.consensus.snapshots import (
    CHUNKS_IN_FLIGHT_MAX,
    Offer,
    SnapshotFile,
    SnapshotReceiver,
    SnapshotSender,
)
from pyraft_fast.errors import ProtocolError
from pyraft_fast.storage.snapshot import Meta, snapshot_path, write_snapshot
from tests.core.single import members

CHUNK = 1000  # bytes: small ones make many of them
INDEX, TERM = 50, 3
MEMBERSHIP = members().encode()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_CHUNK_BYTES", CHUNK)


def make_file(folder: Path, index: int = INDEX, items: int = 400) -> SnapshotFile:
    """A snapshot of node 1, of some twenty chunks."""
    folder.mkdir(exist_ok=True)
    path = snapshot_path(str(folder), "1", 100, index)
    meta = Meta(7, index, TERM, 100_000, MEMBERSHIP, {}, items)
    write_snapshot(path, meta, [(str(n), 0, f"{n:040d}", None) for n in range(items)])
    return SnapshotFile(path, index, TERM, 100_000, MEMBERSHIP)


class Pair:
    """The sender of node 1 and the receiver of node 2, with a link that can break between them.

    `cut_after` chunks the link loses everything, which its ends notice some time later; `spoil` may
    change a frame on its way. Chunks are noted as (offset, bytes) where they are sent and where
    they are received.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.pool = ThreadPoolExecutor(1)
        self.is_up = True
        self.is_losing = False
        self.cut_after = -1
        self.answers_max = 1_000_000  # so many are delivered, later ones are held
        self.held: list[bytes] = []
        self.spoil: Callable[[bytearray], None] = lambda frame: None
        self.sent: list[tuple[int, int]] = []
        self.received: list[tuple[int, int]] = []
        self.states: list[tuple[str, int]] = []
        self.offers = self.answers = 0
        self.refused: list[str] = []
        self.ends: list[bool] = []
        self.installed: list[tuple[Offer, str]] = []
        self.sender = SnapshotSender(self._host("1"), self._to_receiver, self.pool, self._end)
        self.start_receiver()

    def _host(self, nid: str) -> MagicMock:
        host = MagicMock()
        host.identity = Identity(7, nid, f"host{nid}:1", int(nid))
        return host

    def start_receiver(self) -> None:
        """As when node 2 starts: what lies in its folder is all it knows."""
        self.receiver = SnapshotReceiver(
            self._host("2"), self._to_sender, self.pool, str(self.folder), self._done
        )

    def _end(self, nid: str, ok: bool) -> None:
        self.ends.append(ok)

    def _done(self, nid: str, offer: Offer, path: str) -> None:
        self.installed.append((offer, path))

    def close(self) -> None:
        self.receiver.close()
        self.sender.stop_all()
        self.pool.shutdown()

    # The link. Frames arrive a turn of the loop after they were sent, or never.

    def heal(self, cut_after: int = -1) -> None:
        self.is_up = True
        self.is_losing = False
        self.cut_after = cut_after
        self.sender.link_up("2")

    def _to_receiver(self, nid: str, parts: Sequence[bytes]) -> bool:
        if self.is_up:
            frame = bytearray(b"".join(parts))
            self._note(frame)
            self.spoil(frame)
            asyncio.get_running_loop().call_soon(self._receive, bytes(frame))
        return self.is_up

    async def cut(self) -> None:
        """The link is noticed to be down: a window is lost, and what arrived is worked off."""
        await until(lambda: self.is_losing)
        await until(lambda: self.answers == self.offers + len(self.received))
        window_end = self.states[-1][1] + CHUNKS_IN_FLIGHT_MAX * CHUNK
        await until(lambda: sum(self.sent[-1]) == window_end)
        await asyncio.sleep(0)  # what is under way comes, and is lost; later it would be taken
        self.is_up = False

    def _to_sender(self, nid: str, parts: Sequence[bytes]) -> bool:
        self.answers += 1
        if self.is_up:
            asyncio.get_running_loop().call_soon(self._acknowledge, b"".join(parts))
        return self.is_up

    def _note(self, data: bytes | bytearray) -> None:
        for frame in _frames(data):
            if frame.type == FrameType.SNAPSHOT_CHUNK:
                self.sent.append((frame.header["offset"], len(frame.body)))

    def _receive(self, data: bytes) -> None:
        for frame in _frames(data):
            if self.is_losing:
                return
            if frame.type == FrameType.SNAPSHOT_OFFER:
                self.offers += 1
                self.receiver.offered("1", frame.header, 0)
                continue
            try:
                self.receiver.chunk("1", frame)
            except ProtocolError as error:  # the link it came by is cut for that
                self.refused.append(str(error))
                self.is_losing = True
                return
            self.received.append((frame.header["offset"], len(frame.body)))
            if len(self.received) == self.cut_after:
                self.is_losing = True

    def answer(self) -> None:
        """Deliver the answers that were held."""
        held, self.held = self.held, []
        for data in held:
            self._acknowledge(data)

    def _acknowledge(self, data: bytes) -> None:
        if len(self.states) >= self.answers_max:
            self.held.append(data)
            return
        for frame in _frames(data):
            if not self.is_losing:
                self.states.append((frame.header["state"], frame.header["offset"]))
                self.sender.acknowledged("2", frame.header)


def _frames(data: bytes | bytearray) -> Iterator[Frame]:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    return reader.frames()


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 20)


def run(folder: Path, test: Callable[[Pair, SnapshotFile], Coroutine[None, None, None]]) -> None:
    """A test on a fresh pair and a snapshot of node 1."""

    async def main() -> None:
        pair = Pair(folder / "n2")
        try:
            await test(pair, make_file(folder / "n1"))
        finally:
            pair.close()

    asyncio.run(main())


def size_of(file: SnapshotFile) -> int:
    return Path(file.path).stat().st_size


def carried(chunks: list[tuple[int, int]]) -> int:
    return sum(count for _, count in chunks)


def check_installed(pair: Pair, file: SnapshotFile) -> None:
    """Once, under its name, byte by byte what was offered, and nothing else lies there."""
    ((offer, path),) = pair.installed
    assert offer.place == (file.index, TERM)
    assert Path(path).read_bytes() == Path(file.path).read_bytes()
    assert [str(found) for found in pair.folder.iterdir()] == [path]


def test_every_byte_is_sent_once_with_a_few_chunks_in_flight(tmp_path: Path) -> None:
    async def test(pair: Pair, file: SnapshotFile) -> None:
        pair.sender.start("2", file)
        await until(lambda: pair.ends)
        assert pair.ends == [True]
        size = size_of(file)
        assert size > 3 * CHUNKS_IN_FLIGHT_MAX * CHUNK
        assert [offset for offset, _ in pair.sent] == list(range(0, size, CHUNK))
        assert carried(pair.sent) == size
        check_installed(pair, file)

    run(tmp_path, test)


def test_a_receiver_that_does_not_answer_is_sent_a_window_and_no_more(tmp_path: Path) -> None:
    async def test(pair: Pair, file: SnapshotFile) -> None:
        pair.answers_max = 1  # that to the offer
        pair.sender.start("2", file)
        await until(lambda: len(pair.received) == CHUNKS_IN_FLIGHT_MAX)
        await until(lambda: len(pair.held) == CHUNKS_IN_FLIGHT_MAX)  # each was written
        assert len(pair.sent) == CHUNKS_IN_FLIGHT_MAX
        pair.answers_max = 1_000_000
        pair.answer()
        await until(lambda: pair.ends)
        check_installed(pair, file)

    run(tmp_path, test)


def test_a_transfer_cut_in_the_middle_goes_on_where_the_receiver_is(tmp_path: Path) -> None:
    async def test(pair: Pair, file: SnapshotFile) -> None:
        size = size_of(file)
        pair.cut_after = 7
        pair.sender.start("2", file)
        for arrived, cut_after in ((7, 12), (12, 13), (13, -1)):
            await pair.cut()
            assert len(pair.received) == arrived
            assert not pair.ends
            before = len(pair.sent)
            pair.heal(cut_after)
            await until(lambda n=before: len(pair.sent) > n)
            assert pair.sent[before][0] == arrived * CHUNK, "not from the beginning"
        await until(lambda: pair.ends)
        assert pair.ends == [True]
        assert [offset for offset, _ in pair.received] == list(range(0, size, CHUNK))
        lost = carried(pair.sent) - size
        assert 0 < lost <= 3 * CHUNKS_IN_FLIGHT_MAX * CHUNK, "what was in flight"
        check_installed(pair, file)

    run(tmp_path, test)


def test_a_receiver_that_starts_again_goes_on_with_what_is_on_its_disk(tmp_path: Path) -> None:
    async def test(pair: Pair, file: SnapshotFile) -> None:
        pair.cut_after = 9
        pair.sender.start("2", file)
        await pair.cut()
        pair.receiver.close()
        pair.start_receiver()
        before = len(pair.sent)
        pair.heal()
        await until(lambda: pair.ends)
        assert pair.sent[before][0] == 9 * CHUNK
        assert carried(pair.received) == size_of(file)
        check_installed(pair, file)

    run(tmp_path, test)


def test_another_snapshot_begins_at_its_beginning(tmp_path: Path) -> None:
    """What arrived of an older one is no part of it."""

    async def test(pair: Pair, file: SnapshotFile) -> None:
        pair.cut_after = 5
        pair.sender.start("2", file)
        await pair.cut()
        pair.sender.stop_all()
        newer = make_file(tmp_path / "n1", INDEX + 1, items=500)
        before = len(pair.sent)
        pair.heal()
        pair.sender.start("2", newer)
        await until(lambda: pair.ends)
        assert pair.sent[before][0] == 0
        assert carried(pair.sent[before:]) == size_of(newer)
        check_installed(pair, newer)

    run(tmp_path, test)


def test_a_chunk_that_does_not_match_its_checksum_is_refused_and_asked_for_again(
    tmp_path: Path,
) -> None:
    async def test(pair: Pair, file: SnapshotFile) -> None:
        def spoil(frame: bytearray) -> None:
            if len(pair.sent) == 6:
                frame[-1] ^= 1

        pair.spoil = spoil
        pair.sender.start("2", file)
        await pair.cut()
        assert pair.refused == ["a snapshot chunk does not match its checksum"]
        assert len(pair.received) == 5
        assert not pair.installed
        pair.spoil = lambda frame: None
        before = len(pair.sent)
        pair.heal()
        await until(lambda: pair.ends)
        assert pair.ends == [True]
        assert pair.sent[before][0] == 5 * CHUNK
        check_installed(pair, file)

    run(tmp_path, test)


def test_a_file_that_rotted_where_it_lay_is_never_installed(tmp_path: Path) -> None:
    """Each chunk matches what was read; the whole does not match what was written."""

    async def test(pair: Pair, file: SnapshotFile) -> None:
        path = Path(file.path)
        good = path.read_bytes()
        rotten = bytearray(good)
        rotten[len(good) // 2] ^= 1
        path.write_bytes(rotten)
        pair.sender.start("2", file)
        await until(lambda: pair.ends)
        assert pair.ends == [False]
        assert carried(pair.received) == len(good)
        assert pair.states[-1] == ("failed", 0)
        assert not pair.installed
        assert list(pair.folder.iterdir()) == []
        path.write_bytes(good)
        before = len(pair.sent)
        pair.sender.start("2", file)
        await until(lambda: len(pair.ends) == 2)
        assert pair.ends[1]
        assert pair.sent[before][0] == 0
        check_installed(pair, file)

    run(tmp_path, test)
