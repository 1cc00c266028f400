"""Random command sequences against redis-server: the same replies, command by command.

Scores and floats are compared as numbers. Where Redis promises no order, replies are compared
as multisets. Random picks are checked by what they leave behind, so both sides stay in step.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyraft_fast.errors import RaftException
from pyraft_fast.worker.words import raw, text
from tests.worker.fake_node import FakeNode, shown

Command = list[Any]
KEYS = ["a", "b", "c", "{t}d", "cl\u00e9", text(b"\xff\x00k")]
MEMBERS = [
    "x",
    "y",
    "z",
    "1",
    "2",
    "-7",
    "\u00fc",
    text(b"\x80\xfe"),
    "",
    "a b",
    "\U0001f600",
    "10",
]
NUMBERS = ["0", "1", "-1", "5", "-3", "100", "9223372036854775807", "-9223372036854775808"]
ODD_NUMBERS = ["01", "+1", " 1", "1.5", "x", "", "1e3", "9223372036854775808", "-0", "\u0661"]
SCORES = ["0", "1", "1", "2", "-2.5", "3e2", "inf", "-inf", "0x10", "1.5"]
ODD_SCORES = ["nan", "x", "", " 1", "1_0", "1e999", "(1"]
UNORDERED = ("spop", "keys", "hkeys", "hvals", "hgetall", "smembers", "sinter", "sunion", "sdiff")
LIVES = {"ttl": 60, "pttl": 60_000, "expiretime": 60}
FLOATS = re.compile("z(score|incrby|mscore|add|pop|range|revrange|rand)")


class Dealer:
    """Deals commands; mostly sound words, now and then odd ones."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.lives = list(range(100_000, 2_000_000, 1000))
        self.dice.shuffle(self.lives)

    def key(self) -> str:
        return self.dice.choice(KEYS)

    def member(self) -> str:
        return self.dice.choice(MEMBERS)

    def number(self) -> str:
        return self.dice.choice(NUMBERS if self.dice.random() < 0.9 else ODD_NUMBERS)

    def small(self) -> str:
        return self.dice.choice(["0", "1", "2", "-1", "-2", "3", "-100", "100"])

    def count(self) -> str:
        return self.dice.choice(["0", "1", "2", "3", "10", "-1", "x"])

    def life(self) -> str:
        """Seconds that no other command of this run asks for, so that GT and LT are decided."""
        return str(self.lives.pop())

    def page(self) -> str:
        return self.pick("1000", "0", "x")

    def score(self) -> str:
        return self.dice.choice(SCORES if self.dice.random() < 0.92 else ODD_SCORES)

    def bound(self) -> str:
        return ("(" if self.dice.random() < 0.3 else "") + self.score()

    def lex(self) -> str:
        if self.dice.random() < 0.3:
            return self.dice.choice(["-", "+", "x"])
        return self.dice.choice("[(") + self.member()

    def some(self, deal: Callable[[], Any], most: int = 3) -> list[Any]:
        return [deal() for _ in range(self.dice.randint(1, most))]

    def pairs(self, *deals: Callable[[], Any]) -> list[Any]:
        return [deal() for _ in range(self.dice.randint(1, 3)) for deal in deals]

    def maybe(self, *options: list[Any]) -> list[Any]:
        return [word for option in options if self.dice.random() < 0.25 for word in option]

    def pick(self, *words: str) -> str:
        return self.dice.choice(words)


def strings(d: Dealer) -> Command:
    k, m, n = d.key, d.member, d.number
    far = d.pick("100000", "0", "-5", "x", "9223372036854775807")
    return d.dice.choice(
        [
            lambda: ["get", k()],
            lambda: ["set", k(), n()],
            lambda: [
                "set", k(), m(),
                *d.maybe(["NX"], ["xx"], ["GET"], ["keepttl"], ["EX", far], ["PX", far], ["b"]),
            ],
            lambda: ["setex", k(), far, m()],
            lambda: ["psetex", k(), far, m()],
            lambda: ["setnx", k(), m()],
            lambda: ["getset", k(), m()],
            lambda: ["getdel", k()],
            lambda: ["getex", k(), *d.maybe(["PERSIST"], ["EX", far], ["x"])],
            lambda: ["mget", *d.some(k)],
            lambda: ["mset", *d.pairs(k, m), *d.maybe(["odd"])],
            lambda: ["msetnx", *d.pairs(k, m)],
            lambda: ["append", k(), m()],
            lambda: ["strlen", k()],
            lambda: ["getrange", k(), d.small(), d.small()],
            lambda: ["setrange", k(), d.small(), m()],
            lambda: [d.pick("incr", "decr"), k()],
            lambda: [d.pick("incrby", "decrby"), k(), n()],
            lambda: ["incrbyfloat", k(), d.pick("0.1", "-2.5", "1e2", "3", "x", "1234.1", " 1")],
        ]
    )()  # fmt: skip


