"""The parser held against a real redis-server: the same words, the same error texts."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pyraft_fast._resp import Parser, ReplyParser
from pyraft_fast.errors import ProtocolError
from tests.test_resp_parser import BROKEN, COMMANDS

SHOW_WORDS = b'eval "return ARGV" 0 '
PIECES = (
    b'"', b"'", b"\\", b"\\x41", b"\\xfF", b"\\x4", b"\\n", b"\\q", b'\\"', b"\\'", b" ", b"\t",
    b"\v", b"\f", b"\r", b"a", b"bc", b"\xff", b"\xc3\xa9", b'" ', b"' ", b' "', b" '", b"$3", b"*",
)  # fmt: skip


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a redis-server of our own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    folder: Path = tmp_path_factory.mktemp("redis")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout)
            yield port
        finally:
            server.terminate()
            server.communicate()


def asked(port: int, data: bytes) -> Any:
    """The first reply of redis-server; bulk strings as the parser makes words."""
    replies = ReplyParser(text=True)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(data)
        while not (found := replies.take(1)):
            part = sock.recv(65536)
            assert part, "closed without an answer"
            replies.feed(part)
    return found[0]


def words_of(line: bytes) -> Any:
    parser = Parser()
    parser.feed(line)
    try:
        return parser.take(1)[0]
    except ProtocolError as error:
        return error


def judge_line(port: int, line: bytes) -> None:
    ours, theirs = words_of(SHOW_WORDS + line), asked(port, SHOW_WORDS + line)
    if isinstance(ours, ProtocolError):
        assert theirs.wire() == ours.wire()
    else:
        assert theirs == ours[3:]


@pytest.mark.parametrize(("data", "error"), BROKEN)
def test_the_same_error(redis_port: int, data: bytes, error: str) -> None:
    assert asked(redis_port, data).wire() == ProtocolError(f"Protocol error: {error}").wire()


def test_the_same_words_in_arrays(redis_port: int) -> None:
    for data, commands in COMMANDS:
        if data.startswith(b"*") and len(commands) == 1 and not data.startswith(b"*0"):
            count, _, rest = data.partition(b"\r\n")
            head = b"*%d\r\n" % (int(count[1:]) + 3)
            shown = head + b"$4\r\neval\r\n$11\r\nreturn ARGV\r\n$1\r\n0\r\n" + rest
            assert asked(redis_port, shown) == commands[0]


def test_the_same_words_in_lines(redis_port: int) -> None:
    for data, commands in COMMANDS:
        if len(commands) == 1 and data[:1] not in b"*\r" and b"\0" not in data:
            judge_line(redis_port, data)


def test_the_same_words_in_random_lines(redis_port: int) -> None:
    dice = Random(3)
    for _ in range(1500):
        line = b"".join(dice.choices(PIECES, k=dice.randrange(1, 12)))
        judge_line(redis_port, line + dice.choice((b"\n", b"\r\n")))
