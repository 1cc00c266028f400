"""Who a node is to other nodes, and the greeting in which it says so.

A name (`nid`) may be given to another machine later and an address may move, so neither proves
anything: a node is its incarnation, drawn at random when its files are made, inside a cluster with
a random id. A link carries messages only after both sides agreed on all of these.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, NamedTuple, Protocol

from pyraft_fast._wire import VERSION, Frame
from pyraft_fast.consensus.frames import MAGIC, Fields
from pyraft_fast.errors import ProtocolError

INCARNATION_MAX: Final = 2**32 - 1

# Why a greeting was refused. Only "removed" is for ever; the others are tried again.
REFUSED_CLUSTER: Final = "cluster"
REFUSED_NODE: Final = "node"
REFUSED_REMOVED: Final = "removed"
REFUSED_VERSION: Final = "version"
REFUSED_JOINING: Final = "joining"


class Identity(NamedTuple):
    """A node as others must know it. `cluster` and `incarnation` are 0 while it has none."""

    cluster: int
    nid: str
    addr: str
    incarnation: int


class Hello(NamedTuple):
    """The first frame of a link: who calls, and whom it believes to call."""

    caller: Identity
    to_nid: str
    to_incarnation: int

    def header(self) -> dict[str, object]:
        """The fields as they are sent."""
        return {
            "magic": MAGIC,
            "version": VERSION,
            "cluster": self.caller.cluster,
            "nid": self.caller.nid,
            "addr": self.caller.addr,
            "incarnation": self.caller.incarnation,
            "to_nid": self.to_nid,
            "to_incarnation": self.to_incarnation,
        }


def read_hello(header: object) -> Hello:
    """The greeting in a received header; raises ProtocolError when it is none."""
    fields = Fields(header, "a greeting")
    if fields.text("magic") != MAGIC:
        raise ProtocolError("a greeting from something that is not a pyraft-fast node")
    if fields.number("version") != VERSION:
        raise ProtocolError(
            f"a peer speaks version {fields.number('version')}, this node {VERSION}"
        )
    caller = Identity(
        fields.number("cluster"),
        fields.text("nid", 512),
        fields.text("addr", 512),
        fields.number("incarnation", INCARNATION_MAX),
    )
    return Hello(caller, fields.text("to_nid", 512), fields.number("to_incarnation"))


class Refusal(NamedTuple):
    """Why a greeting is not accepted: one of the REFUSED_ words, and a sentence for people."""

    code: str
    reason: str


def judge_hello(me: Identity, hello: Hello, removed: tuple[int, ...]) -> Refusal | None:
    """Decide whether `hello` may open a link to `me`; None means yes.

    `removed` holds the incarnations that were voted out of the cluster.
    """
    caller = hello.caller
    if me.cluster == 0:
        return Refusal(REFUSED_JOINING, f"node {me.nid} belongs to no cluster yet")
    if caller.cluster != me.cluster:
        return Refusal(
            REFUSED_CLUSTER,
            f"node {me.nid} at {me.addr} belongs to another cluster ({me.cluster:016x}) "
            f"than node {caller.nid} ({caller.cluster:016x}); node {caller.nid} can join it after "
            "its folder is emptied",
        )
    if hello.to_nid != me.nid:
        return Refusal(REFUSED_NODE, f"this is node {me.nid}, not {hello.to_nid}")
    if caller.incarnation in removed:
        return Refusal(
            REFUSED_REMOVED,
            f"node {caller.nid} was removed from the cluster; node {me.nid} says so",
        )
    if hello.to_incarnation not in (0, me.incarnation):
        return Refusal(
            REFUSED_NODE, f"node {me.nid} was set up anew since node {caller.nid} heard of it"
        )
    if caller.nid == me.nid:
        return Refusal(REFUSED_NODE, f"node {me.nid} does not talk to itself")
    return None


class PeerHost(Protocol):
    """What the links ask of the node they serve. No method may block or wait for the disk."""

    @property
    def identity(self) -> Identity:
        """This node, as it is known now."""
        ...

    def judge(self, hello: Hello) -> Refusal | None:
        """May this caller open a link?"""
        ...

    def caller_up(self, caller: Identity) -> None:
        """A node has opened its link to this one."""
        ...

    def peer_frame(self, caller: Identity, frame: Frame) -> None:
        """A frame came on an open link; raises ProtocolError to have that link closed."""
        ...

    def peer_part(self, caller: Identity) -> None:
        """Bytes of a frame came on an open link, and not yet the end of it."""
        ...

    def link_up(self, nid: str) -> None:
        """This node's link to `nid` carries frames from now on."""
        ...

    def link_down(self, nid: str) -> None:
        """The link to `nid` is gone; what was queued on it is lost."""
        ...

    def link_refused(self, nid: str, refusal: Refusal) -> None:
        """Node `nid` refused this node's greeting."""
        ...

    def answer(self, op: str, args: dict[str, object]) -> Awaitable[dict[str, object]]:
        """Answer a request that came on a connection of its own."""
        ...

    def log(self, level: int, text: str) -> None:
        """One line for the log."""
        ...

    def crash(self, error: BaseException) -> None:
        """Something that must stop the process was raised inside a callback."""
        ...