def generic(d: Dealer) -> Command:
    k = d.key
    flags = d.maybe(["NX"], ["XX"], ["gt"], ["LT"], ["bad"])
    return d.dice.choice(
        [
            lambda: [d.pick("del", "unlink", "exists", "touch"), *d.some(k)],
            lambda: ["type", k()],
            lambda: ["keys", d.pick("*", "?", "[a-b]", "{*", "*\u00e9", "[^a]", "\\a", "a[")],
            lambda: ["dbsize"],
            lambda: [d.pick("rename", "renamenx"), k(), k()],
            lambda: ["copy", k(), k(), *d.maybe(["REPLACE"], ["DB", "0"], ["bad"])],
            lambda: ["persist", k()],
            lambda: [d.pick("ttl", "pttl", "expiretime"), d.pick("nokey", k())],
            lambda: ["expire", k(), d.pick(d.life(), d.life(), "-1", "0", "x"), *flags],
            lambda: ["pexpireat", k(), d.pick("4000000000000", "1", "x"), *flags],
            lambda: ["nosuch", "a b", "x"],
            lambda: ["get"],
            lambda: ["incr", k(), k()],
            lambda: [
                "scan",
                d.pick("0", "x"),
                *d.maybe(["COUNT", d.page()], ["TYPE", "set"]),
            ],
        ]
    )()


def hashes(d: Dealer) -> Command:
    k, m, n = d.key, d.member, d.number
    return d.dice.choice(
        [
            lambda: [d.pick("hset", "hmset"), k(), *d.pairs(m, n), *d.maybe(["odd"])],
            lambda: ["hsetnx", k(), m(), n()],
            lambda: ["hget", k(), m()],
            lambda: ["hmget", k(), *d.some(m)],
            lambda: [d.pick("hgetall", "hkeys", "hvals", "hlen"), k()],
            lambda: ["hdel", k(), *d.some(m, 6)],
            lambda: [d.pick("hexists", "hstrlen"), k(), m()],
            lambda: ["hincrby", k(), m(), n()],
            lambda: ["hincrbyfloat", k(), m(), d.pick("0.1", "1.5e3", "x", "-1")],
            lambda: ["hrandfield", k(), "-0"],
            lambda: [
                "hscan",
                k(),
                "0",
                *d.maybe(["MATCH", "?"], ["COUNT", d.page()], ["x"]),
            ],
        ]
    )()


def lists(d: Dealer) -> Command:
    k, m, s = d.key, d.member, d.small
    return d.dice.choice(
        [
            lambda: [d.pick("lpush", "rpush", "lpushx", "rpushx"), k(), *d.some(m)],
            lambda: [d.pick("lpush", "rpush"), k(), *d.some(m, 8)],
            lambda: [d.pick("lpop", "rpop"), k(), *d.maybe([d.count()])],
            lambda: ["lrange", k(), s(), s()],
            lambda: ["lindex", k(), s()],
            lambda: ["llen", k()],
            lambda: ["lset", k(), s(), m()],
            lambda: ["lrem", k(), s(), m()],
            lambda: ["ltrim", k(), d.pick("0", "1", "-3"), d.pick("-1", "5", "-2")],
            lambda: ["linsert", k(), d.pick("BEFORE", "after", "x"), m(), m()],
            lambda: ["lmove", k(), k(), d.pick("LEFT", "right"), d.pick("left", "RIGHT", "x")],
            lambda: ["rpoplpush", k(), k()],
            lambda: [
                "lpos", k(), m(),
                *d.maybe(["RANK", s()], ["COUNT", d.count()], ["MAXLEN", d.count()], ["x"]),
            ],
        ]
    )()  # fmt: skip


def sets(d: Dealer) -> Command:
    k, m = d.key, d.member
    return d.dice.choice(
        [
            lambda: ["sadd", k(), *d.some(m, 5)],
            lambda: ["srem", k(), *d.some(m, 5)],
            lambda: ["sismember", k(), m()],
            lambda: ["smismember", k(), *d.some(m)],
            lambda: [d.pick("smembers", "scard"), k()],
            lambda: ["smove", k(), k(), m()],
            lambda: [d.pick("sinter", "sunion", "sdiff"), *d.some(k)],
            lambda: [d.pick("sinterstore", "sunionstore", "sdiffstore"), k(), *d.some(k)],
            lambda: ["sintercard", d.pick("1", "2", "0", "x"), k(), k(), *d.maybe(["LIMIT", "1"])],
            lambda: ["spop", k(), d.pick("100", "0", "-1", "x")],
            lambda: ["srandmember", k(), d.pick("0", "x")],
            lambda: ["sscan", k(), "0", "COUNT", d.page(), *d.maybe(["MATCH", "[x-z]"])],
        ]
    )()


