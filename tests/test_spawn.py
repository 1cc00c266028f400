"""Starting the child: what it gets, what it can import, how it ends, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pyraft_fast
from pyraft_fast.errors import ConfigError, StartError
from pyraft_fast.link import pipe, spawn
from pyraft_fast.link.spawn import Child, start_child
from tests.ring_player import receive, send

ROOT = Path(__file__).resolve().parents[1]
MODULE = "tests.ring_player"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@contextmanager
def started(listener: socket.socket, lock: int, part: str = "wait") -> Iterator[Child]:
    child = start_child(listener.fileno(), lock, ring_bytes=4096, module=MODULE)
    try:
        send(child.pipe, pipe.Start({"part": part}))
        yield child
    finally:
        child.close()


def report_of(listener: socket.socket, lock: int) -> dict[str, Any]:
    with started(listener, lock, "report") as child:
        value: dict[str, Any] = receive(child.pipe).value
        assert value["pid"] == child.pid
    return value


def descriptors() -> set[str]:
    return {f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}" for fd in open_fds()}


def open_fds() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the folder's own
            continue
        found.append(int(name))
    return found


# What it gets


def test_the_child_gets_its_seven_descriptors_and_no_other(
    listener: socket.socket, lock: int
) -> None:
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    report = report_of(listener, lock)
    os.close(stray)
    # standard streams; pipe, ring, slot, two bells, listener, lock; the folder that was listed
    assert len(report["fds"]) == 3 + 7 + 1
    assert report["inheritable"] == []
    assert tuple(report["listen"]) == listener.getsockname()
    assert report["lock"] == os.fstat(lock).st_ino


def test_the_child_is_ours_in_a_session_of_its_own(listener: socket.socket, lock: int) -> None:
    report = report_of(listener, lock)
    assert report["ppid"] == os.getpid()
    assert report["session"] == report["pid"]
    assert report["folder"] == os.getcwd()
    assert report["main"] == f"{MODULE}.__main__" or report["main"] == MODULE
    assert report["argv"][::2] == list(spawn.OPTIONS)


def test_the_command_line_names_what_runs(listener: socket.socket, lock: int) -> None:
    with started(listener, lock, "report") as child:
        receive(child.pipe)  # before, the system may still be setting the process up
        line = Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")
        assert MODULE.encode() in line
        assert line[0] == os.fsencode(sys.executable)


def test_descriptors_in_the_place_of_standard_streams_are_passed(tmp_path: Path) -> None:
    """A program without standard streams gets their numbers for its sockets."""
    program = tmp_path / "daemon.py"
    program.write_text(
        "import os, socket, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "from pyraft_fast.link import pipe, spawn\n"
        "from tests.ring_player import receive, send\n"
        f"child = spawn.start_child(server.fileno(), server.fileno(), module={MODULE!r})\n"
        "send(child.pipe, pipe.Start({'part': 'report'}))\n"
        "report = receive(child.pipe).value\n"
        "child.close()\n"
        "good = server.fileno() == 0 and tuple(report['listen']) == server.getsockname()\n"
        "os._exit(7 if good else 1)\n"
    )
    done = subprocess.run([sys.executable, str(program)], stdin=subprocess.DEVNULL)
    assert done.returncode == 7


# What it can import


def bad_modules(folder: Path) -> None:
    for name in ("json", "random", "selectors", "socket", "runpy", "subprocess", "msgpack"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong file was imported')\n")


def check_imports(report: dict[str, Any], package: Path) -> None:
    assert report["package"] == [str(package)]
    library = sysconfig.get_path("stdlib")
    for name, file in report["files"].items():
        home = str(package) if name.startswith("pyraft_fast") else library
        assert file.startswith(home), name


def test_the_current_folder_shadows_nothing(
    listener: socket.socket, lock: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_modules(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f":{tmp_path}")
    report = report_of(listener, lock)
    check_imports(report, Path(pyraft_fast.__path__[0]))
    assert "" not in report["path"]
    assert "PYTHONPATH" not in report["variables"]
    assert report["path"].index(str(tmp_path)) > report["path"].index(sysconfig.get_path("stdlib"))


def test_the_child_loads_the_codecs_and_no_users_side(listener: socket.socket, lock: int) -> None:
    rooms = {name.split(".")[1] for name in report_of(listener, lock)["modules"] if "." in name}
    assert rooms <= {"_entry", "_ring", "_slot", "errors", "limits", "link"}


def test_a_package_imported_from_a_copied_tree_is_the_childs_too(tmp_path: Path) -> None:
    """The user's program runs elsewhere, and found the package by its own means."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "else where"
    shutil.copytree(
        ROOT / "pyraft_fast", tree / "pyraft_fast", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tree / "pyraft_fast" / "__init__.py").write_text("BY_THE_PARENT_ONLY = True\n")
    elsewhere.mkdir()
    bad_modules(tree)
    program = elsewhere / "program.py"
    program.write_text(
        "import json, random, runpy, selectors, socket, subprocess, sys\n"
        f"sys.path.insert(0, {str(tree)!r})\n"
        "from pyraft_fast.link import pipe, spawn\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "from tests.ring_player import receive, send\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        f"child = spawn.start_child(server.fileno(), server.fileno(), module={MODULE!r})\n"
        "send(child.pipe, pipe.Start({'part': 'report'}))\n"
        "value = receive(child.pipe).value\n"
        "child.close()\n"
        "print(json.dumps({'package': value['package'], 'files': value['files']}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=elsewhere, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    check_imports(json.loads(done.stdout), tree / "pyraft_fast")


def flags_of(*flags: str) -> list[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pyraft_fast.link.spawn import interpreter_flags\n"
        "sys.stdout.write('\\n'.join(interpreter_flags()))\n"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], env=plain, check=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.split()


def test_flags_that_find_files_and_show_errors_are_passed_on() -> None:
    assert flags_of("-B") == ["-B"]
    assert flags_of("-I", "-B", "-X", "utf8") == ["-I", "-B", "-X", "utf8"]
    assert flags_of("-E", "-s", "-X", "faulthandler") == ["-E", "-s", "-X", "faulthandler"]
    assert flags_of("-X", "pycache_prefix=/tmp/x") == ["-X", "pycache_prefix=/tmp/x"]


def test_flags_that_would_disturb_the_child_are_not() -> None:
    assert flags_of("-W", "error", "-X", "importtime", "-O", "-u") == []


def test_variables_that_would_disturb_the_child_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in spawn.VARIABLES_DROPPED:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONHOME", "/kept")
    environment = spawn.child_environment()
    assert not set(environment) & set(spawn.VARIABLES_DROPPED)
    assert environment["PYTHONHOME"] == "/kept"


# How it ends


def test_a_running_child_is_killed_and_reaped_by_close(listener: socket.socket, lock: int) -> None:
    before = descriptors()
    with started(listener, lock) as child:
        assert child.poll() is None
        assert child.how() == "it still runs"
        with pytest.raises(TimeoutError, match=str(child.pid)):
            child.wait(0)
    assert child.poll() == -signal.SIGKILL
    assert child.how() == "signal SIGKILL"
    child.close()
    child.kill()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)


