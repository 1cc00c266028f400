"""A node that was removed answers at once, whatever waited, and shows that it is out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pyraft_fast import _entry
from pyraft_fast.core.membership import VOTER, Member, Membership
from pyraft_fast.errors import ClusterDown
from pyraft_fast.serving.treaty import RoleFact
from tests.serving.fake import Client, FakeLog, FakeNode, running

OUT = RoleFact("removed", 3, "", "", False)
REFUSED = (
    "-CLUSTERDOWN this node was removed from the cluster; the command was not executed, ask "
    "another node"
)


def leave(node: FakeNode) -> None:
    node.in_loop(lambda: node.consensus().events.role(OUT))


def with_members() -> FakeLog:
    log = FakeLog()
    members = tuple(Member(n, f"127.0.0.1:{n}", 76 + int(n), VOTER) for n in "12")
    log.append(Membership(9, members).encode(), 0, kind=_entry.KIND_CONFIG)
    return log


def test_reads_and_writes_are_refused_at_once(tmp_path: Path) -> None:
    with running(tmp_path, with_members()) as node, node.client() as client:
        assert client.ask("SET key value") == "OK"
        leave(node)
        refused = client.ask("SET key other", "GET key", "PING", "INCR n")
        assert refused == [REFUSED, REFUSED, "PONG", REFUSED]
        for words in (["SET", "key", "v"], ["GET", "key"]):
            with pytest.raises(ClusterDown, match="was removed from the cluster"):
                node.engine.submit(words).get(1)


@pytest.mark.parametrize("reads", ["linearizable", "local"])
def test_local_reads_are_refused_too(tmp_path: Path, reads: str) -> None:
    with running(tmp_path, with_members(), reads=reads) as node, node.client() as client:
        leave(node)
        assert client.ask("GET key") == REFUSED


def test_what_waits_is_answered(tmp_path: Path) -> None:
    """Sent writes may have been taken before the removal; nothing else happened."""
    log = with_members()
    with running(tmp_path, log) as node:
        with node.client() as first:
            first.ask("GET none")
        log.commit = log.answer_reads = False
        with node.client() as writer, node.client() as reader:
            writer.send("SET key value")
            reader.send("GET key")
            await_sent(log, 1)
            leave(node)
            assert reader.reply() == REFUSED
            said = writer.reply()
        assert said.startswith("-UNCERTAIN this node was removed"), said


def test_unsent_writes_surely_did_not_happen(tmp_path: Path) -> None:
    log = with_members()
    with running(tmp_path, log) as node, node.client() as client:
        no_leader = RoleFact("follower", 2, "", "", False)
        node.in_loop(lambda: node.consensus().events.role(no_leader))
        client.send("SET key value")
        ping(node)
        leave(node)
        assert client.reply() == REFUSED
        assert log.proposals == []


def test_what_was_committed_before_is_answered(tmp_path: Path) -> None:
    log = with_members()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client:
        client.send("INCR n")
        await_sent(log, 1)

        def commit_and_leave() -> None:
            log.commit_kept()
            consensus = node.consensus()
            while consensus.published is not None and consensus.published < len(log.records):
                consensus.queue.append(log.records[consensus.published])
                consensus.published += 1
            consensus.events.role(OUT)

        node.in_loop(commit_and_leave)
        assert client.reply() == 1


def test_it_shows_that_it_is_out(tmp_path: Path) -> None:
    with running(tmp_path, with_members()) as node, node.client() as client:
        client.ask("GET key")
        assert lines(client, "INFO raft")["raft_voters"] == "1,2"
        leave(node)
        info = lines(client, "INFO raft")
        assert (info["raft_role"], info["raft_voters"]) == ("removed", "2")
        assert client.ask("ROLE")[3] == "removed"
        cluster = lines(client, "CLUSTER INFO")
        assert (cluster["cluster_state"], cluster["cluster_my_role"]) == ("fail", "removed")
        (own,) = (line for line in client.ask("CLUSTER NODES").splitlines() if "myself" in line)
        assert own.endswith("myself,slave,fail - 0 0 3 disconnected")
        assert list(json.loads(client.ask("RAFT INFO"))["peers"]) == ["2"]


def test_a_consensus_process_that_starts_anew_may_let_it_in_again(tmp_path: Path) -> None:
    """It asks again, and is told again if it is out."""
    log = with_members()
    with running(tmp_path, log) as node, node.client() as client:
        leave(node)
        assert client.ask("GET key") == REFUSED
        node.in_loop(lambda: node.consensus().die())
        assert client.ask("SET key value") == "OK"
        leave(node)
        assert client.ask("SET key value") == REFUSED


@pytest.mark.parametrize("reads", ["local", "max-age:60000"])
def test_a_refusal_is_for_what_waits_and_not_for_later_reads(tmp_path: Path, reads: str) -> None:
    """Reads that ask nobody share one group for ever; out while data is loaded, in again later."""
    with running(tmp_path, with_members(), reads=reads) as node, node.client() as client:
        client.ask("SET key value")
        client.ask("GET key")
        service = node.engine._service
        assert service is not None
        node.in_loop(lambda: setattr(service.desk, "loading", True))
        call = node.in_loop(lambda: node.engine.submit(("get", "key")))
        leave(node)
        with pytest.raises(ClusterDown, match="was removed from the cluster"):
            call.get(5)
        node.in_loop(lambda: setattr(service.desk, "loading", False))
        node.in_loop(lambda: node.consensus().die())
        client.ask("SET key value")
        assert client.ask("GET key") == "value"


def ping(node: FakeNode) -> None:
    """A round trip: what was sent before it has arrived."""
    with node.client() as client:
        assert client.ask("PING") == "PONG"


def await_sent(log: FakeLog, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(log.proposals) < count:
        assert time.monotonic() < deadline, "the batch was not sent"


def lines(client: Client, command: str) -> dict[str, str]:
    rows = client.ask(command).splitlines()
    return dict(row.split(":", 1) for row in rows if ":" in row)
