"""Files that rot while a node is down, as faults: it must notice, and the cluster must not care."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.process.cluster import Node, eventually
from tests.process.faults import start_over
from tests.process.scene import Scene, by_name


def flip_bit(scene: Scene, path: Path) -> None:
    """Change one bit of a byte that is not zero: zeros may be padding, which nobody reads."""
    data = bytearray(path.read_bytes())
    used = len(data.rstrip(b"\0"))
    place = scene.dice.randrange(used)
    while not data[place]:
        place -= 1
    data[place] ^= 1 << scene.dice.randrange(8)
    path.write_bytes(data)


def _ended(scene: Scene) -> Node:
    """A follower that has ended, in order or not."""
    node = scene.follower()
    eventually(lambda: list(node.folder.glob("*.dat")) and node.answers(), 30, "a snapshot")
    if scene.dice.random() < 0.5:
        node.kill()
    else:
        assert node.stop() == 0, node.text()
    return node


def bit_flip_in_log(scene: Scene) -> None:
    """The node names the file and does not start; without its files it starts over."""
    node = _ended(scene)
    path = max(node.folder.glob("*.log"), key=lambda path: path.name)
    flip_bit(scene, path)
    said = len(node.text())
    node.start()
    assert node.process is not None
    assert node.process.wait(20) == 1, node.text()[said:]
    assert path.name in node.text()[said:].splitlines()[-1], node.text()[said:]
    scene.progress()
    start_over(scene, node)


def bit_flip_in_snapshot(scene: Scene) -> None:
    """The node names the file; it goes on from an older one where the log reaches back so far."""
    node = _ended(scene)
    path = max(node.folder.glob("*.dat"), key=lambda path: int(path.stem.split("_")[-1]))
    flip_bit(scene, path)
    said = len(node.text())
    node.start()
    assert node.process is not None

    def settled() -> bool:
        assert node.process is not None
        return node.process.poll() is not None or node.role() in ("leader", "follower")

    eventually(settled, 20, lambda: node.text()[said:])
    assert path.name in node.text()[said:], node.text()[said:]
    scene.progress()
    if node.process.poll() is not None:
        assert node.process.returncode == 1
        scene.notes.append(f"{path.name}: the node stopped")
        start_over(scene, node)
    else:
        scene.notes.append(f"{path.name}: the node went on from an older snapshot")


DAMAGES: Final = by_name(bit_flip_in_log, bit_flip_in_snapshot)
