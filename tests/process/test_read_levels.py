"""Read levels on three real nodes: what each gives, and what none may give."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.process.cluster import Cluster, Node, cluster, eventually
from tests.process.faults import FAULTS, stopped
from tests.process.partition import isolate
from tests.process.rig import Rig
from tests.process.scene import one_round

SEED = 20261124
ROUNDS = 3
AGE_MS = 200
CURRENT = ("linearizable", "lease", f"max-age {AGE_MS}")  # may not be older than AGE_MS
SLOW_ELECTIONS = ("--election-ms", "3000-6000")  # and so a lease of 2.4 s
LEASE_SECONDS = 2.4


class Raw:
    """A connection that speaks RESP by hand, to send now and look for the answer later."""

    def __init__(self, node: Node, level: str, seconds: float = 6.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), seconds)
        self.file = self.socket.makefile("rb")
        self.send(f"CLIENT CONSISTENCY {level}")
        assert self.reply() == "OK"

    def send(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def reply(self) -> str | None:
        """A string, None for nil; errors begin with '-'."""
        line = self.file.readline().decode().rstrip("\r\n")
        assert line, "the connection ended"
        if line[0] == "$":
            size = int(line[1:])
            return None if size < 0 else self.file.read(size + 2)[:-2].decode()
        return line if line[0] == "-" else line[1:]

    def ask(self, line: str) -> str | None:
        self.send(line)
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextlib.contextmanager
def at(node: Node, *levels: str) -> Iterator[list[Raw]]:
    """A connection for each level."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(contextlib.closing(Raw(node, level))) for level in levels]


class Readers:
    """Threads that read one key at one node, each at a level of CURRENT, and note what they saw."""

    def __init__(self, node: Node, key: str) -> None:
        self.seen: list[tuple[str, float, str | None]] = []  # (level, when it began, answer)
        self._key = key
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(node, level), daemon=True)
            for level in CURRENT
        ]

    def _read(self, node: Node, level: str) -> None:
        with at(node, level) as (one,):
            while not self._over.is_set():
                began = time.monotonic()
                self.seen.append((level, began, one.ask(f"GET {self._key}")))
                self._over.wait(0.002)  # leave some of the machine to the nodes

    def began(self, count: int) -> None:
        """Await that many answers of each."""
        eventually(lambda: all(self._count(level) >= count for level in CURRENT))

    def until(self, value: str) -> None:
        """Await this answer at each level."""
        eventually(lambda: all(self._last(level) == value for level in CURRENT))

    def _count(self, level: str) -> int:
        return sum(seen[0] == level for seen in self.seen)

    def _last(self, level: str) -> str | None:
        return next((seen[2] for seen in reversed(self.seen) if seen[0] == level), None)

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def chosen(node: Node, *level: str | int) -> redis.Redis:
    """A redis-py client with one connection, at this level."""
    client = node.client(single_connection_client=True)
    assert client.execute_command("CLIENT", "CONSISTENCY", *level) in (True, b"OK", "OK")
    return client


def pids(*nodes: Node) -> list[int]:
    """Both processes of nodes."""
    return [pid for node in nodes for pid in (eventually(node.consensus_pid), node.pid)]


def others(three: Cluster, node: Node) -> list[Node]:
    return [other for other in three.nodes if other is not node]


