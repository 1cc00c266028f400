"""Client sockets on an epoll of their own: asyncio's promises, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import struct
from collections.abc import Iterator

import pytest
import uvloop

from pyraft_fast._hub import Transport
from tests.hub_world import BIG, Recorder, World, world_on


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_on(request.param) as world:
        yield world


# Reading and writing


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_bytes_come_and_answers_go(world: World, tcp: bool) -> None:
    def answer(protocol: Recorder) -> None:
        protocol.transport.write(bytes(protocol.got).upper())
        protocol.got.clear()

    recorder = Recorder(buffer_updated=answer)
    transport, there = world.connect(recorder, tcp)
    for words in (b"one", b"two"):
        there.sendall(words)
        world.run_until(lambda: recorder.told.count("buffer_updated"))
        assert there.recv(100) == words.upper()
        recorder.told.clear()
    assert transport.get_write_buffer_size() == 0
    assert not world.is_busy


def test_a_transport_shows_its_socket(world: World) -> None:
    transport, there = world.connect(Recorder(), tcp=True)
    sock = transport.get_extra_info("socket")
    assert sock.getpeername() == there.getsockname()
    assert transport.get_extra_info("peername") == there.getsockname()
    assert transport.get_extra_info("sockname") == there.getpeername()
    assert transport.get_extra_info("cipher", "none") == "none"
    assert transport.is_reading() and not transport.is_closing()
    sock.shutdown(socket.SHUT_RDWR)
    there.close()
    assert transport.get_extra_info("peername", "gone") == "gone"


def test_what_a_socket_does_not_take_goes_out_when_it_does(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder)
    data = bytearray(BIG)
    transport.write(data)
    data[:] = bytes(len(data))  # a copy was kept
    transport.write(b"the rest")
    unsent = transport.get_write_buffer_size()
    assert len(BIG) > unsent - len("the rest") > 0
    assert not world.is_busy, "nobody reads, so there is nothing to do"
    transport.close()
    assert world.receive_all(there) == BIG + b"the rest"


def test_a_protocol_is_paused_past_the_limit_and_goes_on_below_it(world: World) -> None:
    recorder = Recorder(resume_writing=lambda one: one.transport.write(b"more"))
    transport, there = world.connect(recorder)
    transport.set_write_buffer_limits(high=100_000, low=1000)
    while transport.get_write_buffer_size() <= 100_000:
        assert "pause_writing" not in recorder.told
        transport.write(bytes(50_000))
    transport.write(b"x")
    assert recorder.told.count("pause_writing") == 1
    there.setblocking(False)
    sizes = []

    def resumed() -> bool:
        sizes.append(transport.get_write_buffer_size())
        there.recv(4096)
        return "resume_writing" in recorder.told

    world.run_until(resumed)
    assert sizes[-2:][0] > 1000 or len(sizes) == 1
    assert recorder.told.count("resume_writing") == 1
    world.run_until(lambda: transport.get_write_buffer_size() == 0)
    assert not world.is_busy


def test_limits_are_checked(world: World) -> None:
    transport, _ = world.connect(Recorder())
    transport.set_write_buffer_limits(low=100)
    transport.set_write_buffer_limits()
    with pytest.raises(ValueError, match="low"):
        transport.set_write_buffer_limits(high=10, low=11)
    with pytest.raises(TypeError):
        transport.write("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="attach"):
        Transport(world.hub, transport.get_extra_info("socket"), None)


def test_nothing_is_read_while_paused(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder)
    transport.pause_reading()
    transport.pause_reading()
    there.sendall(b"early")
    world.run_a_while()
    assert not recorder.got and not world.is_busy and not transport.is_reading()
    transport.resume_reading()
    transport.resume_reading()
    world.run_until(lambda: recorder.got == b"early")


def test_an_end_while_paused_makes_no_loop_spin_and_shows_afterwards(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder, tcp=True)
    transport.pause_reading()
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.close()
    world.run_a_while()
    assert not world.is_busy and not recorder.lost
    transport.resume_reading()
    world.run_until(lambda: recorder.lost)
    assert isinstance(recorder.lost[0], ConnectionResetError)


def test_an_end_while_something_is_unsent_is_told(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder, tcp=True)
    transport.pause_reading()
    transport.write(BIG * 4)
    assert transport.get_write_buffer_size()
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.close()
    world.run_until(lambda: recorder.lost)
    assert isinstance(recorder.lost[0], OSError)
    assert transport.get_write_buffer_size() == 0


def test_who_floods_is_read_in_pieces_and_others_have_their_turn(world: World) -> None:
    flood, other = Recorder(room=64), Recorder()
    _, there = world.connect(flood)
    there.sendall(bytes(100_000))
    world.connect(other)[1].sendall(b"x")
    world.hub.turn()
    assert (flood.reads, other.got) == (16, b"x")
    world.run_until(lambda: len(flood.got) == 100_000)


def test_a_short_read_is_the_only_one_of_a_turn(world: World) -> None:
    recorder = Recorder()
    _, there = world.connect(recorder)
    recorder.on["buffer_updated"] = lambda _: there.sendall(b"again")
    there.sendall(b"first")
    world.hub.turn()
    assert recorder.got == b"first"
    world.hub.turn()
    assert recorder.got == b"firstagain"
    recorder.on.clear()


def test_more_sockets_than_a_turn_serves_are_all_served(world: World) -> None:
    recorders = [Recorder() for _ in range(300)]
    for recorder in recorders:
        world.connect(recorder)[1].sendall(b"x")
    world.hub.turn()
    assert sum(recorder.reads for recorder in recorders) == 256
    world.hub.turn()
    assert all(recorder.got == b"x" for recorder in recorders)


# The end of a connection


def test_close_sends_what_is_unsent_and_tells_the_end_once(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder)
    transport.write(BIG)
    transport.close()
    transport.close()
    transport.write(b"too late")
    transport.resume_reading()
    assert transport.is_closing() and not transport.is_reading()
    world.run_a_while()
    assert not recorder.lost
    assert world.receive_all(there) == BIG
    world.run_until(lambda: recorder.lost)
    assert recorder.lost == [None]
    assert len(world.hub) == 0


def test_nothing_is_read_while_it_closes(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder)
    transport.write(BIG)
    there.sendall(b"unheard")
    transport.close()
    world.run_a_while()
    assert not (recorder.got or recorder.lost or world.is_busy)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_the_end_is_told_from_the_loop(world: World, way: str) -> None:
    recorder = Recorder()
    transport, _ = world.connect(recorder)
    getattr(transport, way)()
    assert not recorder.lost
    transport.abort()
    world.run_until(lambda: recorder.lost)
    world.run_a_while()
    assert recorder.lost == [None]
    assert transport.get_extra_info("socket").fileno() == -1


def test_abort_drops_what_is_unsent(world: World) -> None:
    recorder = Recorder()
    transport, there = world.connect(recorder)
    transport.write(BIG)
    transport.abort()
    assert transport.get_write_buffer_size() == 0
    assert BIG.startswith(received := world.receive_all(there)) and len(received) < len(BIG)


def test_a_client_that_sends_no_more_is_closed(world: World) -> None:
    recorder = Recorder()
    _, there = world.connect(recorder)
    there.sendall(b"last words")
    there.shutdown(socket.SHUT_WR)
    world.run_until(lambda: recorder.lost)
    assert recorder.got == b"last words"
    assert recorder.told[-2:] == ["eof_received", "connection_lost"]
    assert recorder.lost == [None]


def test_a_client_that_sends_no_more_may_still_be_written_to(world: World) -> None:
    recorder = Recorder(eof_received=lambda _: True)
    transport, there = world.connect(recorder, tcp=True)
    there.shutdown(socket.SHUT_WR)
    world.run_until(lambda: "eof_received" in recorder.told)
    transport.resume_reading()
    world.run_a_while()
    assert recorder.told.count("eof_received") == 1
    assert not (recorder.lost or transport.is_closing() or transport.is_reading() or world.is_busy)
    transport.write(BIG)
    transport.close()
    assert world.receive_all(there) == BIG
    world.run_until(lambda: recorder.lost)


@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_protocol_may_end_it_on_the_last_word(world: World, way: str) -> None:
    recorder = Recorder(eof_received=lambda one: getattr(one.transport, way)() or True)
    _, there = world.connect(recorder)
    there.close()
    world.run_until(lambda: recorder.lost)
    world.run_a_while()
    assert recorder.lost == [None] and not world.reports


def test_a_reset_is_told_as_one(world: World) -> None:
    recorder = Recorder()
    _, there = world.connect(recorder, tcp=True)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.close()
    world.run_until(lambda: recorder.lost)
    (error,) = recorder.lost
    assert isinstance(error, ConnectionResetError) and error.errno == errno.ECONNRESET
    assert not world.reports


def test_writing_to_nobody_raises_no_signal(world: World) -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: signals.append(number))
    try:
        recorder = Recorder()
        transport, there = world.connect(recorder)
        there.close()
        transport.write(b"x")
        transport.write(b"y")
        assert not recorder.lost, "never out of a call"
        world.run_until(lambda: recorder.lost)
        assert isinstance(recorder.lost[0], BrokenPipeError)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not signals
