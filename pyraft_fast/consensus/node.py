"""One node's consensus from start to end: find or found its cluster, then run as a member.

States: starting (files are read), looking (no cluster yet; only questions are answered), running,
ending. The serving side may speak at any time; what it sends before there is a cluster is dropped,
as it is told RESEND later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

from pyraft_fast._wire import Frame
from pyraft_fast.consensus import recovery
from pyraft_fast.consensus.announcing import announce
from pyraft_fast.consensus.clocks import now_ms as clock_now_ms
from pyraft_fast.consensus.control import Control
from pyraft_fast.consensus.digests import read_note, send_note
from pyraft_fast.consensus.diskwork import Call, LogWriter
from pyraft_fast.consensus.driver import Driver, Parts
from pyraft_fast.consensus.frames import Fields, FrameType
from pyraft_fast.consensus.identity import INCARNATION_MAX, Hello, Identity, Refusal, judge_hello
from pyraft_fast.consensus.incoming import PeerServer
from pyraft_fast.consensus.joining import Answer, Found, Joiner
from pyraft_fast.consensus.peers import PeerLinks
from pyraft_fast.consensus.publish import LAZY_SECONDS, Publisher, RingWriter
from pyraft_fast.consensus.serving_side import Serving, Slot
from pyraft_fast.consensus.settings import TICK_MS, Settings
from pyraft_fast.consensus.snapshots import SnapshotFile
from pyraft_fast.consensus.status import status_of
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, Role
from pyraft_fast.errors import ClusterDown, MembershipError, RaftException, TryAgain

HANDOVER_SECONDS_MAX: Final = 0.9
DISK_STOP_SECONDS_MAX: Final = 0.25
ANNOUNCE_SECONDS: Final = 1.0  # between attempts to tell the cluster where this node is now


class Parent(Serving, Protocol):
    """What the node tells the serving process."""

    def ready(self, info: dict[str, object]) -> None:
        """The node's identity is settled; load the snapshot if any, then say what is applied."""
        ...

    def done(self, request_id: int, value: object, code: str, text: str) -> None:
        """The answer to a request; `code` is "" when it went well."""
        ...

    def log(self, level: int, text: str) -> None:
        """One line for the log."""
        ...

    def digests(self, nid: str, note: bytes) -> None:
        """A note from the guard of member `nid`."""
        ...

    def fatal(self, error: BaseException) -> None:
        """The node must not go on."""
        ...


