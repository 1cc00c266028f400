"""Peer links and requests over loopback: greeting, refusal, redial, a peer that does not read."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine

import pytest

from pyraft_fast._wire import Frame, encode_frame
from pyraft_fast.address import Address
from pyraft_fast.consensus import peers
from pyraft_fast.consensus.dialing import Unreachable, ask, look_up
from pyraft_fast.consensus.frames import FrameType
from pyraft_fast.consensus.identity import Hello, Identity, Refusal, judge_hello
from pyraft_fast.consensus.incoming import PeerServer
from pyraft_fast.consensus.joining import Found, Join, Joiner
from pyraft_fast.consensus.peers import PeerLinks, Target
from pyraft_fast.errors import MembershipError, ProtocolError, StartError, TryAgain

WAIT_SECONDS = 20.0


async def until(condition: Callable[[], object]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), WAIT_SECONDS)


def port_pair() -> tuple[socket.socket, int]:
    """A listening peer socket and the client port below it."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1] - 1


class Host:
    """A node that records what its links tell it."""

    def __init__(self, nid: str, cluster: int = 5, incarnation: int = 0) -> None:
        self.listener, self.port = port_pair()
        incarnation = incarnation or ord(nid[-1])
        self._identity = Identity(cluster, nid, f"127.0.0.1:{self.port}", incarnation)
        self.removed: tuple[int, ...] = ()
        self.frames: list[tuple[str, int, object, bytes]] = []
        self.parts: list[Identity] = []
        self.up: list[str] = []
        self.down: list[str] = []
        self.refusals: list[Refusal] = []
        self.lines: list[str] = []
        self.crashes: list[BaseException] = []
        self.answers: Callable[[str, dict[str, object]], dict[str, object]] | None = None
        self.server = PeerServer(self)
        self.links = PeerLinks(self, random.Random(1))

    async def start(self) -> None:
        await self.server.start(self.listener)

    def close(self) -> None:
        self.links.close()
        self.server.close()
        self.listener.close()

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def target(self) -> Target:
        return Target(self._identity.nid, self._identity.addr, self._identity.incarnation)

    def judge(self, hello: Hello) -> Refusal | None:
        return judge_hello(self._identity, hello, self.removed)

    def caller_up(self, caller: Identity) -> None:
        self.lines.append(f"called by {caller.nid}")

    def peer_frame(self, caller: Identity, frame: Frame) -> None:
        if frame.type == FrameType.REFUSE:
            raise ProtocolError("told to refuse")
        self.frames.append((caller.nid, frame.type, frame.header, bytes(frame.body)))

    def peer_part(self, caller: Identity) -> None:
        self.parts.append(caller)

    def link_up(self, nid: str) -> None:
        self.up.append(nid)

    def link_down(self, nid: str) -> None:
        self.down.append(nid)

    def link_refused(self, nid: str, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    async def answer(self, op: str, args: dict[str, object]) -> dict[str, object]:
        assert self.answers is not None
        return self.answers(op, args)

    def log(self, level: int, text: str) -> None:
        self.lines.append(text)

    def crash(self, error: BaseException) -> None:
        self.crashes.append(error)


def run_with(hosts: list[Host], test: Callable[[], Coroutine[object, object, None]]) -> None:
    async def main() -> None:
        for host in hosts:
            await host.start()
        try:
            await test()
        finally:
            for host in hosts:
                host.close()
            await asyncio.sleep(0)
        for host in hosts:
            assert host.crashes == []

    asyncio.run(main())


def message(number: int, body: bytes = b"") -> list[bytes]:
    return [encode_frame(FrameType.MESSAGE, {"n": number}, len(body)), body]


def test_frames_arrive_in_order_from_whom_they_came() -> None:
    one, two = Host("n1"), Host("n2")

    async def test() -> None:
        one.links.follow([two.target])
        await until(lambda: one.up == ["n2"])
        for number in range(100):
            assert one.links.send("n2", message(number, b"x" * number))
        await until(lambda: len(two.frames) == 100)
        assert [(nid, head) for nid, _, head, _ in two.frames] == [
            ("n1", {"n": number}) for number in range(100)
        ]
        assert two.frames[7][3] == b"x" * 7

    run_with([one, two], test)


def test_a_link_is_dialled_again_after_the_peer_closed_it() -> None:
    one, two = Host("n1"), Host("n2")

    async def test() -> None:
        one.links.follow([two.target])
        await until(lambda: one.up == ["n2"])
        two.server.drop("n1")
        await until(lambda: one.up == ["n2", "n2"])
        assert one.down == ["n2"]

    run_with([one, two], test)


def test_a_bad_frame_closes_only_its_own_link() -> None:
    one, two, three = Host("n1"), Host("n2"), Host("n3")

    async def test() -> None:
        one.links.follow([two.target])
        three.links.follow([two.target])
        await until(lambda: one.up and three.up)
        one.links.send("n2", [encode_frame(FrameType.REFUSE, {})])
        await until(lambda: one.up == ["n2", "n2"])
        assert any("told to refuse" in line for line in two.lines)
        assert three.down == []

    run_with([one, two, three], test)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cluster": 6}, "another cluster"),
        ({"cluster": 0}, "no cluster yet"),
        ({"nid": "other"}, "this is node other"),
        ({"incarnation": 77}, "set up anew"),
    ],
)
def test_a_refused_greeting_says_why(changes: dict[str, object], text: str) -> None:
    one, two = Host("n1"), Host("n2")
    target = two.target
    two._identity = two._identity._replace(**changes)  # type: ignore[arg-type]

    async def test() -> None:
        one.links.follow([target])
        await until(lambda: one.refusals)
        assert text in one.refusals[0].reason
        assert one.up == []

    run_with([one, two], test)


