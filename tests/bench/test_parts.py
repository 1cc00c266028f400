"""The benchmark's own arithmetic, parsing and drawing: no server is started here."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pyraft_fast.bench import generator, load, measure, report, targets
from pyraft_fast.bench.cas_node import do_cas
from pyraft_fast.bench.charts import charts_of
from pyraft_fast.bench.draw import Chart, even_ticks, label_of, log_ticks, page, svg
from pyraft_fast.bench.foreign import need_module
from pyraft_fast.bench.model import Fact, Figure, Point, Results, median_figure, percentile
from pyraft_fast.bench.peers import NotHere
from pyraft_fast.bench.replies import HttpReplies, RespReplies, encode
from pyraft_fast.bench.run import chosen_servers, run
from pyraft_fast.bench.suites import FOREIGN, LEVELS, SUITES, server, suite
from pyraft_fast.bench.works import WORKS, value

LONG_OUTPUT = """\
 SET: rps=0.0 (overall: inf) avg_msec=0.422\r====== LPUSH (needed to benchmark LRANGE) ======
  20000 requests completed in 9.00 seconds
Latency by percentile distribution:
99.902% <= 77.000 milliseconds (cumulative count 19981)
Summary:
  throughput summary: 1.00 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        9.199     9.016     9.119     9.199     9.559    99.167
====== SET ======
  20000 requests completed in 0.50 seconds
  50 parallel clients

Latency by percentile distribution:
0.000% <= 0.039 milliseconds (cumulative count 1)
99.805% <= 1.759 milliseconds (cumulative count 19961)
99.902% <= 4.039 milliseconds (cumulative count 19981)
100.000% <= 24.223 milliseconds (cumulative count 20000)

Cumulative distribution of latencies:
99.930% <= 4.103 milliseconds (cumulative count 19986)

Summary:
  throughput summary: 40000.25 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.199     0.016     0.119     0.199     3.559    24.167