class Node:
    """The consensus side of one node. It is the host of its links (`PeerHost`)."""

    def __init__(
        self,
        settings: Settings,
        parent: Parent,
        ring: RingWriter,
        slot: Slot,
        wake_serving: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._parent = parent
        self._rng = rng
        self._slot = slot
        self._identity = Identity(0, settings.nid, settings.addr, 0)
        loop = asyncio.get_running_loop()
        # Where commits are told at once, answers wait for what followers have applied.
        later = None if settings.commit_at_once else partial(loop.call_later, LAZY_SECONDS)
        self._publisher = Publisher(ring, wake_serving, later)
        self._applied: int | None = None
        self._driver: Driver | None = None
        self._joiner: Joiner | None = None
        self._disk: LogWriter | None = None
        self._recovered: recovery.Recovered | None = None
        self._invited = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._control = Control(self)
        self.server = PeerServer(self)
        self.links = PeerLinks(self, rng)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False

    # Start

    def begin(self) -> None:
        """Start working; errors end in `Parent.fatal`."""
        self._spawn(self._start())

    async def _start(self) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, recovery.look, settings)
        if await loop.run_in_executor(None, recovery.is_blank, settings, found):
            recovery.discard_log(settings)
            found = found._replace(log=None)
        if found.log is None:
            await self._find_cluster(found)
            found = await loop.run_in_executor(None, recovery.look, settings)
        recovered = await loop.run_in_executor(None, recovery.open_log, settings, found)
        self._run(recovered)
        if self._driver is not None:
            await announce(self._driver, self._control, self)

    async def _find_cluster(self, found: recovery.Found) -> None:
        settings = self._settings
        incarnation = self._rng.randint(1, INCARNATION_MAX)
        cluster = self._rng.getrandbits(64) | 1
        self._identity = self._identity._replace(incarnation=incarnation)
        loop = asyncio.get_running_loop()
        if not settings.ensemble:
            self.log(logging.INFO, f"founding cluster {cluster:016x} of one node")
            await loop.run_in_executor(
                None, recovery.found_cluster, settings, found, cluster, incarnation, 1
            )
            return
        self._say_ready(0, incarnation, 1, found.snapshot)
        self._parent.role("joining", 0, "", "", False)
        self._joiner = Joiner(
            self._identity,
            settings.ensemble,
            settings.load,
            settings.overwrite_peer,
            self._rng,
            self.log,
        )
        verdict = await self._joiner.run()
        if isinstance(verdict, Found):
            self.log(logging.INFO, f"founding cluster {cluster:016x} for {verdict.voters} nodes")
            await loop.run_in_executor(
                None, recovery.found_cluster, settings, found, cluster, incarnation, verdict.voters
            )
            return
        self.log(logging.INFO, f"taken in by cluster {verdict.cluster:016x}")
        await loop.run_in_executor(
            None, recovery.join_cluster, settings, verdict.cluster, incarnation
        )

    def _run(self, recovered: recovery.Recovered) -> None:
        """The files are read: become a running member."""
        settings = self._settings
        for note in recovered.notes:
            self.log(logging.WARNING, note)
        self._recovered = recovered
        identity = recovered.identity
        self._identity = Identity(
            identity.cluster, settings.nid, settings.addr, identity.incarnation
        )
        disk = LogWriter(
            recovered.wal, settings.fsync, self.crash, lambda text: self.log(logging.WARNING, text)
        )
        self._disk = disk
        raft = make_raft(settings, recovered, self._rng)
        parts = Parts(
            raft,
            raft.hard,
            recovered.wal,
            disk,
            self._publisher,
            self.links,
            self.server,
            self._pool,
            recovered.snapshot,
            settings.folder,
            self._slot,
        )
        if self._joiner is None:
            self._say_ready(
                identity.cluster, identity.incarnation, recovered.start, recovered.snapshot
            )
        self._joiner = None
        self._driver = Driver(self, self._parent, parts)
        self.log(
            logging.INFO,
            f"node {settings.nid} of cluster {identity.cluster:016x}: log up to index "
            f"{raft.log.last}, term {raft.term}",
        )
        if self._applied is not None:
            self._publisher.begin(self._applied, identity.incarnation)

    def _say_ready(self, cluster: int, incarnation: int, start: int, snapshot: object) -> None:
        file = snapshot if isinstance(snapshot, SnapshotFile) else None
        self._parent.ready(
            {
                "cluster": cluster,
                "nid": self._settings.nid,
                "incarnation": incarnation,
                "start": start,
                "snapshot_path": "" if file is None else file.path,
                "snapshot_index": 0 if file is None else file.index,
            }
        )

    # The serving side speaks

    def propose(self, start: int, batch: int, count: int, payload: bytes) -> None:
        """A batch of the serving side that did not go through the slot."""
        if self._driver is not None:
            self._driver.intake.propose(start, batch, count, payload)

    def look(self) -> None:
        """A batch lies in the slot."""
        if self._driver is not None:
            self._driver.wake()

    def read(self, context: int, by_lease: bool) -> None:
        """A read of the serving side waits for its index."""
        if self._driver is not None:
            self._driver.read(context, by_lease)

    def applied(self, index: int) -> None:
        """The serving side has everything up to `index`."""
        self._applied = index
        if self._driver is not None:
            self._publisher.begin(index, self._identity.incarnation)
            self._driver.wake()

    def room(self) -> None:
        """The serving side took something out of the ring."""
        if self._driver is not None:
            self._driver.pump()

    def snapshot_taken(self, path: str, index: int, term: int) -> None:
        """The serving side wrote a snapshot."""
        if self._driver is not None:
            self._driver.snapshot_taken(path, index, term)

    def change(self, request_id: int, op: str, nid: str, addr: str) -> None:
        """A membership change is asked for; DONE follows."""
        self._answer_later(request_id, self._control.change(op, nid, addr))

    def transfer(self, request_id: int, nid: str) -> None:
        """The leadership is to move; DONE follows."""
        self._answer_later(request_id, self._control.transfer(nid))

    def status(self, request_id: int) -> None:
        """The serving side wants figures for INFO; DONE follows at once."""
        disk = self._disk
        if self._driver is None or disk is None:
            self._parent.done(request_id, {"role": "joining", "cluster": 0}, "", "")
        else:
            value = status_of(self._driver, self._identity, self._settings.fsync, disk.stats())
            self._parent.done(request_id, value, "", "")

    def digests(self, nid: str, note: bytes) -> None:
        """A note of the serving side's guard for other members."""
        if self._driver is not None:
            send_note(self.links, self._driver.raft.membership, nid, note)

    def _answer_later(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        if self._driver is None:
            work.close()
            self._parent.done(request_id, None, ClusterDown.code, "this node has no cluster yet")
            return
        self._spawn(self._answer(request_id, work))

    async def _answer(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            self._parent.done(request_id, True, "", "")
        except RaftException as error:
            self._parent.done(request_id, None, error.code, str(error))

    def describe(self) -> str:
        """The state in a line, for the text of a fatal error."""
        if self._driver is None:
            return f"node {self._identity.nid}, looking for its cluster"
        raft = self._driver.raft
        return (
            f"node {self._identity.nid}, {raft.role.value} in term {raft.term}, log "
            f"{raft.log.first}..{raft.log.last}, committed {raft.log.commit}, published "
            f"{self._publisher.published}"
        )

    # End

    async def shut_down(self) -> None:
        """Hand over the leadership if this node has it, and finish what goes to the disk.

        Bounded: takes at most about 1.5 s.
        """
        self._is_ending = True
        driver = self._driver
        if driver is not None and driver.raft.role == Role.LEADER:
            try:
                await asyncio.wait_for(self._control.hand_over(), HANDOVER_SECONDS_MAX)
            except (RaftException, asyncio.TimeoutError) as error:
                self.log(logging.INFO, f"the leadership was not handed over: {error}")
        self.links.close()
        self.server.close()
        if driver is not None:
            driver.close()
        if self._disk is not None and self._recovered is not None:
            self._disk.submit(Call(self._recovered.wal.close, lambda: None))
            if not self._disk.stop(DISK_STOP_SECONDS_MAX):
                self.log(logging.WARNING, "the disk did not finish in time")

    # The host of links

    @property
    def settings(self) -> Settings:
        """What this node was told at start."""
        return self._settings

    @property
    def identity(self) -> Identity:
        """This node as it is known now."""
        return self._identity

    def judge(self, hello: Hello) -> Refusal | None:
        """May this caller open a link?"""
        driver = self._driver
        identity = self._identity if driver is not None else self._identity._replace(cluster=0)
        removed = () if driver is None else driver.raft.committed_membership.removed
        return judge_hello(identity, hello, removed)

    def caller_up(self, caller: Identity) -> None:
        """A member opened its link to this node."""
        if self._driver is not None:
            self._driver.caller_up(caller)

    def peer_frame(self, caller: Identity, frame: Frame) -> None:
        """A frame from a member."""
        if frame.type == FrameType.DIGESTS:
            self._parent.digests(caller.nid, read_note(frame))
        elif self._driver is not None:
            self._driver.peer_frame(caller, frame)

    def peer_part(self, caller: Identity) -> None:
        """Part of a frame from a member."""
        if self._driver is not None:
            self._driver.transfers.came(caller)

    def link_up(self, nid: str) -> None:
        """A link opened."""
        if self._driver is not None:
            self._driver.link_up(nid)

    def link_down(self, nid: str) -> None:
        """A link closed."""
        if self._driver is not None:
            self._driver.link_down(nid)

    def link_refused(self, nid: str, refusal: Refusal) -> None:
        """A member refused this node."""
        if self._driver is not None:
            self._driver.link_refused(nid, refusal)

    async def answer(self, op: str, args: dict[str, object]) -> dict[str, object]:
        """Answer a request of another node. Raises RaftException."""
        if op == "PROBE":
            return self._about_me().value()
        if op == "INVITE":
            return self._take_invitation(Fields(args, "an invitation"))
        if self._driver is None:
            raise TryAgain(f"node {self._identity.nid} has no cluster yet")
        return await self._control.from_peer(op, args)

    def _take_invitation(self, fields: Fields) -> dict[str, object]:
        if self._joiner is None:
            raise MembershipError(f"node {self._identity.nid} is not looking for a cluster")
        self._joiner.invite(fields.text("addr", 512))
        return {}

    def _about_me(self) -> Answer:
        if self._driver is None:
            if self._joiner is not None:
                return self._joiner.answer()
            raise TryAgain(f"node {self._identity.nid} is still starting")
        raft = self._driver.raft
        me = self._identity
        out, leader = raft.role == Role.REMOVED, self.leader_addr
        return Answer(me.nid, me.addr, me.incarnation, me.cluster, False, out, (), leader)

    def log(self, level: int, text: str) -> None:
        """One line for the log."""
        self._parent.log(level, text)

    def crash(self, error: BaseException) -> None:
        """Something that must stop the process."""
        self._parent.fatal(error)

    # What control asks of the running member

    @property
    def cluster(self) -> int:
        """The cluster's id, 0 without one."""
        return self._identity.cluster

    @property
    def nid(self) -> str:
        """This node's name."""
        return self._identity.nid

    @property
    def raft(self) -> Raft:
        """The core. Raises ClusterDown while there is none."""
        if self._driver is None:
            raise ClusterDown("this node has no cluster yet")
        return self._driver.raft

    @property
    def is_leader(self) -> bool:
        """Does this node lead?"""
        return self.raft.role == Role.LEADER

    @property
    def leader_nid(self) -> str:
        """Who leads, "" when that is not known."""
        return self.raft.leader

    @property
    def leader_addr(self) -> str:
        """Where the leader is, "" when that is not known."""
        return "" if self._driver is None else self._driver.address_of(self.raft.leader)

    @property
    def membership(self) -> Membership:
        """The membership in force."""
        return self.raft.membership

    @property
    def committed_membership(self) -> Membership:
        """The newest membership that is certain."""
        return self.raft.committed_membership

    @property
    def commit(self) -> int:
        """Everything up to this index is certain."""
        return self.raft.log.commit

    def propose_change(self, op: str, nid: str, addr: str, incarnation: int) -> int:
        """Propose a membership change; the index that makes it certain. Raises as the core."""
        index = self.raft.propose_change(op, nid, addr, incarnation, clock_now_ms())
        self._wake()
        return index

    def begin_transfer(self, nid: str) -> None:
        """Begin to hand the leadership to `nid`, or to whom is best if "". Raises."""
        self.raft.transfer(nid or None)
        self._wake()

    async def changed(self) -> None:
        """Return after the next turn."""
        if self._driver is None:
            raise ClusterDown("this node has no cluster yet")
        await self._driver.changed()

    def _wake(self) -> None:
        if self._driver is not None:
            self._driver.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.crash(error)


def make_raft(settings: Settings, recovered: recovery.Recovered, rng: random.Random) -> Raft:
    """The core of a recovered node."""
    wal, snapshot = recovered.wal, recovered.snapshot
    place = (0, 0) if snapshot is None else (snapshot.index, snapshot.term)
    log = RaftLog(wal, wal.first, wal.last, recovered.last_term, place, recovered.configs)
    config = Config(
        settings.nid,
        recovered.identity.incarnation,
        max(settings.heartbeat_ms // TICK_MS, 1),
        settings.election_ms_min // TICK_MS, settings.election_ms_max // TICK_MS,
        tick_ms=TICK_MS, commit_at_once=settings.commit_at_once,
    )  # fmt: skip
    clock_ms = 0 if snapshot is None else snapshot.time_ms
    return Raft(config, log, recovered.hard, recovered.snapshot_membership, rng, clock_ms)
