"""Every example runs on three nodes, does its work, and goes on when the leader is killed."""

from __future__ import annotations

import http.server
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cluster import ROOT, Cluster, eventually, free_port

EXAMPLES = ROOT / "examples"


class Site(threading.Thread):
    """A web server on loopback that counts its visitors."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.visits = 0
        site = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.visits += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Page)
        self.port = self.server.server_address[1]

    def run(self) -> None:
        self.server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    made.start()
    yield made
    made.close()


def started(tmp_path: Path, name: str, *flags: str) -> Cluster:
    made = Cluster(tmp_path, 3, program=(str(EXAMPLES / name),))
    try:
        return made.start(*flags)
    except BaseException:
        made.cleanup()
        raise


@pytest.fixture
def ended() -> Iterator[list[Cluster]]:
    made: list[Cluster] = []
    yield made
    for cluster in made:
        cluster.cleanup()


def test_every_example_is_tested() -> None:
    tested = {"plain_node.py", "url_checker.py", "session_checker.py", "cas.py", "ping_monitor.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_plain_node(tmp_path: Path, ended: list[Cluster]) -> None:
    cluster = started(tmp_path, "plain_node.py")
    ended.append(cluster)
    leader = cluster.leader()
    with leader.client() as client:
        client.set("key", "value")
    leader.kill()
    survivor = cluster.leader()
    with survivor.client() as client:
        assert client.get("key") == "value"
    assert survivor.stop() == 0


def test_url_checker_runs_on_the_leader_and_moves(
    tmp_path: Path, ended: list[Cluster], site: Site
) -> None:
    cluster = started(tmp_path, "url_checker.py", "--every", "0.2")
    ended.append(cluster)
    leader, follower = cluster.leader(), cluster.follower()
    with leader.client() as client:
        client.set("url_good", f"http://127.0.0.1:{site.port}/")
        client.set("url_bad", f"http://127.0.0.1:{free_port()}/")
    eventually(lambda: "url url_good is ok" in leader.text(), what=leader.text)
    eventually(lambda: "url url_bad is bad" in leader.text(), what=leader.text)
    assert "url url_good" not in follower.text()
    leader.kill()
    heir = cluster.leader()
    visits = site.visits
    eventually(lambda: "url url_good is ok" in heir.text(), what=heir.text)
    eventually(lambda: site.visits > visits)


def test_session_checker(tmp_path: Path, ended: list[Cluster]) -> None:
    cluster = started(tmp_path, "session_checker.py", "--every", "0.2")
    ended.append(cluster)
    leader = cluster.leader()
    with leader.client() as client:
        client.set("session_ann", int(time.time()))
        client.set("session_bob", int(time.time()) - 3600)
    eventually(lambda: "session session_ann is ok" in leader.text(), what=leader.text)
    eventually(lambda: "session session_bob is EXPIRED" in leader.text(), what=leader.text)
    leader.kill()
    heir = cluster.leader()
    eventually(lambda: "session session_bob is EXPIRED" in heir.text(), what=heir.text)


def test_cas_has_one_winner_and_keeps_it(tmp_path: Path, ended: list[Cluster]) -> None:
    cluster = started(tmp_path, "cas.py")
    ended.append(cluster)
    answers: list[tuple[str, str]] = []

    def grab(port_index: int) -> None:
        with cluster.nodes[port_index].client() as client:
            name = f"client{port_index}"
            answers.append((name, client.execute_command("cas", "owner", "none", name)))

    threads = [threading.Thread(target=grab, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    winners = [name for name, answer in answers if answer == "none"]
    assert len(winners) == 1, answers
    assert {answer for _, answer in answers} == {"none", winners[0]}
    cluster.leader().kill()
    with cluster.leader().client() as client:
        assert client.get("owner") == winners[0]
        assert client.execute_command("cas", "owner", winners[0], "next") == winners[0]
        assert client.execute_command("cas", "missing", "x", "y") is None
        with pytest.raises(Exception, match="wrong number of arguments"):
            client.execute_command("cas", "owner")


def test_ping_monitor_votes_and_decides(tmp_path: Path, ended: list[Cluster], site: Site) -> None:
    targets = f"127.0.0.1:{site.port},127.0.0.1:{free_port()}"
    cluster = started(
        tmp_path, "ping_monitor.py", "--targets", targets, "--every", "0.2", "--fails", "2"
    )
    ended.append(cluster)
    bad = targets.split(",")[1]
    leader = cluster.leader()
    eventually(lambda: f"target {bad} is DOWN" in leader.text(), what=leader.text)
    with cluster.follower().client() as client:
        assert set(client.hgetall(f"hc_{bad}")) == {"1", "2", "3"}
    leader.kill()
    heir = cluster.leader()
    eventually(lambda: f"target {bad} is DOWN" in heir.text(), what=heir.text)
    assert f"target 127.0.0.1:{site.port} is DOWN" not in heir.text()
