"""Pipelines whose parts take different ways: nothing is swapped or left over."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pyraft_fast import _turn
from pyraft_fast.common import Future
from pyraft_fast.errors import CommandError, ConfigError, TryAgain
from pyraft_fast.serving import propose, reads
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.treaty import RoleFact
from tests.serving.fake import FakeLog, FakeNode, eventually, running, service

NO_LEADER = RoleFact("follower", 2, "", "", False)


def test_a_read_with_dice_before_a_write_changes_no_data(tmp_path: Path) -> None:
    """Only the node that was asked runs the read; the write must draw as everywhere else."""
    log = FakeLog()
    members = " ".join(f"member{number}" for number in range(50))
    with running(tmp_path / "asked", log) as node, node.client() as client:
        assert client.ask(f"SADD s {members}") == 50
        for _ in range(8):
            client.ask("SRANDMEMBER s", "SPOP s", "SRANDMEMBER s 3", "SPOP s")
        asked = list(node.data["s"])
    with running(tmp_path / "other", log) as other, other.client() as client:
        assert client.ask("SCARD s") == len(asked)
        assert list(other.data["s"]) == asked


def test_dice_of_other_threads_are_their_own(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        mine = node.engine.random
        inside = node.in_loop(lambda: node.engine.random)
        assert mine is not inside
        assert inside is node.in_loop(lambda: node.engine.random)


def test_long_local_answers_do_not_leave_commands_behind(tmp_path: Path) -> None:
    """A client that reads fast: the kernel takes all, and nobody is told to go on."""
    with running(tmp_path) as node, node.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        count = 300
        client.socket.sendall(b"COMMAND\r\n" * count)
        sizes = {len(client.reply()) for _ in range(count)}
        assert len(sizes) == 1
        assert client.ask("PING") == "PONG"


@pytest.mark.parametrize("level", ["local", "linearizable"])
def test_reads_wait_for_a_client_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Much more is asked for than may lie unread; all of it comes, in order, once it is read."""
    monkeypatch.setattr(_turn.bounds, "output_bytes_pause", 100_000)
    monkeypatch.setattr(_turn.bounds, "output_bytes_max", 16_000_000)
    with running(tmp_path, reads=level) as node, node.client() as client:
        node.in_loop(lambda: node.data.update(large="x" * 10_000_000, small="y"))
        count = 4096  # commands are taken 1024 at a time
        client.send(*["GET small" if number % 1024 else "GET large" for number in range(count)])
        clients = service(node).desk.clients
        eventually(lambda: any(client.writing_paused for client in list(clients.values())))
        sizes = [len(client.reply()) for _ in range(count)]
        assert sizes == [1 if number % 1024 else 10_000_000 for number in range(count)]
        assert client.ask("PING") == "PONG"


def test_stopping_swaps_no_answers(tmp_path: Path) -> None:
    """A write that was sent lies before one that was not, and is committed while the node stops."""
    log = FakeLog()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client:
        client.send("SET sent 1")
        eventually(lambda: log.kept)
        node.in_loop(lambda: node.consensus().events.role(NO_LEADER))
        client.send("SET unsent 2", "GET sent")
        eventually(lambda: node.in_loop(lambda: service(node).proposer.open.ops))

        def shutdown() -> None:
            consensus = node.consensus()
            log.commit_kept()
            consensus.pump()
            consensus.loop.call_later(0.05, consensus.die)

        node.consensus().shutdown = shutdown  # type: ignore[method-assign]
        node.engine.stop()
        assert client.reply() == "OK"
        assert client.reply().startswith("-TRYAGAIN")
        assert client.reply().startswith("-TRYAGAIN")
        assert client.ended()
        assert node.data == {"sent": "1"}


