"""Starting the consensus process, and both ends of what connects it to the serving process.

The child is exec'd, never forked alone: the user's program may have threads and need not guard its
main module. It gets seven descriptors by number and nothing else: pipe, ring, slot, two doorbells,
the listening peer socket and the folder's lock. It runs in a session of its own, so that a Ctrl-C
in the terminal reaches the user's program, which then ends it in order. Either side notices the
other's death by the end of the pipe: after the start each holds one end only.

What the child may import is `boot`'s business; which interpreter flags and variables it inherits
is decided here: those that say where files are and how to debug, none that could stop it or make
it import other code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from pyraft_fast._slot import Slot
from pyraft_fast.errors import ConfigError, StartError
from pyraft_fast.limits import MIB, RING_BYTES
from pyraft_fast.link import boot
from pyraft_fast.link.ring import Reader, Ring, make_bell

CONSENSUS_MODULE: Final = "pyraft_fast.consensus"
PIPE_BUFFER_BYTES: Final = 1 * MIB  # asked for; the kernel may grant less
OPTIONS: Final = (
    "--pipe", "--ring", "--slot", "--to-serving", "--to-consensus", "--listen", "--lock",
)  # fmt: skip
XOPTIONS_KEPT: Final = (
    "dev", "faulthandler", "frozen_modules", "gil", "int_max_str_digits", "no_debug_ranges",
    "pycache_prefix", "utf8",
)  # fmt: skip
# The user's import path comes by another variable; warnings as errors must not end the child.
VARIABLES_DROPPED: Final = (
    "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONVERBOSE",
    "PYTHONDEBUG", "PYTHONPROFILEIMPORTTIME",
)  # fmt: skip


class Child:
    """The consensus process as the serving process holds it. Owns everything but what was passed.

    `pipe` is a non-blocking socket; `to_serving` is the bell to listen to, `to_consensus` the one
    `reader` rings. Whoever made it must `close` it; that also ends and reaps the process.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pipe: socket.socket,
        ring: Ring,
        slot: Slot,
        to_serving: int,
        to_consensus: int,
    ) -> None:
        self._process = process
        self._bells = [to_serving, to_consensus]
        self.pipe = pipe
        self.ring = ring
        self.slot = slot
        self.reader = Reader(ring, to_consensus)
        self.to_serving = to_serving
        self.to_consensus = to_consensus

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, -N if signal N ended it; None while it runs. Does not wait."""
        return self._process.poll()

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end and return its exit status. Raises TimeoutError after `seconds`."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} still runs after {seconds} s") from error

    def kill(self) -> None:
        """End it now (SIGKILL) and reap it; nothing happens if it is gone already."""
        self._process.kill()
        self._process.wait()

    def how(self) -> str:
        """How it ended, in words for a log line."""
        status = self.poll()
        if status is None:
            return "it still runs"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-status).name}"
            return f"signal {-status}"
        return f"exit status {status}"

    def close(self) -> None:
        """End it if it runs and give all back that connects it; views into the ring stay valid."""
        if self._process.poll() is None:
            self.kill()
        self.pipe.close()
        self.ring.close()
        self.slot.close()
        while self._bells:
            os.close(self._bells.pop())


class Ends(NamedTuple):
    """The child's ends, as its command line named them."""

    pipe: socket.socket
    ring: Ring
    slot: Slot
    to_serving: int
    to_consensus: int
    listener: socket.socket
    lock_fd: int


def start_child(
    listen_fd: int,
    lock_fd: int,
    *,
    ring_bytes: int = RING_BYTES,
    module: str = CONSENSUS_MODULE,
) -> Child:
    """Start the consensus process; `listen_fd` and `lock_fd` are shared with it and stay yours.

    Raises StartError when the interpreter's path is unknown and OSError when the system refuses.
    `module` is what to run instead, for tests.
    """
    if not sys.executable:
        raise StartError("the path of the Python interpreter is unknown (sys.executable is empty)")
    with contextlib.ExitStack() as undo:
        pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(pipe.close)
        for end in (pipe, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BUFFER_BYTES)
            end.setblocking(False)
        ring = Ring.create(ring_bytes)
        undo.callback(ring.close)
        slot = Slot.create()
        undo.callback(slot.close)
        to_serving = make_bell()
        undo.callback(os.close, to_serving)
        to_consensus = make_bell()
        undo.callback(os.close, to_consensus)
        with theirs, contextlib.ExitStack() as lent:
            ours = (theirs.fileno(), ring.fd, slot.fd, to_serving, to_consensus)
            shared = [_above_stdio(fd, lent) for fd in (*ours, listen_fd, lock_fd)]
            process = _execute(module, shared)
        undo.pop_all()
    return Child(process, pipe, ring, slot, to_serving, to_consensus)


def _execute(module: str, fds: Sequence[int]) -> subprocess.Popen[bytes]:
    command = [sys.executable, *interpreter_flags(), os.path.abspath(boot.__file__), module]
    for option, fd in zip(OPTIONS, fds, strict=True):
        command += [option, str(fd)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the user's program may write data there
        stderr=None if _is_open(2) else subprocess.DEVNULL,
        env=child_environment(),
        pass_fds=fds,
        close_fds=True,
        start_new_session=True,
    )


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _above_stdio(fd: int, lent: contextlib.ExitStack) -> int:
    """`fd`, or a copy of it where a program without standard streams got one of their numbers."""
    if fd > 2:
        return fd
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    lent.callback(os.close, copy)
    return copy


def interpreter_flags() -> list[str]:
    """The flags for the child: how this interpreter finds its files and shows errors."""
    flags: list[str] = []
    if sys.flags.isolated:
        flags.append("-I")
    else:
        flags += ["-E"] if sys.flags.ignore_environment else []
        flags += ["-s"] if sys.flags.no_user_site else []
    flags += ["-S"] if sys.flags.no_site else []
    flags += ["-B"] if sys.flags.dont_write_bytecode else []
    for name, value in sys._xoptions.items():
        if name in XOPTIONS_KEPT:
            flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def child_environment() -> dict[str, str]:
    """The child's environment: this one's, but for what would change which code it runs."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES_DROPPED}
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    environment[boot.PATH_VARIABLE] = os.pathsep.join(folders)
    return environment


def take_ends(arguments: Sequence[str]) -> Ends:
    """In the child: the ends that the command line `arguments` name, now this process's own.

    From here on no further exec inherits them. Raises ConfigError for arguments that no parent
    would write, OSError or InvariantError for descriptors that are not what they should be.
    """
    named = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if len(arguments) != 2 * len(OPTIONS) or sorted(named) != sorted(OPTIONS):
        raise ConfigError("this process is started by a node, with " + " FD ".join(OPTIONS) + " FD")
    try:
        fds = [int(named[option]) for option in OPTIONS]
    except ValueError:
        raise ConfigError(f"descriptors are numbers, not {list(named.values())}") from None
    for fd in fds:
        os.set_inheritable(fd, False)
    pipe_fd, ring_fd, slot_fd, to_serving, to_consensus, listen_fd, lock_fd = fds
    ring = Ring.attach(ring_fd)
    os.close(ring_fd)
    slot = Slot.attach(slot_fd)
    os.close(slot_fd)
    pipe = socket.socket(fileno=pipe_fd)
    listener = socket.socket(fileno=listen_fd)
    pipe.setblocking(False)
    listener.setblocking(False)
    return Ends(pipe, ring, slot, to_serving, to_consensus, listener, lock_fd)
