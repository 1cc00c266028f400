"""Runs suites: starts the servers of one, measures each point on each in turn, ends them.

A point is measured on all servers, one right after the other, and all that again in the next
round, so that a machine whose speed drifts harms all alike. How many requests a run has is
found out by a short run before, which warms the server up too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pyraft_fast.bench import load
from pyraft_fast.bench.foreign import Pysyncobj
from pyraft_fast.bench.measure import SyncCounter, Usage, available_bytes, memory_bytes
from pyraft_fast.bench.model import Fact, Figure, Point, Results
from pyraft_fast.bench.peers import NotHere, Server, uninterrupted
from pyraft_fast.bench.suites import Level, Suite, server
from pyraft_fast.bench.works import WORKS

GROWTH = 3
KEY_BYTES = 1500  # of memory that one key may take on one node, to refuse what cannot fit
Say = Callable[[str], None]


class Runner:
    """One benchmark: where figures go, what is told, how long a run takes."""

    def __init__(self, level: Level, results: Results, folder: Path, say: Say) -> None:
        self.level = level
        self.results = results
        self.say = say
        self.notes: list[str] = []  # what was left out, and why
        if load.redis_benchmark() is None:
            self.note("redis-benchmark (6.2 or later) is not here: apt-get install redis-tools")
        self.starts: dict[str, list[str]] = {}  # how each server was started
        self.wanted_peers: Sequence[str] | None = None
        self.peer_python = ""
        self.folder = folder
        self._count = 0
        self._filled: dict[tuple[str, str], tuple[int, int]] = {}  # server, prefix: keys, size
        self._requests: dict[tuple[str, Point], tuple[int, float]] = {}

    def note(self, text: str) -> None:
        """Something people should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    @contextlib.contextmanager
    def started(self, names: Sequence[str]) -> Iterator[list[Server]]:
        """Servers under these names, started; those that are not here are noted and left out."""
        running: list[Server] = []
        try:
            for name in names:
                one = server(name, self.peer_python)
                running.append(one)
                self.say(f"starting {one.title}")
                try:
                    self._count += 1
                    one.start(self.folder / f"{name}-{self._count}")
                    self.starts[one.title] = one.command_lines()
                except NotHere as missing:
                    self.note(str(missing))
                    running.remove(one)
                except (RuntimeError, OSError) as error:
                    self.note(f"{one.title} did not start: {error}")
                    running.remove(one)
                    one.stop()
            yield running
        finally:
            with uninterrupted():
                for one in running:
                    self.say(f"stopping {one.title}")
                    one.stop()
            self._filled.clear()
            self._requests.clear()

    def run(self, suite: Suite, names: Sequence[str]) -> None:
        """Measure a suite on servers by name."""
        rounds = range(self.level.rounds)
        order = [(point, number) for number in rounds for point in suite.points]
        if any(point.filled for point in suite.points):  # nothing is ever taken away again
            order = [(point, number) for point in suite.points for number in rounds]
        with self.started(names) as servers:
            for point, number in order:
                for one in servers:
                    if self._can(one, point):
                        self.say(_describe(suite, point, one, number, self.level.rounds))
                        self.results.figures.append(self._figure(one, point, number))

    def _can(self, one: Server, point: Point) -> bool:
        if one.works and point.work not in one.works:
            return False
        if point.pipeline > 1 and one.protocol == "etcd":
            return False
        if point.filled * (point.size + KEY_BYTES) * one.nodes > available_bytes():
            self.note(f"{one.title}: too little memory for {point.filled:,} keys")
            return False
        return True

    def _figure(self, one: Server, point: Point, number: int) -> Figure:
        """One run; whatever goes wrong becomes the figure's error."""
        try:
            self._fill(one, point)
            return self._measure(one, point, number)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            text = f"{error} {one.tails()}" if isinstance(error, KeyError) else str(error)
            return Figure(one.name, point, number, error=text or type(error).__name__)

    def _fill(self, one: Server, point: Point) -> None:
        """Give the server the keys that the point finds there."""
        if one.protocol != "resp":
            return
        wanted = max(point.filled, point.keys if WORKS[point.work].filled else 0)
        prefix = WORKS[point.work].words[1].partition(":")[0]
        held, size = self._filled.get((one.name, prefix), (0, 0))
        if wanted <= held and size == point.size:
            return
        begin = held if size == point.size else 0
        before = memory_bytes(one.processes().values())
        load.fill(one.port(), wanted, point.size, begin, prefix)
        self._filled[one.name, prefix] = (wanted, point.size)
        if point.filled:
            grown = memory_bytes(one.processes().values()) - before
            how = f"{wanted:,} keys of {point.size} bytes set in pipelines; growth of memory"
            name = f"memory per key ({wanted:,} keys)"
            each = grown / (wanted - begin)
            self.results.facts.append(Fact(name, one.name, each, "bytes", how))

    def _measure(self, one: Server, point: Point, number: int) -> Figure:
        requests, highest = self._requests_for(one, point)
        if point.share:
            rate = max(1, round(highest * point.share))
            requests = max(10, round(rate * self.level.seconds * 2))
            point = dataclasses.replace(point, rate=rate)
        point = dataclasses.replace(point, requests=requests)
        processes = one.processes()
        before = one.counters()
        if one.protocol == "resp":
            load.prepare(one.port(), point.work, requests)
        syncs = SyncCounter(processes.values())
        usage, began = Usage(processes), time.monotonic()
        try:
            figure = self._load(one, point)
            seconds, cpu, woken = time.monotonic() - began, usage.cpu(), usage.wakeups()
        finally:
            counted: float | None = syncs.stop()
        figure.round = number
        figure.cpu_us = {label: used / requests * 1e6 for label, used in cpu.items()}
        figure.wakeups_s = woken / seconds
        after = one.counters()
        if counted is None and "fsyncs" in after:
            counted = after["fsyncs"] - before["fsyncs"]
        figure.fsyncs_s = None if counted is None else counted / seconds
        batches = after.get("batches", 0) - before.get("batches", 0)
        if WORKS[point.work].writes and batches > 0 and not WORKS[point.work].after:
            figure.commands_per_batch = requests / batches
        return figure

    def _load(self, one: Server, point: Point) -> Figure:
        """The load alone: rate and latencies."""
        if isinstance(one, Pysyncobj):
            said = one.drive(point)
            if said.pop("failed"):
                raise RuntimeError("some sets failed")
            how = f"{point.clients * point.pipeline} sets in flight inside its leader"
            return Figure(one.name, point, generator="driver", command=how, **said)
        generator = load.generator_for(point, one.protocol, one.plain_redis)
        line = load.command_of(generator, point, one.port(point.via), one.protocol)
        said = load.parse(generator, *load.run_command(line))
        said.pop("max_ms", None)
        return Figure(one.name, point, generator=generator, command=shlex.join(line), **said)

    def _requests_for(self, one: Server, point: Point) -> tuple[int, float]:
        """(requests of a run that takes about the level's seconds, the rate that was found).

        Found once for a server and point, by runs that grow until one tells enough.
        """
        key = (one.name, dataclasses.replace(point, share=0.0))
        if key not in self._requests:
            requests = max(200, 2 * point.clients * point.pipeline)
            while True:
                probe = dataclasses.replace(point, requests=requests, rate=0)
                if one.protocol == "resp":
                    load.prepare(one.port(), point.work, requests)
                rate = self._load(one, probe).rate or 1.0
                enough = self.level.seconds * (0.7 if point.share else 0.2)
                if requests / rate > enough:
                    break
                requests *= GROWTH
            turn = point.clients * point.pipeline
            self._requests[key] = (max(2 * turn, round(rate * self.level.seconds)), rate)
        return self._requests[key]


def _describe(suite: Suite, point: Point, one: Server, number: int, rounds: int) -> str:
    """What is being measured, for people who wait."""
    what = f"{point.work} P={point.pipeline} c={point.clients} d={point.size}"
    if point.share:
        what += f" at {point.share:.0%}"
    if point.filled:
        what += f" {point.filled:,} keys"
    return f"{suite.name}: {what}, round {number + 1}/{rounds}: {one.title}"
