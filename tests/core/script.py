"""The little language of golden transcripts.

A file is its own script and its own record. Lines that begin with "#" are for the reader, those
that begin with ">" are steps, and everything else is what the nodes did, which is written by
`play`. Steps (N, M are nodes; times are ticks of one node or of all):

    start 3 [+1] [patient]    voters 1..3 (and a learner), a fresh cluster; patient leaders tell at
                              once what is committed only where somebody waits for it, as real ones
                              do; others tell all, as real ones do with --digests all
    logs 1:1,1,4 2:1/3 ...    voters with logs of these terms on disk; 2 has seen term 3
    timeout N                 N's clock runs until its election timer ends
    tick N|all COUNT [shown]  clocks run, nothing is delivered, heartbeats are not shown
    run COUNT                 clocks of all run and everything is delivered after each tick;
                              heartbeats and their answers are not shown
    deliver [N->M|KIND|once]  hand over what is on the wire and all that comes of it; of one link
                              or of one kind, or what is there now: without what comes of it
    drop [N->M|KIND]          lose what is on the wire
    keep KIND|nothing         messages of this kind stay on the wire until further notice
    cut N | cut N->M, heal    what is sent there is lost from now on
    elect N                   the others do not hear their leader for 10 ticks, N's timer ends, and
                              everything is delivered: not shown; then the state of all
    settle                    run 4, not shown; then the state of all
    state                     role, term, vote, leader, commit and log of each
    propose N WORD ...        propose a batch each
    propose-for N M WORD ...  the same on leader N, for clients of M, which wait
    change N OP M             a membership change on leader N: add, remove, promote, demote, rejoin
    join M                    start M on an empty disk (again: its next life)
    read N NUMBER ... [lease] ask N for read indexes in one turn; a lease will do
    transfer N M              leader N hands over
    hold N, disk N, release N the disk waits; finishes one job; works on
    crash N, restart N
    snapshot N KEEP           N writes a snapshot of what it has committed, keeps KEEP entries
    send-snapshot N M         M has received N's newest snapshot whole
    fail-snapshot N M         M will not receive it
    unreachable N M           N's link to M reports a loss
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.work import SnapshotState
from pyraft_fast.errors import MembershipError, TryAgain
from tests.core.stage import CONFIG, PATIENT, Actor, Stage, said_log

PULSE = frozenset({MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_REPLY})


def play(path: Path) -> str:
    """Run the script in a file; the file as it should be."""
    player = Player()
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            if lines and lines[-1] and not lines[-1].startswith("#"):
                lines.append("")
            lines.append(line)
            lines += player.step(line[1:])
        elif line.startswith("#"):
            if lines and not lines[-1].startswith("#"):
                lines.append("")
            lines.append(line)
    return "\n".join(lines) + "\n"


def _fits(word: str) -> Callable[[Message], bool]:
    if not word:
        return lambda message: True
    if "->" in word:
        return lambda message: f"{message.sender}->{message.to}" == word
    kind = MessageKind[word]
    return lambda message: message.kind == kind


class Player:
    """Carries out steps."""

    def __init__(self) -> None:
        self.stage = Stage()

    def step(self, line: str) -> list[str]:
        """One step; the lines that tell what came of it."""
        self.stage.page = []
        word, *words = shlex.split(line)
        method = getattr(self, "do_" + word.replace("-", "_"))
        try:
            method(*words)
        except (MembershipError, TryAgain) as error:
            self.stage.say(f"  refused, {type(error).__name__}: {error}")
        return self.stage.page

    def _actor(self, nid: str) -> Actor:
        actor = self.stage.actors[nid]
        assert actor.is_up, f"node {nid} is down"
        return actor

    # Beginnings

    def do_start(self, voters: str, *words: str) -> None:
        if "patient" in words:
            self.stage.config = PATIENT
        count = int(voters) + sum(int(word) for word in words if word != "patient")
        names = [str(n + 1) for n in range(count)]
        self.stage.found({nid: [1] for nid in names}, int(voters), dict.fromkeys(names, 1))

    def do_logs(self, *logs: str) -> None:
        found: dict[str, list[int]] = {}
        seen: dict[str, int] = {}
        for log in logs:
            nid, _, rest = log.partition(":")
            terms, _, term = rest.partition("/")
            found[nid] = [int(word) for word in terms.split(",")]
            seen[nid] = int(term or found[nid][-1])
        self.stage.found(found, len(found), seen)
        self.do_state()

    # Time

    def do_timeout(self, nid: str) -> None:
        actor = self._actor(nid)
        for _ in range(actor.raft.election_timeout - actor.raft.election_elapsed):
            actor.tick()

    def do_tick(self, nid: str, count: str, shown: str = "") -> None:
        actors = self.stage.up() if nid == "all" else [self._actor(nid)]
        self.stage.hidden = frozenset() if shown else PULSE
        for _ in range(int(count)):
            for actor in actors:
                actor.tick()
        self.stage.hidden = frozenset()

    def do_run(self, count: str) -> None:
        self.stage.hidden = PULSE
        for _ in range(int(count)):
            for actor in self.stage.up():
                actor.tick()
            self.stage.deliver(_fits(""), follow=True)
        self.stage.hidden = frozenset()

    def do_elect(self, nid: str) -> None:
        for actor in self.stage.up():
            if actor.nid != nid and not actor.raft.is_leader:
                for _ in range(CONFIG.election_ticks_min - actor.raft.election_elapsed):
                    actor.tick()
        self.do_timeout(nid)
        self.do_settle()
        assert self._actor(nid).raft.is_leader, f"node {nid} was not elected"

    def do_settle(self) -> None:
        self.stage.deliver(_fits(""), follow=True)
        self.do_run("4")
        self.stage.page = []
        self.do_state()

    # The network

    def do_deliver(self, word: str = "") -> None:
        once = word == "once"
        self.stage.deliver(_fits("" if once else word), follow=not once)

    def do_keep(self, word: str) -> None:
        self.stage.kept = None if word == "nothing" else MessageKind[word]

    def do_drop(self, word: str = "") -> None:
        fits = _fits(word)
        self.stage.wire = [message for message in self.stage.wire if not fits(message)]

    def do_cut(self, word: str) -> None:
        one, arrow, other = word.partition("->")
        if arrow:
            self.stage.cut.add((one, other))
            return
        for other in self.stage.actors:
            if other != one:
                self.stage.cut |= {(one, other), (other, one)}

    def do_heal(self) -> None:
        self.stage.cut.clear()

    def do_unreachable(self, nid: str, other: str) -> None:
        actor = self._actor(nid)
        actor.raft.unreachable(other)
        actor.turn()

    # What is asked of nodes

    def do_propose(self, nid: str, *payloads: str) -> None:
        actor = self._actor(nid)
        for payload in payloads:
            done = actor.raft.propose(KIND_COMMANDS, payload.encode(), 1, 0, 0, 0, actor.now_ms)
            if not done:
                actor.say(f"takes no proposal: {payload}")
            actor.turn()

    def do_propose_for(self, nid: str, other: str, *payloads: str) -> None:
        actor, origin = self._actor(nid), self.stage.actors[other].incarnation
        for payload in payloads:
            assert actor.raft.propose(
                KIND_COMMANDS, payload.encode(), 1, origin, 1, 1, actor.now_ms
            ), f"node {nid} takes no proposal"
            actor.turn()

    def do_change(self, nid: str, op: str, other: str) -> None:
        actor = self._actor(nid)
        new = self.stage.actors[other].incarnation if op in ("add", "rejoin") else 0
        actor.raft.propose_change(op, other, f"host{other}:1", new, actor.now_ms)
        actor.turn()

    def do_join(self, nid: str) -> None:
        self.stage.fresh(nid).start()

    def do_read(self, nid: str, *numbers: str) -> None:
        actor = self._actor(nid)
        by_lease = numbers[-1] == "lease"
        for number in numbers[:-1] if by_lease else numbers:
            self.stage.invariants.read_asked(actor.incarnation, int(number))
            actor.raft.read(int(number), by_lease)
        actor.turn()

    def do_transfer(self, nid: str, other: str) -> None:
        actor = self._actor(nid)
        actor.raft.transfer(other)
        actor.turn()

    # Disks

    def do_hold(self, nid: str) -> None:
        self._actor(nid).is_held = True

    def do_disk(self, nid: str) -> None:
        actor = self._actor(nid)
        assert actor.work_off(), f"the disk of {nid} has nothing to do"
        actor.turn()

    def do_release(self, nid: str) -> None:
        actor = self._actor(nid)
        actor.is_held = False
        while actor.work_off():
            actor.turn()

    def do_crash(self, nid: str) -> None:
        actor = self._actor(nid)
        actor.crash()
        reads = self.stage.invariants.reads
        for key in [key for key in reads if key[0] == actor.incarnation]:
            del reads[key]

    def do_restart(self, nid: str) -> None:
        assert not self.stage.actors[nid].is_up, f"node {nid} runs"
        self.stage.actors[nid].start()
        self.do_state(nid)

    def do_snapshot(self, nid: str, keep: str) -> None:
        actor = self._actor(nid)
        log = actor.raft.log
        index = log.commit
        membership = actor.raft.committed_membership
        found = SnapshotState(index, log.term(index), membership)
        actor.disk.save_snapshot(found, self.stage.invariants.committed[index].time_ms)
        actor.raft.compact(index - int(keep))
        actor.disk.forget_below(log.first)
        actor.say(f"has a snapshot at {index}@{found.term}, log {said_log(actor.raft)}")

    def do_send_snapshot(self, nid: str, other: str) -> None:
        sender = self._actor(nid)
        self.stage.hear(self.stage.snapshot_message(sender, other, sender.disk.snapshot))
        sender.raft.snapshot_sent(other, True)
        sender.turn()

    def do_fail_snapshot(self, nid: str, other: str) -> None:
        sender = self._actor(nid)
        sender.raft.snapshot_sent(other, False)
        sender.turn()

    # Looking

    def do_state(self, *nids: str) -> None:
        for nid in nids or sorted(self.stage.actors):
            actor = self.stage.actors[nid]
            if not actor.is_up:
                self.stage.say(f"  {nid}  is down")
                continue
            raft = actor.raft
            role = actor.look()[0]
            self.stage.say(
                f"  {nid}  {role:<9} term {raft.term} vote {raft.vote or '-'} "
                f"leader {raft.leader or '-'} commit {raft.log.commit} log {said_log(raft)}"
            )
