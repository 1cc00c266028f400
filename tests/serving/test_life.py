"""Starting, snapshots, expiry, callbacks and stopping of an engine."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyraft_fast import _entry, common
from pyraft_fast.common import Future
from pyraft_fast.errors import StartError, StorageError, TryAgain
from pyraft_fast.serving import snapshot, startup
from pyraft_fast.serving.treaty import RoleFact
from pyraft_fast.storage.snapshot import read_items, read_meta
from tests.serving.fake import FakeLog, FakeNode, eventually, running, service


def test_a_folder_is_used_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup.lock_folder, "__defaults__", (0.0,))
    with (
        running(tmp_path),
        pytest.raises(StartError, match=f"{tmp_path}.*process {os.getpid()}"),
    ):
        FakeNode(tmp_path).engine.start()
    with running(tmp_path):
        pass


def test_unusable_folders_and_ports_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="file/data"):
        FakeNode(tmp_path / "file" / "data").engine.start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = FakeNode(tmp_path / "n", port=port)
        with pytest.raises(StartError, match=f"port {port} .*in use"):
            node.engine.start()
    with running(tmp_path / "n"):
        pass


def test_start_and_stop_may_be_repeated(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    for number in range(3):
        node.engine.start()
        node.engine.start()
        assert node.engine.submit(["INCR", "n"]).get(5) == number + 1
        node.engine.stop()
        node.engine.stop()
        assert not node.engine.running
        assert node.engine.join(1)


def test_callbacks_run_in_order_after_the_change(tmp_path: Path) -> None:
    log = FakeLog()
    node = FakeNode(tmp_path, log)
    states: list[str] = []
    node.on_leader = lambda: states.append(node.engine.role)  # type: ignore[attr-defined]
    node.engine.start()
    eventually(lambda: "on_ready" in node.events)
    assert node.events[0] == "on_start"
    node.in_loop(lambda: node.consensus().events.role(RoleFact("follower", 2, "2", "h:1", True)))
    node.in_loop(lambda: node.consensus().events.role(RoleFact("candidate", 3, "", "", False)))
    node.engine.stop()
    assert states == ["leader"]
    assert node.events == [
        "on_start", "on_ready", "on_leader_lost", "on_follower", "on_candidate", "on_shutdown",
    ]  # fmt: skip


def test_a_leader_shows_as_one_when_it_has_applied_the_log_up_to_its_term(tmp_path: Path) -> None:
    log = FakeLog()
    log.role = RoleFact("leader", 1, "1", "127.0.0.1:1", True)
    with running(tmp_path, log) as node, node.client() as client:
        eventually(lambda: "on_ready" in node.events)
        assert node.engine.role != "leader"
        assert "on_leader" not in node.events
        client.ask("SET k v")  # an entry of term 1
        eventually(lambda: node.engine.role == "leader")
        eventually(lambda: "on_leader" in node.events)


def test_a_failing_callback_harms_nobody(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)

    def fail() -> None:
        raise ValueError("callback")

    node.on_leader = fail  # type: ignore[attr-defined]
    node.engine.start()
    try:
        eventually(lambda: "on_ready" in node.events)
        assert node.engine.submit(["SET", "k", "v"]).get(5) is True
    finally:
        node.engine.stop()
    assert node.events[-1] == "on_shutdown"


def test_checkpoint_writes_what_is_applied(tmp_path: Path) -> None:
    log = FakeLog()
    log.time_ms = int(time.time() * 1000)  # else the key is overdue, and the leader proposes
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k v", "RPUSH list a b", "PEXPIRE k 100000", "SADD s x")
        path = node.engine.checkpoint().get(20)
        meta = read_meta(path)
        assert meta.index == len(log.records) == node.engine.snapshot_index
        assert meta.cluster == 9
        assert meta.sessions == node.engine._service.applier.sessions.copy()
        assert {item.key: item.deadline_ms for item in read_items(path)} == {
            "k": log.time_ms + 100_000, "list": None, "s": None,
        }  # fmt: skip
        eventually(lambda: log.snapshots == [(path, meta.index, 1)])
        copy = str(tmp_path / "copy.dat")
        client.ask("SET more 1")
        assert node.engine.checkpoint(copy).get(20) == copy
        assert read_meta(copy).index == meta.index + 1
        assert client.ask("CHECKPOINT") is not None
        eventually(lambda: "on_snapshot" in node.events)


def test_snapshots_come_by_themselves(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log, log_max=50) as node, node.client() as client:
        for _ in range(4):
            client.ask(*["INCR n"] * 30)
        eventually(lambda: log.snapshots)
        assert log.snapshots[0][1] < len(log.records) + 1


def test_by_default_a_snapshot_also_waits_for_a_log_that_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FakeLog()
    monkeypatch.setattr(common, "CONF_LOG_MAX", 50)
    monkeypatch.setattr(common, "LOG_MAX_DEFAULT", 50)
    monkeypatch.setattr(snapshot, "LOG_BYTES_MIN", 100_000)
    with running(tmp_path, log) as node, node.client() as client:
        client.ask(*["INCR n"] * 60)
        writer = node.engine._service.writer
        assert not writer.busy and log.snapshots == []
        client.ask(*["SET k " + 40_000 * "x"] * 3)
        eventually(lambda: log.snapshots)
        assert writer.last_bytes == os.path.getsize(log.snapshots[0][0])
        monkeypatch.setattr(common, "CONF_LOG_MAX", 60)  # somebody's choice: by commands alone
        client.ask(*["INCR n"] * 70)
        eventually(lambda: len(log.snapshots) == 2)


def test_large_values_are_loaded_in_as_many_slices(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        for number in range(5):
            node.engine.submit(["SET", f"k{number}", 100_000 * "x"]).get(5)
        client.ask(*[f"SET s{number} x" for number in range(100)])
        path = node.engine.checkpoint().get(20)
        applier = node.engine._service.applier
        steps = node.in_loop(lambda: len(list(applier.load(path))))
        assert steps == 5, "one for each large value; the small ones are a last one"
        assert client.ask("STRLEN k4", "GET s99") == [100_000, "x"]


def test_a_few_large_values_make_a_log_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FakeLog()
    monkeypatch.setattr(snapshot, "LOG_BYTES_MAX", 100_000)
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k " + 40_000 * "x")
        assert not node.engine._service.writer.busy and log.snapshots == []
        client.ask(*["SET k " + 40_000 * "x"] * 2)
        eventually(lambda: log.snapshots)


def test_the_log_never_forgets_what_no_snapshot_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the entries are: past so many, the oldest could not be found any more."""
    log = FakeLog()
    monkeypatch.setattr(snapshot, "SNAPSHOT_ENTRIES_MAX", 20)
    with running(tmp_path, log) as node, node.client() as client:
        eventually(lambda: client.ask("INCR n") and len(log.snapshots) == 2)
        first, second = (index for _, index, _ in log.snapshots)
        assert first == 20 and second >= 40


