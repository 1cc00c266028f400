"""How current reads are, level by level: which ask for a round, which may run, which must wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyraft_fast import _entry, raft
from pyraft_fast.errors import ConfigError
from pyraft_fast.limits import READ_AGE_MS_MAX
from pyraft_fast.read_level import ReadLevel, parse_level
from pyraft_fast.serving import propose, reads
from pyraft_fast.serving.reads import ReadGate
from pyraft_fast.serving.treaty import RoleFact
from tests.serving.fake import Client, FakeLog, FakeNode, eventually, running, service

NO_LEADER = RoleFact("candidate", 2, "", "", False)
LEADER = RoleFact("leader", 2, "1", "127.0.0.1:1", True)


def gate(node: FakeNode) -> ReadGate:
    return service(node).gate


def facts(node: FakeNode) -> dict[str, Any]:
    found: dict[str, Any] = node.in_loop(node.engine.facts)
    return found


class Clock:
    """A steady clock that stands until it is moved."""

    def __init__(self, node: FakeNode) -> None:
        self.ns = gate(node).steady_ns()
        node.in_loop(lambda: setattr(gate(node), "steady_ns", lambda: self.ns))

    def pass_ms(self, ms: int) -> None:
        self.ns += ms * 1_000_000


def answer_read(node: FakeNode, at: int, index: int, time_ms: int) -> None:
    """The round that was asked for as number `at` comes back."""

    def come() -> None:
        consensus = node.consensus()
        consensus.queue.append(
            _entry.seal(_entry.KIND_READ, index, 0, time_ms, 0, 0, node.log.reads[at], 0, b"")
        )
        consensus.tell()

    node.in_loop(come)


def consistency(client: Client, *words: str) -> Any:
    return client.ask(" ".join(["CLIENT CONSISTENCY", *words]))


# What users write


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("linearizable", ReadLevel("linearizable")),
        ("LEASE", ReadLevel("lease")),
        ("Local", ReadLevel("local")),
        ("max-age:1", ReadLevel("max-age", 1)),
        (f"Max-Age:{READ_AGE_MS_MAX}", ReadLevel("max-age", READ_AGE_MS_MAX)),
    ],
)
def test_levels_are_read_in_any_case_and_shown_as_the_flag(text: str, level: ReadLevel) -> None:
    assert parse_level(text) == level
    assert str(level) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "", "old", "local:5", "lease:", "max-age", "max-age:", "max-age:0", "max-age:-1",
        "max-age:1.5", "max-age:٣", "max-age:5 ", f"max-age:{READ_AGE_MS_MAX + 1}",
        "max-age:" + "9" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_no_level(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_level(text)


def test_the_flag_takes_every_level(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("linearizable", "lease", "local", "max-age:500"):
        node = raft.make_default_node(argv=["-a", "127.0.0.1:1", "--reads", given])
        assert node.settings.reads == node.config_get()["raft-reads"] == given
    assert raft.make_default_node(argv=["-a", "127.0.0.1:1"]).settings.reads == "linearizable"
    with pytest.raises(SystemExit) as ended:
        raft.make_default_node(argv=["-a", "127.0.0.1:1", "--reads", "max-age"])
    assert ended.value.code == 2
    assert "max-age takes from 1 to 86400000 milliseconds" in capsys.readouterr().err


def test_a_connection_shows_and_chooses_its_level(tmp_path: Path) -> None:
    with running(tmp_path, reads="max-age:200") as node, node.client() as client:
        assert consistency(client) == "max-age 200"
        for given, shown in [
            ("linearizable", "linearizable"),
            ("Lease", "lease"),
            ("LOCAL", "local"),
            ("max-age 500", "max-age 500"),
            ("MAX-AGE:7", "max-age 7"),
            ("default", "max-age 200"),
        ]:
            assert consistency(client, given) == "OK"
            assert consistency(client) == shown
        assert client.ask("client consistency local", "CLIENT CONSISTENCY") == ["OK", "local"]
        with node.client() as other:
            assert consistency(other) == "max-age 200"
        assert "consistency=local" in client.ask("CLIENT INFO")
        assert client.ask("RESET", "CLIENT CONSISTENCY") == ["RESET", "max-age 200"]


def test_a_wrong_level_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as node, node.client() as client:
        consistency(client, "lease")
        for wrong in ("old", "max-age", "max-age 0", "max-age 1e3", "local 5", "default 5", "''"):
            assert consistency(client, wrong).startswith("-ERR "), wrong
        assert consistency(client, "max-age 5 5").startswith("-ERR wrong number of arguments")
        assert consistency(client) == "lease"
        assert any("CONSISTENCY" in line for line in client.ask("CLIENT HELP"))


def test_info_shows_the_level_of_the_node_and_reads_by_level(tmp_path: Path) -> None:
    with running(tmp_path, reads="lease") as node, node.client() as client:
        client.ask("GET k", "GET k")
        consistency(client, "local")
        client.ask("GET k")
        consistency(client, "linearizable")
        client.ask("GET k", "GET k", "GET k")
        consistency(client, "max-age 60000")
        client.ask("GET k", "GET k", "GET k", "GET k")
        node.engine.submit(("get", "k")).get(5)
        lines = client.ask("INFO raft").split("\r\n")
        for line in (
            "raft_reads:lease", "raft_reads_lease:3", "raft_reads_local:1",
            "raft_reads_linearizable:3", "raft_reads_max_age:4",
        ):  # fmt: skip
            assert line in lines
        node.in_loop(node.engine.reset_stats)
        assert "raft_reads_lease:0" in client.ask("INFO raft").split("\r\n")


# Which reads ask for what


def test_only_lease_reads_may_be_answered_by_a_lease(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        for level, asked in [
            ("linearizable", [False]), ("lease", [True]), ("local", []), ("default", [False]),
        ]:  # fmt: skip
            consistency(client, level)
            log.by_lease.clear()
            client.ask("GET k")
            assert log.by_lease == asked, level
        log.by_lease.clear()
        consistency(client, "max-age 1")
        Clock(node).pass_ms(10_000)
        client.ask("GET k")
        assert log.by_lease == [False]  # stale: a round that others confirm


def test_calls_of_the_process_use_the_level_of_the_node(tmp_path: Path) -> None:
    for level, asked in [("lease", [True]), ("linearizable", [False]), ("local", [])]:
        log = FakeLog()
        with running(tmp_path, log, reads=level) as node:
            node.engine.submit(("get", "k")).get(5)
            assert log.by_lease == asked


def test_reads_whose_turn_took_long_ask_all_the_same(tmp_path: Path) -> None:
    """Whoever looks for overdue reads right behind that turn finds them before they have asked."""
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        rounds = gate(node).linearizable
        begin, loop = rounds._begin, gate(node)._loop

        def begin_slowly(group: reads.ReadGroup) -> None:
            loop.call_soon(gate(node).sweep, loop.time() + 2 * reads.GATHER_SECONDS)
            begin(group)

        node.in_loop(lambda: setattr(rounds, "_begin", begin_slowly))
        assert client.ask("GET k") is None
        assert len(log.reads) == 1


def test_reads_of_a_turn_share_a_round_per_level(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="lease") as node:
        with node.client() as one, node.client() as two:
            consistency(two, "linearizable")
            one.send("GET k", "GET k")
            two.send("GET k", "GET k")
            assert one.reply() is one.reply() is two.reply() is two.reply() is None
            assert sorted(set(log.by_lease)) == [False, True]
            assert len(log.reads) <= 4
        log.by_lease.clear()

        def many() -> None:
            for _ in range(5):
                node.engine.submit(("get", "k"))

        node.in_loop(many)
        eventually(lambda: facts(node)["reads_lease"] == 7)
        assert log.by_lease == [True]


def test_a_lease_read_waits_for_its_index(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.send("GET k")
        eventually(lambda: log.reads)
        answer_read(node, 0, 1, log.time_ms)
        assert node.in_loop(lambda: len(gate(node)._behind)) == 1
        node.in_loop(lambda: log.append_commands(["set", "k", "new"]))
        node.in_loop(node.consensus().pump)
        assert client.reply() == "new"


def test_lease_reads_are_asked_again_under_a_new_leader_and_a_new_process(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log, reads="lease") as node, node.client() as client:
        client.send("GET k")
        eventually(lambda: log.by_lease == [True])
        node.in_loop(lambda: node.consensus().events.resend())
        assert log.by_lease == [True, True]
        answer_read(node, 0, 0, log.time_ms)  # of the leader before: nobody hears it
        node.in_loop(lambda: node.consensus().die())
        eventually(lambda: log.spawned == 2 and log.by_lease == [True] * 3)
        assert node.in_loop(lambda: list(gate(node)._asked)) == [3]
        answer_read(node, 2, 0, log.time_ms)
        assert client.reply() is None


# Local


def test_local_reads_ask_nobody_and_need_no_leader(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k 1")
        node.in_loop(lambda: node.consensus().events.role(NO_LEADER))
        consistency(client, "local")
        log.reads.clear()
        assert client.ask("GET k") == "1"
        assert log.reads == []


@pytest.mark.parametrize("level", ["local", "max-age 60000", "lease"])
def test_a_read_sees_the_writes_before_it_on_its_connection(tmp_path: Path, level: str) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("GET k")
        consistency(client, level)
        log.commit = False
        client.send("SET k 1", "GET k")  # rides with the batch
        eventually(lambda: log.kept)
        client.send("GET k")  # behind a batch that is under way
        eventually(lambda: node.in_loop(lambda: service(node).desk.stats.commands) >= 5)
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert [client.reply() for _ in range(3)] == ["OK", "1", "1"]


# Bounded age


def test_an_age_is_counted_from_when_the_newest_round_was_asked(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log) as node, node.client() as client, node.client() as other:
        clock = Clock(node)
        consistency(client, "max-age 500")
        other.send("GET k")
        eventually(lambda: len(log.reads) == 1)
        clock.pass_ms(300)  # on its way; the answer says nothing of this time
        answer_read(node, 0, 0, log.time_ms)
        assert other.reply() is None
        clock.pass_ms(200)
        assert client.ask("GET k") is None
        assert len(log.reads) == 1
        clock.pass_ms(1)
        client.send("GET k")
        eventually(lambda: len(log.reads) == 2)
        assert log.by_lease == [False, False]
        answer_read(node, 1, 0, log.time_ms)
        assert client.reply() is None
        clock.pass_ms(500)
        assert client.ask("GET k", "GET k") == [None, None]
        assert len(log.reads) == 2


def test_nothing_is_fresh_before_the_first_round(tmp_path: Path) -> None:
    """Soon after the machine booted its steady clock is younger than an age may be."""
    log = FakeLog()
    with running(tmp_path, log, reads=f"max-age:{READ_AGE_MS_MAX}") as node:
        Clock(node).ns = 1
        with node.client() as client:
            client.ask("GET k")
            assert len(log.reads) == 1
            client.ask("GET k")
            assert len(log.reads) == 1


def test_a_lease_round_makes_fresh_too(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        Clock(node)
        consistency(client, "lease")
        client.ask("GET k")
        consistency(client, "max-age 1")
        client.ask("GET k")
        assert log.by_lease == [True]


def test_a_round_whose_index_is_not_applied_makes_nothing_fresh(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log) as node, node.client() as client, node.client() as other:
        Clock(node)
        consistency(client, "max-age 60000")
        other.send("GET k")
        eventually(lambda: len(log.reads) == 1)
        answer_read(node, 0, 1, log.time_ms)
        client.send("GET k")
        eventually(lambda: len(log.reads) == 2)
        node.in_loop(lambda: log.append_commands(["set", "k", "new"]))
        node.in_loop(node.consensus().pump)
        assert other.reply() == "new"
        answer_read(node, 1, 1, log.time_ms)
        assert client.reply() == "new"
        assert client.ask("GET k") == "new"
        assert len(log.reads) == 2


def test_a_round_that_was_given_up_makes_nothing_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (propose, reads):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log, reads="max-age:60000") as node, node.client() as client:
        for count in (1, 2):
            assert client.ask("GET k").startswith("-CLUSTERDOWN no majority confirmed")
            assert len(log.reads) == count
        answer_read(node, 1, 0, log.time_ms)  # too late
        assert client.ask("GET k").startswith("-CLUSTERDOWN")
        assert len(log.reads) == 3


def test_without_a_leader_reads_go_on_for_their_age_and_are_refused_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (propose, reads):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    log = FakeLog()
    with running(tmp_path, log, reads="max-age:500") as node, node.client() as client:
        clock = Clock(node)
        client.ask("SET k 1")
        client.ask("GET k")
        log.role = NO_LEADER
        node.in_loop(lambda: node.consensus().die())  # the data does not go back with it
        eventually(lambda: log.spawned == 2)
        clock.pass_ms(500)
        assert client.ask("GET k") == "1"
        clock.pass_ms(1)
        assert client.ask("GET k").startswith("-CLUSTERDOWN")
        log.role = LEADER
        node.in_loop(lambda: node.consensus().events.role(LEADER))
        assert client.ask("GET k") == "1"


def test_fresh_data_is_not_served_while_a_snapshot_is_loaded(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, reads="max-age:60000") as node, node.client() as client:
        client.ask("SET k old")
        client.ask("GET k")

        def begin() -> None:
            service(node).desk.loading = True
            node.data.clear()

        node.in_loop(begin)
        call = node.in_loop(lambda: node.engine.submit(("get", "k")))
        assert client.ask("GET k").startswith("-LOADING")

        def complete() -> None:
            node.data["k"] = "loaded"
            service(node).desk.loading = False
            service(node).desk.go_on()

        node.in_loop(complete)
        assert call.get(5) == client.ask("GET k") == "loaded"
        assert len(log.reads) == 1


# Order and time


def test_a_younger_read_at_a_lower_level_does_not_overtake(tmp_path: Path) -> None:
    """Commands that change the level wait for the answers before them, and so do reads."""
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log) as node, node.client() as client, node.client() as other:
        consistency(other, "local")
        client.send("GET k", "CLIENT CONSISTENCY local", "GET k")
        eventually(lambda: log.reads)
        assert other.ask("GET k") is None  # who did not ask for more is not held up
        answer_read(node, 0, 1, log.time_ms)
        node.in_loop(lambda: log.append_commands(["set", "k", "new"]))
        node.in_loop(node.consensus().pump)
        assert [client.reply() for _ in range(3)] == ["new", "OK", "new"]


def test_a_read_that_turns_stale_in_a_pipeline_keeps_its_place(tmp_path: Path) -> None:
    log = FakeLog()
    log.answer_reads = False
    with running(tmp_path, log, reads="max-age:500") as node, node.client() as client:
        clock = Clock(node)
        client.send("GET a")
        eventually(lambda: log.reads)
        node.in_loop(lambda: setattr(gate(node), "fresh_ns", clock.ns))
        client.send("GET b", "PING")  # fresh, yet behind one that waits
        eventually(lambda: facts(node)["reads_max-age"] == 1)
        node.in_loop(lambda: log.append_commands(["mset", "a", "1", "b", "2"]))
        answer_read(node, 0, 1, log.time_ms)
        node.in_loop(node.consensus().pump)
        assert [client.reply() for _ in range(3)] == ["1", "2", "PONG"]


def test_a_clock_ahead_of_the_data_hides_no_key(tmp_path: Path) -> None:
    """A later entry may have kept the key; only with that entry applied may its time be used."""
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client, node.client() as local:
        consistency(local, "local")
        client.ask("SET k 1 PX 100")
        log.answer_reads = False
        log.reads.clear()
        client.send("GET k")
        eventually(lambda: log.reads)
        answer_read(node, 0, 2, log.time_ms + 200)  # behind an entry that is not here yet
        assert local.ask("GET k") == "1"
        log.time_ms += 50
        node.in_loop(lambda: log.append_commands(["persist", "k"]))
        node.in_loop(node.consensus().pump)
        assert client.reply() == "1"
        assert local.ask("GET k", "TTL k") == ["1", -1]
