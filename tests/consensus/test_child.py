"""Real consensus processes on loopback, driven by a serving side that only speaks the pipe."""

from __future__ import annotations

import os
import random
import signal
import socket
from pathlib import Path

import pytest

from pyraft_fast.link import pipe
from tests.consensus.fake_serving import FakeServing, leader_of, until
from tests.consensus.nodes import NAMES, Make, address, ask, make_cluster, put, voters

pytestmark = pytest.mark.process


@pytest.fixture
def one(make: Make) -> FakeServing:
    node = make("n1")
    node.start()
    until(lambda: leader_of([node]), node)
    return node


# One node


def test_one_node_founds_a_cluster_and_publishes_what_is_proposed(one: FakeServing) -> None:
    one.propose(["SET", "a", "1"], ["SET", "b", "2"])
    one.propose(["DEL", "a"])
    until(lambda: len(one.data) == 3, one)
    assert one.data == [["SET", "a", "1"], ["SET", "b", "2"], ["DEL", "a"]]
    assert one.pending == {}
    assert voters(one) == ["n1"]


def test_every_thread_of_it_wakes_without_pushing_aside_what_runs(one: FakeServing) -> None:
    assert one.child is not None
    threads = [int(name) for name in os.listdir(f"/proc/{one.child.pid}/task")]
    assert len(threads) > 1
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}


def test_a_read_gets_an_index_that_covers_the_writes_before_it(one: FakeServing) -> None:
    put(one, "x", [one])
    one.read(7)
    until(lambda: 7 in one.reads, one)
    assert one.reads[7] == one.applied


def test_killed_and_started_again_it_goes_on_with_everything(one: FakeServing) -> None:
    for number in range(20):
        put(one, str(number), [one])
    before, ready = one.data, one.ready
    one.kill()
    one.reset()
    one.start()
    until(lambda: len(one.data) == 20 and leader_of([one]), one)
    assert one.data == before
    assert one.ready is not None
    assert ready is not None
    assert one.ready.incarnation == ready.incarnation
    assert one.ready.start > ready.start


def test_a_child_that_died_goes_on_under_a_serving_side_that_lives(one: FakeServing) -> None:
    put(one, "a", [one])
    one.kill()
    one.start()
    until(lambda: leader_of([one]), one)
    put(one, "b", [one])
    assert one.data == [["SET", "a"], ["SET", "b"]]


def test_a_full_ring_loses_nothing(make: Make) -> None:
    node = make("n1", ring_bytes=1 << 16)
    node.start()
    until(lambda: leader_of([node]), node)
    node.is_taking = False
    for number in range(40):
        node.propose(["SET", str(number), "x" * 10_000])
    until(lambda: ask(node, [node], pipe.Status).value["commit"] >= 40, node)
    assert ask(node, [node], pipe.Status).value["published"] < 40
    node.is_taking = True
    until(lambda: len(node.data) == 40, node)
    assert [words[1] for words in node.data] == [str(number) for number in range(40)]


def test_an_entry_larger_than_the_ring_comes_through(make: Make) -> None:
    node = make("n1", ring_bytes=1 << 16, segment_bytes=1 << 20)
    node.start()
    until(lambda: leader_of([node]), node)
    value = "y" * 3_000_000
    node.propose(["SET", value])
    until(lambda: node.data, node)
    assert node.data == [["SET", value]]


def test_a_snapshot_lets_the_log_go_and_is_found_at_restart(one: FakeServing) -> None:
    for number in range(30):
        put(one, str(number), [one])
    path = one.snapshot()
    put(one, "after", [one])
    one.kill()
    one.reset()
    one.start()
    until(lambda: len(one.data) == 31, one)
    assert one.ready is not None
    assert one.ready.snapshot_path == path
    assert one.snapshots_loaded == [one.ready.snapshot_index]


def test_shutdown_ends_in_order_with_status_0(one: FakeServing) -> None:
    put(one, "x", [one])
    one.send(pipe.Shutdown())
    until(lambda: one.is_gone, one)
    assert one.child is not None
    assert one.child.wait(10) == 0


def test_it_ends_when_its_pipe_ends_and_not_by_signals(one: FakeServing) -> None:
    assert one.child is not None
    os.kill(one.child.pid, signal.SIGTERM)
    os.kill(one.child.pid, signal.SIGINT)
    put(one, "still here", [one])
    one.child.pipe.close()
    assert one.child.wait(10) != 0


