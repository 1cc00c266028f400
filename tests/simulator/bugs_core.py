"""Bugs in the rules: elections, votes, replication, commit, reads, membership."""

from __future__ import annotations

from typing import Final

from tests.simulator.bug import Bug, bug

_RAFT: Final = "core.raft:Raft."
_LOG: Final = "core.log:RaftLog."
_ELECTION: Final = "core.election:"
_REPLICATION: Final = "core.replication:"
_READS: Final = "core.reads:Reads."
_LEASE: Final = "core.leases:Lease."
_CHANGE: Final = "core.change:"

ELECTION: Final[list[Bug]] = [
    bug(
        "vote-not-persisted",
        "the term is saved, the vote in it is not",
        (f"{_RAFT}take", "HardState(self.term, self.vote,", 'HardState(self.term, "",'),
        seeds=40,
    ),
    bug(
        "term-not-persisted",
        "a newer term is saved only when there are entries to save",
        (f"{_RAFT}set_vote", "self._is_saved = False", "pass"),
        seeds=40,
    ),
    bug(
        "vote-forgotten-at-restart",
        "a restarted node may vote a second time in its term",
        (f"{_RAFT}__init__", '"" if is_behind else hard.vote', '""'),
        seeds=40,
    ),
    bug(
        "vote-reply-before-sync",
        "a vote is given before the disk has it",
        (f"{_ELECTION}on_vote", "raft.send_after_sync.append(answer)", "raft.send_now += [answer]"),
        seeds=40,
    ),
    bug(
        "candidate-before-sync",
        "a candidate asks for votes before its own is on disk",
        (f"{_ELECTION}campaign", "raft.send_after_sync +=", "raft.send_now +="),
        seeds=40,
    ),
    bug(
        "vote-given-twice",
        "whoever asks gets the vote, also the second one in a term",
        (f"{_ELECTION}on_vote", "is_free = ", "is_free = True or "),
        (f"{_ELECTION}on_vote", "if not raft.vote:", "if raft.role is Role.FOLLOWER:"),
        (f"{_RAFT}set_vote", 'self.vote in ("", vote)', "True"),
        seeds=40,
    ),
    bug(
        "vote-counted-twice",
        "a vote that arrives twice counts as two",
        (
            f"{_ELECTION}_count",
            "raft.votes.setdefault(message.sender, message.flag)",
            "raft.votes[message.sender + len(raft.votes) * '+'] = message.flag",
        ),
        (
            f"{_ELECTION}_verdict",
            "[raft.votes[member.nid] for member in voters if member.nid in raft.votes]",
            "[*raft.votes.values()]",
        ),
        seeds=300,
    ),
    bug(
        "vote-of-older-term-counted",
        "a vote for an earlier candidacy counts in this one",
        (
            f"{_RAFT}step",
            "elif message.term == self.term:",
            "elif message.term == self.term or kind == MessageKind.VOTE_REPLY:",
        ),
        seeds=300,
    ),
    bug(
        "election-without-log-comparison",
        "votes go to candidates that lack committed entries",
        (f"{_ELECTION}_is_complete", "log = raft.log", "return True"),
        seeds=40,
    ),
    bug(
        "election-by-log-length",
        "the longer log wins, whatever the term of its last entry",
        (
            f"{_ELECTION}_is_complete",
            "return message.log_term > log.last_term",
            "return message.index >= log.last",
        ),
    ),
    bug(
        "half-is-a-majority",
        "off by one: two of four, or one of two, decide",
        (
            f"{_ELECTION}_verdict",
            "vote_result(granted, len(answers) - granted, len(voters))",
            "vote_result(granted, len(answers) - granted, len(voters) - 1 or 1)",
        ),
        (
            f"{_REPLICATION}advance_commit",
            "commit_index(matches)",
            "sorted(matches)[len(matches) // 2]",
        ),
        seeds=300,
    ),
]