def fill(host: Host, nid: str) -> None:
    """Send until the link takes no more."""
    sent = 0
    while host.links.send(nid, message(sent, bytes(1 << 18))):
        sent += 1
        assert sent < 1000


def test_a_peer_that_reads_slowly_is_sent_no_more_and_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "PEER_QUEUE_BYTES_MAX", 1 << 20)
    one, two = Host("n1"), Host("n2")

    async def test() -> None:
        one.links.follow([two.target])
        await until(lambda: one.up)
        fill(one, "n2")
        queued, moved = one.links.queued_bytes("n2"), one.links.moved_bytes("n2")
        assert queued > 1 << 20
        await until(lambda: one.links.moved_bytes("n2") > moved)
        await until(lambda: one.links.send("n2", message(0)))
        await until(lambda: not one.links.queued_bytes("n2"))
        assert one.links.moved_bytes("n2") >= moved + queued
        assert not one.down

    run_with([one, two], test)


def test_bytes_of_a_long_frame_are_told_before_it_is_whole() -> None:
    one, two = Host("n1"), Host("n2")

    async def test() -> None:
        one.links.follow([two.target])
        await until(lambda: one.up)
        assert one.links.send("n2", message(1))
        await until(lambda: two.frames)
        assert two.parts == []
        assert one.links.send("n2", message(2, bytes(1 << 23)))
        await until(lambda: two.parts)
        assert len(two.frames) == 1
        assert two.parts[0] == one.identity
        await until(lambda: len(two.frames) == 2)

    run_with([one, two], test)


def test_a_peer_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEER_QUEUE_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(peers, "STUCK_SECONDS", 0.02)
    one, two, three = Host("n1"), Host("n2"), Host("n3")

    async def test() -> None:
        one.links.follow([two.target, three.target])
        await until(lambda: len(one.up) == 2)
        for connection in two.server._connections:
            assert connection._transport is not None
            connection._transport.pause_reading()
        fill(one, "n2")
        assert one.links.is_up("n2"), "it may be slow"
        await until(lambda: not one.links.send("n2", message(0)) and one.down)
        assert one.down == ["n2"]
        assert not one.links.is_up("n2")
        assert one.links.send("n3", message(1))
        await until(lambda: three.frames)

    run_with([one, two, three], test)


def test_a_member_that_moved_is_found_by_hint() -> None:
    one, two, gone = Host("n1"), Host("n2"), Host("n9")

    async def test() -> None:
        gone.server.close()
        one.links.follow([two.target._replace(addr=gone.target.addr)])
        one.links.hint("n2", two.target.addr)
        await until(lambda: one.up == ["n2"])

    run_with([one, two, gone], test)


