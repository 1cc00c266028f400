"""Disks that fail or are slow, and clocks that jump, as faults."""

from __future__ import annotations

import errno
import time
from typing import Final

from tests.process.cluster import Node, eventually
from tests.process.scene import Scene, by_name
from tests.process.shim import TORN, Knob

STOPS: Final = "this node stops"
CUT_OFF: Final = "written but never synced"
JUMP_SECONDS: Final = 3600
TTL_MS: Final = 1500
LONG_TTL_MS: Final = 60_000
LATE_SECONDS: Final = 15.0  # for a busy machine: a key that stays would stay for an hour
SLOW_SYNC_MS: Final = 150


def _stops(scene: Scene, node: Node, knob: Knob, value: int, reason: str) -> None:
    """With that fault a node stops and says why, in one line; the others go on."""
    said = len(node.text())
    scene.rig.shim(node).set(knob, value)
    assert node.process is not None
    assert node.process.wait(20) == 1, node.text()
    lines = [line for line in node.text()[said:].splitlines() if STOPS in line]
    assert len(lines) == 1, node.text()[said:]
    assert reason in lines[0], lines
    scene.progress()


def _full(scene: Scene, node: Node) -> None:
    """Every write fails: the node stops, cannot start, and can when there is room again."""
    _stops(scene, node, Knob.WRITE_ERRNO, errno.ENOSPC, "No space left on device")
    node.start()
    assert node.process is not None
    assert node.process.wait(20) == 1, node.text()
    assert "No space left on device" in node.text().splitlines()[-1], node.text()
    scene.rig.shim(node).heal()
    node.start()


def full_disk_of_leader(scene: Scene) -> None:
    _full(scene, scene.leader())


def full_disk_of_follower(scene: Scene) -> None:
    _full(scene, scene.follower())


def no_room_to_grow(scene: Scene) -> None:
    """Files cannot grow: what is in the log's ready file goes on, snapshots wait, nobody stops."""
    node = scene.dice.choice(scene.cluster.nodes)
    eventually(node.answers)
    said = len(node.text())
    shim = scene.rig.shim(node)
    shim.set(Knob.ROOM_BYTES, 100)
    eventually(
        lambda: "snapshot failed, the log is kept" in node.text()[said:],
        30,
        lambda: f"a snapshot that failed\n{node.text()[said:]}",
    )
    scene.progress()
    shim.heal()
    assert node.process is not None
    assert node.process.poll() is None, node.text()
    assert node.stop() == 0, node.text()  # it would try again after a minute only
    node.start()


def failing_sync_of_leader(scene: Scene) -> None:
    node = scene.leader()
    _stops(scene, node, Knob.SYNC_ERRNO, errno.EIO, "Input/output error")
    scene.rig.shim(node).heal()
    node.start()


def failing_sync_of_follower(scene: Scene) -> None:
    node = scene.follower()
    _stops(scene, node, Knob.SYNC_ERRNO, errno.EIO, "Input/output error")
    scene.rig.shim(node).heal()
    node.start()


def _slow(scene: Scene, nodes: list[Node], which: str) -> None:
    """Slow syncs may cost speed, but no election."""
    leader = scene.leader()
    before = eventually(leader.info)["raft_term"]
    usual = scene.writes_a_second()
    for node in nodes:
        scene.rig.shim(node).set(Knob.SYNC_MS, SLOW_SYNC_MS)
    slow = scene.writes_a_second()
    scene.progress()
    assert eventually(leader.info)["raft_term"] == before, scene.cluster.tails()
    for node in nodes:
        scene.rig.shim(node).heal()
    rates = f"{usual:.0f} -> {slow:.0f} writes a second"
    scene.notes.append(f"{SLOW_SYNC_MS} ms more for each sync of {which}: {rates}")


def slow_disk_of_leader(scene: Scene) -> None:
    _slow(scene, [scene.leader()], "the leader")


def slow_disk_of_follower(scene: Scene) -> None:
    _slow(scene, [scene.follower()], "a follower")


