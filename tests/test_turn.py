"""The serving loop's work per command against its plain twin: random scripts, and single rules."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest

from pyraft_fast import _turn
from pyraft_fast._resp import encode_command
from pyraft_fast.errors import ClusterDown, InvariantError, RaftException
from tests.turn_script import script
from tests.turn_world import LOW_BOUNDS, NodeStops, NotedRow, World
from tests.twins import turn_twin
from tests.twins.turn_twin import RIDING

SEEDS, SEEDS_PER_TEST, STEPS = 600, 30, 80


@pytest.fixture(params=[_turn, turn_twin], ids=["product", "twin"])
def turn(request: pytest.FixtureRequest) -> Any:
    return request.param


def lower(patch: pytest.MonkeyPatch, bounds: dict[str, int]) -> None:
    for turn in (_turn, turn_twin):
        for name, value in bounds.items():
            patch.setattr(turn.bounds, name, value)


def play_both(seed: int) -> None:
    dice = random.Random(f"turn {seed}")
    password = dice.choice([None, None, "secret"])
    with pytest.MonkeyPatch.context() as patch:
        lower(patch, {name: low for name, low in LOW_BOUNDS.items() if dice.random() < 0.6})
        groups = dice.choice([1, 1, 3])
        product, twin = World(_turn, password, groups), World(turn_twin, password, groups)
        for number, step in enumerate(script(dice, STEPS)):
            got, want = product.play(*step), twin.play(*step)
            if got != want:
                parts = [part for part in want if got[part] != want[part]]
                shown = "\n".join(f"{part}:\n  {got[part]}\n  {want[part]}" for part in parts)
                pytest.fail(f"seed {seed}, step {number}, {step}: product and twin say\n{shown}")


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_product_and_twin_do_the_same(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        play_both(seed)


def test_a_long_pipeline_is_taken_in_pieces() -> None:
    words = [["ping"], ["set", "ok"], ["get", "one"], ["get", "raft"]]
    data = b"".join(encode_command(words[number % 4]) for number in range(5000))
    steps: list[tuple[Any, ...]] = [("come", 0, data, [60_000] * 5)]
    more = ("come", 0, b"", [60_000] * 5)  # it stops reading now and then
    steps += [("turn_ends",), ("applied",), ("confirm", 0, False), ("settle",), more] * 100
    product, twin = World(_turn), World(turn_twin)
    for step in steps:
        assert product.play(*step) == twin.play(*step)
    assert product.slots[0].answered == 3750  # what goes at once is not counted
    assert not product.slots[0].waiting


# The log


def logged(world: World, **values: Any) -> dict[str, Any]:
    """Rows that answer with their value or raise it; `world.log` says who ran, and where."""

    def function(name: str, value: Any, node: Any, words: list[str]) -> Any:
        world.log.append((name, node, words, world.place.position))
        if isinstance(value, BaseException):
            raise value
        return value

    rows = {}
    for name, value in values.items():
        rows[name] = world.kinds.Row(world, "set")
        rows[name].name, rows[name].function = name, partial(function, name, value)
    world.rows.update(rows)
    return rows


def test_apply_runs_every_command_at_its_place(turn: Any) -> None:
    world = World(turn)
    known = logged(world, a=1, b=RaftException("no"), c=SystemExit(2), d=ValueError())
    commands = [(0, [name]) for name in "abcda"]
    turn.apply(world.place, "node", commands, known)
    ran = [(name, "node", [name], number) for number, name in enumerate("abcda")]
    assert world.log == ran


@pytest.mark.parametrize("function", ["apply", "answer"])
def test_a_handler_out_of_memory_stops_the_node(turn: Any, function: str) -> None:
    world = World(turn)
    known = logged(world, a=1, m=MemoryError(), z=3)
    commands = [(0, ["a"]), (0, ["m"]), (0, ["z"])]
    world.call.waiting = 3
    with pytest.raises(NodeStops, match="m"):
        if function == "apply":
            turn.apply(world.place, "node", commands, known)
        else:
            turn.answer(world.place, "node", commands, [world.call] * 3, known, world.dirty)
    assert [entry[0] for entry in world.log if entry[0] != "call"] == ["a", "m"]
    assert world.place.position == 1
    assert world.call.waiting == (3 if function == "apply" else 2)


def test_answers_go_to_who_sent_the_command(turn: Any) -> None:
    world = World(turn)
    known = logged(world, a="A", r="R", v=ValueError("odd"), e=RaftException("no"))
    line, call = world.slots[0], world.call
    line.waiting, call.waiting = 3, 2
    commands = [(0, ["a"]), (0, ["v"]), (0, ["a"]), (0, ["e"])]
    ops = [line, (line, known["r"], ["r"]), line, call, call]
    turn.answer(world.place, "node", commands, ops, known, world.dirty)
    assert bytes(line.out) == b"$1\r\nA\r\n$1\r\nR\r\n-ERR v failed: ValueError('odd')\r\n"
    assert [entry[-1] for entry in world.log if entry[0] != "call"] == [0, RIDING | 1, 1, 2, 3]
    told = [entry[-1] for entry in world.log if entry[0] == "call"]
    assert told == ["A", ("RaftException", "no")]
    assert world.dirty == [line, call]
    assert (line.waiting, line.answered, call.waiting, line.dirty) == (0, 3, 0, True)


def test_a_ride_out_of_memory_stops_the_node(turn: Any) -> None:
    world = World(turn)
    known = logged(world, m=MemoryError())
    ops = [(world.call, known["m"], ["m"])]
    with pytest.raises(NodeStops, match="m"):
        turn.answer(world.place, "node", [], ops, known, world.dirty)


def test_answer_wants_an_op_for_each_command(turn: Any) -> None:
    world = World(turn)
    known = logged(world, a=1)
    world.call.waiting = 1
    commands = [(0, ["a"]), (0, ["a"])]
    with pytest.raises(InvariantError, match="an op for each command"):
        turn.answer(world.place, "node", commands, [world.call], known, world.dirty)
    world.call.waiting = 2
    with pytest.raises(InvariantError, match="a command for each op"):
        turn.answer(world.place, "node", commands[:1], [world.call] * 2, known, world.dirty)


@pytest.mark.parametrize("offset", [0, 3])
def test_what_is_no_row_may_take_a_rows_place(turn: Any, offset: int) -> None:
    world = World(turn)
    rows = logged(world, a="A", v=ValueError("odd"))
    commands = [(offset, ["a"]), (offset, ["v"])]
    turn.apply(world.place, "node", commands, {})
    noted = {name: NotedRow(row) for name, row in rows.items()}
    turn.apply(world.place, "node", commands, noted)
    looked_up = [("find", offset, "a"), ("a", "node", ["a"], 0)]
    looked_up += [("find", offset, "v"), ("v", "node", ["v"], 1)]
    ran = looked_up if offset else [("a", "node", ["a"], 0), ("v", "node", ["v"], 1)]
    assert world.log == looked_up + ran
    world.log.clear()
    world.call.waiting = 2
    turn.answer(world.place, "node", commands, [world.call] * 2, noted, world.dirty)
    told = [entry[-1] for entry in world.log if entry[0] == "call"]
    assert told == ["A", ("HandlerError", "v failed: ValueError('odd')")]


# Reads


def test_reads_of_a_pipeline_all_count_in_their_group(turn: Any) -> None:
    world = World(turn)
    commands = [["get", "ok"], ["ping"], ["sum", "ok"], ["get", "ok"]]
    line, group = world.slots[0], world.group
    assert turn.run(world.desk, line, commands) == 4
    assert (group.count, group.origins, line.waiting) == (3, [line], 3)
    world.turn_ends()
    assert turn.run(world.desk, line, commands) == 4
    assert (group.count, world.group.count, line.waiting) == (3, 3, 6)
    world.confirm(0, False)
    world.settle()
    assert (line.waiting, line.answered, len(line.reads)) == (3, 3, 3)


def test_a_change_of_level_in_a_pipeline_counts_from_there(turn: Any) -> None:
    world = World(turn)
    line = world.slots[0]
    assert turn.run(world.desk, line, [["level", "ok", "2"], *[["get", "ok"]] * 6]) == 7
    assert (world.group.count, line.waiting, line.answered) == (0, 0, 6)  # asked once, was fresh
    world.levels[2].fresh = 0
    assert turn.run(world.desk, line, [["get", "ok"]] * 2) == 2
    assert (world.group.count, line.waiting) == (2, 2)
    assert turn.run(world.desk, line, [["level", "ok", "1"], ["get", "ok"]]) == 0
    world.turn_ends()
    world.confirm(0, False)
    world.settle()
    assert turn.run(world.desk, line, [["level", "ok", "1"], ["get", "ok"]]) == 2
    assert (world.group.count, line.waiting) == (0, 0)


def test_a_refused_group_answers_with_its_error(turn: Any) -> None:
    world = World(turn)
    line = world.slots[0]
    turn.run(world.desk, line, [["get", "ok"], ["get", "ok"]])
    world.turn_ends()
    world.desk.loading = True  # an error needs no data
    world.confirm(0, True)
    world.settle()
    assert line.answered == 2
    assert ("line 0", "write", b"-CLUSTERDOWN no majority\r\n" * 2) in world.log
    assert not [entry for entry in world.log if entry[0] == "host"]
    assert not world.desk.reading


def test_reads_of_a_turn_are_in_one_group_with_each_origin_once_in_a_row(turn: Any) -> None:
    class Rounds(turn.Rounds):
        def __init__(self, group: Any) -> None:
            self.open = group
            self.begun: list[Any] = []

        def _begin(self, group: Any) -> None:
            self.begun.append(group)

    world = World(turn)
    one, two, _ = world.slots
    group = world.new_group()
    rounds = Rounds(group)
    for origin in (one, one, two, one):
        assert rounds.join(origin) is group
    assert (rounds.begun, group.origins, group.count) == ([group], [one, two, one], 4)
    rounds.open = other = world.new_group()
    one.level = rounds
    assert turn.run(world.desk, one, [["get", "ok"], ["get", "ok"]]) == 2
    assert (rounds.begun, other.origins, other.count) == ([group, other], [one], 2)


def test_reads_go_on_behind_an_answer_past_the_pause(
    turn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower(monkeypatch, LOW_BOUNDS)
    world = World(turn)
    line = world.slots[0]
    line.level = world.levels[1]  # its reads run at once
    most = LOW_BOUNDS["pipeline_commands_max"]
    words = [["set", "huge"], *[["ping"]] * (most - 1), *[["get", "ok"]] * 3]
    world.come(0, b"".join(map(encode_command, words)), [4000])
    assert (line.waiting, line.full, line.answered) == (1, True, 0)
    world.turn_ends()
    world.applied()  # its answer alone is past the pause
    world.settle()
    assert (line.waiting, line.held, line.answered, line.reading) == (0, [], 4, True)


BIG_READS = 12  # of 300 bytes, past every low bound on output together


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    "words",
    [
        [["set", "ok"], *[["get", "big"]] * BIG_READS],
        [*[["get", "big"]] * BIG_READS, ["set", "ok"]],
        [["set", "ok"], ["get", "big"]] * BIG_READS,
        [["once", "nil"], *[["get", "big"]] * BIG_READS],
    ],
    ids=["behind", "before", "between", "behind one taken for idle"],
)
def test_reads_around_a_write_wait_for_a_slow_client(
    turn: Any, monkeypatch: pytest.MonkeyPatch, words: list[list[str]], level: int
) -> None:
    lower(monkeypatch, {**LOW_BOUNDS, "pipeline_commands_max": 100})
    world = World(turn)
    line = world.slots[0]
    line.level = world.levels[level]
    world.stall(0)
    world.come(0, b"".join(map(encode_command, words)), [4000])
    for _ in range(3 * BIG_READS):
        for step in (world.turn_ends, world.applied, world.settle):
            step()
        world.confirm(0, False)
        world.settle()
        most = LOW_BOUNDS["output_bytes_pause"] + 300 * (LOW_BOUNDS["batch_reads_max"] + 1)
        assert line.client.unread <= most + 100
        world.drain(0)
        world.stall(0)
    assert (line.answered, line.waiting, line.held) == (len(words), 0, [])
    ran = [entry[1] for entry in world.log if entry[0] == "host"]
    assert ran == words


def test_few_reads_ride_with_the_write_before_them(turn: Any) -> None:
    world = World(turn)
    most = turn_twin.bounds.batch_reads_max
    words = [["set", "ok"], *[["get", "ok"]] * most]
    assert turn.run(world.desk, world.slots[0], words) == len(words)
    assert len(world.proposer.open.ops) == len(words)
    assert (world.group.count, world.slots[0].rides) == (0, most)


def test_who_still_reads_becomes_dirty_once_when_a_group_is_confirmed(turn: Any) -> None:
    world = World(turn)
    one, two, three = world.slots
    for line in (one, three):
        turn.run(world.desk, line, [["get", "ok"]])
    group = world.group
    group.origins[:] = [one, two, one, three]  # two was answered in another way
    three.dirty = True
    dirty: list[Any] = []
    turn.confirm(group, dirty)
    assert (dirty, group.origins, group.confirmed) == ([one], [], True)
    assert (one.dirty, two.dirty) == (True, False)


# What is missing


def test_an_origin_of_no_kind_answers_nobody(turn: Any) -> None:
    origin = turn.Origin()
    assert (origin.waiting, len(origin.reads), origin.batch_serial, origin.dirty) == (0, 0, -1, 0)
    assert origin.ready_to_read
    assert not origin.crowded()
    for call in (lambda: origin.answer(1), origin.settle, lambda: origin.lapse(ClusterDown(""))):
        with pytest.raises(NotImplementedError):
            call()


def test_bounds_are_those_of_the_product() -> None:
    for name, value in vars(turn_twin.bounds).items():
        assert getattr(_turn.bounds, name) == value
