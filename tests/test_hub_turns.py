"""Many sockets on one hub: a fault, an end or a descriptor of one is no other one's affair."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from pyraft_fast._hub import Hub
from tests.hub_world import BIG, Recorder, World, fail, tcp_pair, world_on


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_on(request.param) as world:
        yield world


# What protocols raise


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
@pytest.mark.parametrize("name", ["get_buffer", "buffer_updated", "eof_received"])
def test_who_raises_while_reading_is_ended_alone(
    world: World, name: str, error: BaseException
) -> None:
    def raising(_: Recorder) -> None:
        raise error

    bad, good = Recorder(**{name: raising}), Recorder()
    (_, one), (_, two) = world.connect(bad), world.connect(good)
    if name == "eof_received":
        one.close()
    else:
        one.sendall(b"x")
    two.sendall(b"y")
    world.run_until(lambda: bad.lost and good.got)
    assert bad.lost == [error]
    assert [report["exception"] for report in world.reports] == [error]
    assert name in world.reports[0]["message"] and world.reports[0]["protocol"] is bad
    assert not good.lost


def test_an_empty_buffer_is_a_fault_of_the_protocol(world: World) -> None:
    recorder = Recorder(room=0)
    world.connect(recorder)[1].sendall(b"x")
    world.run_until(lambda: recorder.lost)
    assert "empty buffer" in str(world.reports[0]["exception"])


def test_who_raises_at_the_beginning_is_ended(world: World) -> None:
    recorder = Recorder(connection_made=fail)
    transport, there = world.connect(recorder)
    assert transport.is_closing()
    assert world.receive_all(there) == b""
    assert len(world.reports) == 1 and len(recorder.lost) == 1


def test_who_raises_about_writing_is_only_reported(world: World) -> None:
    recorder = Recorder(pause_writing=fail, resume_writing=fail, connection_lost=fail)
    transport, there = world.connect(recorder)
    transport.write(BIG)
    transport.close()
    assert world.receive_all(there) == BIG
    world.run_until(lambda: len(world.reports) == 3)
    assert len(world.hub) == 0, "the socket is given back all the same"


# Several in one turn


def test_a_connection_that_another_one_ends_is_not_served_in_that_turn(world: World) -> None:
    """CLIENT KILL of a client whose command is ready, too."""

    def kill_others(killer: Recorder) -> None:
        for one in recorders:
            if one is not killer:
                one.transport.abort()

    recorders = [Recorder(buffer_updated=kill_others) for _ in range(5)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"x")
    world.hub.turn()
    assert sum(recorder.reads for recorder in recorders) == 1
    world.run_until(lambda: sum(len(recorder.lost) for recorder in recorders) == 4)
    assert len(world.hub) == 1


def test_a_stale_event_reaches_no_new_connection(world: World) -> None:
    """Two are ready. The first ends the other, and opens new ones before the turn is over."""
    fresh = [Recorder() for _ in range(20)]

    def replace(killer: Recorder) -> None:
        (victim,) = [one for one in recorders if one is not killer]
        victim.on.clear()
        numbers.append(victim.transport.get_extra_info("socket").fileno())
        victim.transport.abort()
        victim.transport = None
        gc.collect()
        for one in fresh:
            transport, there = world.connect(one)
            numbers.append(transport.get_extra_info("socket").fileno())
            there.sendall(b"later")

    numbers: list[int] = []
    recorders = [Recorder(buffer_updated=replace) for _ in range(2)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"x")
    world.hub.turn()
    assert len(set(numbers)) == 21, "no number is taken anew in a turn"
    assert not any(one.reads for one in fresh)
    assert sum(recorder.reads for recorder in recorders) == 1
    world.run_until(lambda: all(one.got == b"later" for one in fresh))


def test_a_number_that_is_taken_anew_belongs_to_the_new_connection(world: World) -> None:
    old, new = Recorder(), Recorder()
    here, peer = socket.socketpair()
    world.peers.append(peer)
    transport, there = world.connect(old)
    number = transport.get_extra_info("socket").fileno()
    there.sendall(b"unread")
    transport.abort()
    world.run_until(lambda: old.lost)
    moved = socket.socket(fileno=os.dup2(here.fileno(), number))
    here.close()
    moved.setblocking(False)
    world.hub.attach(moved, new)
    peer.sendall(b"mine")
    world.run_until(lambda: new.got == b"mine")
    transport.abort()
    transport.close()
    world.run_a_while()
    assert not (old.got or new.lost) and len(old.lost) == 1


def test_a_pause_by_another_one_counts_at_once(world: World) -> None:
    def pause_all(_: Recorder) -> None:
        for one in recorders:
            one.transport.pause_reading()

    recorders = [Recorder(room=1, buffer_updated=pause_all) for _ in range(3)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"xyz")
    world.hub.turn()
    assert sum(recorder.reads for recorder in recorders) == 1
    assert not world.is_busy


def test_a_turn_in_a_turn_does_nothing(world: World) -> None:
    recorders = [Recorder(buffer_updated=lambda _: world.hub.turn()) for _ in range(2)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"x")
    world.hub.turn()
    assert [recorder.reads for recorder in recorders] == [1, 1]


# The hub


def test_closing_the_hub_ends_all(world: World) -> None:
    recorders = [Recorder() for _ in range(3)]
    peers = [world.connect(recorder)[1] for recorder in recorders]
    recorders[0].transport.write(BIG)
    number = world.hub.fileno()
    world.hub.close()
    world.hub.close()
    assert world.hub.fileno() == -1
    with pytest.raises(OSError):
        os.fstat(number)
    with pytest.raises(RuntimeError, match="closed"):
        world.hub.attach(peers[0], Recorder())
    world.hub.turn()
    assert not any(recorder.lost for recorder in recorders)
    world.run_until(lambda: all(recorder.lost == [None] for recorder in recorders))
    assert len(world.hub) == 0


def test_the_hub_may_be_closed_in_its_own_turn(world: World) -> None:
    recorders = [Recorder(buffer_updated=lambda _: world.hub.close()) for _ in range(3)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"x")
    world.hub.turn()
    assert sum(recorder.reads for recorder in recorders) == 1
    world.run_until(lambda: all(recorder.lost == [None] for recorder in recorders))


def test_nothing_is_left_of_a_connection(world: World) -> None:
    before = len(os.listdir("/proc/self/fd"))
    seen = []
    for _ in range(20):
        recorder = Recorder()
        transport, there = world.connect(recorder)
        seen += [weakref.ref(transport), weakref.ref(recorder)]
        there.close()
        world.run_until(lambda one=recorder: one.lost)
    del recorder, transport
    gc.collect()
    assert not [one for one in seen if one() is not None]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_hub_nobody_closed_gives_its_descriptor_back() -> None:
    loop: Any = type("Loop", (), {"add_reader": lambda *_: None})()
    hub = Hub(loop)
    number = hub.fileno()
    os.fstat(number)
    del hub
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(number)


def test_a_descriptor_closed_by_somebody_else_ends_only_itself(world: World) -> None:
    bad, good = Recorder(), Recorder()
    transport, _ = world.connect(bad)
    _, there = world.connect(good)
    transport.get_extra_info("socket").close()
    transport.write(b"x")
    there.sendall(b"y")
    world.run_until(lambda: bad.lost and good.got)
    assert isinstance(bad.lost[0], OSError) and bad.lost[0].errno == errno.EBADF


def test_a_socket_that_epoll_does_not_take_is_ended(world: World) -> None:
    recorder = Recorder()
    here, there = tcp_pair()
    there.close()
    make: Callable[[], Any] = here.close
    recorder.on["connection_made"] = lambda _: make()
    transport = world.hub.attach(here, recorder)
    assert transport.is_closing()
    world.run_until(lambda: recorder.lost)
    assert isinstance(recorder.lost[0], OSError)
