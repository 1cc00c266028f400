"""Every name a user of pyraft may have in a program, where it is looked for.

A program changes its imports from `pyraft` to `pyraft_fast`; whatever it names then must be there,
with the same argument names. This file is the list.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pyraft_fast import common, errors, raft
from pyraft_fast.node import RaftNode
from pyraft_fast.serving.connection_commands import CONNECTION_COMMANDS
from pyraft_fast.worker.table import CALLBACKS
from pyraft_fast.worker.worker import MergedWorker, Worker

NAMES = {
    "raft": "RaftNode Future RaftException parse_default_args make_default_node CONF_LOG_MAX "
    "CONF_LOG_FILE_MAX CONF_VOTING_TIME CONF_PING_TIMEOUT ERROR_CAST ERROR_APPEND_ENTRY "
    "ERROR_TYPE ERROR_NOT_EXISTS ERROR_INVALID_PARAM intcast bytes_to_str",
    "common": "RaftException Future intcast bytes_to_str CONF_LOG_MAX CONF_LOG_FILE_MAX "
    "CONF_VOTING_TIME CONF_PING_TIMEOUT ERROR_CAST ERROR_APPEND_ENTRY ERROR_TYPE "
    "ERROR_NOT_EXISTS ERROR_INVALID_PARAM",
    "log": "RaftLog LogFileStorage LogFile LogItem",
    "resp": "resp_encoding resp_decoding resp_io",
    "protocol.resp": "resp_encoding resp_decoding resp_io",
    "protocol.base": "base_io",
    "protocol.proxy": "",
    "worker.worker": "Worker MergedWorker RespProtocol",
    "worker.base_worker": "BaseWorker",
    "worker.redis_worker": "RedisWorker",
    "run_raft": "",
}

# Callable, the arguments it takes by these names (`*` for any number)
ARGUMENTS = {
    "raft.RaftNode": "nid addr ensemble peer worker overwrite_peer",
    "raft.RaftNode.start": "self",
    "raft.RaftNode.shutdown": "self",
    "raft.RaftNode.join": "self timeout",
    "raft.RaftNode.propose": "self cmd worker_offset async_run",
    "raft.RaftNode.request": "self *cmd strict",
    "raft.RaftNode.request_async": "self *cmd",
    "raft.RaftNode.add_node": "self nid addr",
    "raft.RaftNode.del_node": "self nid",
    "raft.RaftNode.get_peers": "self",
    "raft.RaftNode.regist_worker": "self offset worker",
    "raft.RaftNode.register_worker": "self offset worker",
    "raft.RaftNode.get_handler": "self name worker_offset",
    "raft.RaftNode.get_handler_func": "self name worker_offset",
    "raft.RaftNode.load": "self filename",
    "raft.RaftNode.checkpoint": "self filename",
    "raft.RaftNode.get_snapshot": "self",
    "raft.RaftNode.check_ttl": "self key",
    "raft.RaftNode.clear_ttl": "self key",
    "raft.RaftNode.set_ttl": "self key ts",
    "raft.RaftNode.get_pending_time": "self",
    "raft.RaftNode.log_debug": "self msg",
    "raft.RaftNode.log_info": "self msg",
    "raft.RaftNode.log_warn": "self msg",
    "raft.RaftNode.log_error": "self msg",
    "raft.RaftNode.on_start": "self",
    "raft.RaftNode.on_shutdown": "self",
    "raft.RaftNode.on_leader": "self",
    "raft.RaftNode.on_follower": "self",
    "raft.RaftNode.on_candidate": "self",
    "raft.RaftNode.on_leader_lost": "self",
    "raft.RaftNode.on_ready": "self",
    "raft.RaftNode.on_snapshot": "self",
    "raft.RaftNode.on_membership": "self",
    "raft.parse_default_args": "parser",
    "raft.make_default_node": "",
    "common.Future": "cmd worker_offset",
    "common.Future.get": "self timeout",
    "common.Future.set": "self value",
    "common.Future.done": "self",
    "common.Future.add_done_callback": "self callback",
    "common.Future.__await__": "self",
    "common.intcast": "src",
    "common.bytes_to_str": "b",
    "log.LogItem": "term index ts worker_offset cmd",
    "log.LogItem.to_list": "self",
    "log.LogFileStorage.get_range": "self start end",
    "log.LogFileStorage.start_index": "self",
    "log.RaftLog.get_range": "self start end",
    "log.RaftLog.size": "self",
    "resp.resp_encoding": "obj",
    "resp.resp_decoding": "src",
    "resp.resp_io": "sock",
    "resp.resp_io.raw_write": "self msg",
    "resp.resp_io.write": "self msg",
    "resp.resp_io.read": "self timeout",
    "resp.resp_io.read_all": "self timeout",
    "resp.resp_io.connected": "self",
    "resp.resp_io.close": "self",
    "protocol.base.base_io.encode": "self msg",
    "protocol.base.base_io.decode": "self msg",
    "protocol.base.base_io.decodable": "self buff",
    "protocol.base.base_io.raw_encode": "self msg",
    "worker.worker.RespProtocol.open_io": "self handle",
    "worker.worker.Worker": "addr",
    "worker.worker.Worker.init_node": "self node",
    "worker.worker.Worker.set_protocol": "self p",
    "worker.worker.Worker.start": "self node",
    "worker.worker.Worker.shutdown": "self",
    "worker.worker.Worker.join": "self",
    "worker.worker.Worker.worker_listen": "self node",
    "worker.worker.Worker.get_handler": "self name",
    "worker.worker.Worker.process_work": "self node sock",
    "worker.worker.Worker.relay_cmd": "self leader cmd worker_offset",
    "worker.worker.MergedWorker": "addr *workers",
    "worker.worker.MergedWorker.append_worker": "self worker",
    "worker.base_worker.BaseWorker": "addr",
    "worker.redis_worker.RedisWorker": "addr",
}

NODE_ATTRIBUTES = (
    "nid addr ip port state data ttl data_lock term index commit_index last_checkpoint "
    "shutdown_flag peers ensemble overwrite_peer worker worker_map logger"
)
WORKER_ATTRIBUTES = "handler addr ip port worker_offset p shutdown_flag"
FUTURE_ATTRIBUTES = "cmd worker_offset value"

# pyraft's commands: words of the log or not, and how few words may follow the name
PYRAFT_COMMANDS = {
    "info": (False, 0), "shutdown": (False, 0), "add_node": (False, 2), "del_node": (False, 1),
    "checkpoint": (False, 0), "getdump": (False, 0), "getlog": (False, 0),
    "get": (False, 1), "set": (True, 2), "del": (True, 1), "expire": (True, 2),
    "pexpire": (True, 2), "expireat": (True, 2), "pexpireat": (True, 2),
    "hset": (True, 3), "hget": (False, 2), "hgetall": (False, 1), "hdel": (True, 2),
    "hlen": (False, 1), "lpush": (True, 2), "rpush": (True, 2), "lpop": (True, 1),
    "rpop": (True, 1), "lrange": (False, 3), "lindex": (False, 2), "llen": (False, 1),
    "lset": (True, 3), "lrem": (True, 3), "ltrim": (True, 3),
    "tget": (False, 1), "tset": (True, 2), "tls": (False, 0), "tmk": (True, 1), "trm": (True, 1),
}  # fmt: skip

# What Redis tools and clients expect besides
REDIS_COMMANDS = (
    "ping echo exists ttl pttl persist incr decr incrby decrby incrbyfloat append mget mset msetnx "
    "setex psetex setnx getset getdel getex strlen type keys scan rename renamenx dbsize flushall "
    "flushdb time wait role command config cluster bgsave lastsave readonly readwrite memory "
    "sadd srem spop smembers scard sismember sinter sunion sdiff zadd zrem zscore zrange zcard "
    "zpopmin zpopmax zincrby zrank hincrby hexists hkeys hvals hmset hmget hscan sscan zscan "
    "hsetnx linsert lpushx rpushx rpoplpush lmove raft"
)
CONNECTION = "quit hello auth client select reset"

CODES = {
    "CommandError": "ERR", "WrongType": "WRONGTYPE", "HandlerError": "ERR", "NoProto": "NOPROTO",
    "NoAuth": "NOAUTH", "WrongPass": "WRONGPASS", "Loading": "LOADING", "TryAgain": "TRYAGAIN",
    "ClusterDown": "CLUSTERDOWN", "Uncertain": "UNCERTAIN",
}  # fmt: skip


def found(path: str) -> Any:
    """The object at `module.path.Class.name` under the package."""
    words = path.split(".")
    for cut in range(len(words), 0, -1):
        try:
            module = importlib.import_module(".".join(["pyraft_fast", *words[:cut]]))
        except ModuleNotFoundError:
            continue
        value: Any = module
        for word in words[cut:]:
            value = getattr(value, word)
        return value
    raise AssertionError(f"no module for {path}")


@pytest.fixture
def node() -> RaftNode:
    return RaftNode("1", "127.0.0.1:5010", {"2": "127.0.0.1:5020"})


@pytest.mark.parametrize("module", NAMES)
def test_modules_and_their_names(module: str) -> None:
    home = found(module)
    assert [name for name in NAMES[module].split() if not hasattr(home, name)] == []


@pytest.mark.parametrize("path", ARGUMENTS)
def test_argument_names(path: str) -> None:
    given = inspect.signature(found(path)).parameters.values()
    names = ["*" * (p.kind == inspect.Parameter.VAR_POSITIONAL) + p.name for p in given]
    wanted = ARGUMENTS[path].split()
    assert names[: len(wanted)] == wanted
    for more in list(given)[len(wanted) :]:
        assert more.default is not inspect.Parameter.empty, f"{more.name} must be optional"


def test_pyrafts_defaults_of_arguments() -> None:
    node = inspect.signature(RaftNode).parameters
    assert [node[name].default for name in ("peer", "worker", "overwrite_peer")] == [
        False, None, False,
    ]  # fmt: skip
    proposed = inspect.signature(RaftNode.propose).parameters
    assert (proposed["worker_offset"].default, proposed["async_run"].default) == (0, False)
    assert inspect.signature(common.Future.get).parameters["timeout"].default is None
    assert inspect.signature(RaftNode.checkpoint).parameters["filename"].default is None


def test_attributes_of_a_node_a_worker_and_a_future(node: RaftNode) -> None:
    for name in NODE_ATTRIBUTES.split():
        assert hasattr(node, name), name
    for name in WORKER_ATTRIBUTES.split():
        assert hasattr(Worker("127.0.0.1:5012"), name), name
    for name in FUTURE_ATTRIBUTES.split():
        assert hasattr(common.Future(("get", "key")), name), name
    assert (node.state, node.term, node.index, node.shutdown_flag) == ("c", 0, 0, False)
    assert node.data == {}
    assert dict(node.ttl) == {}
    assert isinstance(node.worker, MergedWorker)
    assert node.ensemble == {"2": "127.0.0.1:5020"}
    assert (node.logger.name, node.ip, node.port) == ("pyraft_fast", "127.0.0.1", 5010)


def test_a_node_may_be_built_by_position_as_in_pyraft() -> None:
    worker = Worker("127.0.0.1:5010")
    node = RaftNode("1", "127.0.0.1:5010", {}, False, worker, True)
    assert node.worker is worker
    assert node.worker_map == {0: worker}
    assert node.overwrite_peer is True


def test_callbacks_go_into_the_table(node: RaftNode) -> None:
    wanted = {
        "on_start", "on_shutdown", "on_leader", "on_follower", "on_candidate", "on_leader_lost",
        "on_ready", "on_snapshot", "on_membership",
    }  # fmt: skip
    assert wanted == CALLBACKS
    told: list[str] = []
    for name in wanted:
        node.worker.handler[name] = lambda n, name=name: told.append(name)
    for name in sorted(wanted):
        getattr(node, name)()
    assert told == sorted(wanted)


@pytest.mark.parametrize("name", PYRAFT_COMMANDS)
def test_pyrafts_commands(node: RaftNode, name: str) -> None:
    logged, least = PYRAFT_COMMANDS[name]
    entry = node.get_handler(name)
    assert isinstance(entry, list), name
    assert callable(entry[0])
    assert (set("we") & set(entry[1]) != set()) is logged
    assert entry[2] == least


def test_redis_commands(node: RaftNode) -> None:
    known = set(node.worker.names())
    assert [name for name in REDIS_COMMANDS.split() if name not in known] == []
    assert [name for name in CONNECTION.split() if name not in CONNECTION_COMMANDS] == []


@pytest.mark.parametrize("name", CODES)
def test_error_code_words(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, common.RaftException)
    assert kind("some text").wire() == f"{CODES[name]} some text"


def test_ready_made_errors_keep_pyrafts_words() -> None:
    words = {
        "ERROR_CAST": "number format error",
        "ERROR_APPEND_ENTRY": "append entry failed",
        "ERROR_TYPE": "invalid data type",
        "ERROR_NOT_EXISTS": "not exists",
        "ERROR_INVALID_PARAM": "invalid parameter",
    }
    for name, text in words.items():
        assert str(getattr(common, name)) == text
        assert getattr(raft, name) is getattr(common, name)
    assert str(raft.RaftException("msg")) == "msg"


@pytest.fixture
def log_max() -> Iterator[None]:
    before = common.CONF_LOG_MAX
    yield
    raft.CONF_LOG_MAX = before


@pytest.mark.usefixtures("log_max")
def test_the_constant_that_programs_set_has_an_effect(node: RaftNode) -> None:
    assert raft.CONF_LOG_MAX == common.CONF_LOG_MAX == 100_000
    raft.CONF_LOG_MAX = 777
    assert common.CONF_LOG_MAX == 777
    assert node.config_get()["raft-log-max"] == "777"


@pytest.mark.parametrize("value", ["\u00b2", "\u0663", "--5", "x", "", "9" * 5000])
def test_what_is_no_number_of_commands_is_refused(node: RaftNode, value: str) -> None:
    before = node.config_get()
    with pytest.raises(errors.CommandError, match="raft-log-max"):
        node.config_set("raft-log-max", value)
    assert node.config_get() == before
    node.config_set("raft-log-max", "5000")
    assert node.config_get()["raft-log-max"] == "5000"


def test_other_constants_have_pyrafts_values() -> None:
    assert (common.CONF_LOG_FILE_MAX, common.CONF_VOTING_TIME, common.CONF_PING_TIMEOUT) == (
        10_000, 1.0, 5,
    )  # fmt: skip


def test_importing_configures_no_logging_and_loads_no_client_library() -> None:
    code = (
        "import logging, sys; from pyraft_fast import raft, resp; root = logging.getLogger(); "
        "own = logging.getLogger('pyraft_fast'); assert not root.handlers; "
        "assert all(isinstance(h, logging.NullHandler) for h in own.handlers); "
        "assert own.level == 0; assert 'redis' not in sys.modules and 'hiredis' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["run_raft", "protocol.proxy"])
def test_modules_that_are_programs(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"pyraft_fast.{module}", "--help"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "-a" in done.stdout
