"""What is not a rate: memory, the pause of a snapshot, a restart, a start. Each is a `Fact`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from pyraft_fast.bench import load
from pyraft_fast.bench.measure import available_bytes, memory_bytes
from pyraft_fast.bench.model import Fact, Point
from pyraft_fast.bench.peers import Ours, Server, ask, until
from pyraft_fast.bench.replies import Client
from pyraft_fast.bench.runner import KEY_BYTES, Runner

VALUE_BYTES: Final = 64
PROBE_SECONDS: Final = 0.001  # between two PINGs that look for a pause
SETTLE_SECONDS: Final = 0.5
STARTS: Final = 5
SNAPSHOT_SECONDS: Final = 120.0
SHARE: Final = 0.5  # of the highest rate, the load a snapshot is taken under


class Probe(threading.Thread):
    """PINGs one after the other; the longest answer is the longest the server stood still."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.longest_ms = 0.0
        self.failure: Exception | None = None
        self._client = Client(port)
        self._ended = threading.Event()

    def run(self) -> None:
        """Probe until told to end."""
        try:
            while not self._ended.wait(PROBE_SECONDS):
                began = time.perf_counter()
                self._client.ask("PING")
                self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1e3)
        except (OSError, RuntimeError) as error:
            self.failure = error

    def end(self) -> float:
        """Stop; returns the longest answer in milliseconds. Raises what ended it early."""
        self._ended.set()
        self.join()
        self._client.close()
        if self.failure is not None:
            raise self.failure
        return self.longest_ms


class Load(threading.Thread):
    """SETs in an open loop beside something else, until that is over."""

    def __init__(self, line: Sequence[str], runner: Runner) -> None:
        super().__init__(daemon=True)
        self._process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        runner.say("load runs")

    def end(self) -> None:
        """End the load."""
        self._process.kill()
        self._process.wait()


def many_keys(runner: Runner, names: Sequence[str]) -> None:
    """Memory of many keys; of a single node also the pause of a snapshot and a restart."""
    keys = runner.level.many_keys
    need = keys * (VALUE_BYTES + KEY_BYTES) * 4
    if need > available_bytes():
        runner.note(f"too little memory for {keys:,} keys: memory, pause and restart are left out")
        return
    with runner.started([n for n in names if n in {"redis", "ours-1"}]) as servers:
        for one in servers:
            runner.say(f"memory: {one.title} is filled with {keys:,} keys")
            _try(runner, one, _memory, keys)
            _try(runner, one, _restart, keys)
    if "ours-3" in names:
        with runner.started(["ours-3"]) as servers:
            for one in servers:
                _try(runner, one, _pause, keys)


def _try(
    runner: Runner, one: Server, measure: Callable[[Runner, Server, int], None], keys: int
) -> None:
    """One of the measurements below; a failure becomes a note."""
    try:
        measure(runner, one, keys)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        runner.note(f"{one.title}: {error!r} {one.tails()}")


def _memory(runner: Runner, one: Server, keys: int) -> None:
    """Memory of all processes with so many keys, and what each key added."""
    before = memory_bytes(one.processes().values())
    load.fill(one.port(), keys, VALUE_BYTES)
    time.sleep(SETTLE_SECONDS)
    after = memory_bytes(one.processes().values())
    how = f"{keys:,} keys of {VALUE_BYTES} bytes set in pipelines; PSS of all processes"
    runner.results.facts += [
        Fact("memory", one.name, float(after), "bytes", how),
        Fact("memory per key", one.name, (after - before) / keys, "bytes", how),
    ]


def _restart(runner: Runner, one: Server, keys: int) -> None:
    """Ours: kill -9 after a snapshot and so many more entries, start, until it answers a read."""
    if not isinstance(one, Ours):
        return
    entries = runner.level.tail_entries
    runner.say(f"restart: {one.title} writes a snapshot and {entries:,} entries")
    _snapshot(one.port())
    point = Point("restart", "SET", keys=keys, requests=entries)
    generator = load.generator_for(point, one.protocol)
    load.run_command(load.command_of(generator, point, one.port(), one.protocol))
    one.crash()
    runner.say(f"restart: {one.title} starts")
    seconds = one.start_again()
    how = f"snapshot of {keys:,} keys, {entries:,} SETs after it, kill -9; until a GET is answered"
    runner.results.facts.append(Fact("restart", one.name, seconds, "s", how))