def zsets(d: Dealer) -> Command:
    k, m, s = d.key, d.member, d.small
    limit = d.maybe(["LIMIT", s(), s()], ["WITHSCORES"], ["x"])

    def lex() -> str:
        """A key whose scores are all alike; other keys have no lexical order to speak of."""
        return d.pick("lex1", "lex2")

    return d.dice.choice(
        [
            lambda: ["zadd", k(), d.score(), m()],
            lambda: [
                "zadd", k(), *d.maybe(["NX"], ["XX"], ["GT"], ["LT"], ["CH"], ["INCR"]),
                *d.pairs(d.score, m),
            ],
            lambda: ["zadd", lex(), *[w for x in d.some(m, 6) for w in ("0", x)]],
            lambda: ["zincrby", k(), d.score(), m()],
            lambda: ["zrem", k(), *d.some(m)],
            lambda: [d.pick("zscore", "zrank", "zrevrank"), k(), m()],
            lambda: ["zmscore", k(), *d.some(m)],
            lambda: ["zcard", k()],
            lambda: ["zcount", k(), d.bound(), d.bound()],
            lambda: ["zlexcount", lex(), d.lex(), d.lex()],
            lambda: [d.pick("zpopmin", "zpopmax"), k(), *d.maybe([d.count()])],
            lambda: ["zrange", k(), s(), s(), *d.maybe(["WITHSCORES"], ["REV"])],
            lambda: ["zrevrange", k(), s(), s(), *d.maybe(["WITHSCORES"], ["REV"])],
            lambda: ["zrange", k(), d.bound(), d.bound(), "BYSCORE", *d.maybe(["REV"]), *limit],
            lambda: ["zrangebyscore", k(), d.bound(), d.bound(), *limit],
            lambda: ["zrevrangebyscore", k(), d.bound(), d.bound(), *limit],
            lambda: ["zrange", lex(), d.lex(), d.lex(), "BYLEX", *d.maybe(["REV"]), *limit],
            lambda: ["zrangebylex", lex(), d.lex(), d.lex(), *limit],
            lambda: ["zrevrangebylex", lex(), d.lex(), d.lex(), *limit],
            lambda: ["zremrangebyrank", k(), s(), s()],
            lambda: ["zremrangebyscore", k(), d.bound(), d.bound()],
            lambda: ["zremrangebylex", lex(), d.lex(), d.lex()],
            lambda: ["zscan", k(), "0", *d.maybe(["MATCH", "*"], ["COUNT", d.page()])],
            lambda: ["zrandmember", k(), "0"],
        ]
    )()  # fmt: skip


def of_redis(client: Any, command: Command) -> Any:
    """redis-server's reply in the same plain values as ours."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_command(*[raw(word) for word in command]))
        return plain(connection.read_response(disable_decoding=True))
    except redis.ResponseError as error:
        return "error", str(error)
    finally:
        client.connection_pool.release(connection)


def plain(reply: Any) -> Any:
    if isinstance(reply, list):
        return [plain(part) for part in reply]
    return text(reply) if isinstance(reply, bytes) else reply


def ours(node: FakeNode, command: Command) -> Any:
    reply = node.ask(*command)
    if isinstance(reply, RaftException):
        return "error", reply.wire().removeprefix("ERR ")  # which redis-py takes off too
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    reply = shown(reply)
    return "OK" if reply is True else reply


def compared(command: Command, reply: Any) -> Any:
    """A reply in the form in which the two sides must agree."""
    name = command[0]
    if isinstance(reply, tuple):
        return reply
    if name in ("hscan", "sscan", "zscan", "scan") and isinstance(reply, list):
        items = [numeric(part) for part in reply[1]]
        return [reply[0], sorted(items, key=repr)]
    if name in UNORDERED and isinstance(reply, list):
        return sorted(reply, key=repr)
    if name in LIVES and isinstance(reply, int) and reply > 0:
        return pytest.approx(reply, abs=LIVES[name])  # two clocks
    if FLOATS.match(name):
        if isinstance(reply, list):
            return [numeric(part) for part in reply]
        return numeric(reply)
    return reply


def numeric(part: Any) -> Any:
    if isinstance(part, (int, float)) and not isinstance(part, bool):
        return float(part)
    try:
        return float(part)
    except (TypeError, ValueError):
        return part


FAMILIES = [strings, generic, hashes, lists, sets, zsets]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", [*FAMILIES, None], ids=lambda f: getattr(f, "__name__", "all"))
def test_same_replies_as_redis(redis_client: Any, family: Any, seed: int) -> None:
    dealer = Dealer(seed)
    node = FakeNode()
    node.clock_ms = redis_client.time()[0] * 1000
    redis_client.flushall()
    history: list[Command] = []
    for turn in range(700):
        deal = family or dealer.dice.choice(FAMILIES)
        if family not in (None, generic) and dealer.dice.random() < 0.06:
            deal = generic
        command = deal(dealer)
        history.append(command)
        theirs = compared(command, of_redis(redis_client, command))
        mine = compared(command, ours(node, command))
        assert mine == theirs, f"turn {turn}: {command}\nbefore: {history[-12:-1]}"
    assert sorted(node.data) == sorted(plain(redis_client.keys("*")))


@pytest.mark.parametrize("name", ["spop", "srandmember", "hrandfield", "zrandmember", "randomkey"])
def test_random_picks_have_the_shape_of_redis(redis_client: Any, name: str) -> None:
    """Counts and membership agree; which element is picked is each side's own affair."""
    node = FakeNode()
    redis_client.flushall()
    fill = {"s": "sadd", "h": "hset", "z": "zadd"}.get(name[0], "sadd")
    words = {"sadd": list("abcdef"), "hset": list("a1b2c3d4e5f6"), "zadd": list("1a2b3c4d5e6f")}
    for side in (lambda c: of_redis(redis_client, c), lambda c: ours(node, c)):
        side([fill, "k", *words[fill]])
    for count in (["2"], ["-3"], ["9"], ["-9"], []):
        command = [name, "k", *count] if name != "randomkey" else [name]
        theirs, mine = of_redis(redis_client, command), ours(node, command)
        assert type(mine) is type(theirs)
        if isinstance(theirs, list):
            assert len(mine) == len(theirs)
            assert set(mine) <= set("abcdef")
            if int(count[0]) > 0:
                assert len(set(mine)) == len(mine)


