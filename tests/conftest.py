"""For every test.

Where the tests run in the background, the shell has SIGINT ignored, and so would every node that
a test starts, as it should when a person asks for that. The tests are about the other case.
"""

from __future__ import annotations

import signal
import threading
from typing import Final

import pytest

# Properties of a test that are said at the end: with several workers only its report gets there.
REWRITTEN: Final = "rewritten"  # the name of a transcript
ROUND: Final = "round"  # a line of the table of faults
ROUNDS_HEAD: Final = f"{'fault':31}{'operations':>11}{'unknown':>9}{'silence':>10}{'slowest':>10}"

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write what the rules do now into tests/core/golden; then read the difference",
    )


def said(reporter: pytest.TerminalReporter, name: str) -> list[str]:
    """What tests that ran have said under `name`, in the order of their ends."""
    reports = [*reporter.stats.get("passed", []), *reporter.stats.get("failed", [])]
    return [
        text
        for report in reports
        if report.when == "call"
        for key, text in report.user_properties
        if key == name
    ]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What each fault cost, and with --rewrite-golden which transcripts have changed."""
    if rounds := said(terminalreporter, ROUND):
        terminalreporter.section("faults: the longest time without an acknowledged write")
        for line in [ROUNDS_HEAD, *rounds]:
            terminalreporter.write_line(line)
    if config.getoption("--rewrite-golden"):
        names = ", ".join(sorted(said(terminalreporter, REWRITTEN))) or "none"
        terminalreporter.write_line(f"golden transcripts rewritten: {names}")