def refused(answer: str | None) -> bool:
    return answer is not None and answer.startswith(("-CLUSTERDOWN", "-TRYAGAIN"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for all tests that bring them back to where they were."""
    with cluster(tmp_path_factory.mktemp("levels"), 3) as made:
        yield made


def test_every_node_reads_what_any_node_wrote(shared: Cluster) -> None:
    before = {node.nid: int(node.info()["raft_reads_lease"]) for node in shared.nodes}
    with contextlib.ExitStack() as held:
        readers = [
            held.enter_context(chosen(node, *level))
            for node in shared.nodes
            for level in [("lease",), ("linearizable",)]
        ]
        writers = [held.enter_context(node.client()) for node in shared.nodes]
        for number in range(60):
            writers[number % 3].set("seen", number)
            assert [reader.get("seen") for reader in readers] == [str(number)] * 6
    for node in shared.nodes:
        assert int(node.info()["raft_reads_lease"]) == before[node.nid] + 60


def test_redis_py_shows_and_resets_the_level(shared: Cluster) -> None:
    with chosen(shared.nodes[0], "MAX-AGE", 500) as client:
        assert client.execute_command("CLIENT CONSISTENCY") in ("max-age 500", b"max-age 500")
        assert client.client_info()["consistency"] == "max-age:500"
        client.execute_command("RESET")
        assert client.execute_command("CLIENT CONSISTENCY") in ("linearizable", b"linearizable")
        with pytest.raises(redis.ResponseError, match="reads are linearizable, lease, local"):
            client.execute_command("CLIENT CONSISTENCY", "eventual")


def test_a_lease_answers_while_nobody_else_does_and_ends(tmp_path: Path) -> None:
    with cluster(tmp_path, 3, *SLOW_ELECTIONS, "--reads", "lease") as three:
        leader = three.leader()
        with leader.client() as client, at(leader, "linearizable", "default") as (round_, lease):
            client.set("k", "1")
            with stopped(*pids(*others(three, leader))):
                began = time.monotonic()
                round_.send("GET k")
                assert lease.ask("GET k") == "1"
                answered = time.monotonic() - began
                assert answered < LEASE_SECONDS, "it was this machine that was slow"
                eventually(lambda: time.monotonic() > began + LEASE_SECONDS)
                assert refused(lease.ask("GET k"))
                assert refused(round_.reply())
            eventually(lambda: client.get("k") == "1")


def test_followers_read_by_the_lease_of_the_leader(tmp_path: Path) -> None:
    """One follower stands still; the other gets its index although no round could be faster."""
    with cluster(tmp_path, 3, *SLOW_ELECTIONS) as three:
        leader = three.leader()
        alive, still = others(three, leader)
        with leader.client() as client, at(alive, "lease") as (lease,):
            client.set("k", "1")
            with stopped(*pids(still)):
                assert lease.ask("GET k") == "1"
                client.set("k", "2")
                assert lease.ask("GET k") == "2"
            assert int(alive.info()["raft_reads_lease"]) == 2


def test_local_reads_need_no_majority(shared: Cluster) -> None:
    leader = shared.leader()
    for node in shared.nodes:
        with at(node, "local", "linearizable") as (local, linearizable), leader.client() as client:
            client.set("local", node.nid)
            assert linearizable.ask("GET local") == node.nid
            with stopped(*pids(*others(shared, node))):
                linearizable.send("GET local")
                for _ in range(20):
                    assert local.ask("GET local") == node.nid
                assert refused(linearizable.reply())
                assert local.ask("GET local") == node.nid
        leader = shared.leader()


def test_an_age_ends_when_the_leader_is_gone(tmp_path: Path) -> None:
    age_ms = 1500
    with cluster(tmp_path, 3, "--reads", f"max-age:{age_ms}") as three:
        leader = three.leader()
        reader, other = others(three, leader)
        with leader.client() as client:
            client.set("k", "1")
        with at(reader, "default", "linearizable") as (aged, linearizable):
            eventually(lambda: linearizable.ask("GET k") == "1")
            asked_last = time.monotonic()
            with stopped(*pids(leader, other)):
                answers = 0
                while True:
                    began = time.monotonic()
                    answer = aged.ask("GET k")
                    if answer != "1":
                        break
                    answers += 1
                    assert began - asked_last <= age_ms / 1000
                assert answers or began - asked_last > age_ms / 1000
                assert answer is not None
                assert answer.startswith("-CLUSTERDOWN no majority confirmed a read index in time")
            eventually(lambda: aged.ask("GET k") == "1")


@pytest.mark.parametrize("which", ["both", "consensus", "serving"])
def test_a_leader_that_stood_still_gives_no_old_value(shared: Cluster, which: str) -> None:
    """Reads that came while it slept, and reads right after: all began behind the new write."""
    for number in range(ROUNDS):
        old = shared.leader()
        key, heir = f"still:{which}:{number}", others(shared, old)[number % 2]
        consensus, serving = pids(old)
        chosen_pids = {"both": [consensus, serving], "consensus": [consensus], "serving": [serving]}
        with (
            at(old, *CURRENT, *CURRENT) as connections,
            chosen(old, "lease") as lease,
            chosen(old, "linearizable") as linearizable,
            heir.client() as client,
        ):
            client.set(key, "old")
            early, late = connections[:3], connections[3:]
            for one in connections:
                assert one.ask(f"GET {key}") == "old"
            with stopped(*chosen_pids[which]):
                eventually(lambda c=client, k=key: c.set(k, "new"))
                acknowledged = time.monotonic()
                eventually(lambda a=acknowledged: time.monotonic() > a + AGE_MS / 1000)
                for one in early:
                    one.send(f"GET {key}", f"GET {key}")
            for one in late:
                one.send(f"GET {key}")
            with contextlib.suppress(redis.exceptions.ClusterDownError):
                assert lease.get(key) == "new"
            with contextlib.suppress(redis.exceptions.ClusterDownError):
                assert linearizable.get(key) == "new"
            for one in [*early, *early, *late]:
                answer = one.reply()
                assert answer == "new" or refused(answer), (which, number, answer)


def test_a_leader_that_is_cut_off_gives_no_old_value(tmp_path: Path) -> None:
    """It believes in itself for a while, and others lead already: reads must not believe it."""
    rig = Rig(tmp_path, 3)
    try:
        rig.start()
        for number in range(ROUNDS):
            old = rig.leader()
            key, heir = f"cut:{number}", others(rig, old)[number % 2]
            with heir.client() as client, Readers(old, key) as readers:
                client.set(key, "old")
                readers.began(5)
                rig.network.cut(isolate(old.nid, [node.nid for node in rig.nodes]))
                eventually(lambda c=client, k=key: c.set(k, "new"))
                acknowledged = time.monotonic()
                eventually(lambda a=acknowledged: time.monotonic() > a + 0.5)
                rig.network.heal()
                readers.until("new")
            for level, began, answer in readers.seen:
                allowed = acknowledged + (AGE_MS / 1000 if level.startswith("max-age") else 0)
                if began > allowed:
                    assert answer == "new" or refused(answer), (number, level, answer)
    finally:
        rig.cleanup()


def test_histories_of_lease_reads_are_linearizable(tmp_path: Path) -> None:
    """The clients of the fault rounds, on nodes that read by lease."""
    with cluster(tmp_path, 3, "--reads", "lease", "--log-max", "300") as three:
        for name in ("stop_leaders_consensus", "stop_leader", "kill_leader"):
            verdict = one_round(
                three, f"lease-{name}", [FAULTS[name]], random.Random(f"{SEED}{name}"), (0.5, 0.8)
            )
            assert not verdict.wrong, "\n".join([*verdict.wrong, three.tails()])
            assert verdict.operations > 50
        assert sum(int(node.info()["raft_reads_lease"]) for node in three.nodes) > 50
