"""Random calls against the ring, judged by its twin; and a ring whose shared memory goes mad.

    python -m tests.fuzz.fuzz_ring --count 2000 --seed 1

Each round plays one random list of calls four times, with either implementation on either side:
all answers must be the same, and what was taken must be what was published. Then bytes of the
shared memory are overwritten: the only permitted complaint is InvariantError, and no view reaches
outside the ring. The seed decides everything; the exit status is 1 at a difference.
"""

from __future__ import annotations

import argparse
import os
import sys
from random import Random
from typing import Any

from pyraft_fast._ring import Ring
from pyraft_fast.errors import InvariantError
from tests.twins.ring_twin import CONTROL_BYTES, TwinRing

Call = tuple[str, int]
PAIRS = ((Ring, Ring), (TwinRing, TwinRing), (Ring, TwinRing), (TwinRing, Ring))
SIZES = (4096, 8192, 65536)


def random_calls(dice: Random, size: int, count: int) -> list[Call]:
    """Calls with arguments; some rounds mostly write, some mostly read, sizes of all kinds."""
    mostly = dice.choice(((6, 2, 2, 1, 1), (3, 4, 4, 2, 1), (5, 1, 1, 1, 1)))
    calls: list[Call] = []
    names = ("publish", "take", "release", "sleep", "wake", "post", "posted", "hear", "heard")
    for name in dice.choices(names, (*mostly, 1, 1, 1, 1), k=count):
        kind = dice.random()
        if kind < 0.6:
            argument = dice.randint(1, 200)
        elif kind < 0.8:
            argument = max(1, size // 4 - 8 + dice.randint(-9, 9))
        else:
            argument = dice.randint(1, size * 3)
        calls.append((name, argument))
    return calls


def content(number: int, length: int) -> bytes:
    """Record `number`: bytes that are found nowhere else in the stream."""
    stamp = b"%d:" % number
    return (stamp * (length // len(stamp) + 1))[:length]


class Player:
    """Plays calls on one pair of ends and keeps what came out."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer = writer
        self.reader = reader
        self.answers: list[object] = []
        self.published: list[bytes] = []
        self.taken: list[bytes] = []
        self.refused: bytes | None = None

    def play(self, calls: list[Call]) -> None:
        for name, argument in calls:
            try:
                answer: object = getattr(self, name)(argument)
            except InvariantError:
                answer = InvariantError
            self.answers.append((name, answer))

    def publish(self, length: int) -> bool:
        record = self.refused or content(len(self.published), length)
        done: bool = self.writer.publish(record)
        self.refused = None if done else record
        if done:
            self.published.append(record)
        return done

    def take(self, bytes_max: int) -> list[bytes]:
        records = [bytes(record) for record in self.reader.take(bytes_max)]
        self.taken += records
        return records

    def release(self, _: int) -> bool:
        return bool(self.reader.release())

    def sleep(self, _: int) -> bool:
        return bool(self.reader.sleep())

    def wake(self, _: int) -> bool:
        return bool(self.writer.wake_needed())

    def post(self, number: int) -> None:
        self.writer.post(number, 2**64 - number, number * number)

    def posted(self, _: int) -> object:
        return self.reader.posted()

    def hear(self, count: int) -> object:
        return self.writer.hear(count)

    def heard(self, _: int) -> object:
        return self.reader.heard()

    def finish(self) -> None:
        """Let everything through that still waits."""
        while True:
            more = self.take(1 << 20)
            freed = self.reader.release()
            if self.refused is not None:
                self.publish(0)
            elif not more and not freed and self.reader.sleep():
                return


def compare(calls: list[Call], size: int) -> str:
    """ "" when all pairs answered alike and nothing was lost, else what differed."""
    first: Player | None = None
    for writing, reading in PAIRS:
        reader = reading.create(size)
        writer = writing.attach(reader.fd)
        player = Player(writer, reader)
        who = f"{writing.__name__} to {reading.__name__}"
        try:
            player.play(calls)
            player.finish()
        finally:
            writer.close()
            reader.close()
        if player.taken != player.published:
            return f"{who}: {len(player.taken)} of {len(player.published)} records came whole"
        if first is not None and player.answers != first.answers:
            pairs = zip(player.answers, first.answers, strict=True)
            at = next(i for i, (mine, theirs) in enumerate(pairs) if mine != theirs)
            return f"{who}: call {at} {calls[at]}: {player.answers[at]}, not {first.answers[at]}"
        first = first or player
    return ""


def go_mad(dice: Random, calls: list[Call], size: int) -> str:
    """Play, with the shared memory overwritten in between; "" when only refusals came of it."""
    with RingPair(size) as (writer, reader):
        player = Player(writer, reader)
        control = (0, 8, 16, 128, 256, 384, 512, 640, 648, 768)
        for at in range(0, len(calls), 5):
            player.play(calls[at : at + 5])
            place = dice.choice((*control, CONTROL_BYTES + dice.randrange(size // 8) * 8))
            value = dice.choice((dice.randbytes(8), dice.randbytes(1) + bytes(7), bytes(8)))
            os.pwrite(reader.fd, value, place)
        if any(len(record) > size * 64 for record in player.taken):
            return "a record longer than anything that was published"
    return ""


class RingPair:
    """Two ends of one ring of the product."""

    def __init__(self, size: int) -> None:
        self.reader = Ring.create(size)
        self.writer = Ring.attach(self.reader.fd)

    def __enter__(self) -> tuple[Ring, Ring]:
        return self.writer, self.reader

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.reader.close()


def fuzz_round(seed: int) -> str:
    """One round from one seed; "" when all is well."""
    dice = Random(seed)
    size = dice.choice(SIZES)
    calls = random_calls(dice, size, dice.randint(1, 150))
    return compare(calls, size) or go_mad(dice, calls, size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.count):
        difference = fuzz_round(seed)
        if difference:
            print(f"seed {seed}: {difference}")
            return 1
    print(f"{options.count} rounds from seed {options.seed}: no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
