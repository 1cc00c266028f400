"""Snapshot files between nodes: offered, sent in checked chunks, resumed where they stopped.

The sender offers its newest snapshot; the receiver answers with how many bytes of exactly that one
it already has, and from there chunks follow, a few in flight. Each chunk carries its offset and a
checksum, and the file as a whole is verified before it takes its name. A lost link costs at most
the chunks in flight. Only the core decides what an arrived snapshot means. Files are read and
written on a thread of their own, so neither heartbeats nor the log wait for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

from pyraft_fast import _entry
from pyraft_fast._wire import Frame, encode_frame
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.identity import PeerHost
from pyraft_fast.errors import DamagedFile, ProtocolError, StorageError
from pyraft_fast.limits import SNAPSHOT_CHUNK_BYTES
from pyraft_fast.storage.disk import OS_DISK, failed
from pyraft_fast.storage.snapshot import PartialSnapshot, prune

CHUNKS_IN_FLIGHT_MAX: Final = 4
SILENCE_SECONDS_MAX: Final = 10.0  # without an acknowledgement a transfer is given up
OFFSET_MAX: Final = 2**63 - 1


@dataclass(frozen=True)
class SnapshotFile:
    """A finished snapshot on this node's disk; `membership` is encoded."""

    path: str
    index: int
    term: int
    time_ms: int
    membership: bytes


