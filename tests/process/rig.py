"""A cluster whose network can be cut, and whose nodes have disks and clocks that misbehave."""

from __future__ import annotations

from pathlib import Path

from tests.process.cluster import Cluster, Node
from tests.process.namespaces import Namespaces
from tests.process.partition import Network
from tests.process.shim import Shim


class Rig(Cluster):
    """As a Cluster, started and cleaned up in the same way. The network is its own from then on."""

    def __init__(
        self, folder: Path, count: int, network: Network | Namespaces | None = None
    ) -> None:
        super().__init__(folder, count)
        self.folder = folder
        self.added = 0
        self.network = network or Network()
        self.shims: dict[str, Shim] = {}
        for node in self.nodes:
            self._fit(node)

    def _fit(self, node: Node) -> None:
        self.network.serve(node)
        self.shims[node.nid] = Shim(node, self.folder / f"shim-{node.nid}")

    def shim(self, node: Node) -> Shim:
        """The disk and clock of a node."""
        return self.shims[node.nid]

    def add(self) -> Node:
        """One more node, which joins through those that run."""
        nid = str(max(int(node.nid) for node in self.nodes) + 1)
        self.added += 1
        node = Node(nid, self.folder / f"n{nid}-{self.added}")
        self._fit(node)
        flags = self.nodes[0].flags
        others = ",".join(f"{other.nid}/{other.addr}" for other in self.nodes)
        node.start("-e", others, *flags[2:])
        self.nodes.append(node)
        return node

    def drop(self, node: Node) -> None:
        """A node that is no member any more ends for good."""
        self.nodes.remove(node)
        node.cleanup()
        self.network.leave(node.nid)

    def cleanup(self) -> None:
        super().cleanup()
        self.network.close()
