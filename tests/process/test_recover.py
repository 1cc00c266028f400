"""A majority lost for good: `pyraft-fast recover` on the files of the one node that is left."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.process.cluster import ROOT, Cluster, Node, eventually
from tests.process.history import Load, final_reads
from tests.process.linearizability import judge

OTHER_CLUSTER = "belongs to another cluster"


def recover(node: Node, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyraft_fast", "recover", "--dir", str(node.folder), *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


def voters(node: Node) -> str:
    return node.info()["raft_voters"]


@pytest.mark.parametrize("survivor_is", ["leader", "follower"])
def test_a_survivor_becomes_a_cluster_that_others_join(
    three: Cluster, nodes: Callable[..., Node], survivor_is: str
) -> None:
    dice = random.Random(survivor_is)
    with Load(f"recover-{survivor_is}", three.nodes, dice) as load:
        eventually(lambda: load.check() and load.acknowledged > 300, what=three.tails)
        survivor = three.leader()
        if survivor_is == "leader":  # it has all that was acknowledged, whatever is under way
            for node in three.nodes:
                if node is not survivor:
                    node.kill()
    if survivor_is == "follower":
        survivor = three.follower()
        with survivor.client() as client:
            client.get("anything")  # so it has all that was acknowledged before
        for node in three.nodes:
            if node is not survivor:
                node.kill()
    gone, returns = (node for node in three.nodes if node is not survivor)
    shutil.rmtree(gone.folder)
    eventually(lambda: not survivor.info()["raft_leader_id"], what=survivor.text)
    with survivor.client() as client:
        with pytest.raises(redis.exceptions.ClusterDownError):
            client.set("key", "without a majority")
        with pytest.raises(redis.exceptions.ClusterDownError):
            client.get("key")
    old_cluster = survivor.info()["raft_cluster_id"]
    refused = recover(survivor, "--yes")
    assert refused.returncode == 1
    assert f"in use by node {survivor.nid} in process {survivor.pid}; stop it" in refused.stderr
    assert survivor.stop() == 0

    refused = recover(survivor)
    assert refused.returncode == 1
    assert "--yes is needed" in refused.stderr
    done = recover(survivor, "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "MAY LOSE WRITES" in done.stdout
    assert f"{gone.nid} at {gone.addr} (voter)" in done.stdout

    survivor.flags = []
    survivor.start()
    eventually(lambda: survivor.role() == "leader", what=survivor.text)
    history = [*load.operations(), *final_reads([survivor], load.keys)]
    assert judge(history) == []
    with survivor.client() as client:
        assert client.set("key", "alone")
    assert voters(survivor) == survivor.nid
    assert survivor.info()["raft_cluster_id"] != old_cluster
    assert_old_member_is_kept_out(survivor, returns)

    fresh = [nodes("4").start("-e", survivor.addr), nodes("5").start("-e", survivor.addr)]
    wanted = ",".join([survivor.nid, "4", "5"])
    for node in [survivor, *fresh]:
        eventually(lambda n=node: voters(n) == wanted, what=node.text)
    history += final_reads(fresh, load.keys)
    assert judge(history) == []
    with fresh[1].client() as client:
        assert client.get("key") == "undisturbed"
        assert client.set("key", "through another")


def assert_old_member_is_kept_out(survivor: Node, old: Node) -> None:
    """It is refused by name, says so, serves nothing, disturbs nobody; emptied, it may join."""
    term = survivor.info()["raft_term"]
    old.start()
    refusal = f"{survivor.nid} refused the link: node {survivor.nid} at {survivor.addr} "
    eventually(lambda: refusal + OTHER_CLUSTER in old.text(), what=old.text)
    with old.client() as client, pytest.raises(redis.exceptions.ClusterDownError):
        client.set("key", "from the old cluster")
    with survivor.client() as client:
        assert client.set("key", "undisturbed")
    assert survivor.info()["raft_term"] == term
    assert old.stop() == 0


def test_an_old_member_joins_when_it_was_emptied(three: Cluster, tmp_path: Path) -> None:
    survivor = three.leader()
    with survivor.client() as client:
        client.set("key", "value")
    old = next(node for node in three.nodes if node is not survivor)
    for node in three.nodes:
        if node is not survivor:
            node.kill()
    survivor.stop()  # not killed: the write may have been on the others' disks first
    moved = Node(survivor.nid, survivor.folder)  # its machine is gone too: another address
    try:
        done = recover(survivor, "--yes", "-i", survivor.nid, "-a", moved.addr)
        assert done.returncode == 0, done.stderr
        (backup,) = re.findall(r"The old files are kept in (.+)\.\n", done.stdout)
        assert list(Path(backup).glob(f"raft_{survivor.nid}_*.log"))
        moved.start()
        eventually(lambda: moved.role() == "leader", what=moved.text)
        assert moved.info()["raft_leader_addr"] == moved.addr
        with moved.client() as client:
            assert client.get("key") == "value"
        shutil.rmtree(old.folder)
        old.folder.mkdir()
        old.start("-e", moved.addr)
        wanted = ",".join(sorted([old.nid, moved.nid]))
        eventually(lambda: voters(moved) == wanted, what=old.text)
        with old.client() as client:
            assert client.get("key") == "value"
    finally:
        moved.cleanup()