REPLICATION: Final[list[Bug]] = [
    bug(
        "ack-before-sync",
        "a follower acknowledges entries that its disk does not have",
        (f"{_REPLICATION}_accept_append", "raft.send_after_sync.append(", "raft.send_now.append("),
        seeds=40,
    ),
    bug(
        "leader-counts-unsynced",
        "the leader counts itself before its own disk is done",
        (f"{_REPLICATION}advance_commit", "raft.log.stable", "raft.log.last"),
        seeds=40,
    ),
    bug(
        "commit-of-older-term-by-counting",
        "an entry of an older term is committed because a majority holds it",
        (f"{_REPLICATION}advance_commit", " and index >= raft.term_start", ""),
        seeds=40,
    ),
    bug(
        "leader-never-steps-down",
        "a leader that no majority answers goes on leading (no CheckQuorum)",
        (
            f"{_REPLICATION}tick",
            "if raft.ticks - _majority_heard_tick(raft) >= raft.config.election_ticks_max:",
            "if False:",
        ),
        seeds=40,
    ),
    bug(
        "answer-of-older-term-counted",
        "an acknowledgement given to an earlier leadership counts in this one",
        (
            f"{_RAFT}step",
            "elif message.term == self.term:",
            "elif message.term == self.term or kind == MessageKind.APPEND_REPLY:",
        ),
        (f"{_REPLICATION}on_append_reply", "index <= raft.log.last", "True"),
    ),
    bug(
        "late-append-cuts-log",
        "an append that arrives late cuts the entries behind it, acknowledged ones too",
        (
            f"{_REPLICATION}_take_entries",
            "if log.term(entry.index) != entry.term:",
            "if True:",
        ),
        seeds=300,
    ),
    bug(
        "committed-entries-truncated",
        "neither rule nor log hold on to what is committed",
        (
            f"{_REPLICATION}on_append",
            "if previous < log.commit:",
            "if previous < log.first - 1:",
        ),
        (f"{_REPLICATION}_take_entries", "if log.term(entry.index) != entry.term:", "if True:"),
        (f"{_LOG}truncate", "check(self.commit <= last < self.last,", "check(last < self.last,"),
        (
            f"{_LOG}truncate",
            "self.last = last\n",
            "self.last = last\n    self.commit = min(self.commit, last)\n",
        ),
        (
            "consensus.wal:Wal._check",
            "self._positions.last, self._state.commit",
            "self._positions.last, 0",
        ),
        ("storage.segments:_Replay._entry", "if found.index <= min(", "if 0 > min("),
        seeds=40,
    ),
    bug(
        "append-without-previous-term",
        "entries are taken without asking whether the logs agree before them",
        (
            f"{_REPLICATION}on_append",
            "previous > log.last or log.term(previous) != message.log_term",
            "previous > log.last",
        ),
        seeds=300,
    ),
    bug(
        "conflict-not-truncated",
        "entries of a deposed leader stay where the new one has others",
        (f"{_REPLICATION}_take_entries", "if log.term(entry.index) != entry.term:", "if False:"),
        seeds=300,
    ),
    bug(
        "commit-past-what-was-compared",
        "a follower commits up to its own end, beyond where the logs are known to agree",
        (
            f"{_REPLICATION}on_append",
            "min(message.commit, last)",
            "min(message.commit, log.last)",
        ),
    ),
    bug(
        "heartbeat-commits-unheld",
        "heartbeats carry the commit index whatever the follower holds",
        (
            f"{_REPLICATION}send_heartbeat",
            "min(peer.match, raft.log.commit) if peer.state == REPLICATE else 0",
            "raft.log.commit",
        ),
        seeds=300,
    ),
    bug(
        "truncated-write-counts",
        "a disk report for entries that were cut since counts for what came in their place",
        (f"{_LOG}truncate", "job.proves = min(job.proves, last)", "pass"),
    ),
    bug(
        "whole-log-committed-at-restart",
        "a restarted node takes all it finds in its log for committed",
        (f"{_RAFT}__init__", "min(hard.commit, log.last)", "log.last"),
        seeds=40,
    ),
    bug(
        "stale-snapshot-installed",
        "an older snapshot replaces a newer log",
        (
            f"{_REPLICATION}install_snapshot",
            "raft.role is not Role.LEADER and index > log.commit",
            "raft.role is not Role.LEADER",
        ),
        (f"{_REPLICATION}install_snapshot", "if log.term(index) == message.log_term:", "if False:"),
        (f"{_LOG}restart", "index > self.commit,", "True,"),
        ("consensus.snapshots:SnapshotReceiver.offered", "offer.index <= commit", "False"),
        (
            "consensus.driver:Driver._snapshot_received",
            "offer.index <= self.raft.log.commit",
            "False",
        ),
    ),
    bug(
        "snapshot-drops-what-follows",
        "installing a snapshot forgets acknowledged entries behind it",
        (f"{_REPLICATION}install_snapshot", "if log.term(index) == message.log_term:", "if False:"),
    ),
]

READS: Final[list[Bug]] = [
    bug(
        "read-without-quorum",
        "a leader answers reads without asking whether it still leads",
        (f"{_READS}confirm", "upto = commit_index(confirmed)", "upto = self.number"),
        (
            f"{_READS}begin_round",
            "if raft.voting_peers:",
            "self.confirm(raft)\n    if raft.voting_peers:",
        ),
        seeds=40,
    ),
    bug(
        "read-before-own-term",
        "a new leader hands out its commit index before it knows what its predecessors committed",
        (f"{_READS}begin_round", "raft.log.commit < raft.term_start or ", ""),
        seeds=300,
    ),
    bug(
        "read-confirmed-by-older-round",
        "any heartbeat answer confirms the newest read round",
        (
            f"{_REPLICATION}on_heartbeat_reply",
            "if peer.is_voter and message.context > peer.read_round:",
            "if peer.is_voter:",
        ),
        (
            f"{_REPLICATION}on_heartbeat_reply",
            "peer.read_round = message.context",
            "peer.read_round = raft.reads.number",
        ),
        seeds=40,
    ),
    bug(
        "read-number-used-twice",
        "a restarted node counts its questions from 0 and takes answers to its former life",
        (f"{_READS}__init__", "self._bundle_number = first_bundle", "self._bundle_number = 0"),
    ),
]