def test_a_snapshot_that_failed_is_due_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FakeLog()
    monkeypatch.setattr(snapshot, "RETRY_SECONDS", 0.0)
    node = FakeNode(tmp_path, log, log_max=30)
    node.worker.handler["put"] = [
        lambda host, words: bool(host.data.update({"odd one": {1, 2, 3}})) or True, "we", 0, 0,
    ]  # fmt: skip
    node.engine.start()
    try:
        node.engine.submit(["PUT"]).get(5)
        for _ in range(30):
            node.engine.submit(["INCR", "n"]).get(5)
        writer = node.engine._service.writer
        eventually(lambda: writer.failures)
        node.engine.submit(["DEL", "odd one"]).get(5)
        eventually(lambda: not writer.busy)
        node.engine.submit(["INCR", "n"]).get(5)  # one command is enough
        eventually(lambda: log.snapshots)
    finally:
        node.engine.stop()


def test_the_writing_process_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(*_: Any, **__: Any) -> None:
        raise StorageError(f"nice {os.nice(0)}, policy {os.sched_getscheduler(0)}")

    monkeypatch.setattr(snapshot, "write_snapshot", tell)
    with running(tmp_path, FakeLog()) as node, node.client() as client:
        client.ask("SET k v")
        wanted = f"nice {os.nice(0) + snapshot.NICENESS}, policy {os.SCHED_BATCH}"
        with pytest.raises(StorageError, match=wanted):
            node.engine.checkpoint().get(20)
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_an_orphan_writes_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    look = snapshot.parent_watch()
    look()
    assert exits == []
    monkeypatch.setattr(os, "getppid", lambda: 1)
    look()
    assert exits == [1]


def test_a_snapshot_that_fails_says_why_and_is_not_the_end(tmp_path: Path) -> None:
    log = FakeLog()
    node = FakeNode(tmp_path, log)

    def put(host: Any, words: Any) -> bool:
        host.data["odd one"] = {1, 2, 3}
        return True

    node.worker.handler["put"] = [put, "we", 0, 0]
    node.engine.start()
    try:
        node.engine.submit(["PUT"]).get(5)
        with pytest.raises(StorageError, match="odd one"):
            node.engine.checkpoint().get(20)
        assert log.snapshots == []
        node.engine.submit(["DEL", "odd one"]).get(5)
        assert read_meta(node.engine.checkpoint().get(20)).keys == 0
    finally:
        node.engine.stop()


