"""What processes use: CPU and wake-ups from /proc, memory, fsyncs by perf where it may.

A wake-up is a voluntary context switch: a thread that waited and was woken. Memory is PSS where
the kernel tells it, so that pages that processes share are counted once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PERF_EVENTS = ",".join(
    f"syscalls:sys_enter_{call}" for call in ("fdatasync", "fsync", "pwritev2")
)  # the last is how our log is written: each syncs what it writes


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used, its threads included; 0 when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return 0.0


def wakeups(pid: int) -> int:
    """Voluntary context switches of all threads of a process; 0 when it is gone."""
    total = 0
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/status").read_text()
            total += int(text.partition("\nvoluntary_ctxt_switches:")[2].split(None, 1)[0])
    return total


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory that processes hold: PSS, or resident size where PSS cannot be read."""
    total = 0
    for pid in pids:
        text = ""
        for name, label in (("smaps_rollup", "\nPss:"), ("status", "\nVmRSS:")):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/{name}").read_text()
                total += int(text.partition(label)[2].split(None, 1)[0]) * 1024
                break
    return total


def available_bytes() -> int:
    """Memory that programs could still get."""
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split(None, 1)[0]) * 1024


def children_of(pid: int) -> list[int]:
    """Direct children of a process, none when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


class Usage:
    """CPU and wake-ups of named processes between two moments."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = dict(processes)
        self._cpu = {label: cpu_seconds(pid) for label, pid in processes.items()}
        self._wakeups = sum(map(wakeups, processes.values()))

    def cpu(self) -> dict[str, float]:
        """CPU seconds since the beginning, by process."""
        return {
            label: max(0.0, cpu_seconds(pid) - self._cpu[label])
            for label, pid in self._processes.items()
        }

    def wakeups(self) -> int:
        """Wake-ups of all since the beginning."""
        return sum(map(wakeups, self._processes.values())) - self._wakeups


class SyncCounter:
    """Counts syncs of processes by perf (PERF_EVENTS); counts nothing where it may not.

    perf tells that it counts, so that the load begins after it and not at about the same time.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (stop() closes it)
        perf = shutil.which("perf")
        if perf is None:
            return
        read, write = os.pipe()
        answered, answer = os.pipe()
        line = [perf, "stat", "-x,", "-e", PERF_EVENTS, "-p", ",".join(map(str, pids)), "-D", "-1"]
        try:
            self._process = subprocess.Popen(
                [*line, "--control", f"fd:{read},{answer}"],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(read, answer),
            )
            os.close(answer)
            answer = -1
            with contextlib.suppress(OSError):
                os.write(write, b"enable\n")
                os.read(answered, 16)  # ends too when perf does
        finally:
            for number in (read, write, answered, answer):
                if number >= 0:
                    os.close(number)

    def stop(self) -> int | None:
        """Calls since the beginning; None when perf is missing or may not count."""
        try:
            if self._process is None:
                return None
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._output.seek(0)
            return parse_perf(self._output.read().decode(errors="replace"))
        finally:
            self._output.close()


def parse_perf(text: str) -> int | None:
    """The sum of the counts in `perf stat -x,`; None when it could not count."""
    rows = [line.split(",") for line in text.splitlines() if "sys_enter" in line]
    counts = [int(row[0]) for row in rows if row[0].isdigit()]
    if counts:
        return sum(counts)
    return 0 if rows and all("<not counted>" in row[0] for row in rows) else None
