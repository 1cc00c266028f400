"""Addresses and member lists as people type them."""

from __future__ import annotations

import pytest

from pyraft_fast.address import (
    Address,
    check_nid,
    listed_members,
    own_host,
    parse_address,
    parse_ensemble,
)
from pyraft_fast.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:5010", "127.0.0.1", 5010),
        (" db-0.raft.svc:5010 ", "db-0.raft.svc", 5010),
        ("[::1]:5010", "::1", 5010),
        ("0.0.0.0:1", "0.0.0.0", 1),
    ],
)
def test_address_is_read_and_shown_alike(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert parse_address(str(address)) == address
    assert address.peer == Address(host, port + 1)


def test_port_alone_stands_for_this_machine() -> None:
    assert parse_address(":5010") == Address(own_host(), 5010)
    assert parse_address(":5010", default_host="0.0.0.0") == Address("0.0.0.0", 5010)


@pytest.mark.parametrize(
    "text", ["", "5010", "host", "host:", "host:x", "host:0", "host:65535", "::1:5010", "h:\u0661"]
)
def test_bad_address_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"address|port"):
        parse_address(text)


def test_ensemble_takes_ids_names_and_plain_addresses() -> None:
    ensemble = parse_ensemble("n2/10.0.0.2:5020,db.local:5030,[::1]:5040")
    assert ensemble == {
        "n2": "10.0.0.2:5020",
        "__TEMP_db.local:5030__": "db.local:5030",
        "__TEMP_[::1]:5040__": "[::1]:5040",
    }
    assert listed_members(ensemble) == [
        ("n2", "10.0.0.2:5020"),
        ("", "db.local:5030"),
        ("", "[::1]:5040"),
    ]


def test_no_ensemble_is_an_empty_one_but_an_empty_text_is_refused() -> None:
    assert parse_ensemble(None) == {}
    for text in ("", ",", "a/1.2.3.4:5,a/1.2.3.4:6", "b ad/1.2.3.4:5"):
        with pytest.raises(ConfigError):
            parse_ensemble(text)


def test_node_id_bounds() -> None:
    assert check_nid("127.0.0.1:5010") == "127.0.0.1:5010"
    for nid in ("", "a b", "a/b", "a,b", "a\n", "x" * 129):
        with pytest.raises(ConfigError):
            check_nid(nid)
