"""One run of one point: which program makes the load, its command line, and what it said.

redis-benchmark where it is on the machine and can do it: it costs a fraction of what a Python
program does, so that more of the machine is the server's. Our own generator for everything else:
fixed rates, protocols other than RESP, servers redis-benchmark cannot talk to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from typing import Any

from pyraft_fast.bench.model import Point
from pyraft_fast.bench.replies import Client, encode
from pyraft_fast.bench.works import DATA, WORKS, value

OWN = "generator"
REDIS_BENCHMARK = "redis-benchmark"
ARGUMENT_BYTES_MAX = 100_000  # Linux takes 128 KiB
FILL_BATCH_BYTES = 1 << 20
FILL_BATCH_KEYS = 1000
PREPARE_BATCH = 100
LIST_LENGTH = 1000
RUN_SECONDS_MAX = 600.0


@functools.lru_cache(maxsize=1)
def redis_benchmark() -> str | None:
    """Path of a redis-benchmark that tells percentiles (6.2 and later), None when there is none."""
    program = shutil.which(REDIS_BENCHMARK)
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    fine = found is not None and (int(found[1]), int(found[2])) >= (6, 2)
    return program if fine else None


def generator_for(point: Point, protocol: str, plain_redis: bool = True) -> str:
    """Which program makes this load; `plain_redis`: the server suffers redis-benchmark."""
    work = WORKS[point.work]
    fits = work.test or point.size <= ARGUMENT_BYTES_MAX
    if protocol == "resp" and plain_redis and not point.rate and fits and redis_benchmark():
        return REDIS_BENCHMARK
    return OWN


def command_of(generator: str, point: Point, port: int, protocol: str) -> list[str]:
    """The command line of one run, which repeats it against a server on that port."""
    keys = WORKS[point.work].numbers or point.keys
    if generator == OWN:
        line = [sys.executable, "-m", "pyraft_fast.bench.generator", "--port", str(port)]
        line += [] if protocol == "resp" else ["--protocol", protocol]
        line += ["--work", point.work, "--clients", str(point.clients)]
        line += ["--pipeline", str(point.pipeline), "--size", str(point.size)]
        line += ["--keys", str(keys), "--requests", str(point.requests)]
        return line + (["--rate", str(point.rate)] if point.rate else [])
    work = WORKS[point.work]
    line = [REDIS_BENCHMARK, "-h", "127.0.0.1", "-p", str(port), "-c", str(point.clients)]
    line += ["-P", str(point.pipeline), "-n", str(point.requests), "-r", str(keys)]
    line += ["--precision", "3"]
    if work.test:
        return [*line, "-d", str(point.size), "-t", work.test]
    return line + [word.replace(DATA, value(point.size)) for word in work.words]


def run_command(line: list[str]) -> tuple[str, float]:
    """Run a load to its end: (what it printed, CPU seconds it used).

    Raises RuntimeError with what it said when it failed.
    """
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    watch = threading.Timer(RUN_SECONDS_MAX, process.kill)
    watch.start()
    try:
        # Its times are wanted, so it is reaped by hand once its output has ended.
        text = process.stdout.read().decode(errors="replace") if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        watch.cancel()
        if process.returncode is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode != 0:
        raise RuntimeError(" ".join(text.split())[-300:] or f"exit status {process.returncode}")
    return text, usage.ru_utime + usage.ru_stime


def parse(generator: str, text: str, cpu_seconds: float) -> dict[str, Any]:
    """What a run printed: rate, p50_ms, p99_ms, p999_ms, generator_cpu, lag_p99_ms.

    Raises RuntimeError when it holds an error, or is not understood.
    """
    if generator == OWN:
        return _parse_own(text)
    return parse_redis_benchmark(text, cpu_seconds)


def _parse_own(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeError(f"the generator said {text[-200:]!r}") from None
    if said["errors"] or said["unanswered"]:
        raise RuntimeError(
            f"{said['errors']} errors ({said['first_error']}), {said['unanswered']} unanswered"
        )
    names = ("rate", "p50_ms", "p99_ms", "p999_ms", "max_ms", "generator_cpu", "lag_p99_ms")
    return {name: said.get(name) for name in names if name in said}


def parse_redis_benchmark(text: str, cpu_seconds: float) -> dict[str, Any]:
    """The summary and the percentiles of the last test in redis-benchmark's long output.

    p99.9 is its first step at or above 99.9 % (99.902 %). Raises RuntimeError when there is none.
    """
    text = text.replace("\r", "\n")
    rate = re.findall(r"throughput summary: ([\d.]+) requests", text)
    summary = re.findall(r"avg\s+min\s+p50\s+p95\s+p99\s+max\s+([\d. ]+)", text)
    seconds = re.findall(r"requests completed in ([\d.]+) seconds", text)
    if not rate or not summary or not seconds:
        raise RuntimeError(f"redis-benchmark said {' '.join(text.split())[-200:]!r}")
    tail = text.rpartition("Latency by percentile distribution:")[2]
    steps = re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", tail.partition("Cumulative")[0])
    p999 = next((float(ms) for share, ms in steps if float(share) >= 99.9), None)
    columns = [float(word) for word in summary[-1].split()]
    return {
        "rate": float(rate[-1]),
        "p50_ms": columns[2],
        "p99_ms": columns[4],
        "p999_ms": p999,
        "max_ms": columns[5],
        "generator_cpu": cpu_seconds / max(float(seconds[-1]), 0.01),
    }


def prepare(port: int, work: str, requests: int) -> None:
    """What a work needs to find something: as many elements as it will take away, no more."""
    verb = WORKS[work].after
    key = WORKS[verb].words[1] if verb else WORKS[work].fresh
    if not key:
        return
    count = requests if WORKS[work].writes else LIST_LENGTH
    with contextlib.closing(Client(port, 60)) as client:
        client.ask("DEL", key)
        for first in range(0, count if verb else 0, PREPARE_BATCH):
            words = [verb, key]
            for name in range(first, min(first + PREPARE_BATCH, count)):
                words += [str(name)] if verb == "ZADD" else []
                words.append(f"element:{name:012d}")
            client.ask(*words)


def fill(port: int, keys: int, size: int, begin: int = 0, prefix: str = "key") -> None:
    """Set every key from `begin` below `keys`, named as redis-benchmark does, to a value."""
    data = value(size)
    step = max(1, min(FILL_BATCH_KEYS, FILL_BATCH_BYTES // (size + 64)))
    with contextlib.closing(Client(port, 60)) as client:
        for first in range(begin, keys, step):
            names = range(first, min(first + step, keys))
            client.send(b"".join(encode("SET", f"{prefix}:{name:012d}", data) for name in names))
            for _ in names:
                reply = client.reply()
                if reply[:1] == b"-":
                    raise RuntimeError(f"SET: {reply[1:].decode(errors='replace').strip()}")