LEASES: Final[list[Bug]] = [
    bug(
        "lease-without-quorum",
        "a leader believes in its lease whoever answers",
        (f"{_LEASE}until_ms", "if since_ms > self._valid_after_ms else 0", "+ (1 << 61)"),
        seeds=40,
    ),
    bug(
        "lease-from-receive-time",
        "a lease counts from when answers come, not from when the questions left",
        (
            f"{_REPLICATION}on_heartbeat_reply",
            "peer.answered_ms = message.hint",
            "peer.answered_ms = raft.steady_ms",
        ),
        seeds=600,
    ),
    bug(
        "lease-longer-than-promise",
        "a lease lasts as long as the longest election timeout",
        (
            "core.work:Config.lease_ms",
            "max(0, (ticks - 3) * 8)",
            "self.election_ticks_max * 10",
        ),
        seeds=40,
    ),
    bug(
        "lease-without-margin",
        "a lease leaves no room for clocks that differ",
        ("core.work:Config.lease_ms", "(ticks - 3) * 8", "(ticks - 3) * 10"),
    ),
    bug(
        "lease-forgotten-at-restart",
        "a restarted node votes at once and breaks what it promised before",
        (f"{_LEASE}__init__", "self.vote_hold = config.election_ticks_min", "self.vote_hold = 0"),
        seeds=300,
    ),
    bug(
        "lease-promise-broken",
        "followers vote for whoever asks, though they hear a leader",
        (
            f"{_LEASE}forbids_vote",
            "if raft.ticks - self.heard_tick >= raft.config.election_ticks_min:",
            "if True:",
        ),
        seeds=300,
    ),
    bug(
        "lease-during-transfer",
        "a leader answers by lease while its successor may be elected",
        (f"{_LEASE}until_ms", "raft.transferee or ", ""),
    ),
    bug(
        "lease-before-own-term",
        "a new leader answers by lease before it knows what its predecessors committed",
        (f"{_LEASE}until_ms", " or raft.log.commit < raft.term_start", ""),
        seeds=300,
    ),
]

MEMBERSHIP: Final[list[Bug]] = [
    bug(
        "two-changes-at-once",
        "a membership change begins while another one is under way",
        (f"{_CHANGE}propose", "if raft.log.config_index > raft.log.commit:", "if False:"),
        seeds=300,
    ),
    bug(
        "change-before-own-term",
        "a new leader changes the membership before it has committed anything (2015 erratum)",
        (f"{_CHANGE}propose", "if raft.log.commit < raft.term_start:", "if False:"),
        (f"{_CHANGE}propose", "if raft.log.config_index > raft.log.commit:", "if False:"),
        seeds=300,
    ),
    bug(
        "removed-leader-counts-itself",
        "a leader that removes itself still counts its own disk",
        (f"{_REPLICATION}advance_commit", "if raft.is_voter:", "if True:"),
    ),
    bug(
        "demoted-voter-counted",
        "a voter that lost its vote still counts in majorities",
        (
            f"{_REPLICATION}take_peers",
            "peer.is_voter = member.is_voter",
            "peer.is_voter = peer.is_voter or member.is_voter",
        ),
        seeds=600,
    ),
    bug(
        "learner-counted-as-voter",
        "learners count in majorities",
        (f"{_REPLICATION}take_peers", "peer.is_voter = member.is_voter", "peer.is_voter = True"),
        seeds=300,
    ),
    bug(
        "truncated-membership-stays",
        "a membership stays in force after its entry was cut from the log",
        (f"{_LOG}truncate", "self.configs.pop()", "break"),
    ),
    bug(
        "membership-when-committed",
        "a membership counts on commit instead of as soon as it is in the log",
        (f"{_RAFT}take_membership", "self.log.membership", "self.log.committed_membership()"),
        seeds=40,
    ),
    bug(
        "removal-believed-before-commit",
        "a node stops for good when it sees its removal, which may yet be cut from the log",
        ("core.removal:notice_own_removal", "committed_membership()", "membership"),
        seeds=300,
    ),
    bug(
        "rejoined-votes-at-once",
        "a node that lost its disk stays a voter, though it forgot its votes",
        (
            "core.membership:Membership.with_rejoined",
            "Member(nid, addr, incarnation, LEARNER)",
            "Member(nid, addr, incarnation, VOTER)",
        ),
        ("core.membership:Membership.check_follows", "<= 1", "<= 2"),
        seeds=300,
    ),
]

CORE: Final[list[Bug]] = [*ELECTION, *REPLICATION, *READS, *LEASES, *MEMBERSHIP]