def test_all_who_want_a_snapshot_meanwhile_get_the_next_one(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k v")
        serving = service(node)
        copy = str(tmp_path / "copy.dat")
        futures = [Future() for _ in range(50)]
        timers: list[Any] = []

        def ask_all() -> None:
            call_later = serving.loop.call_later
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(serving, "loop", SimpleNamespace(
                    call_later=lambda *args: timers.append(args) or call_later(*args)
                ))  # fmt: skip
                for future in futures[:-1]:
                    serving.checkpoint(future, None)
                serving.checkpoint(futures[-1], copy)

        serving.loop.call_soon_threadsafe(ask_all)
        paths = [future.get(20) for future in futures]
        assert len(timers) == 1
        assert paths[-1] == copy
        assert len(set(paths[1:-1])) == 1
        eventually(lambda: len(log.snapshots) == 2)  # one for the first, one for all the others
        assert not serving.writer.busy


def test_who_waits_for_the_next_snapshot_is_told_when_the_node_stops(tmp_path: Path) -> None:
    with running(tmp_path, FakeLog()) as node, node.client() as client:
        client.ask("SET k v")
        serving = service(node)
        futures = [Future() for _ in range(3)]

        def ask_and_stop() -> None:
            for future in futures:
                serving.checkpoint(future, None)
            serving.stop(0.0)

        serving.loop.call_soon_threadsafe(ask_and_stop)
        for future in futures[1:]:
            with pytest.raises(TryAgain, match="stops"):
                future.get(20)


def test_a_node_starts_from_its_snapshot_and_the_log_behind_it(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k v", "INCR n")
        log.snapshot_path = node.engine.checkpoint().get(20)
        log.snapshot_index = node.engine.snapshot_index
        client.ask("INCR n")
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("GET k", "GET n", "INCR n") == ["v", "2", 3]
        assert service(node).host.store.version == node.engine.applied_index


def test_an_installed_snapshot_replaces_the_data(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path / "a", log) as node, node.client() as client:
        client.ask(*[f"SET key:{number} {number}" for number in range(3000)])
        path = node.engine.checkpoint().get(20)
        index = node.engine.applied_index
    other = FakeLog()
    other.records = []
    other.starts = log.starts
    with running(tmp_path / "b", other) as node, node.client() as client:
        assert not node.data

        def install() -> None:
            other.records = list(log.records)
            payload = _entry.packb([path, index, 1])
            consensus = node.consensus()
            consensus.queue.append(
                _entry.seal(_entry.KIND_SNAPSHOT, index, 1, 0, 0, 0, 0, 0, payload)
            )
            consensus.published = index
            consensus.tell()

        node.in_loop(install)
        eventually(lambda: node.engine.applied_index == index)
        assert client.ask("GET key:2999", "SET more 1", "DBSIZE") == ["2999", "OK", 3001]
        assert service(node).host.store.version == node.engine.applied_index == index + 1


def test_keys_end_through_the_log_on_an_idle_leader(tmp_path: Path) -> None:
    log = FakeLog()
    with running(tmp_path, log) as node, node.client() as client:
        client.ask("SET k v PX 1000", "SET other v")
        before = len(log.records)
        log.time_ms += 2000
        eventually(lambda: "k" not in node.data)
        assert len(log.records) == before + 1
        assert client.ask("GET other") == "v"


def test_reads_hide_what_is_over_before_the_log_removes_it(tmp_path: Path) -> None:
    log = FakeLog()
    log.role = RoleFact("follower", 1, "2", "127.0.0.1:2", True)
    with running(tmp_path, log) as node, node.client() as client:
        assert client.ask("SET k v PX 1000", "GET k") == ["OK", "v"]
        log.time_ms += 2000
        assert client.ask("GET k", "EXISTS k") == [None, 0]
        assert "k" in node.data


def test_stopping_answers_everybody(tmp_path: Path) -> None:
    log = FakeLog()
    log.commit = False
    with running(tmp_path, log) as node, node.client() as client:
        client.send("SET k 1", "GET k")
        future = node.engine.submit(["SET", "k", "2"])
        while len(log.kept) < 1:
            node.in_loop(lambda: None)
        node.engine.stop()
        assert client.reply().startswith("-UNCERTAIN")
        assert client.reply().startswith("-TRYAGAIN")
        assert client.ended()
        assert isinstance(future.value, Exception)


def test_random_numbers_depend_on_the_place_in_the_log_alone(tmp_path: Path) -> None:
    rolls: list[list[float]] = []
    for name in ("a", "b"):
        drawn: list[float] = []
        node = FakeNode(tmp_path / name)

        def roll(host: Any, words: Any, drawn: list[float] = drawn) -> bool:
            drawn.append(host.random.random())
            drawn.append(host.random.random())
            return True

        node.worker.handler["roll"] = [roll, "we", 0, 0]
        node.engine.start()
        with node.client() as client:
            client.ask("ROLL", "ROLL", "RANDOMKEY", "SRANDMEMBER s", "ROLL")
            client.ask("ROLL")
        node.engine.stop()
        rolls.append(drawn)
    assert rolls[0] == rolls[1]
    assert len(set(rolls[0])) == 8
