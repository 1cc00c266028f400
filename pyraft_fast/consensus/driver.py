"""Carries out what the core decides: one turn of the loop, one bundle of effects.

All events of a loop turn (frames, ticks, finished disk groups, proposals) go into the core first;
then `take()` yields everything to do, once. Messages that need no disk leave at once, writes go to
the log writer with the messages that must wait for them, committed entries go into the ring.
Nothing here waits: not for the disk, not for a peer, not for the serving side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from pyraft_fast import _entry
from pyraft_fast._wire import Frame, decode_message, encode_frame, encode_message
from pyraft_fast.compiled import mypyc_attr
from pyraft_fast.consensus.clocks import now_ms, steady_ms
from pyraft_fast.consensus.diskwork import After, Call, LogWriter, Write
from pyraft_fast.consensus.forward import Proposal, decode_forward, encode_forward
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import REFUSED_REMOVED, Identity, PeerHost, Refusal
from pyraft_fast.consensus.incoming import PeerServer
from pyraft_fast.consensus.lease_notice import LeaseNotice
from pyraft_fast.consensus.pacing import PaceWatch
from pyraft_fast.consensus.peers import PeerLinks, Target
from pyraft_fast.consensus.publish import Publisher, SnapshotPlace
from pyraft_fast.consensus.resending import Resending
from pyraft_fast.consensus.serving_side import Intake, Serving, Slot
from pyraft_fast.consensus.settings import TICK_MS
from pyraft_fast.consensus.snapshots import Offer, SnapshotFile, SnapshotReceiver, SnapshotSender
from pyraft_fast.consensus.ticking import TickCounter
from pyraft_fast.consensus.transfers import Transfers
from pyraft_fast.consensus.wal import Wal
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.sparing import others_keep_pace
from pyraft_fast.core.work import HardState, Role, SnapshotState, SoftState, Work
from pyraft_fast.errors import ProtocolError, StorageError
from pyraft_fast.limits import MIB

TICK_SECONDS: Final = TICK_MS / 1000
REMOVED_TEXT: Final = (
    "this node was removed from the cluster and serves no writes or reads; stop it, and to let it "
    "join again as a new member, delete its files first"
)
TAIL_ENTRIES: Final = 1000  # batches kept behind a snapshot
TAIL_ENTRIES_MAX: Final = 20_000  # and for live peers that need them
TAIL_BYTES: Final = 64 * MIB  # of segments, if that is less
TAIL_BYTES_MAX: Final = 1024 * MIB  # the same for live peers
SNAPSHOT_AGAIN_SECONDS: Final = 2.0  # after a transfer that failed
SLOW_TICKS: Final = 100  # housekeeping: snapshot transfers that stand still


class Parts(NamedTuple):
    """What a driver is made of; the core and its hard state as recovered."""

    raft: Raft
    hard: HardState
    wal: Wal
    disk: LogWriter
    publisher: Publisher
    links: PeerLinks
    server: PeerServer
    pool: ThreadPoolExecutor
    snapshot: SnapshotFile | None
    folder: str
    slot: Slot


@mypyc_attr(allow_interpreted_subclasses=True)
class Driver:
    """A running member: core, log writer, links and ring held together."""

    def __init__(self, host: PeerHost, serving: Serving, parts: Parts) -> None:
        self._host = host
        self._serving = serving
        self.raft = parts.raft
        self.disk = parts.disk
        self.publisher = parts.publisher
        self.snapshot = parts.snapshot
        self._wal = parts.wal
        self._hard = parts.hard
        self._links = parts.links
        self._server = parts.server
        self._loop = asyncio.get_running_loop()
        self.sender = SnapshotSender(host, self._links.send, parts.pool, self._snapshot_ended)
        self.receiver = SnapshotReceiver(
            host, self._links.send, parts.pool, parts.folder, self._snapshot_received
        )
        self.heard: dict[str, float] = {}  # when each peer's last frame came, loop time
        self.intake = Intake(parts.slot, host, self.propose)
        self._turn_due = False
        self._followed: tuple[Membership, Membership] | None = None
        self._soft: SoftState | None = None
        self._told: tuple[str, int, str, str, bool] | None = None
        self._resending = Resending(self.raft, self._links, serving, self._loop)
        self._is_refused = False  # a batch of this node, by this node
        self._waiters: list[asyncio.Future[None]] = []
        self._ticks = TickCounter(TICK_SECONDS, self._loop.time())
        self._ticks_to_slow = SLOW_TICKS
        self._notice = LeaseNotice(self.raft, self.publisher.post)
        self._pace = PaceWatch(self.raft, self._loop, self.wake)
        self.transfers = Transfers(self.raft, self._links)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        self._follow()
        self.wake()

    @property
    def role(self) -> str:
        """The node's part, in the word that users see."""
        return Role.JOINING.value if self._soft is None else self._soft.role

    # Events: each goes into the core, and asks for a turn.

    def wake(self) -> None:
        """Have a turn after all events that are ready now."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Take no more events."""
        self._timer.cancel()
        self._resending.close()
        self._pace.close()
        self.sender.stop_all()
        self.receiver.close()
        self._turn_due = True

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        count = self._ticks.due(self._loop.time())
        self.raft.steady_ms = steady_ms()
        self.transfers.tick()
        for _ in range(count):
            self.raft.tick(now_ms())
        if count:
            self.wake()
        self._ticks_to_slow -= 1
        if self._ticks_to_slow <= 0:
            self._ticks_to_slow = SLOW_TICKS
            self.sender.tick()
        self._notice.tick(count)

    def propose(self, proposal: Proposal) -> None:
        """A batch of this node's serving side: propose it here, or send it to the leader.

        Where nobody takes it the batch is dropped; RESEND follows when somebody can.
        """
        leader = self.raft.leader
        if leader == self._host.identity.nid:
            self._is_refused = not self._propose(proposal) or self._is_refused
        elif leader:
            self._links.send(leader, encode_forward(proposal))

    def _propose(self, proposal: Proposal) -> bool:
        took = self.raft.propose(
            _entry.KIND_COMMANDS,
            proposal.payload,
            proposal.count,
            proposal.origin,
            proposal.start,
            proposal.batch,
            now_ms(),
        )
        self.wake()
        return took

    def read(self, context: int, by_lease: bool) -> None:
        """The serving side asks from which index on a read may be answered."""
        self.raft.read(context, by_lease)
        if by_lease:
            self._notice.want()
        self.wake()

    def pump(self) -> None:
        """There is room in the ring, or something new for it."""
        self._notice.show()
        self.publisher.pump(self.raft.log.commit, self)

    def link_up(self, nid: str) -> None:
        """A link opened: go on with what it is for."""
        self.sender.link_up(nid)
        if nid == self.raft.leader:
            self._serving.resend()

    def link_down(self, nid: str) -> None:
        """A link closed."""
        self.raft.unreachable(nid)
        self.wake()

    def link_refused(self, nid: str, refusal: Refusal) -> None:
        """A member refused this node; being removed is news for the core."""
        if refusal.code == REFUSED_REMOVED:
            member = self.raft.membership.get(nid)
            me = self._host.identity
            removed = Message(
                MessageKind.REMOVED,
                nid,
                me.nid,
                self.raft.term,
                incarnation=0 if member is None else member.incarnation,
                to_incarnation=me.incarnation,
            )
            self.raft.step(removed)
            self.wake()

    def caller_up(self, caller: Identity) -> None:
        """A node opened its link to this one: it is reachable where it says."""
        self._follow()
        self._links.hint(caller.nid, caller.addr)

    def peer_frame(self, caller: Identity, frame: Frame) -> None:
        """A frame from another member. Raises ProtocolError."""
        self.heard[caller.nid] = self._loop.time()
        if frame.type == FrameType.MESSAGE:
            me = self._host.identity
            self.raft.step(decode_message(caller.nid, caller.incarnation, me.nid, frame))
            self.wake()
        elif frame.type == FrameType.FORWARD:
            self._forwarded(caller.nid, decode_forward(frame))
        elif frame.type == FrameType.FORWARD_REFUSED:
            self._resending.later()
        elif frame.type == FrameType.SNAPSHOT_OFFER:
            self.receiver.offered(caller.nid, frame.header, self.raft.log.commit)
        elif frame.type == FrameType.SNAPSHOT_ACK:
            self.sender.acknowledged(caller.nid, frame.header)
        elif frame.type == FrameType.SNAPSHOT_CHUNK:
            self.receiver.chunk(caller.nid, frame)
        else:
            raise ProtocolError(f"a link carries no frames of type {frame.type}")

    def _forwarded(self, nid: str, proposal: Proposal) -> None:
        if self.raft.leader != self._host.identity.nid or not self._propose(proposal):
            self._links.send(nid, [encode_frame(FrameType.FORWARD_REFUSED, {})])

    # Effects

    def _turn(self) -> None:
        self.intake.take()
        self._turn_due = False
        self.raft.steady_ms = steady_ms()  # after the inputs: a lease is good for reads before it
        work = self.raft.take()
        self._notice.show()  # before anybody hears what it does not cover
        self._send(work.send_now)
        if self._is_followed_late():
            self._follow()
        if work.role_change is not None or work.membership is not None:
            self._tell(work.role_change)
        if self._is_refused and self.raft.accepts:
            self._is_refused = False
            self._serving.resend()
        for read in work.reads:
            self.publisher.add_read(read.context, read.index, read.clock_ms)
        for context in work.failed_reads:
            self.publisher.add_failed_read(context)
        self.publisher.pump(work.commit, self)
        if work.needs_disk:  # last: a loop that writes the log itself stands still meanwhile
            self._write(work)
        elif self.disk.is_gathering and not others_keep_pace(self.raft):
            self.disk.hurry()
        for nid in work.wants_snapshot:
            self._send_snapshot(nid)
        self._pace.turn()
        self._release()

    def _send(self, outgoing: Sequence[Message]) -> None:
        for message in outgoing:
            if not self._links.send(message.to, encode_message(message)) and message.entries:
                self.raft.unreachable(message.to)
                self.wake()  # others may be needed instead

    def _write(self, work: Work) -> None:
        if work.snapshot is not None:
            self._reset(work.snapshot, work.state or self._hard)
        entries, waiting = work.entries, work.send_after_sync
        if work.state is not None:
            self._hard = work.state
        if not entries and work.state is None:
            if self.disk.is_idle:
                self._send(waiting)
            elif waiting:
                self.disk.submit(After(lambda: self._send(waiting)))
            return

        def done() -> None:
            self._send(waiting)
            if entries:
                self.raft.persisted(entries[-1].index, entries[-1].term)
                if self.raft.log.commit > self.publisher.published:
                    self.pump()  # who waits for it need not wait for what this turn reads yet
                self.wake()

        records = [entry.record for entry in entries]
        first_index = entries[0].index if entries else 0
        # Only a leader's loop has something better to do: heartbeats, and others' disks.
        may_wait = not self.raft.is_leader or len(self.raft.membership.members) == 1
        # A lone entry is on this disk as soon as can be; under load the others' may be enough.
        is_lone = self.raft.log.commit >= first_index - 1
        may_gather = not is_lone and others_keep_pace(self.raft)
        self.disk.submit(Write(self._hard, records, first_index, done, may_wait, may_gather))

    def _reset(self, snapshot: SnapshotState, hard: HardState) -> None:
        self.disk.submit(
            Call(lambda: self._wal.reset(snapshot.index, snapshot.term, hard), lambda: None)
        )

    def _follow(self) -> None:
        """Keep links to all members, and to callers that this node does not know as such yet."""
        me = self._host.identity
        membership, certain = self.raft.membership, self.raft.committed_membership
        self._followed = (membership, certain)
        members = (*certain.members, *membership.members)  # who leaves is told so before
        targets = {m.nid: Target(m.nid, m.addr, m.incarnation) for m in members}
        for nid, caller in self._server.callers().items():
            if caller.incarnation in certain.removed:
                self._server.drop(nid)
                continue
            known = targets.get(nid)
            is_same = known is not None and known.incarnation == caller.incarnation
            if not is_same and caller.incarnation not in membership.removed:
                # A newcomer, or set up anew behind this log's end; it may even lead by now.
                targets[nid] = Target(nid, caller.addr, caller.incarnation)
        targets.pop(me.nid, None)
        self._links.follow(targets.values())

    def _is_followed_late(self) -> bool:
        followed = self._followed
        return (
            followed is None
            or followed[0] is not self.raft.membership
            or followed[1] is not self.raft.committed_membership
        )

    def _tell(self, soft: SoftState | None) -> None:
        """Tell the serving side its part, and when pending batches must be sent again."""
        before = self._soft
        now = self._soft = soft or before
        if now is None:
            return
        membership = self.raft.membership
        addr = self.address_of(now.leader)
        can_serve = bool(now.leader) and now.role != Role.REMOVED and membership.is_complete
        told = (now.role, now.term, now.leader, addr, can_serve)
        if told != self._told:
            self._told = told
            self._serving.role(*told)
        if now.role == Role.REMOVED and (before is None or before.role != now.role):
            self._host.log(logging.WARNING, REMOVED_TEXT)
        if before is not None and before[1:] == now[1:]:
            return
        self._resending.begin_anew()
        is_open = now.accepts if now.leader == self._host.identity.nid else bool(now.leader)
        if is_open and self._reaches(now.leader):
            self._is_refused = False
            self._resending.now()

    def address_of(self, nid: str) -> str:
        """Where `nid` is, "" if unknown; a newcomer hears of its leader before it has members."""
        member = self.raft.membership.get(nid)
        if member is not None:
            return member.addr
        caller = self._server.callers().get(nid)
        return "" if caller is None else caller.addr

    def queued_bytes(self, nid: str) -> int:
        """Bytes that wait on the link to `nid`."""
        return self._links.queued_bytes(nid)

    def _reaches(self, nid: str) -> bool:
        return nid == self._host.identity.nid or self._links.is_up(nid)

    # Snapshots

    def first_index(self) -> int:
        """Index of the oldest entry that can be read."""
        return self.raft.log.first

    def read_entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        """Entries from `lo`, before `hi`, for publishing."""
        return self.raft.log.read(lo, hi, bytes_max)

    def snapshot_place(self) -> SnapshotPlace:
        """The newest snapshot, for a serving side that is behind the log."""
        found = self.snapshot
        if found is None:
            return SnapshotPlace("", 0, 0)
        return SnapshotPlace(found.path, found.index, found.term)

    def snapshot_taken(self, path: str, index: int, term: int) -> None:
        """The serving side has written a snapshot of everything up to `index`."""
        if self.snapshot is not None and index <= self.snapshot.index:
            return
        membership = _membership_at(self.raft, index).encode()
        self.snapshot = SnapshotFile(path, index, term, self.raft.clock_ms, membership)
        self._host.log(logging.INFO, f"snapshot of index {index} taken: {path}")
        keep_from = self._keep_from(index)
        self.raft.compact(keep_from - 1)
        first = self.raft.log.first  # the core keeps more while it has not heard of the commit
        self.disk.submit(Call(lambda: self._wal.compact(first), lambda: None))
        self.receiver.prune()

    def _keep_from(self, index: int) -> int:
        """The first entry to keep, for peers that are a little behind or get a snapshot now."""
        wal = self._wal
        lowest = max(index + 1 - TAIL_ENTRIES, wal.begin_of_last(TAIL_BYTES, index))
        floor = max(index + 1 - TAIL_ENTRIES_MAX, wal.begin_of_last(TAIL_BYTES_MAX, index))
        for nid, progress in self.raft.progress.items():
            if self._links.is_up(nid):
                lowest = min(lowest, progress.match + 1)
        lowest = min([lowest, *(at + 1 for at in self.sender.indexes())])
        stable = self.raft.log.stable + 1
        return max(1, min(stable, max(lowest, floor)))

    def _send_snapshot(self, nid: str) -> None:
        if self.snapshot is None:
            self._host.log(logging.WARNING, f"node {nid} needs a snapshot, and there is none yet")
            self._snapshot_ended(nid, False)
            return
        try:
            self.sender.start(nid, self.snapshot)
        except StorageError as error:
            self._host.log(logging.ERROR, f"no snapshot for {nid}: {error}")
            self._snapshot_ended(nid, False)

    def _snapshot_ended(self, nid: str, ok: bool) -> None:
        """Tell the core; after a failure only in a while, since it asks again at once."""
        if ok:
            self._snapshot_over(nid, ok)
        else:
            self._loop.call_later(SNAPSHOT_AGAIN_SECONDS, self._snapshot_over, nid, ok)

    def _snapshot_over(self, nid: str, ok: bool) -> None:
        self.raft.snapshot_sent(nid, ok)
        self.wake()

    def _snapshot_received(self, nid: str, offer: Offer, path: str) -> None:
        if offer.index <= self.raft.log.commit:
            return
        membership = Membership.decode(offer.membership)
        self.snapshot = SnapshotFile(path, offer.index, offer.term, offer.time_ms, offer.membership)
        self._host.log(logging.INFO, f"snapshot of index {offer.index} received from {nid}")
        me = self._host.identity
        self.raft.step(
            Message(
                MessageKind.SNAPSHOT,
                nid,
                me.nid,
                0,
                index=offer.index,
                log_term=offer.term,
                clock_ms=offer.time_ms,
                membership=membership,
            )
        )
        self.wake()

    # What control waits for

    def changed(self) -> asyncio.Future[None]:
        """Done after the next turn."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def _release(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _membership_at(raft: Raft, index: int) -> Membership:
    """The membership in force at `index`, which the log still knows."""
    found = raft.log.configs[0][1]
    for place, membership in raft.log.configs:
        if place <= index:
            found = membership
    return found
