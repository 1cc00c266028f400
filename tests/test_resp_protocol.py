"""RESP under pyraft's names, its io objects on sockets, and the proxy."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pyraft_fast import resp
from pyraft_fast.errors import CommandError, ProtocolError, ReplyError
from pyraft_fast.protocol import proxy
from pyraft_fast.protocol.base import base_io
from pyraft_fast.protocol.replies import NIL_ARRAY, Map, Push, Status, Verbatim
from pyraft_fast.protocol.resp import resp_decoding, resp_encoding, resp_io

Pair = tuple[resp_io, resp_io]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    ios = (resp_io(left), resp_io(right))
    yield ios
    for io in ios:
        io.close()


def sock_of(io: base_io) -> socket.socket:
    assert io.sock is not None
    return io.sock


def test_the_old_module_path_leads_here() -> None:
    assert resp.resp_io is resp_io
    assert resp.resp_encoding is resp_encoding
    assert resp.resp_decoding is resp_decoding


def test_encoding_gives_bytes() -> None:
    assert resp_encoding("a value with an é") == b"$18\r\na value with an \xc3\xa9\r\n"
    assert resp_encoding([1, None, True]) == b"*3\r\n:1\r\n$-1\r\n+OK\r\n"
    assert resp_encoding(CommandError("no")) == b"-ERR no\r\n"


@pytest.mark.parametrize(
    ("src", "value", "rest"),
    [
        (b"", None, b""),
        (b"*2\r\n$1\r\na\r\n$1", None, b"*2\r\n$1\r\na\r\n$1"),
        (b"$-1\r\n:1\r\n", None, b":1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n+O", ["GET", "é"], b"+O"),
        (b"*2\r\n$-1\r\n:5\r\n", [None, 5], b""),
        (b"+OK\r\nrest", "OK", b"rest"),
        (b"PING 'a b'\r\nrest", ["PING", "a b"], b"rest"),
        (b"PING", None, b"PING"),
    ],
)
def test_decoding_gives_the_first_value_and_the_rest(src: bytes, value: Any, rest: bytes) -> None:
    assert resp_decoding(src) == (value, rest)


def test_decoded_errors_are_returned_and_broken_bytes_raise() -> None:
    error, rest = resp_decoding(b"-ERR no\r\n")
    assert isinstance(error, ReplyError) and str(error) == "ERR no" and rest == b""
    with pytest.raises(ProtocolError):
        resp_decoding(b"*1\r\n$-5\r\n")


def test_messages_pass_between_two_ios(pair: Pair) -> None:
    left, right = pair
    assert left.write(["SET", "k", "é\udcff" * 20]) == len(
        resp_encoding(["SET", "k", "é\udcff" * 20])
    )
    assert right.read() == ["SET", "k", "é\udcff" * 20]
    right.write(None)
    right.write(NIL_ARRAY)
    assert left.read() is None and left.connected()
    assert left.read() is None and left.connected()


def test_a_message_in_pieces_is_one_message(pair: Pair) -> None:
    left, right = pair
    for byte in b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[:-1]:
        sock_of(left).sendall(bytes([byte]))
        assert right.read(timeout=0) == b""
    sock_of(left).sendall(b"\n:7\r\n")
    assert right.read(timeout=30) == ["GET", "k"]
    assert right.read(timeout=30) == 7
    assert right.read(timeout=0) == b""


def test_read_all_takes_what_is_there(pair: Pair) -> None:
    left, right = pair
    assert right.read_all(timeout=0) == []
    sock_of(left).sendall(b":1\r\n$-1\r\n:2\r\n:3")
    assert right.read_all(timeout=30) == [1, None, 2]
    left.close()
    assert right.read_all() is None
    assert not right.connected()


def test_raw_write_ends_a_line_and_leaves_bytes_alone(pair: Pair) -> None:
    left, right = pair
    left.raw_write("+OK")
    left.raw_write("PING\r\n")
    left.raw_write(b"$3\r\n\xff\r\n\r\n")
    assert [right.read(), right.read(), right.read()] == ["OK", ["PING"], "\udcff\r\n"]


def test_a_large_message_is_written_whole(pair: Pair) -> None:
    left, right = pair
    value = "x" * 5_000_000
    writer = threading.Thread(target=left.write, args=(value,))
    writer.start()
    assert right.read() == value
    writer.join()


def test_a_closed_connection_is_none_everywhere(pair: Pair) -> None:
    left, right = pair
    right.close()
    assert left.read() is None and not left.connected()
    for io in (left, right, resp_io(None)):
        assert io.write("x") is None
        assert io.raw_write("x") is None
        assert io.read() is None
        assert io.read(timeout=0) is None
        assert io.read_all() is None
        io.close()


def test_what_came_before_the_end_is_still_read(pair: Pair) -> None:
    left, right = pair
    left.write(1)
    left.write(2)
    left.close()
    assert right.read() == 1
    assert right.read() == 2
    assert right.read() is None and right.error is None


def test_a_broken_peer_is_told_and_closed(pair: Pair) -> None:
    left, right = pair
    sock_of(left).sendall(b":1\r\n*x\r\n")
    assert right.read() == 1
    assert right.read() is None and not right.connected()
    assert str(right.error) == "Protocol error: invalid multibulk length"
    answer = left.read()
    assert isinstance(answer, ReplyError)
    assert str(answer) == "ERR Protocol error: invalid multibulk length"
    assert left.read() is None


def test_the_sockets_own_time_out_ends_the_connection(pair: Pair) -> None:
    _, right = pair
    sock_of(right).settimeout(0.01)
    assert right.read() is None
    assert not right.connected()


class LineIo(base_io):
    """A protocol of one's own: lines of text."""

    calls = 0

    def encode(self, msg: Any) -> str:
        return f"{msg}\n"

    def decode(self, msg: bytes) -> tuple[Any, bytes]:
        self.calls += 1
        line, found, rest = msg.partition(b"\n")
        return (line.decode(), rest) if found else (None, msg)


