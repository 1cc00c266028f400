"""The other process in tests of ring, pipe and start: run by `start_child(module=...)`.

The first message, START, says which part to play. `write` sends a stream of records that its seed
decides, `read` takes one, both answer DONE with (records, checksum); `post` changes the notice
until a byte comes, and answers the last number; `report` answers what a child process finds around
it; `wait` does nothing until its parent is gone.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from pyraft_fast._ring import Ring
from pyraft_fast.link import pipe, spawn
from pyraft_fast.link.ring import Reader, clear, wake

WAIT_SECONDS = 60.0  # reached only when a wake-up was lost
TAKE_BYTES = 16384


class Gone(Exception):
    """The other process has ended."""


def stream(seed: int, count: int, length_max: int) -> Iterator[bytes]:
    """`count` records: mostly small, some up to `length_max`."""
    dice = Random(seed)
    for _ in range(count):
        limit = length_max if dice.random() < 0.05 else min(length_max, 300)
        yield dice.randbytes(dice.randint(1, limit))


class Side:
    """What both parts need: the bell to listen to, and the pipe that ends with the other side."""

    def __init__(self, link: socket.socket, bell: int) -> None:
        self.link = link
        self.bell = bell
        self.sleeps = 0

    def rest(self) -> None:
        """Until the bell rings. Raises Gone at the other's end, TimeoutError when nobody rings."""
        self.sleeps += 1
        ready, _, _ = select.select([self.bell, self.link], [], [], WAIT_SECONDS)
        if not ready:
            raise TimeoutError("a wake-up was lost")
        if self.bell in ready:
            clear(self.bell)
        elif not self.link.recv(1, socket.MSG_PEEK):
            raise Gone
        else:
            select.select([self.bell], [], [], WAIT_SECONDS)


def write_stream(
    side: Side, ring: Ring, other_bell: int, records: Iterator[bytes], turns: Random
) -> tuple[int, int]:
    """Publish everything, in turns of random length; returns (records, checksum)."""
    count = checksum = 0
    left = 1
    for record in records:
        while not ring.publish(record):
            if ring.wake_needed():
                wake(other_bell)
            side.rest()
        count, checksum = count + 1, zlib.crc32(record, checksum)
        left -= 1
        if left == 0:
            left = turns.choice((1, 1, 2, 7, 40))
            if ring.wake_needed():
                wake(other_bell)
    if ring.wake_needed():
        wake(other_bell)
    return count, checksum


def read_stream(side: Side, reader: Reader, count: int, seen: Callable[[bytes], None]) -> None:
    """Take `count` records, sleeping whenever there is nothing."""
    left = count
    while left:
        records = reader.take(TAKE_BYTES)
        for record in records:
            seen(bytes(record))
        left -= len(records)
        if records:
            records.clear()
            reader.release()
        elif reader.sleep():
            side.rest()


def play_write(ends: spawn.Ends, wish: dict[str, Any]) -> object:
    side = Side(ends.pipe, ends.to_consensus)
    records = stream(wish["seed"], wish["count"], wish["length_max"])
    turns = Random(wish["seed"] + 1)
    count, checksum = write_stream(side, ends.ring, ends.to_serving, records, turns)
    return [count, checksum, side.sleeps]


def play_read(ends: spawn.Ends, wish: dict[str, Any]) -> object:
    side = Side(ends.pipe, ends.to_consensus)
    count = checksum = 0

    def seen(record: bytes) -> None:
        nonlocal count, checksum
        count, checksum = count + 1, zlib.crc32(record, checksum)

    read_stream(side, Reader(ends.ring, ends.to_serving), wish["count"], seen)
    return [count, checksum, side.sleeps]


def play_report(ends: spawn.Ends, wish: dict[str, Any]) -> object:
    import json
    import random
    import selectors

    assert json and random and selectors
    package = sys.modules["pyraft_fast"]
    names = ("json", "random", "selectors", "socket", "pyraft_fast._ring", "pyraft_fast.link.pipe")
    return {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "session": os.getsid(0),
        "folder": os.getcwd(),
        "package": list(package.__path__),
        "files": {name: sys.modules[name].__file__ for name in names},
        "fds": [int(name) for name in os.listdir("/proc/self/fd")],
        "inheritable": [fd for fd in range(3, 64) if _inheritable(fd)],
        "listen": list(ends.listener.getsockname()),
        "lock": os.fstat(ends.lock_fd).st_ino,
        "path": sys.path,
        "argv": sys.argv[1:],
        "variables": sorted(os.environ),
        "modules": sorted(name for name in sys.modules if name.startswith("pyraft_fast")),
        "main": sys.modules["__main__"].__spec__.name,  # type: ignore[union-attr]
    }


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def play_wait(ends: spawn.Ends, wish: dict[str, Any]) -> object:
    ends.pipe.setblocking(True)
    ends.pipe.recv(1)
    raise Gone


def play_post(ends: spawn.Ends, wish: dict[str, Any]) -> object:
    """Post as fast as it goes until told to stop; the three words always belong together."""
    ends.pipe.setblocking(False)
    number = 0
    while True:
        for _ in range(1000):
            number += 1
            ends.ring.post(number, number * 3, number * 7)
        try:
            ends.pipe.recv(1)
            return number
        except BlockingIOError:
            continue


PARTS = {
    "write": play_write, "read": play_read, "post": play_post, "report": play_report,
    "wait": play_wait,
}  # fmt: skip


def receive(link: socket.socket) -> Any:
    """The next message on a link. Raises Gone at its end."""
    decoder = pipe.Decoder()
    while True:
        for message in decoder.messages():
            return message
        if not select.select([link], [], [], WAIT_SECONDS)[0]:
            raise TimeoutError("no message came")
        data = link.recv(65536)
        if not data:
            raise Gone
        decoder.feed(data)


def send(link: socket.socket, message: Any) -> None:
    """Send one message, in whole."""
    link.setblocking(True)
    link.sendall(pipe.encode(message))
    link.setblocking(False)


def main() -> int:
    ends = spawn.take_ends(sys.argv[1:])
    try:
        wish = receive(ends.pipe).settings
        answer = PARTS[wish["part"]](ends, wish)
        send(ends.pipe, pipe.Done(0, answer, "", ""))
        receive(ends.pipe)
    except (Gone, ConnectionError):
        return 3  # as the parent wishes to see: it went first
    return 0


if __name__ == "__main__":
    sys.exit(main())