def _snapshot(port: int) -> None:
    """Ask for a snapshot and await it."""
    before = int(ask(port, "INFO").partition("\nsnapshot_index:")[2].split()[0])

    def written() -> bool:
        with Client(port) as client:
            info = client.info()
        return info["rdb_bgsave_in_progress"] == "0" and int(info["snapshot_index"]) > before

    ask(port, "BGSAVE")
    until(written, lambda: "a snapshot", SNAPSHOT_SECONDS)


def _pause(runner: Runner, one: Server, keys: int) -> None:
    """The longest answer to PING on the leader under load, without and with a snapshot."""
    runner.say(f"pause: {one.title} is filled with {keys:,} keys")
    load.fill(one.port(), keys, VALUE_BYTES)
    point = Point("pause", "SET", keys=keys, requests=20_000)
    generator = load.generator_for(point, one.protocol)
    text, cpu = load.run_command(load.command_of(generator, point, one.port(), one.protocol))
    rate = max(1, round(load.parse(generator, text, cpu)["rate"] * SHARE))
    port = one.port()
    loaded = Point("pause", "SET", keys=keys, requests=rate * 600, rate=rate)
    under_load = Load(load.command_of(load.OWN, loaded, port, one.protocol), runner)
    try:
        time.sleep(SETTLE_SECONDS)
        quiet = Probe(port)
        quiet.start()
        time.sleep(max(SETTLE_SECONDS, runner.level.seconds))
        without = quiet.end()
        runner.say(f"pause: {one.title} writes a snapshot of {keys:,} keys under load")
        probe = Probe(port)
        probe.start()
        _snapshot(port)
        with_it = probe.end()
    finally:
        under_load.end()
    how = f"longest of PINGs sent each ms beside {rate:,} SETs a second, {keys:,} keys"
    runner.results.facts += [
        Fact("longest pause, no snapshot", one.name, without, "ms", how),
        Fact("longest pause, snapshot", one.name, with_it, "ms", f"{how}, while BGSAVE runs"),
    ]


def start(runner: Runner, names: Sequence[str]) -> None:
    """Seconds to import the package, and from start to the first PING that is answered."""
    if "ours-1" not in names:
        return
    env = _as_installed(runner)
    _start_seconds(runner, "start-before", env)
    for number in range(STARTS):
        runner.say(f"start, round {number + 1}/{STARTS}")
        began = time.monotonic()
        _python("import pyraft_fast.raft", env)
        whole = time.monotonic() - began
        began = time.monotonic()
        _python("pass", env)
        bare = time.monotonic() - began
        how = "python -c 'import pyraft_fast.raft', less python -c pass"
        runner.results.facts.append(
            Fact("import", "ours-1", max(0.0, whole - bare), "s", how, number)
        )
        seconds = _start_seconds(runner, f"start-{number}", env)
        how = (
            "pyraft-fast -i 1 -a ADDRESS in an empty folder, until PING is answered; "
            "import included, with bytecode from an earlier start"
        )
        runner.results.facts.append(Fact("start", "ours-1", seconds, "s", how, number))


def _as_installed(runner: Runner) -> dict[str, str]:
    """An environment in which modules find their bytecode at the second start, as after pip.

    A source tree may lie where nobody may write, or in an environment that says not to.
    """
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(runner.folder / "bytecode"),
    }


def _python(line: str, env: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", line], env={**os.environ, **env}, check=True)


def _start_seconds(runner: Runner, folder: str, env: dict[str, str]) -> float:
    one = Listening("ours-1", "a single node", 1)
    one.env = env
    try:
        began = time.monotonic()
        one.start(runner.folder / folder)
        return time.monotonic() - began
    finally:
        one.stop()


class Listening(Ours):
    """A node that is taken for started as soon as it answers a PING."""

    def _ready(self, port: int) -> bool:
        return ask(port, "PING") == "PONG"


SCENES: Final[dict[str, Callable[[Runner, Sequence[str]], None]]] = {
    "million": many_keys,
    "start": start,
}
