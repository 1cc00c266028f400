"""A TCP proxy that shows what passes: `python -m pyraft_fast.protocol.proxy -s SERVER -a LISTEN`.

Both directions flow at all times, so what a server pushes unasked passes as well; bytes are
shown and never changed. It knows no protocol. When one side sends no more, the other is told,
and still answers. Both addresses are `host:port`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

READ_BYTES: Final = 65536
LINE_BYTES: Final = 16
REQUEST: Final = "<< req"
RESPONSE: Final = ">> resp"

Show = Callable[[str], object]


def dump_str(data: bytes) -> str:
    """Bytes as lines of 16: offset, hexadecimal, and what is printable."""
    lines = []
    for at in range(0, len(data), LINE_BYTES):
        part = data[at : at + LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:06x}  {part.hex(' '):<{LINE_BYTES * 3 - 1}}  {text}")
    return "\n".join(lines)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]") or "127.0.0.1", int(port)


async def _pass_on(
    label: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, show: Show
) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            show(f"{label}[{len(data)}]:\n{dump_str(data)}")
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError as error:
        show(f"{label}: {error}")
        writer.close()


async def start_proxy(server: str, listen: str, show: Show) -> asyncio.Server:
    """Listen, and pass every connection on to `server`, telling `show` each piece as text.

    Raises ValueError for an unreadable address, OSError when `listen` cannot be bound.
    """
    host, port = split_address(server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError as error:
            show(f"cannot reach {server}: {error}")
            writer.close()
            return
        try:
            await asyncio.gather(
                _pass_on(REQUEST, reader, far_writer, show),
                _pass_on(RESPONSE, far_reader, writer, show),
            )
        finally:
            far_writer.close()
            writer.close()

    listen_host, listen_port = split_address(listen)
    return await asyncio.start_server(serve, listen_host, listen_port)


async def do_proxy(server: str, listen: str) -> None:
    """Run the proxy until cancelled, showing everything on standard output."""

    def show(text: str) -> None:
        print(text, flush=True)

    running = await start_proxy(server, listen, show)
    host, port = running.sockets[0].getsockname()[:2]
    show(f"listening on {host}:{port}, passing on to {server}")
    async with running:
        await running.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pyraft_fast.protocol.proxy", description="Show what a connection carries."
    )
    parser.add_argument("-s", dest="server", help="address of the server", required=True)
    parser.add_argument("-a", dest="addr", help="address to listen on", required=True)
    args = parser.parse_args(argv)
    try:
        asyncio.run(do_proxy(args.server, args.addr))
    except (OSError, ValueError) as error:
        print(f"proxy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