def test_garbage_on_the_peer_port_hurts_nobody() -> None:
    one, two = Host("n1"), Host("n2")
    rng = random.Random(3)

    async def test() -> None:
        one.links.follow([two.target])
        await until(lambda: one.up == ["n2"])
        hello = encode_frame(FrameType.HELLO, Hello(one.identity, "n2", 0).header())
        for _ in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port + 1)
            noise = bytearray(hello if rng.random() < 0.5 else rng.randbytes(300))
            for _ in range(rng.randrange(1, 4)):
                noise[rng.randrange(4, len(noise))] ^= 1 << rng.randrange(8)
            writer.write(noise)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), WAIT_SECONDS)
            writer.close()
        assert one.links.send("n2", message(1))
        await until(lambda: two.frames)
        assert one.down == []

    run_with([one, two], test)


def test_requests_are_answered_or_refused_by_class() -> None:
    one = Host("n1")

    def answers(op: str, args: dict[str, object]) -> dict[str, object]:
        if op == "LATER":
            raise TryAgain("not now")
        if op == "NEVER":
            raise MembershipError("no")
        return {"op": op, **args}

    one.answers = answers

    async def test() -> None:
        at = Address("127.0.0.1", one.port)
        assert await ask(at, "ECHO", {"x": 1}, WAIT_SECONDS) == {"op": "ECHO", "x": 1}
        with pytest.raises(TryAgain, match="not now"):
            await ask(at, "LATER", {}, WAIT_SECONDS)
        with pytest.raises(MembershipError):
            await ask(at, "NEVER", {}, WAIT_SECONDS)

    run_with([one], test)


def test_silence_and_unknown_names_are_unreachable() -> None:
    async def test() -> None:
        with pytest.raises(Unreachable):
            await look_up("no-such-host.invalid:5000")
        listener, port = port_pair()
        listener.close()
        with pytest.raises(Unreachable):
            await ask(Address("127.0.0.1", port), "PROBE", {}, 1.0)

    run_with([], test)


def make_joiner(host: Host, others: list[Host]) -> Joiner:
    fresh = host.identity._replace(cluster=0)
    ensemble = [("", other.identity.addr) for other in others]
    joiner = Joiner(fresh, ensemble, False, False, random.Random(2), host.log)
    host.answers = lambda op, args: joiner.answer().value()
    return joiner


def test_three_fresh_nodes_agree_on_one_founder_and_the_others_join() -> None:
    hosts = [Host("n1"), Host("n2"), Host("n3")]
    joined: list[object] = []

    def lead(op: str, args: dict[str, object]) -> dict[str, object]:
        if op == "JOIN":
            joined.append(args["nid"])
            return {}
        me = hosts[0].identity
        return {
            "nid": me.nid, "addr": me.addr, "incarnation": me.incarnation, "cluster": 42,
            "loads": False, "removed": False, "listing": [], "leader_addr": me.addr,
        }  # fmt: skip

    async def found() -> None:
        joiner = make_joiner(hosts[0], hosts[1:])
        assert await joiner.run() == Found(3)
        hosts[0].answers = lead

    async def join(host: Host) -> None:
        verdict = await make_joiner(host, [h for h in hosts if h is not host]).run()
        assert isinstance(verdict, Join)
        assert verdict.cluster == 42

    async def test() -> None:
        tasks = [found(), join(hosts[1]), join(hosts[2])]
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_SECONDS)
        assert sorted(map(str, joined)) == ["n2", "n3"]

    run_with(hosts, test)


def test_a_refused_joiner_stops_with_the_reason() -> None:
    one, two = Host("n1"), Host("n2")

    async def test() -> None:
        joiner = make_joiner(two, [one])

        def refuse(op: str, args: dict[str, object]) -> dict[str, object]:
            if op == "JOIN":
                raise MembershipError("node id n2 is taken by elsewhere:1")
            me = one.identity
            return joiner.answer()._replace(
                nid=me.nid, addr=me.addr, incarnation=me.incarnation, cluster=5
            ).value()  # fmt: skip

        one.answers = refuse
        with pytest.raises(StartError, match="taken by elsewhere"):
            await asyncio.wait_for(joiner.run(), WAIT_SECONDS)

    run_with([one, two], test)