def test_a_protocol_of_ones_own_overrides_encode_and_decode() -> None:
    one, two = socket.socketpair()
    left, right = LineIo(one), LineIo(two)
    left.write("hello")
    left.write("é")
    assert [right.read(), right.read()] == ["hello", "é"]
    left.raw_write("par")
    assert right.read(timeout=0) == b""
    calls = right.calls
    assert right.read(timeout=0) == b""
    assert right.calls == calls, "bytes that held no message are not looked at again"
    left.raw_write("t\nmore\n")
    assert right.read_all() == ["part", "more"]
    left.close()
    assert right.read() is None


def test_a_protocol_must_say_how_it_reads_and_writes() -> None:
    io = base_io(None)
    with pytest.raises(NotImplementedError):
        io.encode(1)
    with pytest.raises(NotImplementedError):
        io.decode(b"")
    assert io.decodable(b"x") and not io.decodable(b"")


def test_reply_types_are_their_values() -> None:
    assert Status("OK") == "OK" and Verbatim("x") == "x"
    assert Map({"a": 1}) == {"a": 1} and Push([1]) == [1]
    assert repr(NIL_ARRAY) == "NIL_ARRAY"


def test_bytes_are_shown_in_lines_of_sixteen() -> None:
    shown = proxy.dump_str(b"*1\r\n$4\r\nPING\r\n\xff!\x00")
    assert shown.splitlines() == [
        "000000  2a 31 0d 0a 24 34 0d 0a 50 49 4e 47 0d 0a ff 21  *1..$4..PING...!",
        "000010  00                                               .",
    ]
    assert proxy.dump_str(b"") == ""


def test_addresses() -> None:
    assert proxy.split_address("[::1]:80") == ("::1", 80)
    assert proxy.split_address(":80") == ("127.0.0.1", 80)
    for wrong in ("", "80", "host:", "host:x"):
        with pytest.raises(ValueError, match="host:port"):
            proxy.split_address(wrong)


def test_the_proxy_passes_both_ways_and_what_is_pushed() -> None:
    shown: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"pushed\r\n")  # before the client says anything
        writer.write((await reader.read()).upper())  # until the client sends no more
        await writer.drain()
        writer.close()

    async def scenario() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        between = await proxy.start_proxy(f"127.0.0.1:{port}", "127.0.0.1:0", shown.append)
        via = between.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", via)
        first = await reader.readline()
        writer.write(b"hello\xff")
        writer.write_eof()
        rest = await reader.read()
        writer.close()
        between.close()
        server.close()
        await asyncio.wait_for(between.wait_closed(), 20)
        await asyncio.wait_for(server.wait_closed(), 20)
        return first + rest

    assert asyncio.run(scenario()) == b"pushed\r\nHELLO\xff"
    assert [line.split(":")[0] for line in shown] == [">> resp[8]", "<< req[6]", ">> resp[6]"]


def test_the_proxy_says_when_it_cannot_reach_the_server() -> None:
    shown: list[str] = []

    async def scenario() -> bytes:
        with socket.socket() as closed:  # bound, and nobody listens
            closed.bind(("127.0.0.1", 0))
            nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
            between = await proxy.start_proxy(nowhere, ":0", shown.append)
            port = between.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            data = await reader.read()
            writer.close()
            between.close()
            await asyncio.wait_for(between.wait_closed(), 20)
            return data

    assert asyncio.run(scenario()) == b""
    assert len(shown) == 1 and shown[0].startswith("cannot reach 127.0.0.1:")


def test_the_command_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = f"127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "pyraft_fast.protocol.proxy", "-s", far, "-a", ":0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                assert running.stdout is not None
                found = re.match(r"listening on 127\.0\.0\.1:(\d+),", running.stdout.readline())
                assert found
                with socket.create_connection(("127.0.0.1", int(found[1]))) as client:
                    client.sendall(b"PING\r\n")
                    peer, _ = server.accept()
                    with peer:
                        assert peer.recv(100) == b"PING\r\n"
                assert running.stdout.readline() == "<< req[6]:\n"
                assert running.stdout.readline().endswith("  PING..\n")
            finally:
                running.terminate()
                running.communicate()


def test_the_command_line_refuses_what_it_cannot_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert proxy.main(["-s", "nowhere", "-a", ":0"]) == 1
    assert "'nowhere' is not host:port" in capsys.readouterr().err
