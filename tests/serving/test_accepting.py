"""The client port: who is let in, and what happens when there is no room."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pyraft_fast.serving import accepting
from pyraft_fast.serving.accepting import ClientPort
from tests.hub_world import Recorder, World, world_on


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_on(request.param) as world:
        yield world


class Port:
    """A client port, what it made, and how to come in."""

    def __init__(self, world: World, listener: Any) -> None:
        self.world = world
        self.listener = listener
        self.where = listener.getsockname()
        self.family = listener.family
        self.made: list[Recorder] = []
        self.port = ClientPort(world.loop, listener, self.make)

    def make(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]

    def connect(self) -> socket.socket:
        client = socket.socket(self.family)
        self.world.peers.append(client)
        client.connect(self.where)
        return client

    def serves(self, client: socket.socket) -> bool:
        """Whether what a client sends arrives."""
        client.sendall(b"hello")
        self.world.run_until(lambda: any(one.got == b"hello" for one in self.made))
        (served,) = [one for one in self.made if one.got == b"hello"]
        served.got.clear()
        return True


class Listener:
    """A listening socket whose `accept` fails first."""

    def __init__(self, sock: socket.socket, failures: list[int]) -> None:
        self.sock = sock
        self.failures = failures

    def accept(self) -> Any:
        if self.failures:
            raise OSError(self.failures.pop(0), "as asked for")
        return self.sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@pytest.fixture
def port(world: World) -> Iterator[Port]:
    port = Port(world, socket.create_server(("127.0.0.1", 0)))
    yield port
    port.port.close()


def test_clients_come_in_and_stay_when_nobody_else_may(world: World, port: Port) -> None:
    clients = [port.connect() for _ in range(100)]
    assert all(port.serves(client) for client in clients)
    assert port.made[0].transport.get_extra_info("socket").gettimeout() == 0
    port.port.stop_accepting()
    port.port.stop_accepting()
    assert port.listener.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        port.connect()
    assert port.serves(clients[7])
    port.port.close()
    world.run_until(lambda: all(one.lost for one in port.made))
    assert clients[7].recv(1) == b""


def test_a_port_may_be_a_path(world: World, tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "port"))
    listener.listen()
    port = Port(world, listener)
    assert port.serves(port.connect())
    port.port.close()


def test_a_connection_that_died_in_the_queue_is_passed_over(world: World) -> None:
    listener = Listener(socket.create_server(("127.0.0.1", 0)), [errno.ECONNABORTED, errno.EPROTO])
    port = Port(world, listener)
    assert port.serves(port.connect())
    port.port.close()


def test_without_descriptors_nobody_comes_in_for_a_while(
    world: World, port: Port, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.01)
    waits: list[Any] = []
    wait = ClientPort._wait
    monkeypatch.setattr(ClientPort, "_wait", lambda *what: waits.append(what) or wait(*what))
    inside, client = port.connect(), socket.socket()
    world.peers.append(client)
    assert port.serves(inside)

    async def crowd() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 20, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.dup(client.fileno()))
            client.connect(port.where)
            await world.wait(lambda: len(waits) == 3)
            inside.sendall(b"still served")
            await world.wait(lambda: port.made[0].got == b"still served")
            assert len(port.made) == 1
        finally:
            for number in taken:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    world.loop.run_until_complete(crowd())
    assert port.serves(client)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["no more clients can be let in for now: Too many open files"]


def test_closing_ends_a_pause(world: World) -> None:
    listener = Listener(socket.create_server(("127.0.0.1", 0)), [errno.ENFILE])
    port = Port(world, listener)
    port.connect()
    world.run_until(lambda: port.port._pause is not None)
    port.port.close()
    world.run_a_while()
    assert listener.fileno() == -1 and not port.made


def test_a_node_that_is_stopped_by_a_newcomer_lets_in_nobody_else(world: World, port: Port) -> None:
    port.port._protocol = lambda: Recorder(connection_made=lambda _: port.port.stop_accepting())
    first, second = port.connect(), port.connect()
    world.run_until(lambda: port.listener.fileno() == -1)
    with pytest.raises(ConnectionResetError):
        second.recv(1)
    assert len(port.port._hub) == 1
    first.close()


def test_what_cannot_be_served_is_closed(world: World, port: Port) -> None:
    def fail() -> Any:
        raise MemoryError

    port.port._protocol = fail
    client = port.connect()
    world.run_until(lambda: world.reports)
    assert client.recv(1) == b""
    port.port._protocol = port.make
    assert port.serves(port.connect())
