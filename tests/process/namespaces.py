"""The same network with real packets: a namespace for each node, for those who are root.

All nodes hang on one bridge of this machine, where clients sit and see every node. A way is cut by
telling the kernel of the sending node a hardware address that nobody has: its packets are sent and
arrive nowhere. So connections hang, the kernel sends again and again, and what it still holds when
the way is open again arrives then. Needs `ip` and no packet filter.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Iterable

from tests.process.cluster import Node
from tests.process.partition import Way

NOBODY = "02:00:00:00:00:fe"


class Namespaces:
    """As `partition.Network`; a way that is held loses its packets too, but not for good."""

    def __init__(self) -> None:
        self._tag = f"{random.SystemRandom().randrange(16**4):04x}"
        self._net = f"10.{random.SystemRandom().randrange(1, 250)}.{os.getpid() % 250}"
        self._bridge = f"pf{self._tag}"
        self._cut: set[Way] = set()
        self._nids: list[str] = []
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._net}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def serve(self, node: Node) -> None:
        """Give `node`, whose id is a number, a namespace, in which it starts."""
        name, outer, inner = self._name(node.nid), f"{self._bridge}-{node.nid}", "eth0"
        _ip("netns", "add", name)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        _ip("-n", name, "link", "set", inner, "address", _hardware(node.nid))
        _ip("-n", name, "addr", "add", f"{self._host(node.nid)}/24", "dev", inner)
        _ip("link", "set", outer, "master", self._bridge, "up")
        _ip("-n", name, "link", "set", inner, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        node.host = node.bind = self._host(node.nid)
        node.launcher = ["ip", "netns", "exec", name]
        self._nids.append(node.nid)
        for way in itertools.permutations(self._nids, 2):
            if node.nid in way:
                self._show(way)

    def leave(self, nid: str) -> None:
        """That node has ended for good."""
        self._nids.remove(nid)
        _ip("netns", "del", self._name(nid))

    def cut(self, ways: Iterable[Way]) -> None:
        """Lose what is sent on these ways, whatever held before on any other."""
        before, self._cut = self._cut, set(ways)
        for way in before ^ self._cut:
            self._show(way)

    hold = cut

    def heal(self) -> None:
        """Open all ways."""
        self.cut(())

    def close(self) -> None:
        """Take everything down; the nodes must have ended."""
        for nid in list(self._nids):
            self.leave(nid)
        _ip("link", "del", self._bridge)

    def _name(self, nid: str) -> str:
        return f"{self._bridge}-{nid}"

    def _host(self, nid: str) -> str:
        return f"{self._net}.{nid}"

    def _show(self, way: Way) -> None:
        sender, receiver = way
        known = NOBODY if way in self._cut else _hardware(receiver)
        where = ["-n", self._name(sender), "neigh", "replace", self._host(receiver)]
        _ip(*where, "lladdr", known, "dev", "eth0", "nud", "permanent")


def _hardware(nid: str) -> str:
    return f"02:00:00:00:00:{int(nid):02x}"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