def test_status_has_what_info_shows(one: FakeServing) -> None:
    put(one, "x", [one])
    value = ask(one, [one], pipe.Status).value
    assert value["role"] == "leader"
    assert value["voters"] == ["n1"]
    assert value["wal"]["fsyncs"] > 0
    assert value["commit"] >= one.applied


def test_bad_settings_are_fatal_with_status_2(make: Make) -> None:
    node = make("n1", fsync="sometimes")
    node.start()
    until(lambda: node.fatal, node)
    assert node.fatal is not None
    assert node.fatal.exit_status == 2
    assert "sometimes" in node.fatal.text
    assert node.child is not None
    assert node.child.wait(10) == 2


def test_a_damaged_log_is_fatal_and_named(one: FakeServing) -> None:
    for number in range(50):
        put(one, "x" * 2000 + str(number), [one])
    one.kill()
    log = next(one.folder.glob("*.log"))
    raw = bytearray(log.read_bytes())
    at = raw.find(b"x" * 2000 + b"7")
    raw[at] ^= 1
    log.write_bytes(raw)
    one.reset()
    one.start()
    until(lambda: one.fatal, one)
    assert one.fatal is not None
    assert log.name in one.fatal.text


def test_only_the_newest_snapshots_stay(one: FakeServing) -> None:
    paths = []
    for number in range(5):
        before = one.applied
        one.propose(["set", str(number)])
        until(lambda before=before: one.applied > before, one)
        paths.append(one.snapshot())
    until(lambda: sorted(str(p) for p in one.folder.glob("*.dat")) == sorted(paths[-2:]), one)


def test_a_snapshot_without_its_log_is_refused(one: FakeServing) -> None:
    put(one, "x", [one])
    one.snapshot()
    one.kill()
    for log in one.folder.glob("*.log"):
        log.unlink()
    one.reset()
    one.start()
    until(lambda: one.fatal, one)
    assert one.fatal is not None
    assert "no log" in one.fatal.text


def test_a_snapshot_to_load_founds_a_new_cluster(one: FakeServing) -> None:
    put(one, "kept", [one])
    old = one.ready
    one.snapshot()
    one.kill()
    for log in one.folder.glob("*.log"):
        log.unlink()
    one.reset()
    one.settings["load"] = True
    one.start()
    until(lambda: leader_of([one]), one)
    put(one, "new", [one])
    assert one.data == [["SET", "kept"], ["SET", "new"]]
    assert one.ready is not None
    assert old is not None
    assert one.ready.cluster != old.cluster


def test_a_cluster_of_one_takes_its_new_address(one: FakeServing) -> None:
    one.kill()
    one.move()
    one.start()

    until(lambda: address(one, "n1") == one.addr, one)


def test_garbage_on_the_peer_port_does_not_hurt(one: FakeServing) -> None:
    rng = random.Random(5)
    for size in (1, 11, 12, 100, 70_000):
        with socket.create_connection(one.listener.getsockname()) as stranger:
            stranger.sendall(rng.randbytes(size))
    put(one, "unhurt", [one])


# Three nodes


def test_three_nodes_found_one_cluster_and_agree(make: Make) -> None:
    nodes = make_cluster(make)
    for node in nodes:
        for number in range(5):
            node.propose(["SET", f"{node.nid}-{number}"])
    until(lambda: all(len(n.data) == 15 for n in nodes), *nodes)
    assert nodes[0].data == nodes[1].data == nodes[2].data
    for node in nodes:
        mine = [words[1] for words in node.data if words[1].startswith(node.nid)]
        assert mine == [f"{node.nid}-{number}" for number in range(5)]


def test_reads_work_on_every_node(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "x", nodes)
    index = nodes[0].applied
    for node in nodes:
        node.read(9)
    until(lambda: all(9 in n.reads for n in nodes), *nodes)
    assert all(n.reads[9] >= index for n in nodes)


def test_the_leader_killed_others_elect_and_it_comes_back(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "before", nodes)
    old = leader_of(nodes)
    assert old is not None
    old.kill()
    until(lambda: leader_of(nodes), *nodes)
    new = leader_of(nodes)
    assert new is not None
    put(new, "meanwhile", nodes)
    old.start()
    until(lambda: leader_of(nodes) and len(old.data) == 2, *nodes)
    put(old, "after", nodes)
    assert all(n.data == [["SET", w] for w in ("before", "meanwhile", "after")] for n in nodes)