@dataclass(frozen=True)
class Offer:
    """What identifies a snapshot in transfer; chunks and acknowledgements repeat index and term."""

    index: int
    term: int
    time_ms: int
    total_bytes: int
    membership: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Index and term."""
        return self.index, self.term

    @property
    def key(self) -> tuple[int, int, int]:
        """Equal keys mean the same bytes."""
        return self.index, self.term, self.total_bytes


def read_offer(header: object) -> Offer:
    """An Offer out of a received header; raises ProtocolError."""
    fields = Fields(header, "a snapshot offer")
    return Offer(
        fields.number("index"),
        fields.number("term"),
        fields.number("time_ms"),
        fields.number("total_bytes", OFFSET_MAX),
        fields.blob("membership"),
    )


SendFrame = Callable[[str, Sequence[bytes]], bool]


class _Transfer:
    """One snapshot on its way to one node."""

    def __init__(self, nid: str, fd: int, offer: Offer) -> None:
        self.nid = nid
        self.fd = fd
        self.offer = offer
        self.acked = -1  # bytes the receiver said it has; -1 before its first answer
        self.sent = 0
        self.is_reading = False
        self.is_over = False
        self.heard = asyncio.get_running_loop().time()

    def close(self) -> None:
        """The end; a read under way still has its file, and closes it when it is done."""
        if not self.is_over:
            self.is_over = True
            if not self.is_reading:
                OS_DISK.close(self.fd)


class SnapshotSender:
    """Sends snapshots to the nodes the core names; reports each end through `on_end(nid, ok)`."""

    def __init__(
        self,
        host: PeerHost,
        send: SendFrame,
        pool: ThreadPoolExecutor,
        on_end: Callable[[str, bool], None],
    ) -> None:
        self._host = host
        self._send = send
        self._pool = pool
        self._on_end = on_end
        self._transfers: dict[str, _Transfer] = {}

    def indexes(self) -> list[int]:
        """Indexes of the snapshots under way: entries behind them will be needed."""
        return [transfer.offer.index for transfer in self._transfers.values()]

    def start(self, nid: str, snapshot: SnapshotFile) -> None:
        """Begin to send `snapshot` to `nid`, unless a transfer to it is under way.

        Raises StorageError when the file cannot be opened.
        """
        if nid in self._transfers:
            return
        try:
            fd = OS_DISK.open(snapshot.path)
        except OSError as error:
            raise failed("open", snapshot.path, error) from error
        offer = Offer(
            snapshot.index,
            snapshot.term,
            snapshot.time_ms,
            OS_DISK.size(fd),
            snapshot.membership,
        )
        self._transfers[nid] = _Transfer(nid, fd, offer)
        self._host.log(
            logging.INFO,
            f"sending the snapshot of index {offer.index} ({offer.total_bytes} bytes) to {nid}",
        )
        self._offer(self._transfers[nid])

    def link_up(self, nid: str) -> None:
        """The link to `nid` is new: offer again, it goes on where the receiver is."""
        transfer = self._transfers.get(nid)
        if transfer is not None:
            transfer.heard = asyncio.get_running_loop().time()
            self._offer(transfer)

    def tick(self) -> None:
        """Give up transfers whose receiver is silent; the core asks for them again."""
        now = asyncio.get_running_loop().time()
        for nid, transfer in list(self._transfers.items()):
            if now - transfer.heard > SILENCE_SECONDS_MAX:
                self._end(nid, False, "no answer")

    def stop_all(self) -> None:
        """End all transfers without a report: this node does not lead any more."""
        for transfer in self._transfers.values():
            transfer.close()
        self._transfers.clear()

    def acknowledged(self, nid: str, header: object) -> None:
        """Take an acknowledgement. Raises ProtocolError."""
        fields = Fields(header, "a snapshot acknowledgement")
        index, term = fields.number("index"), fields.number("term")
        offset, state = fields.number("offset", OFFSET_MAX), fields.text("state", 16)
        transfer = self._transfers.get(nid)
        if transfer is None or (index, term) != transfer.offer.place:
            return
        transfer.heard = asyncio.get_running_loop().time()
        if state == "done":
            self._end(nid, True, "done")
        elif state == "failed":
            self._end(nid, False, fields.text("reason"))
        elif offset > transfer.offer.total_bytes:
            raise ProtocolError("a snapshot acknowledgement lies past the end")
        else:
            if state == "resume":
                transfer.sent = offset
            elif transfer.acked < 0:
                return  # from before the newest offer, whose own answer says where to go on
            transfer.acked = offset
            self._pump(transfer)

    def _offer(self, transfer: _Transfer) -> None:
        transfer.acked = -1
        self._send(transfer.nid, [encode_frame(FrameType.SNAPSHOT_OFFER, asdict(transfer.offer))])

    def _pump(self, transfer: _Transfer) -> None:
        window_end = transfer.acked + CHUNKS_IN_FLIGHT_MAX * SNAPSHOT_CHUNK_BYTES
        wanted = transfer.sent < min(window_end, transfer.offer.total_bytes)
        if wanted and not transfer.is_reading and not transfer.is_over:
            transfer.is_reading = True
            loop = asyncio.get_running_loop()
            read = loop.run_in_executor(self._pool, _read_chunk, transfer.fd, transfer.sent)
            read.add_done_callback(lambda chunk: self._chunk_read(transfer, chunk))

    def _chunk_read(self, transfer: _Transfer, chunk: asyncio.Future[tuple[int, bytes]]) -> None:
        transfer.is_reading = False
        if transfer.is_over:
            OS_DISK.close(transfer.fd)
            return
        if chunk.cancelled():
            return
        error = chunk.exception()
        if error is not None:
            self._end(transfer.nid, False, str(error))
            return
        offset, data = chunk.result()
        if offset == transfer.sent and data and transfer.acked >= 0:
            header = {
                "index": transfer.offer.index,
                "term": transfer.offer.term,
                "offset": offset,
                "crc": _entry.crc32c(data),
            }
            frame = encode_frame(FrameType.SNAPSHOT_CHUNK, header, len(data))
            if not self._send(transfer.nid, [frame, data]):
                return  # link_up offers again
            transfer.sent += len(data)
        if transfer.acked >= 0:
            self._pump(transfer)

    def _end(self, nid: str, ok: bool, text: str) -> None:
        transfer = self._transfers.pop(nid, None)
        if transfer is None:
            return
        transfer.close()
        level = logging.INFO if ok else logging.WARNING
        self._host.log(level, f"snapshot of index {transfer.offer.index} to {nid}: {text}")
        self._on_end(nid, ok)


def _read_chunk(fd: int, offset: int) -> tuple[int, bytes]:
    return offset, OS_DISK.pread(fd, SNAPSHOT_CHUNK_BYTES, offset)


class SnapshotReceiver:
    """Receives one snapshot at a time; hands a verified one to `on_done(sender, offer, path)`."""

    def __init__(
        self,
        host: PeerHost,
        send: SendFrame,
        pool: ThreadPoolExecutor,
        folder: str,
        on_done: Callable[[str, Offer, str], None],
    ) -> None:
        self._host = host
        self._send = send
        self._pool = pool
        self._folder = folder
        self._on_done = on_done
        self._offer: Offer | None = None
        self._partial: PartialSnapshot | None = None
        self._work: asyncio.Queue[tuple[str, Offer, int, bytes]] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    def close(self) -> None:
        """Stop; what has arrived stays on disk for the next time."""
        self._task.cancel()

    def prune(self) -> None:
        """There is a new snapshot, received or this node's own: delete the oldest ones."""
        pruning = asyncio.get_running_loop().run_in_executor(
            self._pool, prune, self._folder, self._host.identity.nid
        )
        pruning.add_done_callback(self._pruned)

    def _pruned(self, pruning: asyncio.Future[list[str]]) -> None:
        error = None if pruning.cancelled() else pruning.exception()
        if error is not None:
            self._host.log(logging.WARNING, f"older snapshots stay for now: {error}")

    def offered(self, nid: str, header: object, commit: int) -> None:
        """Take an offer from `nid`. Raises ProtocolError."""
        offer = read_offer(header)
        if offer.index <= commit:  # this node has all of it
            self._acknowledge(nid, offer, offer.total_bytes, "done")
            return
        if self._work.qsize() > 4 * CHUNKS_IN_FLIGHT_MAX:
            raise ProtocolError("more snapshot offers than answers")
        self._work.put_nowait((nid, offer, -1, b""))

    def chunk(self, nid: str, frame: Frame) -> None:
        """Take a chunk from `nid`. Raises ProtocolError."""
        fields = Fields(frame.header, "a snapshot chunk")
        key = (fields.number("index"), fields.number("term"))
        offset, crc = fields.number("offset", OFFSET_MAX), fields.number("crc")
        if len(frame.body) > SNAPSHOT_CHUNK_BYTES or self._work.qsize() > 4 * CHUNKS_IN_FLIGHT_MAX:
            raise ProtocolError("more snapshot chunks than agreed")
        if _entry.crc32c(frame.body) != crc:
            raise ProtocolError("a snapshot chunk does not match its checksum")
        offer = self._offer
        if offer is not None and key == offer.place:
            self._work.put_nowait((nid, offer, offset, bytes(frame.body)))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            nid, offer, offset, data = await self._work.get()
            try:
                if offset < 0:
                    await self._begin(nid, offer)
                elif self._partial is not None and offer == self._offer:
                    partial = self._partial
                    fits = await loop.run_in_executor(self._pool, partial.write, offset, data)
                    state = "more" if fits else "resume"
                    await self._advance(nid, offer, partial, state)
            except DamagedFile as error:
                self._forget()
                self._fail(nid, offer, error)
            except StorageError as error:
                self._keep()
                self._fail(nid, offer, error)

    async def _begin(self, nid: str, offer: Offer) -> None:
        loop = asyncio.get_running_loop()
        if self._partial is None or self._offer is None or self._offer.key != offer.key:
            self._forget()
            self._partial = await loop.run_in_executor(
                self._pool,
                PartialSnapshot,
                self._folder,
                self._host.identity.nid,
                offer.index,
                offer.term,
                offer.total_bytes,
            )
            self._host.log(
                logging.INFO,
                f"receiving the snapshot of index {offer.index} ({offer.total_bytes} bytes) "
                f"from {nid}",
            )
        self._offer = offer
        await self._advance(nid, offer, self._partial, "resume")

    async def _advance(self, nid: str, offer: Offer, partial: PartialSnapshot, state: str) -> None:
        if partial.offset < offer.total_bytes:
            self._acknowledge(nid, offer, partial.offset, state)
            return
        path = await asyncio.get_running_loop().run_in_executor(self._pool, partial.finish)
        self._partial = self._offer = None
        self._acknowledge(nid, offer, offer.total_bytes, "done")
        self._on_done(nid, offer, path)
        self.prune()

    def _forget(self) -> None:
        if self._partial is not None:
            self._partial.discard()
        self._partial = self._offer = None

    def _keep(self) -> None:
        if self._partial is not None:
            self._partial.close()
        self._partial = self._offer = None

    def _acknowledge(
        self, nid: str, offer: Offer, offset: int, state: str, reason: str = ""
    ) -> None:
        header = {
            "index": offer.index,
            "term": offer.term,
            "offset": offset,
            "state": state,
            "reason": reason,
        }
        self._send(nid, [encode_frame(FrameType.SNAPSHOT_ACK, header)])

    def _fail(self, nid: str, offer: Offer, error: Exception) -> None:
        self._host.log(logging.WARNING, f"snapshot of index {offer.index} from {nid}: {error}")
        self._acknowledge(nid, offer, 0, "failed", str(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._host.crash(task.exception() or RuntimeError("snapshot receiver"))