def test_the_child_sees_the_end_of_the_pipe(listener: socket.socket, lock: int) -> None:
    with started(listener, lock) as child:
        child.pipe.shutdown(socket.SHUT_RDWR)
        assert child.wait(60) == 3
        assert child.how() == "exit status 3"


def test_this_side_sees_the_end_of_the_pipe(listener: socket.socket, lock: int) -> None:
    with started(listener, lock) as child:
        child.kill()
        child.pipe.setblocking(True)
        with pytest.raises((ConnectionResetError, EOFError)):
            if not child.pipe.recv(1):
                raise EOFError


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path, listener: socket.socket) -> None:
    """The child holds the lock descriptor too: here a pipe that ends when both are gone."""
    program = tmp_path / "parent.py"
    program.write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pyraft_fast.link import pipe, spawn\n"
        "from tests.ring_player import receive, send\n"
        "child = spawn.start_child(int(sys.argv[1]), int(sys.argv[2]), "
        f"module={MODULE!r})\n"
        "send(child.pipe, pipe.Start({'part': 'wait'}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    reading, writing = os.pipe()
    fds = (listener.fileno(), writing)
    parent = subprocess.Popen([sys.executable, str(program), *map(str, fds)], pass_fds=fds)
    os.close(writing)
    assert parent.wait() == -signal.SIGKILL
    with os.fdopen(reading, "rb") as end:
        assert end.read() == b""  # returns when the child is gone too


def test_several_children_share_listener_and_lock_one_after_another(
    listener: socket.socket, lock: int
) -> None:
    before = descriptors()
    first, second = report_of(listener, lock), report_of(listener, lock)
    assert first["listen"] == second["listen"]
    assert first["pid"] != second["pid"]
    assert descriptors() == before
    os.fstat(lock)


# What is refused


def test_a_start_that_fails_leaves_nothing(
    listener: socket.socket, lock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        start_child(listener.fileno(), lock)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(StartError, match="interpreter"):
        start_child(listener.fileno(), lock)
    assert descriptors() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--pipe", "3"],
        ["--pipe", "3"] * 6,
        [word for option in spawn.OPTIONS for word in (option, "x")],
        [word for option in spawn.OPTIONS[:-1] for word in (option, "3")] + ["--help", "3"],
    ],
    ids=["none", "one", "repeated", "no numbers", "unknown"],
)
def test_a_command_line_that_no_parent_writes_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        spawn.take_ends(arguments)