def test_batches_under_way_survive_the_leader(make: Make) -> None:
    nodes = make_cluster(make)
    leader = leader_of(nodes)
    follower = next(n for n in nodes if n is not leader)
    assert leader is not None
    for number in range(50):
        follower.propose(["SET", str(number)])
        if number == 25:
            leader.kill()
    alive = [n for n in nodes if n.child]
    until(lambda: all(len(n.data) == 50 for n in alive), *nodes)
    assert follower.data == [["SET", str(number)] for number in range(50)]
    assert follower.pending == {}


def test_shutdown_of_the_leader_hands_over(make: Make) -> None:
    nodes = make_cluster(make)
    old = leader_of(nodes)
    assert old is not None
    term = old.role.term
    old.send(pipe.Shutdown())
    until(lambda: old.is_gone, *nodes)
    assert old.child is not None
    assert old.child.wait(10) == 0
    old.kill()
    rest = [n for n in nodes if n is not old]
    until(lambda: leader_of(rest), *rest)
    assert rest[0].role.term == term + 1
    put(rest[0], "x", rest)


def test_a_transfer_asked_of_a_follower(make: Make) -> None:
    nodes = make_cluster(make)
    follower = next(n for n in nodes if n is not leader_of(nodes))
    answer = ask(follower, nodes, pipe.Transfer, follower.nid)
    assert answer.error_code == "", answer
    until(lambda: leader_of(nodes) is follower, *nodes)


def test_a_member_is_removed_and_told_so(make: Make) -> None:
    nodes = make_cluster(make)
    leader = leader_of(nodes)
    assert leader is not None
    gone = next(n for n in nodes if n is not leader)
    answer = ask(gone, nodes, pipe.Change, "remove", gone.nid, "")
    assert answer.error_code == "", answer
    rest = [n for n in nodes if n is not gone]
    until(lambda: gone.role.role == "removed", *nodes)
    put(rest[0], "x", rest)
    assert voters(rest[0]) == [n.nid for n in rest]
    gone.kill()
    gone.start()
    until(lambda: gone.role.role == "removed", *nodes)


def test_a_leader_that_removes_itself_makes_room(make: Make) -> None:
    nodes = make_cluster(make)
    leader = leader_of(nodes)
    assert leader is not None
    answer = ask(leader, nodes, pipe.Change, "remove", leader.nid, "")
    assert answer.error_code == "", answer
    rest = [n for n in nodes if n is not leader]
    until(lambda: leader_of(rest) and leader.role.role == "removed", *nodes)


def test_a_fourth_node_joins_through_any_member(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "x", nodes)
    follower = next(n for n in nodes if n is not leader_of(nodes))
    fourth = make("n4", ensemble=[["", follower.addr]])
    fourth.start()
    until(lambda: voters(fourth) == [*NAMES, "n4"], *nodes, fourth)
    put(fourth, "y", [*nodes, fourth])


def test_a_taken_name_is_refused_with_the_way_out(make: Make, tmp_path: Path) -> None:
    nodes = make_cluster(make)
    impostor = FakeServing(tmp_path / "other", "n2", ensemble=[["", nodes[0].addr]])
    try:
        impostor.start()
        until(lambda: impostor.fatal, *nodes, impostor)
        assert impostor.fatal is not None
        assert "-o" in impostor.fatal.text
    finally:
        impostor.close()


def test_a_wiped_voter_comes_back_as_a_new_node(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "x", nodes)
    wiped = next(n for n in nodes if n is not leader_of(nodes))
    old = wiped.ready
    wiped.kill()
    for file in wiped.folder.glob("raft_*"):
        file.unlink()
    wiped.reset()
    wiped.start()
    until(lambda: wiped.data and voters(wiped) == list(NAMES), *nodes)
    assert wiped.ready is not None
    assert old is not None
    assert wiped.ready.incarnation != old.incarnation
    put(wiped, "y", nodes)


def test_a_member_at_a_new_address_is_found_again(make: Make) -> None:
    nodes = make_cluster(make)
    moved = next(n for n in nodes if n is not leader_of(nodes))
    moved.kill()
    moved.move()
    moved.start()
    until(lambda: leader_of(nodes), *nodes)
    put(moved, "x", nodes)
    until(lambda: address(nodes[0], moved.nid) == moved.addr, *nodes)


def test_all_nodes_at_new_addresses_find_each_other(make: Make) -> None:
    nodes = make_cluster(make)
    put(nodes[0], "x", nodes)
    for node in nodes:
        node.kill()
        node.move()
    for node in nodes:
        node.settings["ensemble"] = [["", n.addr] for n in nodes if n is not node]
        node.start()
    until(lambda: leader_of(nodes), *nodes)
    put(nodes[1], "y", nodes)
