"""A cluster whose network can be cut: every node stands behind a proxy of its own."""

from __future__ import annotations

from pathlib import Path

from tests.process.cluster import Cluster, Node
from tests.process.partition import Network

FIRST_HOST = 11  # of 127.0.0.0/24


class Rig(Cluster):
    """As a Cluster, started and cleaned up in the same way."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self.folder = folder
        self.network = Network()
        for node in self.nodes:
            self._fit(node)

    def _fit(self, node: Node) -> None:
        self.network.serve(node, f"127.0.0.{FIRST_HOST + int(node.nid)}")

    def cleanup(self) -> None:
        super().cleanup()
        self.network.close()
