"""Writes on their way into the log, in plain Python: the part of `turn_twin` for `_turn.Intake`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pyraft_fast import limits
from pyraft_fast.errors import check

bounds = SimpleNamespace(
    batch_bytes_soft=limits.BATCH_BYTES_SOFT,
    batch_commands_max=limits.BATCH_COMMANDS_MAX,
    batch_reads_max=limits.BATCH_READS_MAX,
    output_bytes_max=limits.OUTPUT_BYTES_MAX,
    output_bytes_pause=limits.OUTPUT_BYTES_PAUSE,
    pipeline_commands_max=limits.PIPELINE_COMMANDS_MAX,
    unanswered_bytes_max=2 * limits.COMMAND_BYTES_MAX,
)


class OpenBatch:
    def __init__(self, commands: Any, born: float) -> None:
        self.commands = commands
        self.ops: list[Any] = []
        self.born = born


class SentBatch(SimpleNamespace):
    """number, count, nbytes, ops, deadline"""


class Intake:
    open: Any = None
    full = serving = False
    serial = start = 0

    def write(self: Any, origin: Any, words: Any, offset: int) -> None:
        if origin.idle_writes:
            self.take_waiting(origin)
        batch = self.open
        batch.commands.add(words, offset)
        if not batch.ops:
            self._first(batch)
        if origin.batch_serial != self.serial:
            origin.rides = 0
        origin.rides += len(origin.reads)
        if origin.reads:
            self._take_reads(origin, batch)
        batch.ops.append(origin)
        origin.batch_serial = self.serial
        origin.waiting += 1
        many = len(batch.commands) >= bounds.batch_commands_max
        if many or batch.commands.nbytes >= bounds.batch_bytes_soft:
            self._close()
            self._send_unsent()

    def has_seats(self: Any, origin: Any, count: int) -> bool:
        taken = origin.rides if origin.batch_serial == self.serial else 0
        return bool(taken + count <= bounds.batch_reads_max)

    def rides(self: Any, origin: Any) -> bool:
        return origin.batch_serial == self.serial and self.has_seats(origin, 1)

    def _first(self: Any, batch: Any) -> None:
        batch.born = self._loop.time()
        self._arm()
        self._schedule()

    def _schedule(self: Any) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn_end)

    def _turn_end(self: Any) -> None:
        self._turn_scheduled = False
        count = len(self.open.ops)
        if count and self._growing and self._joins(len(self.open.commands)):
            self._fresh()
            return
        grew, self._seen = count > self._seen, count
        self._still = 0 if grew else self._still + 1
        age = self._loop.time() - self.open.born
        lively = count > 0 and self._still <= self.still_max and age < self.grow_seconds
        if lively and self.has_room(self.open) and self._sink.is_behind():
            self._schedule()
            return
        if count and (self.has_room(self.open) or age >= self.gather_seconds):
            self._close()
        self._send_unsent()

    def _joins(self: Any, count: int) -> bool:
        sent, most = self._growing, bounds.batch_commands_max
        if self.groups > 1:
            most = min(most, max(1, self._usual // self.groups))
        if sent.ops is None or self._unsent or sent.count + count > most:
            return False
        if not self.has_room(self.open):
            return False
        payload = self.open.commands.peek()
        if not self._sink.add(count, payload):
            self._growing = None
            return False
        sent.count += count
        sent.nbytes += len(payload)
        sent.ops += self.open.ops
        self._give(count, payload)
        return True

    def _give(self: Any, count: int, payload: Any) -> None:
        self._sent_bytes += len(payload)
        self._under_way += count
        self._usual = max(self._usual, self._under_way)

    def has_room(self: Any, batch: Any) -> bool:
        size = self._sent_bytes and self._sent_bytes + batch.commands.nbytes
        few = len(self._sent) < self.batches_max and size <= self.bytes_max
        return bool(self.serving and self.start and few)

    def _fresh(self: Any) -> Any:
        batch, self.open = self.open, OpenBatch(self._new_commands(), 0.0)
        self.serial += 1
        self._seen = self._still = 0
        return batch

    def _close(self: Any) -> None:
        batch = self._fresh()
        self._unsent.append(batch)
        self._unsent_bytes += batch.commands.nbytes
        if len(self._unsent) >= self.unsent_max or self._unsent_bytes >= self.bytes_max:
            self.full = True

    def _next_unsent(self: Any) -> Any:
        batch = self._unsent.popleft()
        self._unsent_bytes -= batch.commands.nbytes
        return batch

    def _send_unsent(self: Any) -> None:
        while self._unsent and self.has_room(self._unsent[0]):
            batch = self._next_unsent()
            count, payload = len(batch.commands), batch.commands.take()
            number, self._next_number = self._next_number, self._next_number + 1
            deadline = batch.born + self.answer_seconds
            sent = SentBatch(number=number, count=count, nbytes=len(payload), deadline=deadline)
            sent.ops = batch.ops
            self._sent.append(sent)
            self._usual -= (self._usual + 63) // 64
            self._give(count, payload)
            grows = self._sink.propose(self.start, number, count, payload)
            self._growing = sent if grows else None
        self._relieve()

    def _relieve(self: Any) -> None:
        few = len(self._unsent) <= self.unsent_max // 2
        if self.full and few and self._unsent_bytes <= self.bytes_max // 2:
            self.full = False
            self._resume()

    def applied(self: Any, number: int) -> Any:
        check(self._sent, "an applied batch of this session is pending", number)
        batch = self._sent.popleft()
        check(batch.number == number, "batches apply in order", batch.number, number)
        self._sent_bytes -= batch.nbytes
        self._under_way -= batch.count
        if batch is self._growing:
            self._growing = None
        if self._unsent or self.full:
            self._schedule()
        return batch.ops
