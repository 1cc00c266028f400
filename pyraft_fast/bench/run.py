"""`pyraft-fast bench`: reads flags, runs suites and scenes, shows how far it is, prints the report.

Servers are started on free loopback ports in a temporary folder; only they are ended, also after
Ctrl-C, and the folder is removed. What was measured until then is printed all the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from pyraft_fast.bench import report
from pyraft_fast.bench.charts import charts_of
from pyraft_fast.bench.draw import page
from pyraft_fast.bench.model import Results
from pyraft_fast.bench.runner import Runner
from pyraft_fast.bench.scenes import SCENES, STARTS
from pyraft_fast.bench.suites import FOREIGN, LEVELS, SUITES, Level, Suite, server, suite

BAR = 24
OPEN_FILES = 4096  # a load of 1000 clients needs more than the 1024 that shells allow
ENDING = (signal.SIGTERM, signal.SIGHUP)  # as Ctrl-C
EPILOG = """\
suites: {suites}
scenes: {scenes}

Rates are ratios to redis-server on this machine, in this run: absolute figures say little about
another machine. Let nothing else run beside it. redis-benchmark makes the load where it can; each
figure says what it cost, and what made it.
"""


class Progress:
    """One line that is written over; a line a suite where nobody looks at a terminal."""

    def __init__(self, out: TextIO) -> None:
        self.total = 1
        self.done = 0
        self._out = out
        self._live = out.isatty()
        self._began = time.monotonic()

    def part(self, text: str) -> None:
        """A suite or scene begins."""
        if not self._live:
            self._out.write(f"{text}\n")
            self._out.flush()

    def say(self, text: str) -> None:
        """What is done now; a round of a point or scene is a step."""
        if ", round " in text:
            self.done += 1
        if not self._live:
            return
        share = min(1.0, self.done / self.total)
        spent = time.monotonic() - self._began
        left = f" {spent / share - spent:4.0f} s left" if self.done > 3 else ""
        bar = "#" * round(share * BAR)
        self._out.write(f"\r\033[K[{bar:.<{BAR}}]{left} {text}"[:118])
        self._out.flush()

    def end(self) -> None:
        """Nothing stays of it."""
        if self._live:
            self._out.write("\r\033[K")
            self._out.flush()


def _file(text: str) -> Path:
    """A file that can be written, said before half an hour is spent on what it is to hold."""
    path = Path(text)
    if not os.access(path if path.exists() else path.parent, os.W_OK) or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def _folder(text: str) -> Path:
    """A folder that is there, or is made."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise argparse.ArgumentTypeError(f"{text} cannot be made: {reason}") from error
    if not os.access(path, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Carry the command out; returns the exit status: 0, or 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    level = _level(args)
    names = args.only or level.only or (*SUITES, *SCENES)
    suites = [suite(name, level) for name in SUITES if name in names]
    _allow_clients()
    results = Results()
    progress = Progress(err)
    before = {n: signal.signal(n, signal.default_int_handler) for n in ENDING}
    status = 0
    folder = Path(tempfile.mkdtemp(prefix="pyraft-fast-bench-", dir=args.dir))
    folder = folder.resolve()  # the servers run in folders of their own
    runner = Runner(level, results, folder, progress.say)
    runner.peer_python = args.peer_python
    try:
        progress.total = _steps(suites, level, args.peers) + STARTS * ("start" in names)
        for one in suites:
            progress.part(f"{one.name}: {one.title}")
            runner.run(one, chosen_servers(one.servers, args.peers))
        for name in SCENES:
            if name in names:
                progress.part(name)
                SCENES[name](runner, chosen_servers(("redis", "ours-1", "ours-3"), args.peers))
    except KeyboardInterrupt:
        status = 130
        runner.note("interrupted: what was measured until then")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        progress.end()
        if args.keep:
            runner.note(f"files of the servers: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _report(args, argv, suites, runner, out)
    return status


def _report(
    args: argparse.Namespace,
    argv: Sequence[str],
    suites: Sequence[Suite],
    runner: Runner,
    out: TextIO,
) -> None:
    results = runner.results
    used = {figure.server for figure in results.figures} | {f.server for f in results.facts}
    titles = {name: server(name).title for name in used}
    about = ", ".join(f"{name} {text}" for name, text in report.machine().items())
    lines = [f"{report.command_line(argv)}", about]
    for one in suites:
        if one.name in results.suites():
            lines += report.table(one, results, titles)
    lines += report.processes(results, titles) + report.facts(results, titles)
    lines += report.targets(results) + report.notes(results, runner.notes)
    text = "\n".join(lines + report.commands(results, runner.starts))
    out.write(text + "\n")
    if args.json:
        args.json.write_text(report.as_json(results, argv, runner.starts, runner.notes))
    if args.html:
        charts = [c for one in suites for c in charts_of(one, results, titles, argv)]
        title = "pyraft-fast, measured"
        args.html.write_text(page(title, about, charts, text))


def _allow_clients() -> None:
    """Programs started from here may have a socket for every client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def chosen_servers(names: Sequence[str], peers: Sequence[str] | None) -> list[str]:
    """Those of a suite that are wanted: ours always, others unless `--peers` leaves them out."""
    if peers is None:
        return list(names)
    wanted = {*peers, *(("pyraft-1", "pyraft-3") if "pyraft" in peers else ())}
    return [name for name in names if name not in FOREIGN or name in wanted]


def _steps(suites: Sequence[Suite], level: Level, peers: Sequence[str] | None) -> int:
    runs = (len(s.points) * len(chosen_servers(s.servers, peers)) for s in suites)
    return sum(runs) * level.rounds


def _level(args: argparse.Namespace) -> Level:
    level = LEVELS["quick" if args.quick else "full" if args.full else "default"]
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("seconds", "rounds", "keys", "many_keys")
        if getattr(args, name) is not None
    }
    return dataclasses.replace(level, **given)


def _names(known: Sequence[str]) -> Any:
    def split(text: str) -> list[str]:
        names = [word for word in text.split(",") if word]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return split


def _above_zero(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyraft-fast bench",
        description="Measure this machine's nodes beside redis-server and what else is here.",
        epilog=EPILOG.format(suites=", ".join(SUITES), scenes=", ".join(SCENES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument(
        "--quick", action="store_true", help="a minute or two (default: about half an hour)"
    )
    how_much.add_argument("--full", action="store_true", help="hours")
    add = parser.add_argument
    add("--only", metavar="NAMES", type=_names((*SUITES, *SCENES)), help="suites and scenes")
    add(
        "--peers",
        metavar="NAMES",
        type=_names((*FOREIGN, "pyraft")),
        help=f"of {', '.join(FOREIGN)}",
    )
    add("--peer-python", metavar="PYTHON", default=sys.executable,
        help="interpreter that has PyPI's pyraft and pysyncobj")  # fmt: skip
    add("--seconds", type=_above_zero(float), help="of one run")
    add("--rounds", type=_above_zero(int), help="runs of one point; their median counts")
    add("--keys", type=_above_zero(int), help="keys that are drawn from")
    add("--many-keys", type=_above_zero(int), metavar="KEYS", help="of scene million")
    add("--json", metavar="FILE", type=_file, help="write all figures")
    add("--html", metavar="FILE", type=_file, help="write the curves and tables as one page")
    add(
        "--dir",
        metavar="FOLDER",
        type=_folder,
        default=Path(),
        help="where the servers' files go (default: here)",
    )
    add("--keep", action="store_true", help="keep the servers' files")
    return parser
