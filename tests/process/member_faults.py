"""Nodes that come and go under load, as faults, and orderly restarts of all."""

from __future__ import annotations

import contextlib
import signal
from typing import Final

import redis

from tests.process.cluster import Node, eventually
from tests.process.faults import start_over
from tests.process.scene import Scene, by_name


def _remove(scene: Scene, node: Node) -> None:
    """Ask until it is done; an answer may be lost, and the leader may change."""

    def gone() -> bool:
        other = scene.dice.choice([other for other in scene.cluster.nodes if other is not node])
        if node.nid not in other.info()["raft_voters"].split(","):
            return True
        with other.client() as client, contextlib.suppress(redis.ResponseError):
            client.execute_command("RAFT", "NODE", "REMOVE", node.nid)
        return False

    eventually(gone, 30, lambda: f"node {node.nid} removed\n{scene.cluster.tails()}")


def add_and_remove(scene: Scene) -> None:
    """A node joins, is given leadership or not, and leaves again."""
    count = len(scene.cluster.nodes)
    node = scene.rig.add()
    scene.voters(count + 1)
    scene.progress()
    if scene.dice.random() < 0.5:
        with scene.leader().client() as client, contextlib.suppress(redis.RedisError):
            client.execute_command("RAFT", "TRANSFER", node.nid)
    scene.progress()
    _remove(scene, node)
    scene.rig.drop(node)
    scene.voters(count)
    scene.progress()


def replace_leader(scene: Scene) -> None:
    """The leader is removed and comes back as a new node."""
    node = scene.leader()
    _remove(scene, node)
    scene.progress()
    assert node.stop() == 0, node.text()
    start_over(scene, node)


def restart_all(scene: Scene) -> None:
    """SIGTERM for all at once."""
    for node in scene.cluster.nodes:
        eventually(node.answers)
    for node in scene.cluster.nodes:
        node.send(signal.SIGTERM)
    for node in scene.cluster.nodes:
        assert node.process is not None
        status = node.process.wait(10)  # no second signal: it would end what is ending
        assert status == 0, f"{status}: {node.text()}"
    for node in scene.cluster.nodes:
        node.start()


MEMBERSHIPS: Final = by_name(add_and_remove, replace_leader, restart_all)
