"""What is done to real processes while clients write: one function a fault, as `scene.Fault`."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from typing import Final

import redis

from tests.process.cluster import Node, alive, children_of, eventually, moment
from tests.process.scene import Scene, by_name

LOG_KEPT_ENTRIES: Final = 1100  # more than a node keeps of its log behind a snapshot
DISK_FULL_AT: Final = 4096  # bytes of a file
TAKEN_IN: Final = " taken in by cluster "  # in the line a new member writes
INSTALLED: Final = " received from "  # in the line a node writes for a snapshot from another


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """SIGSTOP now, SIGCONT at the end."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _kill_consensus(scene: Scene, node: Node) -> None:
    pid = eventually(node.consensus_pid, 20, f"a consensus process of node {node.nid}")
    moment(scene.dice)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: node.consensus_pid() not in (0, pid), 20, f"a new child of node {node.nid}")


def _kill_serving(scene: Scene, node: Node) -> None:
    """Only the serving process; the other has to notice by itself."""
    child = eventually(node.consensus_pid)
    assert node.process is not None
    moment(scene.dice)
    node.process.kill()
    node.process.wait(10)
    eventually(lambda: not alive(child), 5, f"consensus process {child} of {node.nid} gone")
    node.start()


def kill_leader(scene: Scene) -> None:
    node = scene.leader()
    moment(scene.dice)
    node.kill()
    scene.progress()
    node.start()


def kill_follower(scene: Scene) -> None:
    node = scene.follower()
    moment(scene.dice)
    node.kill()
    scene.progress()
    node.start()


def kill_two(scene: Scene) -> None:
    """One after the other; then there is no majority until they are back."""
    pair = scene.dice.sample(scene.cluster.nodes, 2)
    for node in pair:
        moment(scene.dice)
        node.kill()
    for node in pair:
        node.start()


def kill_all(scene: Scene) -> None:
    moment(scene.dice)
    for node in scene.cluster.nodes:
        os.kill(node.pid, signal.SIGKILL)
    for node in scene.cluster.nodes:
        node.kill()
    for node in scene.cluster.nodes:
        node.start()


def kill_leaders_consensus(scene: Scene) -> None:
    _kill_consensus(scene, scene.leader())


def kill_followers_consensus(scene: Scene) -> None:
    _kill_consensus(scene, scene.follower())


def kill_every_consensus(scene: Scene) -> None:
    for node in scene.cluster.nodes:
        _kill_consensus(scene, node)


def kill_leaders_serving(scene: Scene) -> None:
    _kill_serving(scene, scene.leader())


def kill_followers_serving(scene: Scene) -> None:
    _kill_serving(scene, scene.follower())


def stop_leaders_consensus(scene: Scene) -> None:
    node = scene.leader()
    with stopped(eventually(node.consensus_pid)):
        scene.progress()
        scene.stall()


def stop_leaders_serving(scene: Scene) -> None:
    with stopped(scene.leader().pid):
        scene.progress()
        scene.stall()


def stop_leader(scene: Scene) -> None:
    node = scene.leader()
    with stopped(node.pid, eventually(node.consensus_pid)):
        scene.progress()
        scene.stall()


def stop_follower(scene: Scene) -> None:
    node = scene.follower()
    child = eventually(node.consensus_pid)
    with stopped(*scene.dice.choice([[node.pid], [child], [node.pid, child]])):
        scene.progress()
        scene.stall()


def stop_followers(scene: Scene) -> None:
    """Both of them: nothing can be committed until they are back."""
    leader = scene.leader()
    pids = [eventually(n.consensus_pid) for n in scene.cluster.nodes if n is not leader]
    with stopped(*pids):
        scene.stall()


def restart_each(scene: Scene) -> None:
    """A rolling restart, as for an upgrade."""
    for node in scene.dice.sample(scene.cluster.nodes, len(scene.cluster.nodes)):
        eventually(node.answers)  # before, it may not have heard of signals yet
        assert node.stop() == 0, node.text()
        node.start()
        eventually(lambda n=node: n.client().get("x") is None, 20)


def wipe_follower(scene: Scene) -> None:
    """A follower loses its files and starts over: no voter at first, one again when caught up."""
    node = scene.follower()
    writers = [pid for pid in children_of(node.pid) if pid != node.consensus_pid()]
    node.kill()
    eventually(lambda: not any(alive(pid) for pid in writers), 10, "no snapshot is being written")
    start_over(scene, node)


def start_over(scene: Scene, node: Node) -> None:
    """Empty the folder of a node that has ended, start it, and see it vote again."""
    shutil.rmtree(node.folder)
    node.folder.mkdir()
    begun = node.text().count(TAKEN_IN)
    node.start()
    eventually(lambda: node.text().count(TAKEN_IN) > begun, 30, f"node {node.nid} taken in")
    scene.voters(len(scene.cluster.nodes))


def move_leadership(scene: Scene) -> None:
    """A few times, by command."""
    for _ in range(3):
        leader, heir = scene.leader(), scene.follower()
        with leader.client() as client, contextlib.suppress(redis.RedisError):
            client.execute_command("RAFT", "TRANSFER", heir.nid)
        scene.progress()


def _fill_disk(scene: Scene, node: Node) -> None:
    """The consensus process may write no further into its log: the node stops and says why."""
    said = len(node.text())
    child = eventually(node.consensus_pid)
    resource.prlimit(child, resource.RLIMIT_FSIZE, (DISK_FULL_AT, resource.RLIM_INFINITY))
    assert node.process is not None
    assert node.process.wait(20) == 1, node.text()
    stops = [line for line in node.text()[said:].splitlines() if "this node stops" in line]
    assert len(stops) == 1, node.text()[said:]
    assert "File too large" in stops[0], stops
    scene.progress()
    node.start()


def fill_disk_of_leader(scene: Scene) -> None:
    _fill_disk(scene, scene.leader())


def fill_disk_of_follower(scene: Scene) -> None:
    _fill_disk(scene, scene.follower())


def lag_behind_log(scene: Scene) -> None:
    """A follower is away until the others have forgotten what it lacks: it needs a snapshot."""
    node = scene.follower()
    eventually(node.answers)
    node.kill()
    others = scene.cluster.running()
    end = max(eventually(lambda o=other: int(o.info()["raft_applied_index"])) for other in others)
    eventually(
        lambda: all(
            int(other.info()["raft_snapshot_index"]) > end + LOG_KEPT_ENTRIES for other in others
        ),
        30,
        lambda: f"a log that begins behind {end}\n{scene.cluster.tails()}",
    )
    installs = node.text().count(INSTALLED)
    node.start()
    eventually(lambda: node.text().count(INSTALLED) > installs, 30, "a snapshot install")


FAULTS: Final = by_name(
    kill_leader,
    kill_follower,
    kill_two,
    kill_all,
    kill_leaders_consensus,
    kill_followers_consensus,
    kill_every_consensus,
    kill_leaders_serving,
    kill_followers_serving,
    stop_leaders_consensus,
    stop_leaders_serving,
    stop_leader,
    stop_follower,
    stop_followers,
    restart_each,
    move_leadership,
    wipe_follower,
    fill_disk_of_leader,
    fill_disk_of_follower,
    lag_behind_log,
)
