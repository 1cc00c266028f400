"""The rules of one node: messages, ticks and proposals in, effects out.

This is Raft as in Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014), with PreVote
(9.6), leadership transfer (3.10), one-at-a-time membership changes with learners (4.1, 4.2) and
reads by ReadIndex and by lease (6.4). It decides what is committed and who leads. It knows no
socket, file, clock or die: time is counted in ticks, dice are handed in, and everything to be done
is returned by `take()`. What a message does lies in one small function, found by (role, kind) in a
table.

Invariants, checked here and at every border: at most one leader in a term; a term never falls; a
vote is never changed within a term; a committed entry is never truncated; roles move only along
LEGAL. A broken one raises InvariantError, and the process must stop.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from pyraft_fast._entry import seal
from pyraft_fast.compiled import mypyc_attr
from pyraft_fast.core import change, election, removal, replication, transfer
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.leases import Lease
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Membership
from pyraft_fast.core.messages import REPLIES, Message, MessageKind
from pyraft_fast.core.progress import SNAPSHOT, Progress
from pyraft_fast.core.reads import Reads
from pyraft_fast.core.sparing import Sparing
from pyraft_fast.core.work import Config, HardState, Role, SnapshotState, SoftState, Work
from pyraft_fast.errors import check
from pyraft_fast.limits import UNCOMMITTED_ENTRIES_MAX

__all__ = ["Config", "HardState", "Raft", "Role", "SoftState", "Work"]

LEGAL: Final = frozenset(
    {
        (Role.FOLLOWER, Role.PRE_CANDIDATE),
        (Role.FOLLOWER, Role.CANDIDATE),  # told to by the leader, or nobody else to ask
        (Role.FOLLOWER, Role.REMOVED),
        (Role.PRE_CANDIDATE, Role.CANDIDATE),
        (Role.PRE_CANDIDATE, Role.FOLLOWER),
        (Role.CANDIDATE, Role.LEADER),
        (Role.CANDIDATE, Role.FOLLOWER),
        (Role.LEADER, Role.FOLLOWER),
    }
)
Handler = Callable[["Raft", Message], None]


def _ignore(raft: Raft, message: Message) -> None:
    """A late answer to something this node has given up."""


_ALWAYS: Final[dict[MessageKind, Handler]] = {
    MessageKind.PREVOTE: election.on_prevote,
    MessageKind.VOTE: election.on_vote,
}
_FOLLOWING: Final[dict[MessageKind, Handler]] = {
    **_ALWAYS,
    MessageKind.APPEND: replication.on_append,
    MessageKind.HEARTBEAT: replication.on_heartbeat,
    MessageKind.READ: replication.refuse_read,
    MessageKind.READ_REPLY: replication.on_read_reply,
    MessageKind.TIMEOUT_NOW: election.on_timeout_now,
}
_HANDLERS: Final[dict[Role, dict[MessageKind, Handler]]] = {
    Role.FOLLOWER: _FOLLOWING,
    Role.PRE_CANDIDATE: {**_FOLLOWING, MessageKind.PREVOTE_REPLY: election.on_prevote_reply},
    Role.CANDIDATE: {**_FOLLOWING, MessageKind.VOTE_REPLY: election.on_vote_reply},
    Role.LEADER: {
        **_ALWAYS,
        MessageKind.APPEND: replication.on_second_leader,
        MessageKind.HEARTBEAT: replication.on_second_leader,
        MessageKind.APPEND_REPLY: replication.on_append_reply,
        MessageKind.HEARTBEAT_REPLY: replication.on_heartbeat_reply,
        MessageKind.READ: replication.on_read,
    },
    Role.REMOVED: {},
}
_KINDS_MAX: Final = max(MessageKind) + 1
TABLE: Final[dict[Role, list[Handler]]] = {
    role: [
        handlers.get(MessageKind(kind), _ignore) if kind else _ignore for kind in range(_KINDS_MAX)
    ]
    for role, handlers in _HANDLERS.items()
}


@mypyc_attr(allow_interpreted_subclasses=True)
class Raft:
    """One node's consensus.

    `membership` is that of the snapshot the log begins behind (empty if none); membership entries
    in the log come on top. `clock_ms` is the cluster time in that snapshot.

    The driver may read: role, term, leader, membership, committed_membership, log (commit, first,
    last, stable, read), progress, ticks, clock_ms, hard, is_leader, accepts.

    The driver sets `steady_ms` before it hands in inputs and before `take()`: milliseconds of a
    clock that never jumps back and goes on while the machine sleeps. Only leases use it.
    """

    __slots__ = (
        "_is_full",
        "_is_saved",
        "_is_told",
        "_membership_told",
        "_snapshot",
        "_soft",
        "clock_ms",
        "config",
        "election_elapsed",
        "election_timeout",
        "heartbeat_elapsed",
        "incarnation",
        "is_term_durable",
        "is_voter",
        "known",
        "leader",
        "lease",
        "log",
        "nid",
        "progress",
        "reads",
        "rng",
        "role",
        "send_after_sync",
        "send_now",
        "sparing",
        "steady_ms",
        "table",
        "tells_commit",
        "term",
        "term_start",
        "ticks",
        "transfer_elapsed",
        "transferee",
        "vote",
        "votes",
        "voting_peers",
        "wants_snapshot",
    )

    def __init__(
        self,
        config: Config,
        log: RaftLog,
        hard: HardState,
        membership: Membership,
        rng: Random,
        clock_ms: int = 0,
    ) -> None:
        check(1 <= config.heartbeat_ticks < config.election_ticks_min, "heartbeat ticks", config)
        check(config.election_ticks_min < config.election_ticks_max, "election ticks", config)
        self.config = config
        self.nid = config.nid
        self.incarnation = config.incarnation
        self.log = log
        self.rng = rng
        log.found(membership)
        log.commit = max(log.commit, min(hard.commit, log.last))
        # A snapshot may have reached the disk from a term this node had not seen before it crashed.
        is_behind = log.last_term > hard.term
        self.term = log.last_term if is_behind else hard.term
        self.vote = "" if is_behind else hard.vote
        self.role = Role.FOLLOWER
        self.table = TABLE[Role.FOLLOWER]
        self.leader = ""
        self.clock_ms = max(clock_ms, log.newest_time_ms())
        self.ticks = 0
        self.steady_ms = 0
        self.lease = Lease(config)
        self.election_elapsed = 0
        self.election_timeout = 0
        self.heartbeat_elapsed = 0
        self.votes: dict[str, bool] = {}
        self.is_voter = False
        self.known: dict[str, int] = {}  # incarnations of the members in force
        self.progress: dict[str, Progress] = {}  # of all others, while leading
        self.voting_peers: list[Progress] = []
        self.term_start = 0  # index of the first entry of the term this node leads
        self.is_term_durable = False
        self.tells_commit = False  # a tick has passed: peers are told what they were not yet
        self.transferee = ""
        self.transfer_elapsed = 0
        self.reads = Reads(rng.getrandbits(62))
        self.sparing = Sparing()
        self.send_now: list[Message] = []
        self.send_after_sync: list[Message] = []
        self.wants_snapshot: list[str] = []
        self._snapshot: SnapshotState | None = None
        self._is_full = False  # while leading: of what no majority has taken
        self._is_saved = not is_behind
        self._is_told = False
        self._soft: SoftState | None = None
        self._membership_told: Membership | None = None
        self.restart_election_timer()
        self.take_membership()
        removal.notice_own_removal(self)

    # What others may look at

    @property
    def membership(self) -> Membership:
        """The membership in force here: the newest in the log, committed or not."""
        return self.log.membership

    @property
    def committed_membership(self) -> Membership:
        """The newest membership that is committed."""
        return self.log.committed_membership()

    @property
    def hard(self) -> HardState:
        """The hard state as it is now, saved or not."""
        return HardState(self.term, self.vote, self.log.commit)

    @property
    def is_leader(self) -> bool:
        """Does this node lead its term?"""
        return self.role is Role.LEADER

    @property
    def accepts(self) -> bool:
        """Does this node take proposals?"""
        return self.role is Role.LEADER and not self.transferee and not self._is_full

    # Inputs

    def tick(self, now_ms: int) -> None:
        """One tick of time has passed; `now_ms` is the wall clock, which only a leader uses.

        After a stall, do not make up for ticks that were missed: messages wait to be read first.
        """
        self.ticks += 1
        if self.role is Role.LEADER:
            if now_ms > self.clock_ms:
                self.clock_ms = now_ms
            else:  # this machine's clock is behind: at half speed, so that the two meet again
                self.clock_ms += self.config.tick_ms // 2
            replication.tick(self)
            transfer.tick(self)
            change.tick(self)
        elif self.role is not Role.REMOVED:
            election.tick(self)

    def step(self, message: Message) -> None:
        """A message from another node, or SNAPSHOT from this node's own driver."""
        kind = message.kind
        if self.role is Role.REMOVED:
            return
        if kind == MessageKind.SNAPSHOT:
            replication.install_snapshot(self, message)
            return
        if message.to_incarnation not in (0, self.incarnation):
            return  # meant for another node of this name
        if self.known.get(message.sender) != message.incarnation and not self._admits(message):
            return
        if message.clock_ms > self.clock_ms:
            self.clock_ms = message.clock_ms
        if kind == MessageKind.REMOVED:
            removal.on_removed(self, message)
        elif message.term == self.term:
            self.table[kind](self, message)
        elif message.term < self.term:
            election.on_older_term(self, message)
        elif election.accepts_newer_term(self, message):
            self.table[kind](self, message)

    def _admits(self, message: Message) -> bool:
        """May a node that is not in the membership in force say this?

        It may ask, since it may be in a newer membership than this node's (thesis section 4.2.3).
        Its answers do not count: they would be taken for those of a member of the same name. One
        that was removed for certain is told so, and not listened to.
        """
        if message.incarnation in self.log.committed_membership().removed:
            if message.kind != MessageKind.REMOVED:
                removal.tell_removed(self, message.sender, message.incarnation)
            return False
        return message.kind not in REPLIES

    def propose(
        self,
        kind: int,
        payload: bytes,
        count: int,
        origin: int,
        start: int,
        batch: int,
        now_ms: int,
    ) -> bool:
        """Append an entry with these header fields. False when this node takes no proposals:
        then nothing happened, and `accepts` tells when to try again.
        """
        if self.role is not Role.LEADER or self.transferee or self._is_full:
            return False
        log = self.log
        is_long = log.last - log.commit >= UNCOMMITTED_ENTRIES_MAX
        if is_long or log.uncommitted_bytes() >= self.config.uncommitted_bytes_max:
            self._is_full = True
            self._is_told = False
            return False
        if now_ms > self.clock_ms:
            self.clock_ms = now_ms
        index = log.last + 1
        time_ms = self.clock_ms
        record = seal(kind, index, self.term, time_ms, origin, start, batch, count, payload)
        log.append(Entry(index, self.term, kind, record, time_ms))
        self.sparing.proposed += count
        if origin != self.incarnation:
            replication.expect(self, origin, index)
        return True

    def propose_change(self, op: str, nid: str, addr: str, incarnation: int, now_ms: int) -> int:
        """Change the membership; returns the index whose commit makes it certain.

        `op` is one of add (a learner), remove, promote, demote, address, rejoin (same name, new
        incarnation). What is so already changes nothing. Raises MembershipError when the change is
        refused as it stands, TryAgain when it is not possible now.
        """
        if now_ms > self.clock_ms:
            self.clock_ms = now_ms
        return change.propose(self, op, nid, addr, incarnation)

    def read(self, context: int, by_lease: bool = False) -> None:
        """Ask for a read index: `context` comes back in Work.reads or Work.failed_reads.

        `by_lease`: where the leader holds a lease it need not ask a majority first. That is as
        good as long as clocks keep to their bound; see `leases`.
        """
        (self.reads.by_lease if by_lease else self.reads.waiting).append(("", 0, context))

    def transfer(self, nid: str | None) -> None:
        """Give the leadership to voter `nid`, or to the most caught-up one for None or "".

        Proposals are refused meanwhile; given up after an election timeout. Raises
        MembershipError when `nid` cannot lead, TryAgain when this node cannot transfer now.
        """
        transfer.start(self, nid or "")

    def persisted(self, index: int, term: int) -> None:
        """The disk has the entries of a Work that ended with (index, term), and all before."""
        if self.log.persisted(index, term) and self.role is Role.LEADER:
            replication.on_own_disk(self)

    def compact(self, index: int) -> None:
        """Entries up to `index` are in a snapshot on disk and may be forgotten, as far as safe."""
        self.log.compact(min(index, self.log.commit, self.log.stable))

    def snapshot_sent(self, nid: str, ok: bool) -> None:
        """The snapshot that Work.wants_snapshot asked for has arrived at `nid`, or will not."""
        peer = self.progress.get(nid)
        if peer is not None and peer.state == SNAPSHOT:
            replication.end_snapshot(self, peer, ok)

    def unreachable(self, nid: str) -> None:
        """Messages to `nid` were lost: its link broke, or its queue was full."""
        peer = self.progress.get(nid)
        if peer is not None:
            replication.on_lost_messages(peer)

    # Output

    def take(self) -> Work:
        """Everything to be done since the last call. See `work` for the driver's duties."""
        if self.role is Role.LEADER:
            replication.replicate(self)
        elif self.reads.waiting or self.reads.by_lease:
            self.reads.ask_leader(self)
        log = self.log
        work = Work(log.commit)
        entries = log.hand_out()
        if entries or not self._is_saved or self._snapshot is not None:
            work.state = HardState(self.term, self.vote, log.commit)
            work.entries = entries
            work.snapshot, self._snapshot = self._snapshot, None
            self._is_saved = True
        if self.send_now:
            work.send_now, self.send_now = self.send_now, []
        if self.send_after_sync:
            work.send_after_sync, self.send_after_sync = self.send_after_sync, []
        if self.wants_snapshot:
            work.wants_snapshot, self.wants_snapshot = self.wants_snapshot, []
        reads = self.reads
        if reads.done:
            work.reads, reads.done = reads.done, []
        if reads.failed:
            work.failed_reads, reads.failed = reads.failed, []
        if not self._is_told:
            self._tell(work)
        return work

    def _tell(self, work: Work) -> None:
        self._is_told = True
        membership = self.log.membership
        if membership != self._membership_told:
            self._membership_told = work.membership = membership
        soft = SoftState(self._shown_role().value, self.term, self.leader, self.accepts)
        if soft != self._soft:
            self._soft = work.role_change = soft

    def _shown_role(self) -> Role:
        if self.role is Role.PRE_CANDIDATE:
            return Role.CANDIDATE
        if self.role is not Role.FOLLOWER or self.is_voter:
            return self.role
        is_member = self.known.get(self.nid) == self.incarnation
        return Role.LEARNER if is_member else Role.JOINING

    # For the modules beside this one

    def tell(self) -> None:
        """Something users see may have changed."""
        self._is_told = False

    def move(self, role: Role) -> None:
        """Change the role, along LEGAL."""
        check((self.role, role) in LEGAL, "a legal change of role", self.nid, self.role, role)
        self.role = role
        self.table = TABLE[role]
        self._is_told = False

    def set_vote(self, term: int, vote: str) -> None:
        """The one place where term and vote change; both are saved with the next Work."""
        if term == self.term:
            check(self.vote in ("", vote), "one vote in a term", self.nid, term, self.vote, vote)
        check(term >= self.term, "terms never fall", self.nid, self.term, term)
        self.term = term
        self.vote = vote
        self._is_saved = False
        self._is_told = False

    def set_leader(self, nid: str) -> None:
        """Follow `nid`, or nobody; what was asked of another leader has failed."""
        if nid != self.leader:
            self.leader = nid
            self.reads.fail_all(self)
            self._is_told = False

    def set_snapshot(self, snapshot: SnapshotState) -> None:
        """Have the disk's log restart behind `snapshot`."""
        self._snapshot = snapshot

    def become_follower(self, term: int, leader: str) -> None:
        """Follow `leader` ("" for nobody yet) in `term`."""
        was_waiting = self.role is Role.FOLLOWER and not self.leader
        if term != self.term:
            self.set_vote(term, "")
        if self.role is Role.LEADER:
            self.transferee = ""
            self.sparing = Sparing()
            self.progress = {}
            self.voting_peers = []
            self.wants_snapshot = []
            self._is_full = False
        if self.role is not Role.FOLLOWER:
            self.move(Role.FOLLOWER)
        self.set_leader(leader)
        if leader or not was_waiting:  # a newer term alone does not put off an election
            self.restart_election_timer()

    def restart_election_timer(self) -> None:
        """Wait a whole, newly drawn election timeout from now."""
        self.election_elapsed = 0
        self.election_timeout = self.rng.randint(
            self.config.election_ticks_min, self.config.election_ticks_max
        )

    def commit_to(self, index: int) -> None:
        """Everything up to `index` is committed; a membership among it is now certain."""
        log = self.log
        check(log.commit <= index <= log.last, "commit goes forward", log.commit, index, log.last)
        is_open = log.commit < log.config_index
        log.commit = index
        if self._is_full and _is_half_empty(log, self.config.uncommitted_bytes_max):
            self._is_full = False
            self._is_told = False
        if is_open:
            change.on_committed(self)

    def take_membership(self) -> None:
        """The membership in force has changed: in the log, by truncation, by a snapshot."""
        membership = self.log.membership
        self.known = {member.nid: member.incarnation for member in membership.members}
        me = membership.get(self.nid)
        self.is_voter = me is not None and me.incarnation == self.incarnation and me.is_voter
        self._is_told = False
        if self.role is Role.LEADER:
            replication.take_peers(self)


def _is_half_empty(log: RaftLog, bytes_max: int) -> bool:
    """May a leader that was full take proposals again? Not for every entry that is committed."""
    count = log.last - log.commit
    return log.uncommitted_bytes() <= bytes_max // 2 and count <= UNCOMMITTED_ENTRIES_MAX // 2
