"""What one batch costs the rules of a leader with two followers, in microseconds of CPU.

    python -m tests.bench.raft_core --batches 50000

A batch: propose, take (appends to both), both answers and the own disk, take (commit told to both).
Only the leader is timed; sealing the record is part of it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from random import Random

from pyraft_fast._entry import KIND_COMMANDS
from pyraft_fast.core.entry import Entry
from pyraft_fast.core.log import RaftLog
from pyraft_fast.core.membership import Member, Membership
from pyraft_fast.core.messages import Message, MessageKind
from pyraft_fast.core.raft import Raft
from pyraft_fast.core.work import Config, HardState


class NoStorage:
    """Everything fits into the window here."""

    def read(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        return []


def leader_of_three() -> Raft:
    """Node "1", elected by "2"."""
    members = tuple(Member(str(n), f"h{n}:1", n, "voter") for n in (1, 2, 3))
    raft = Raft(
        Config("1", 1), RaftLog(NoStorage()), HardState(), Membership(7, members), Random(1)
    )
    for kind, term in ((MessageKind.PREVOTE_REPLY, 1), (MessageKind.VOTE_REPLY, 1)):
        raft.election_elapsed = 1000
        if kind == MessageKind.PREVOTE_REPLY:
            raft.tick(1)
        raft.step(Message(kind, "2", "1", term, flag=True, incarnation=2, to_incarnation=1))
    work = raft.take()
    raft.persisted(1, 1)
    for nid, incarnation in (("2", 2), ("3", 3)):
        raft.step(reply(nid, incarnation, work.entries[-1].index))
    raft.take()
    return raft


def reply(nid: str, incarnation: int, index: int) -> Message:
    """A follower has `index` on its disk."""
    return Message(
        MessageKind.APPEND_REPLY, nid, "1", 1, index, 0, 0, True, incarnation=incarnation
    )


def measure(batches: int, payload: bytes) -> float:
    """Microseconds of CPU for each batch."""
    raft = leader_of_three()
    spent = 0
    clock = time.process_time_ns
    for number in range(1, batches + 1):
        index = raft.log.last + 1
        two, three = reply("2", 2, index), reply("3", 3, index)
        begin = clock()
        raft.propose(KIND_COMMANDS, payload, 10, 1, 1, number, 1000 + number)
        raft.take()
        raft.step(two)
        raft.persisted(index, 1)
        raft.step(three)
        work = raft.take()
        spent += clock() - begin
        if work.commit != index:
            raise SystemExit(f"batch {number} is not committed")
    return spent / batches / 1000


def main() -> int:
    """Print the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=50_000)
    parser.add_argument("--payload-bytes", type=int, default=400)
    args = parser.parse_args()
    gc.freeze()
    best = min(measure(args.batches // 5, b"x" * args.payload_bytes) for _ in range(5))
    sys.stdout.write(f"{best:.1f} us of CPU for each batch on the leader of three nodes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