def test_a_read_behind_a_younger_write_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group may end before that write does; the read then waits for its turn, not for ever."""
    for module in (propose, reads):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(reads, "GATHER_SECONDS", 0.3)  # late enough for one group
    log = FakeLog()
    log.role = NO_LEADER
    with running(tmp_path, log) as node, node.client() as older, node.client() as client:
        older.send("GET k")
        eventually(lambda: node.in_loop(lambda: service(node).gate.linearizable.open.origins))
        time.sleep(0.1)
        client.send("SET k 1")
        eventually(lambda: node.in_loop(lambda: service(node).proposer.serial))  # it is closed
        client.send("GET k")
        assert older.reply().startswith("-CLUSTERDOWN")
        assert client.reply().startswith("-CLUSTERDOWN")
        assert client.reply().startswith("-CLUSTERDOWN")


def test_reads_wait_until_data_is_complete(tmp_path: Path) -> None:
    """A read whose index is applied, still behind a write, when a snapshot begins to be loaded."""
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k old")
        log.commit = False
        client.send("SET k new")
        eventually(lambda: log.kept)
        client.send("GET k")
        eventually(lambda: node.in_loop(lambda: service(node).gate.idle and log.reads))
        node.in_loop(lambda: setattr(service(node).desk, "loading", True))
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert client.reply() == "OK"
        node.in_loop(lambda: node.data.clear())
        assert node.in_loop(lambda: len(service(node).desk.postponed)) == 1

        def complete() -> None:
            node.data["k"] = "loaded"
            service(node).desk.loading = False
            service(node).desk.go_on()

        node.in_loop(complete)
        assert client.reply() == "loaded"


@pytest.mark.parametrize("flags", ["we", "r", "a"])
def test_a_handler_that_exits_fails_like_any_other(tmp_path: Path, flags: str) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    def leave(host: object, words: object) -> None:
        raise SystemExit(3)

    def mute(host: object, words: object) -> None:
        raise Mute

    with running(tmp_path) as node, node.client() as client:
        node.worker.handler["leave"] = [leave, flags, 0, 0]
        node.worker.handler["mute"] = [mute, flags, 0, 0]
        assert client.ask("LEAVE", "MUTE", "PING") == [
            "-ERR handler 'leave' failed: SystemExit: 3",
            "-ERR handler 'mute' failed: Mute: (no text)",
            "PONG",
        ]
        assert node.failures == []


def test_keys_that_cannot_be_compared_fail_in_the_handlers_that_meet_them(tmp_path: Path) -> None:
    """Keys are looked up ahead of the handlers; what goes wrong there is told by these."""

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            if self is other:
                return True
            raise ValueError("no key like this")

    with running(tmp_path) as node, node.client() as client:
        node.in_loop(lambda: node.data.update({Key("odd"): "1"}))
        writes = client.ask("SET a 1", "SET odd 2", "SET b 3", "SET odd 4", "SET c 5", "SET d 6")
        failed = "-ERR handler 'set' failed: ValueError: no key like this"
        assert writes == ["OK", failed, "OK", failed, "OK", "OK"]
        reads = client.ask("GET a", "GET b", "GET odd", "GET c")
        assert reads == ["1", "3", "-ERR handler 'get' failed: ValueError: no key like this", "5"]
        assert node.failures == []


def test_answers_of_one_batch_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads that ride in a batch are answered together; a short pipeline can ask for a lot."""
    monkeypatch.setattr(_turn.bounds, "output_bytes_max", 1 << 20)
    with running(tmp_path) as node, node.client() as client:
        node.worker.handler["much"] = [lambda host, words: "x" * 100_000, "r", 0, 0]
        held: list[int] = []
        clients = service(node).desk.clients
        node.worker.handler["look"] = [
            lambda host, words: held.append(max(len(c.out) for c in clients.values())), "we", 0, 0,
        ]  # fmt: skip
        client.send("LOOK", *["MUCH"] * 60, "LOOK")
        with pytest.raises((ConnectionError, AssertionError)):
            for _ in range(62):
                client.reply()
        eventually(lambda: len(held) == 2)
        assert held[1] == 0
        assert "too many unread answers" in caplog.text
        with node.client() as other:
            assert other.ask("SET k 1", "GET k") == ["OK", "1"]


def test_commands_wait_outside_when_too_many_bytes_are_unanswered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_turn.bounds, "unanswered_bytes_max", 100_000)
    log = FakeLog()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client:
        client.send("SET k 1")
        eventually(lambda: log.kept)
        (one,) = service(node).desk.clients.values()
        long = "x" * 20_000
        sending = threading.Thread(target=client.send, args=[f"ECHO {long}"] * 500)
        sending.start()
        eventually(lambda: not one.reading)
        assert sum(len(value) for _, value in one.late) < 2_000_000
        node.in_loop(log.commit_kept)
        node.in_loop(node.consensus().pump)
        assert client.reply() == "OK"
        assert [client.reply() for _ in range(500)] == [long] * 500
        sending.join()


def test_the_log_finds_its_own_rows(tmp_path: Path) -> None:
    """What clients of one node typed must not change what a command of the log means there."""
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        node.worker.handler["select"] = [
            lambda host, words: host.data.update(chosen=words[1]), "we", 1, 1,
        ]  # fmt: skip
        assert client.ask("select 0", "ping") == ["OK", "PONG"]
        node.engine.submit(("select", "7")).get(5)
        assert node.data == {"chosen": "7"}
        assert node.engine.submit(("ping",)).get(5) == "PONG"


def test_a_command_inside_a_handler_leaves_its_time_alone(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        seen: list[int] = []

        def look(host: FakeNode, words: object) -> None:
            host.request_async("time")
            host.request_async("get", "k")
            seen.append(host.store.now_ms)

        node.worker.handler["look"] = [look, "we", 0, 0]
        log.time_ms = 5_000_000
        client.ask("GET k")  # this node alone knows of the later time now
        log.time_ms = 2_000_000
        client.ask("LOOK")
        assert seen == [2_000_000]


def test_a_callback_of_a_future_may_send_commands(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        done: list[object] = []

        def then(_: Future) -> None:
            node.engine.submit(("incr", "n")).add_done_callback(lambda f: done.append(f.value))

        node.engine.submit(("incr", "n")).add_done_callback(then)
        eventually(lambda: done)
        assert done == [2]


def test_words_of_a_wrong_shape_are_refused(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        for words in ((["no", "name"],), ("get",), ("set", "k"), (), (b"get", "k")):
            with pytest.raises(CommandError):
                node.engine.submit(words).get(5)
        assert node.log.records == []


def test_a_callback_that_exits_stops_the_node_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as node:

        def leave(_: Future) -> None:
            raise SystemExit(3)

        child = node.consensus()
        node.engine.submit(("incr", "n")).add_done_callback(leave)
        eventually(lambda: node.failures)
        assert [status for _, status in node.failures] == [1]
        node.engine.stop()
        assert child.dead
        assert node.engine.join(0)
        with pytest.raises(TryAgain):
            node.engine.submit(("incr", "n")).get(5)


def test_settings_that_cannot_be_used_are_refused() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"reads": "old"}, {"log_max": 0}, {"log_max": -1})
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            Settings("1", "127.0.0.1:1", "127.0.0.1", 1, **wrong)
