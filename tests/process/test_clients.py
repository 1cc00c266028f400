"""Stock clients, each in the version people have: redis-py 3.4.1, 5, 7 and 8, and redis-cli."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.process.cluster import Cluster, Node, eventually

CLIENTS = Path(sys.prefix) / "clients"
VERSIONS = ("3.4.1", "5", "7", "8")

# Run by every redis-py: connect as it does by default, write, read, expire, pipeline, and say so.
SCRIPT = """
import contextlib, sys
with contextlib.suppress(ImportError):
    import setuptools  # brings distutils back, which redis-py 3.4.1 wants
import redis
port = int(sys.argv[1])
client = redis.Redis(host="127.0.0.1", port=port)
assert client.ping()
assert client.set("key", b"\\x00\\xff\\r\\n value")
assert client.get("key") == b"\\x00\\xff\\r\\n value"
assert client.get("missing") is None
assert client.set("short", "v", ex=100) and 0 < client.ttl("short") <= 100
assert client.incr("counter") >= 1
assert client.hset("hash", "field", "value") in (0, 1)
assert client.hgetall("hash") == {b"field": b"value"}
client.delete("list")
assert client.rpush("list", "a", "b", "c") == 3
assert client.lrange("list", 0, -1) == [b"a", b"b", b"c"]
client.delete("zset")
assert client.zadd("zset", {"one": 1, "two": 2}) == 2
pairs = client.zrange("zset", 0, -1, withscores=True)
assert [tuple(pair) for pair in pairs] == [(b"one", 1.0), (b"two", 2.0)]
pipe = client.pipeline(transaction=False)
for number in range(100):
    pipe.set("p:%d" % number, number).get("p:%d" % number)
assert pipe.execute() == [v for n in range(100) for v in (True, str(n).encode())]
assert client.info()["raft_role"] in ("leader", "follower")
assert client.info("server")["redis_version"]
assert client.config_get("save") is not None
try:
    client.lpush("key", "x")
    raise SystemExit("no WRONGTYPE")
except redis.ResponseError as error:
    assert "WRONGTYPE" in str(error) or "wrong kind" in str(error), error
try:
    client.execute_command("nonsense", "a")
    raise SystemExit("no error")
except redis.ResponseError as error:
    assert "unknown command" in str(error), error
print(redis.__version__, "ok")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_redis_py(three: Cluster, version: str) -> None:
    library = CLIENTS / f"redis-{version}"
    assert library.is_dir(), f"{library} is missing: `make test` installs it"
    for node in (three.leader(), three.follower()):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(node.port)],
            env={**os.environ, "PYTHONPATH": str(library)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(version.split(".")[0]), done.stdout
        assert done.stdout.endswith(" ok\n")


def cli(port: int, *words: str, **options: object) -> str:
    program = shutil.which("redis-cli")
    assert program, "redis-cli is missing: apt-get install redis-tools"
    done = subprocess.run(
        [program, "-p", str(port), *words],
        capture_output=True, text=True, timeout=20, **options,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_redis_cli_one_shot(node: Node) -> None:
    node.start()
    eventually(node.answers)
    assert cli(node.port, "set", "key", "value") == "OK\n"
    assert cli(node.port, "get", "key") == "value\n"
    assert cli(node.port, "-3", "hgetall", "none") == "\n"
    assert "SELECT 1 failed: ERR DB index is out of range" in cli(node.port, "-n", "1", "ping")
    assert "raft_role:leader" in cli(node.port, "info", "raft")
    assert cli(node.port, "nonsense", "x").startswith("ERR unknown command 'nonsense'")
    assert cli(node.port, "get").startswith("ERR wrong number of arguments for 'get' command")
    assert cli(node.port, "--scan").split() == ["key"]
    assert "1 keys" in cli(node.port, "--bigkeys") or "key" in cli(node.port, "--bigkeys")


class Terminal:
    """redis-cli under a pseudo-terminal, so that it behaves as it does for a person."""

    def __init__(self, port: int) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp("redis-cli", ["redis-cli", "-p", str(port)])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self.seen = ""

    def expect(self, *texts: str, seconds: float = 10) -> None:
        """Wait until all `texts` have been shown, in this order, since the last `type`."""
        deadline = time.monotonic() + seconds
        pattern = re.compile(".*?".join(re.escape(text) for text in texts), re.DOTALL)
        while not pattern.search(self.seen):
            left = deadline - time.monotonic()
            assert left > 0, f"{texts!r} not seen in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.fd, text.encode())

    def close(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_redis_cli_interactive_with_hints(node: Node) -> None:
    node.start()
    eventually(node.answers)
    terminal = Terminal(node.port)
    prompt = f"127.0.0.1:{node.port}> "
    terminal.expect(prompt)
    terminal.type("set key 'a value'\r")
    terminal.expect("OK", prompt)  # what is typed before the prompt is thrown away
    terminal.type("get ")
    terminal.expect("key")  # the hint of the argument, from COMMAND DOCS
    terminal.type("key\r")
    terminal.expect('"a value"', prompt)
    terminal.type("exit\r")
    assert terminal.close() == 0
