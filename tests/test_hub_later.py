"""Answers that are written in a turn of the hub: which wait for the others, and none for long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from tests.hub_world import Recorder, World, world_on

LATER_MAX = 16  # of _hub
LATER_BYTES_MAX = 16384
FOREVER_NS = 1 << 62


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with world_on(request.param) as world:
        world.hub.later_ns_max = FOREVER_NS
        yield world


def ready(world: World, protocols: list[Recorder]) -> list[socket.socket]:
    """Connections that all have something to read; their other sides."""
    peers = [world.connect(protocol)[1] for protocol in protocols]
    for peer in peers:
        peer.sendall(b"?")
        peer.setblocking(False)
    return peers


def come(peer: socket.socket) -> bytes:
    """What has come by now."""
    try:
        return peer.recv(1 << 20)
    except BlockingIOError:
        return b""


def turn(
    world: World, count: int, answer: bytes, then: Callable[[Recorder], None] = lambda _: None
) -> tuple[list[socket.socket], list[int]]:
    """A turn in which `count` protocols write `answer`; how many answers each of them finds out."""
    out: list[int] = []

    def write(recorder: Recorder) -> None:
        out.append(sum(len(come_so_far(peer)) > 0 for peer in peers))
        recorder.transport.write(answer)
        then(recorder)

    peers = ready(world, [Recorder(buffer_updated=write) for _ in range(count)])
    world.hub.turn()
    return peers, out


def come_so_far(peer: socket.socket) -> bytes:
    """The same, and it stays there."""
    try:
        return peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_answers_of_a_turn_leave_together(world: World) -> None:
    peers, out = turn(world, 5, b"!")
    assert out == [0] * 5
    assert [come(peer) for peer in peers] == [b"!"] * 5
    assert not world.is_busy, "and epoll has nothing to wait for"


def test_an_answer_alone_leaves_at_once(world: World) -> None:
    seen: list[bytes] = []

    def write(recorder: Recorder) -> None:
        recorder.transport.write(b"!")
        seen.append(come(peers[0]))

    peers = ready(world, [Recorder(buffer_updated=write)])
    world.hub.turn()
    assert seen == [b"!"]


def test_what_is_written_outside_a_turn_leaves_at_once(world: World) -> None:
    recorder = Recorder()
    _, there = world.connect(recorder)
    there.setblocking(False)
    recorder.transport.write(b"!")
    assert come(there) == b"!"


def test_a_large_answer_leaves_at_once(world: World) -> None:
    _, out = turn(world, 3, bytes(LATER_BYTES_MAX + 1))
    assert out == [0, 1, 2]


def test_small_pieces_wait_until_they_are_much(world: World) -> None:
    """In the order in which they were written."""
    piece = LATER_BYTES_MAX // 2
    seen: list[bytes] = []

    def write(recorder: Recorder) -> None:
        for letter in b"abc":
            recorder.transport.write(bytes([letter]) * piece)
            seen.append(come_so_far(peers[0]) + come_so_far(peers[1]))

    peers = ready(world, [Recorder(buffer_updated=write) for _ in range(2)])
    world.hub.turn()
    assert seen[:3] == [b"", b"", b"a"], "two are as much as may wait"
    for peer in peers:
        assert come(peer) == b"a" * piece + b"b" * piece + b"c" * piece


def test_not_too_many_wait(world: World) -> None:
    peers, out = turn(world, LATER_MAX + 3, b"!")
    assert out == [0] * LATER_MAX + [LATER_MAX] * 3
    assert [come(peer) for peer in peers] == [b"!"] * (LATER_MAX + 3)


def test_none_waits_for_what_is_slow(world: World) -> None:
    world.hub.later_ns_max = -1  # everything takes longer
    _, out = turn(world, 3, b"!")
    assert out == [0, 1, 2]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_who_ends_its_connection_has_answered_before(world: World, end: str) -> None:
    peers, _ = turn(world, 3, b"!", lambda recorder: getattr(recorder.transport, end)())
    assert [world.receive_all(peer) for peer in peers] == [b"!"] * 3
    assert len(world.hub) == 0


def test_a_hub_that_is_closed_in_its_turn_has_sent_the_answers(world: World) -> None:
    count = 0

    def close_at_last(_: Recorder) -> None:
        nonlocal count
        count += 1
        if count == 3:
            world.hub.close()

    peers, _ = turn(world, 3, b"!", close_at_last)
    assert [come(peer) for peer in peers] == [b"!"] * 3


def test_who_reads_slowly_gets_the_rest_later(world: World) -> None:
    answer = bytes(LATER_BYTES_MAX)

    def shrink(recorder: Recorder) -> None:
        sock = recorder.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    recorders = [
        Recorder(connection_made=shrink, buffer_updated=lambda one: one.transport.write(answer))
        for _ in range(2)
    ]
    peers = ready(world, recorders)
    world.hub.turn()
    assert [one.transport.get_write_buffer_size() > 0 for one in recorders] == [True, True]
    for one in recorders:
        one.transport.close()
    assert [world.receive_all(peer) for peer in peers] == [answer, answer]


def test_who_is_gone_is_no_other_ones_affair(world: World) -> None:
    recorders = [Recorder(buffer_updated=lambda one: one.transport.write(b"!")) for _ in range(2)]
    peers = ready(world, recorders)
    peers[0].close()
    world.hub.turn()
    assert come(peers[1]) == b"!"
    world.run_until(lambda: recorders[0].lost)
    assert not recorders[1].lost and not world.reports


@pytest.mark.parametrize("size", [10, LATER_BYTES_MAX - 5, LATER_BYTES_MAX + 1])
def test_what_a_callback_writes_comes_behind_what_made_it_write(world: World, size: int) -> None:
    """A protocol with little room is paused by the first bytes, and told to go on in the second."""

    def write(recorder: Recorder) -> None:
        recorder.transport.set_write_buffer_limits(high=1)
        recorder.transport.write(b"1" * 10)
        recorder.transport.write(b"2" * size)

    def go_on(recorder: Recorder) -> None:
        if recorder.told.count("resume_writing") == 1:
            recorder.transport.write(b"3")

    recorders = [Recorder(buffer_updated=write, resume_writing=go_on) for _ in range(2)]
    peers = ready(world, recorders)
    world.hub.turn()
    for peer in peers:
        assert come(peer) == b"1" * 10 + b"2" * size + b"3"


def test_nothing_follows_an_end_in_a_callback(world: World) -> None:
    def write(recorder: Recorder) -> None:
        recorder.transport.set_write_buffer_limits(high=1)
        recorder.transport.write(b"1" * 10)
        recorder.transport.write(b"2" * LATER_BYTES_MAX)
        recorder.transport.write(b"3")

    recorders = [
        Recorder(buffer_updated=write, resume_writing=lambda one: one.transport.abort())
        for _ in range(2)
    ]
    peers = ready(world, recorders)
    world.hub.turn()
    for peer in peers:
        assert world.receive_all(peer) == b"1" * 10 + b"2" * LATER_BYTES_MAX
    assert len(world.hub) == 0 and not world.is_busy
