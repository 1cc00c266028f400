"""Partitions, as faults: what they cut, and what must hold while they last.

Everywhere: the side with a majority goes on, the other refuses in time and in so many words, and
what a client was told is judged with everything else.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import redis

from tests.process.cluster import Node, eventually
from tests.process.history import told
from tests.process.partition import Way, both, isolate
from tests.process.scene import ANSWER_SECONDS_MAX, Scene, by_name

FLAP_SECONDS: Final = (0.05, 0.3)
BACK_SECONDS: Final = 10.0  # writes must be acknowledged again, where a majority is connected


@contextlib.contextmanager
def cut(scene: Scene, ways: Iterable[Way]) -> Iterator[None]:
    """These ways swallow what is sent, until the end of the block."""
    scene.network.cut(ways)
    try:
        yield
    finally:
        scene.network.heal()


def names(scene: Scene) -> list[str]:
    """The ids of all nodes."""
    return [node.nid for node in scene.cluster.nodes]


def others(scene: Scene, *ones: Node) -> list[Node]:
    """The nodes that are none of these."""
    return [node for node in scene.cluster.nodes if node not in ones]


def term(node: Node) -> int:
    """The term that a node has reached."""
    return int(eventually(node.info)["raft_term"])


def refusal(node: Node, words: Sequence[str]) -> None:
    """See a command refused in time; AssertionError when it is answered, or only late."""
    began = time.monotonic()
    with node.client() as client:
        try:
            answer = client.execute_command(*words)
        except redis.RedisError as error:
            assert not isinstance(error, redis.TimeoutError), f"no answer to {words}: {error}"
            told(error)
        else:
            raise AssertionError(f"node {node.nid} alone answered {words}: {answer!r}")
    seconds = time.monotonic() - began
    assert seconds < ANSWER_SECONDS_MAX, f"node {node.nid}: {words} took {seconds:.1f} s"


def refuses(nodes: Sequence[Node]) -> None:
    """Nodes without a majority take no write and answer no linearizable read."""
    asked = [
        (node, words) for node in nodes for words in (("SET", "alone", node.nid), ("GET", "alone"))
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(lambda one: refusal(*one), asked))


def cut_leader(scene: Scene) -> None:
    """The leader is alone: the others have a new one soon, and it serves nobody meanwhile."""
    leader = scene.leader()
    with cut(scene, isolate(leader.nid, names(scene))):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()
        refuses([leader])


def cut_follower(scene: Scene) -> None:
    """A follower is alone. When it returns it must not depose the leader: that is PreVote."""
    node = scene.follower()
    with cut(scene, isolate(node.nid, names(scene))):
        alone = term(node)
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()
        refuses([node])
        assert term(node) == alone, f"node {node.nid} raised its term while it was alone"
        leading = eventually(lambda: _leader_among(others(scene, node)))
        before = term(leading)
    healed = time.monotonic()
    eventually(
        lambda: node.info()["raft_leader_id"] == leading.nid,
        BACK_SECONDS,
        lambda: f"node {node.nid} follows {leading.nid} again\n{scene.cluster.tails()}",
    )
    eventually(lambda: node.client().get("x") is None, BACK_SECONDS)
    scene.notes.append(f"serves {time.monotonic() - healed:.2f} s after the cut")
    scene.progress()
    assert (term(leading), leading.role()) == (before, "leader"), scene.cluster.tails()


def _leader_among(nodes: Iterable[Node]) -> Node | None:
    return next((node for node in nodes if node.role() == "leader"), None)


def cut_minority(scene: Scene) -> None:
    """As many nodes as can be missed, with the leader or without, see only each other."""
    nodes = scene.cluster.nodes
    size = (len(nodes) - 1) // 2
    few = [node.nid for node in scene.dice.sample(nodes, size)]
    rest = [node.nid for node in nodes if node.nid not in few]
    with cut(scene, both(few, rest)):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def cut_everybody(scene: Scene) -> None:
    """Nobody sees anybody: nothing can be written or read anywhere."""
    ways = [way for nid in names(scene) for way in isolate(nid, names(scene))]
    with cut(scene, ways):
        eventually(lambda: _leader_among(scene.cluster.nodes) is None, BACK_SECONDS)
        refuses(scene.cluster.nodes)
        scene.stall()


def leader_hears_nobody(scene: Scene) -> None:
    """Its heartbeats still arrive, but no answer does: it must step down by itself."""
    leader = scene.leader()
    with cut(scene, [(node.nid, leader.nid) for node in others(scene, leader)]):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def nobody_hears_leader(scene: Scene) -> None:
    leader = scene.leader()
    with cut(scene, [(leader.nid, node.nid) for node in others(scene, leader)]):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def follower_hears_nobody(scene: Scene) -> None:
    """It asks for votes again and again; the others have a leader and refuse."""
    node = scene.follower()
    with cut(scene, [(other.nid, node.nid) for other in others(scene, node)]):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def nobody_hears_follower(scene: Scene) -> None:
    node = scene.follower()
    with cut(scene, [(node.nid, other.nid) for other in others(scene, node)]):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def bridge(scene: Scene) -> None:
    """Two sides that see only one common node; the leader may be any of them."""
    nodes = scene.dice.sample(names(scene), len(names(scene)))
    half = len(nodes) // 2
    with cut(scene, both(nodes[:half], nodes[half + 1 :])):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def bridge_around_leader(scene: Scene) -> None:
    """The leader loses sight of a follower that another follower still sees."""
    leader, node = scene.leader(), scene.follower()
    with cut(scene, both([leader.nid], [node.nid])):
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()


def flapping(scene: Scene) -> None:
    """Other ways are cut every moment."""
    everywhere = list(itertools.permutations(names(scene), 2))
    until = time.monotonic() + 2 * scene.dice.uniform(*scene.stall_seconds)
    while time.monotonic() < until:
        ways = scene.dice.sample(everywhere, scene.dice.randint(0, len(everywhere) // 2))
        change = time.monotonic() + scene.dice.uniform(*FLAP_SECONDS)
        with cut(scene, ways):
            eventually(lambda moment=change: time.monotonic() >= moment)


def delay_leader(scene: Scene) -> None:
    """What the leader says, or is told, arrives after its time is over."""
    leader = scene.leader()
    ways = isolate(leader.nid, names(scene))
    said = [way for way in ways if way[0] == leader.nid]
    scene.network.hold(scene.dice.choice([ways, said]))
    try:
        scene.progress(seconds=BACK_SECONDS)
        scene.stall()
    finally:
        scene.network.heal()


def restart_while_cut(scene: Scene) -> None:
    """A node is killed and started again while it sees nobody."""
    node = scene.dice.choice(scene.cluster.nodes)
    with cut(scene, isolate(node.nid, names(scene))):
        scene.progress(seconds=BACK_SECONDS)
        node.kill()
        node.start()
        eventually(node.answers)
        scene.progress()
        scene.stall()


PARTITIONS: Final = by_name(
    cut_leader,
    cut_follower,
    cut_minority,
    cut_everybody,
    leader_hears_nobody,
    nobody_hears_leader,
    follower_hears_nobody,
    nobody_hears_follower,
    bridge,
    bridge_around_leader,
    flapping,
    delay_leader,
    restart_while_cut,
)