def slow_disks(scene: Scene) -> None:
    _slow(scene, scene.cluster.nodes, "all")


def torn_write(scene: Scene) -> None:
    """The consensus process dies in the middle of a write to its log; its next self cuts the end.

    Sometimes kill -9 takes the other process along.
    """
    node = scene.dice.choice(scene.cluster.nodes)
    child = eventually(node.consensus_pid)
    said = len(node.text())
    shim = scene.rig.shim(node)
    shim.set(Knob.TEAR, 1)
    eventually(lambda: shim.get(Knob.TEAR) == TORN, 20, "a write across a sector")
    if scene.dice.random() < 0.5:
        node.kill()
        node.start()
    eventually(lambda: node.consensus_pid() not in (0, child), 20, "a new consensus process")
    eventually(lambda: CUT_OFF in node.text()[said:], 20, lambda: node.text()[said:])
    assert STOPS not in node.text()[said:], node.text()
    shim.heal()


# Clocks


def _expires(scene: Scene, node: Node, offset_seconds: int) -> None:
    """A key lives as long as it should, or twice that where the clock went back; then it is gone.

    Behind a clock that was set back the cluster's time goes on at half speed.
    """
    key = f"ttl:{scene.dice.random()}"
    with scene.leader().client() as client:
        client.set(key, "value", px=TTL_MS)
    began = time.monotonic()
    scene.rig.shim(node).set(Knob.CLOCK_OFFSET_NS, offset_seconds * 10**9)
    for other in scene.cluster.nodes:
        eventually(
            lambda n=other: n.client().get(key) is None,
            2 * TTL_MS / 1000 + LATE_SECONDS,
            lambda n=other: f"{key} gone from node {n.nid}\n{scene.cluster.tails()}",
        )
    lived = time.monotonic() - began
    if offset_seconds < 0:
        assert lived > TTL_MS / 1000 - 0.1, f"a key of {TTL_MS} ms was gone after {lived:.2f} s"
    scene.notes.append(f"a key of {TTL_MS} ms lived {lived:.2f} s, clock {offset_seconds:+} s")


def leaders_clock_set_back(scene: Scene) -> None:
    node = scene.leader()
    _expires(scene, node, -JUMP_SECONDS)
    scene.progress()
    scene.rig.shim(node).heal()


def leaders_clock_set_forward(scene: Scene) -> None:
    """Its clock is the cluster's: keys end early. When it is corrected, none lives for ever."""
    node = scene.leader()
    _expires(scene, node, JUMP_SECONDS)
    scene.progress()
    scene.rig.shim(node).heal()
    _expires(scene, node, 0)


def followers_clock_jumps(scene: Scene) -> None:
    """The clock of a node that does not lead decides nothing."""
    leader, node = scene.leader(), scene.follower()
    term = eventually(leader.info)["raft_term"]
    key = f"ttl:{scene.dice.random()}"
    with leader.client() as client:
        client.set(key, "value", px=LONG_TTL_MS)
    for offset in (JUMP_SECONDS, -JUMP_SECONDS):
        scene.rig.shim(node).set(Knob.CLOCK_OFFSET_NS, offset * 10**9)
        scene.progress()
        scene.stall()
        held = [eventually(lambda n=other: n.client().pttl(key)) for other in scene.cluster.nodes]
        if eventually(leader.info)["raft_term"] == term:
            assert all(LONG_TTL_MS / 2 < left <= LONG_TTL_MS for left in held), held
    scene.rig.shim(node).heal()
    with leader.client() as client:
        client.delete(key)


SHIM_FAULTS: Final = by_name(
    full_disk_of_leader,
    full_disk_of_follower,
    no_room_to_grow,
    failing_sync_of_leader,
    failing_sync_of_follower,
    slow_disk_of_leader,
    slow_disk_of_follower,
    slow_disks,
    torn_write,
    leaders_clock_set_back,
    leaders_clock_set_forward,
    followers_clock_jumps,
)
