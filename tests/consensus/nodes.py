"""Clusters of real consensus processes, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable

from pyraft_fast.core.membership import Membership
from pyraft_fast.link import pipe
from tests.consensus.fake_serving import FakeServing, leader_of, until

Make = Callable[..., FakeServing]
NAMES = ("n1", "n2", "n3")


def make_cluster(make: Make, **settings: object) -> list[FakeServing]:
    nodes = [make(nid, **settings) for nid in NAMES]
    for node in nodes:
        node.settings["ensemble"] = [["", n.addr] for n in nodes if n is not node]
        node.start()
    until(lambda: leader_of(nodes) and voters(nodes[0]) == list(NAMES), *nodes)
    return nodes


def voters(node: FakeServing) -> list[str]:
    return [m.nid for m in Membership.decode(node.membership).voters] if node.membership else []


def address(node: FakeServing, nid: str) -> str:
    member = Membership.decode(node.membership).get(nid) if node.membership else None
    return "" if member is None else member.addr


def put(node: FakeServing, text: str, nodes: list[FakeServing]) -> None:
    node.propose(["SET", text])
    until(lambda: all(["SET", text] in n.data for n in nodes if n.child), *nodes)


def ask(node: FakeServing, nodes: list[FakeServing], kind: object, *fields: object) -> pipe.Done:
    request = node.request(kind, *fields)  # type: ignore[arg-type]
    until(lambda: request in node.done, *nodes)
    return node.done[request]