def test_limits_and_key_places_are_those_of_redis(redis_client: Any) -> None:
    theirs = redis_client.execute_command("COMMAND")
    known = [row for row in FakeNode().run("command") if row[0] in theirs]
    assert len(known) > 110
    for name, arity, _, first, last, step, *_ in known:
        twin = theirs[name]
        assert abs(arity) == abs(twin["arity"]), name
        if name != "object":  # whose keys Redis tells for each of its subcommands
            places = twin["first_key_pos"], twin["last_key_pos"], twin["step_count"]
            assert (first, last, step) == places, name


def test_float_sums_are_those_of_redis_digit_by_digit(redis_client: Any) -> None:
    """Redis adds 80 bit long doubles and prints 17 digits; ours are exact integers."""
    dice, node = random.Random(5), FakeNode()
    redis_client.flushall()
    for turn in range(600):
        digits = dice.choice([1, 3, 9, 17, 25])
        word = f"{dice.uniform(-1, 1) * 10 ** dice.randint(-12, 17):.{digits}f}"
        if turn % 7 == 0:
            word = f"{dice.uniform(-9, 9):.17g}e{dice.randint(-20, 25)}"
        for command in (["incrbyfloat", f"k{turn % 9}", word], ["hincrbyfloat", "h", "f", word]):
            assert ours(node, command) == of_redis(redis_client, command), (turn, command)


def test_patterns_match_what_redis_matches(redis_client: Any) -> None:
    dice, node = random.Random(6), FakeNode()
    redis_client.flushall()
    keys = ["".join(dice.choices("ab-]^\\*\u00e9", k=dice.randint(0, 4))) for _ in range(150)]
    for command in (["mset", *[word for key in keys for word in (key, "v")]],):
        assert ours(node, command) == plain(of_redis(redis_client, command))
    for _ in range(1500):
        pattern = "".join(dice.choices("ab*?[]^-\\\u00e9", k=dice.randint(0, 7)))
        command = ["keys", pattern]
        theirs = compared(command, of_redis(redis_client, command))
        assert compared(command, ours(node, command)) == theirs, pattern


def test_scores_are_read_as_redis_reads_them(redis_client: Any) -> None:
    dice, node = random.Random(7), FakeNode()
    redis_client.flushall()
    words = [
        "1",
        "+1",
        "-0",
        "1e5",
        "1E-3",
        ".5",
        "5.",
        "0x1F",
        "0x.8p1",
        "infinity",
        "+inf",
        "nan",
    ]
    words += [
        "1e400",
        "1e-400",
        "-1e400",
        "",
        " 1",
        "1 ",
        "1_000",
        "1e",
        "e1",
        "--1",
        "\u0661",
        "i",
    ]
    for word in words + ["".join(dice.choices("0159.e-+xp_ ", k=5)) for _ in range(800)]:
        for command in (["zadd", "z", word, "m"], ["zscore", "z", "m"], ["zcount", "z", word, "9"]):
            theirs = compared(command, of_redis(redis_client, command))
            assert compared(command, ours(node, command)) == theirs, command