"""


def test_redis_benchmark_is_read_by_its_last_test() -> None:
    said = load.parse(load.REDIS_BENCHMARK, LONG_OUTPUT, 0.25)
    assert said == {
        "rate": 40000.25,
        "p50_ms": 0.119,
        "p99_ms": 3.559,
        "p999_ms": 4.039,
        "max_ms": 24.167,
        "generator_cpu": 0.5,
    }


@pytest.mark.parametrize("text", ["", "Error from server: ERR unknown command", "ok\n" * 9])
@pytest.mark.parametrize("program", [load.REDIS_BENCHMARK, load.OWN])
def test_what_a_load_program_cannot_have_meant_is_an_error(program: str, text: str) -> None:
    with pytest.raises(RuntimeError):
        load.parse(program, text, 1.0)


@pytest.mark.parametrize("field", ["errors", "unanswered"])
def test_errors_and_missing_answers_are_no_figure(field: str) -> None:
    said = {"errors": 0, "unanswered": 0, "first_error": "", "rate": 5.0}
    assert load.parse(load.OWN, json.dumps(said), 1.0) == {"rate": 5.0}
    with pytest.raises(RuntimeError, match="2"):
        load.parse(load.OWN, json.dumps({**said, field: 2}), 1.0)


def test_perf_counts_are_summed_and_a_refusal_is_no_zero() -> None:
    counted = "{},,syscalls:sys_enter_fdatasync,0,100.00,,\n{},,syscalls:sys_enter_fsync,0,1,,\n"
    assert measure.parse_perf("Events enabled\n" + counted.format("7", "5")) == 12
    assert measure.parse_perf(counted.format("<not counted>", "<not counted>")) == 0
    assert measure.parse_perf(counted.format("<not supported>", "<not counted>")) is None
    assert measure.parse_perf("No permission to enable perf events") is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1), (0.29, 29)]
)
def test_percentiles_are_nearest_ranks(share: float, expected: int) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected


def test_medians_leave_failed_rounds_out_but_do_not_hide_that_all_failed() -> None:
    point = Point("table", "SET")
    good = [
        Figure("redis", point, n, rate=float(n), cpu_us={"one": n * 2.0}) for n in (1, 2, 30)
    ]  # fmt: skip
    bad = Figure("redis", point, 3, error="refused")
    median = median_figure([bad, *good, bad])
    assert (median.rate, median.cpu_us, median.error) == (2.0, {"one": 4.0}, "")
    assert median.p99_ms is None, "what was never measured is not zero"
    assert median_figure([bad, bad]).error == "refused"


def test_rounds_are_joined_though_each_chooses_its_rate_and_requests() -> None:
    results = Results()
    point = Point("latency", "SET", share=0.5)
    for number, rate in enumerate((100, 104, 90)):
        chosen = dataclasses.replace(point, rate=rate, requests=rate * 2)
        results.figures.append(Figure("ours-3", chosen, number, rate=float(rate)))
    (median,) = results.medians("latency")
    assert median.rate == 100.0
    found = results.find("latency", "ours-3", share=0.5)
    assert found is not None and found.rate == 100.0
    assert results.find("latency", "ours-3", share=0.9) is None


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_resp_replies_are_counted_however_they_arrive(step: int) -> None:
    data = (
        b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n:5\r\n*2\r\n$1\r\nx\r\n*1\r\n:1\r\n*-1\r\n-ERR no\r\n*0\r\n"
    )
    replies = RespReplies()
    counts = [replies.feed(data[at : at + step]) for at in range(0, len(data), step)]
    assert sum(counts) == 8
    assert (replies.errors, replies.first_error) == (1, b"ERR no")
    with pytest.raises(ValueError, match="HTTP"):
        RespReplies().feed(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_http_responses_are_counted_however_they_arrive(step: int) -> None:
    data = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        b"HTTP/1.1 503 Gone\r\ncontent-length: 0\r\n\r\n"
    )
    replies = HttpReplies()
    assert sum(replies.feed(data[at : at + step]) for at in range(0, len(data), step)) == 3
    assert replies.errors == 1 and b"503" in replies.first_error


@pytest.mark.parametrize("work", WORKS)
def test_requests_hold_keys_in_range_and_values_of_the_size(work: str) -> None:
    made = generator.requests_of("resp", work, 10, 33, 500)
    assert len(made) == 500
    for request in made:
        assert request.startswith(b"*%d\r\n" % len(WORKS[work].words))
        assert all(int(digits) < 10 for digits in re.findall(rb"\d{12}", request))
        assert b"__" not in request
        assert (b"x" * 33 in request) == ("__data__" in WORKS[work].words)
    assert (len(set(made)) > 5) == any("__rand_int__" in word for word in WORKS[work].words)


def test_etcd_is_asked_for_what_it_can_do() -> None:
    (request,) = generator.requests_of("etcd", "SET", 1, 3, 1)
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"POST /v3/kv/put " in head and b"Content-Length: %d" % len(body) in head
    assert json.loads(body) == {"key": "a2V5OjAwMDAwMDAwMDAwMA==", "value": "eHh4"}
    with pytest.raises(ValueError, match="INCR"):
        generator.requests_of("etcd", "INCR", 1, 3, 1)


def test_redis_benchmark_makes_what_it_can_and_our_generator_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = Point("table", "SET")
    monkeypatch.setattr(load, "redis_benchmark", lambda: "/bin/redis-benchmark")
    assert load.generator_for(point, "resp") == load.REDIS_BENCHMARK
    assert load.generator_for(point, "resp", plain_redis=False) == load.OWN
    assert load.generator_for(point, "etcd") == load.OWN
    assert load.generator_for(dataclasses.replace(point, rate=9), "resp") == load.OWN
    huge = dataclasses.replace(point, work="CAS", size=1 << 20)
    assert load.generator_for(huge, "resp") == load.OWN
    monkeypatch.setattr(load, "redis_benchmark", lambda: None)
    assert load.generator_for(point, "resp") == load.OWN


def test_command_lines_say_the_whole_point() -> None:
    point = Point("value", "CAS", 7, 3, 5, 11, 13)
    line = " ".join(load.command_of(load.REDIS_BENCHMARK, point, 17, "resp"))
    assert line == (
        "redis-benchmark -h 127.0.0.1 -p 17 -c 7 -P 3 -n 13 -r 11 --precision 3"
        " CAS cas:__rand_int__ xxxxx xxxxx"
    )
    rated = dataclasses.replace(point, work="SET", rate=19)
    line = " ".join(load.command_of(load.OWN, rated, 17, "resp"))
    assert line.endswith(
        "--port 17 --work SET --clients 7 --pipeline 3 --size 5 --keys 11 --requests 13 --rate 19"
    )


@pytest.mark.parametrize("name", LEVELS)
def test_suites_cover_what_is_asked_and_name_servers_that_exist(name: str) -> None:
    level = LEVELS[name]
    assert set(level.only) <= {*SUITES, "million", "start"}
    for one in (suite(each, level) for each in SUITES):
        assert one.points and len(set(one.points)) == len(one.points), one.name
        assert {point.suite for point in one.points} == {one.name}
        assert all(point.keys * point.size <= 1 << 30 for point in one.points)
        for each in one.servers:
            assert server(each).name == each
            assert each.startswith(("ours-", "cas-")) or each in FOREIGN
        filled = [point.filled for point in one.points]
        assert filled == sorted(filled), "a server is only ever filled up"


def test_the_default_covers_the_ranges_that_are_promised() -> None:
    def ends(name: str, level: str, axis: str) -> tuple[int, int]:
        found = [getattr(point, axis) for point in suite(name, LEVELS[level]).points]
        return min(found), max(found)

    assert ends("clients", "default", "clients") == (1, 1000)
    assert ends("pipeline", "default", "pipeline") == (1, 128)
    assert ends("value", "default", "size") == (16, 1 << 20)
    assert ends("keys", "full", "filled")[1] == 5_000_000
    assert suite("nodes", LEVELS["default"]).servers[-1] == "ours-7"
    runs = sum(
        len(one.points) * len(one.servers) * LEVELS["quick"].rounds * LEVELS["quick"].seconds
        for one in (suite(name, LEVELS["quick"]) for name in LEVELS["quick"].only if name in SUITES)
    )
    assert runs < 60, f"--quick is loaded for {runs} s"


def made_results() -> tuple[Results, dict[str, str]]:
    """Figures of every suite at the default level, all rates known, and facts."""
    results = Results()
    for name in SUITES:
        one = suite(name, LEVELS["default"])
        for place, point in enumerate(one.points, 1):
            for speed, each in enumerate(one.servers, 1):
                figure = Figure(each, point, rate=1000.0 * place * speed, p50_ms=0.1, p99_ms=0.3)
                figure.cpu_us = {"a": 1.5, "b": 2.5}
                results.figures.append(figure)
    for name, seconds in (("longest pause, snapshot", 40.0), ("restart", 1.0), ("start", 0.3)):
        where = "ours-3" if "pause" in name else "ours-1"
        results.facts.append(Fact(name, where, seconds, "s", "so"))
    results.facts.append(Fact("memory", "redis", 100.0, "bytes", "so"))
    results.facts.append(Fact("memory", "ours-1", 250.0, "bytes", "so"))
    used = {figure.server for figure in results.figures}
    return results, {name: server(name).title for name in used}


def test_every_target_is_computed_from_what_a_default_run_measures() -> None:
    results, _ = made_results()
    reached = {target.name: target.reach(results) for target in targets.TARGETS}
    assert None not in reached.values(), reached
    assert reached["1 node: SET / redis appendfsync always, P=1"] == pytest.approx(1.5)
    assert reached["3 nodes: linearizable GET / redis, P=16"] == pytest.approx(4.0)
    assert reached["3 nodes: CPU of all processes a SET, P=1"] == 4.0
    assert reached["1 node: memory of all keys / redis"] == 2.5
    assert reached["3 nodes: p99 / p50 of SET at half of the highest rate"] == pytest.approx(3)
    assert all(target.reach(Results()) is None for target in targets.TARGETS)


def test_verdicts_know_which_way_is_better() -> None:
    more = targets.Target("", (), 0.9, 1.1, lambda _: None)
    less = dataclasses.replace(more, target=50, stretch=10, most=True)
    assert [more.verdict(v) for v in (0.89, 0.9, 1.1)] == ["no", "yes", "stretch"]
    assert [less.verdict(v) for v in (51, 50, 10)] == ["no", "yes", "stretch"]


def test_tables_show_ratios_failures_and_busy_generators() -> None:
    one = suite("table", LEVELS["quick"])
    results = Results()
    point = one.points[0]
    results.figures += [
        Figure("redis-always", point, rate=2000.0, generator_cpu=0.95),
        Figure("ours-1", point, rate=1000.0),
        Figure("ours-3", point, error="refused"),
    ]
    titles = {name: name for name in one.servers}
    text = "\n".join(report.table(one, results, titles))
    assert re.search(r"redis-always +2,000 +1\.00 .* 95%\*", text)
    assert re.search(r"ours-1 +1,000 +0\.50 ", text)
    assert "ours-3" in text and "failed: refused" in text
    assert "as busy as it can be" in "\n".join(report.notes(results, ["more"]))
    whole = json.loads(report.as_json(results, ["--quick"], {}, []))
    assert os.path.realpath(sys.executable) in whole["machine"]["python"]
    assert whole["command"] == "pyraft-fast bench --quick"
    assert [row["error"] for row in whole["medians"]] == ["", "", "refused"]


def check_picture(text: str) -> ElementTree.Element:
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text).lower()
    assert "inf" not in text.lower()
    root = ElementTree.fromstring(text)
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 720 and 0 <= float(circle.attrib["cy"]) <= 400
    return root


CHARTS = {
    "one point": [(5.0, 5.0)],
    "flat": [(1.0, 7.0), (2.0, 7.0)],
    "zero": [(0.0, 0.0), (1.0, 0.0)],
    "wide": [(1.0, 0.01), (1e6, 1e9)],
    "narrow": [(100.0, 1000.0), (100.1, 1000.1)],
}


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("name", CHARTS)
def test_any_line_is_drawn_within_the_picture(name: str, log: bool) -> None:
    chart = Chart("a < b & c", "so", "run it", "x", "y", {"<one>": CHARTS[name]}, y_log=log)
    root = check_picture(svg(chart))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == len(CHARTS[name])


def test_charts_of_a_whole_run_make_one_sound_page() -> None:
    results, titles = made_results()
    argv = ["--rounds", "2", "--html", "x.html", "--only=nodes"]
    charts = [
        chart
        for name in SUITES
        for chart in charts_of(suite(name, LEVELS["default"]), results, titles, argv)
    ]
    assert len(charts) == 8
    for chart in charts:
        check_picture(svg(chart))
    assert charts[0].command == "pyraft-fast bench --only latency --rounds 2"
    text = page("a & b", "about", charts, "<table>")
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "needs nothing else"


def test_ticks_are_round_few_and_inside() -> None:
    assert even_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert log_ticks(1, 1000) == [1, 3, 10, 30, 100, 300, 1000]
    for low, high in ((0, 7.3), (0, 83_000), (0.1, 0.13), (5, 5.0001)):
        ticks = even_ticks(low, high)
        assert 3 <= len(ticks) <= 9 and ticks[0] >= low and ticks[-1] <= high, (low, high)
    assert [label_of(v) for v in (20_000, 1.5e6, 0.05)] == ["20k", "1.5M", "0.05"]
    assert [label_of(v, True) for v in (16, 4096, 1 << 20)] == ["16 B", "4 KiB", "1 MiB"]


@pytest.mark.parametrize(
    "argv",
    [["--only", "nothing"], ["--peers", "memcached"], ["--rounds", "0"], ["--quick", "--full"]],
)
def test_flags_that_cannot_be_used_are_named(argv: list[str], capsys: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(argv, io.StringIO(), io.StringIO())
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("flag", "place", "said"),
    [
        ("--json", "no/such/folder/x.json", "cannot be written"),
        ("--html", ".", "cannot be written"),
        ("--dir", "file/below", "cannot be made: Not a directory"),
    ],
)
def test_places_that_cannot_be_written_are_named_before_anything_runs(
    flag: str, place: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        run([flag, str(tmp_path / place)], io.StringIO(), io.StringIO())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_peer_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="pip install --no-deps no_such_module"):
        need_module("python3", "no_such_module")
    with pytest.raises(NotHere, match="cannot be started"):
        need_module(str(tmp_path / "python"), "json")


def test_commands_are_encoded_as_clients_do() -> None:
    assert encode("SET", b"k\xff", "") == b"*3\r\n$3\r\nSET\r\n$2\r\nk\xff\r\n$0\r\n\r\n"


def test_the_custom_command_writes_what_it_is_sent_and_nothing_else() -> None:
    class Node:
        def __init__(self) -> None:
            self.data: dict[str, str] = {}

        def clear_ttl(self, key: str) -> None:
            assert key in self.data

    node = Node()
    held = value(8)
    node.data["cas:1"] = held
    assert do_cas(node, ["CAS", "cas:1", held, held]) == held
    assert do_cas(node, ["CAS", "cas:1", "other", "new"]) == held
    assert do_cas(node, ["CAS", "cas:2", held, held]) is None
    assert node.data == {"cas:1": held}


def test_peers_are_chosen_by_name_and_ours_are_always_there() -> None:
    names = suite("peers", LEVELS["default"]).servers
    assert chosen_servers(names, None) == list(names)
    assert chosen_servers(names, []) == ["ours-1", "ours-3"]
    assert chosen_servers(names, ["pyraft", "etcd"]) == [
        "ours-1", "ours-3", "etcd", "pyraft-1", "pyraft-3",
    ]  # fmt: skip
