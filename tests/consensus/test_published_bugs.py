"""Bugs about names and addresses that others published: the parts that need no whole node."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.consensus.test_links import Host, message, run_with, until


def test_rqlite_695_and_991_names_are_looked_up_at_every_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pods came back with other IPs under the same names. A name had been resolved once, and its IP
    was what the cluster remembered (695), so restarted nodes called dead addresses for ever; with
    stable names it should have been enough that a name points elsewhere (991).
    """
    where = {"n2.example": "127.0.0.9"}  # nobody is there
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **options: Any) -> Any:
        asked.append(host)
        return real(where.get(host, host), *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    one, old, new = Host("n1"), Host("n2"), Host("n2")
    new.listener.close()
    new.listener = socket.create_server(("127.0.0.3", old.port + 1))

    async def test() -> None:
        one.links.follow([old.target._replace(addr=f"n2.example:{old.port}")])
        await until(lambda: asked.count("n2.example") >= 2)
        assert one.up == []
        where["n2.example"] = "127.0.0.1"
        await until(lambda: one.up == ["n2"])
        old.server.close()
        old.listener.close()
        where["n2.example"] = "127.0.0.3"
        await until(lambda: one.up == ["n2", "n2"])
        assert one.links.send("n2", message(1))
        await until(lambda: new.frames)

    run_with([one, old, new], test)
