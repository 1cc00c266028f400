"""Addresses as people type them: `ip:port`, `host:port`, `[v6]:port`, `:port`, and member lists.

Parsing never looks a name up. Names are resolved where a connection is made, so that a restarted
pod with a new address, or a name that does not exist yet, is a matter of trying again.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from pyraft_fast.errors import ConfigError
from pyraft_fast.limits import NID_BYTES_MAX

TEMP_PREFIX = "__TEMP_"  # pyraft's name for a listed member whose id is not known yet


class Address(NamedTuple):
    """A host name or IP and a TCP port (1 to 65534: the peer port is one above)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def peer(self) -> Address:
        """Where the same node listens for other nodes."""
        return Address(self.host, self.port + 1)


def parse_address(text: str, default_host: str | None = None) -> Address:
    """Read `host:port` or `[v6]:port`; `:port` stands for `default_host`, or this machine's name.

    Raises ConfigError naming the text when it is neither.
    """
    host, colon, digits = text.strip().rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit():
        raise ConfigError(f"address {text!r} is not HOST:PORT")
    port = int(digits)
    if not 1 <= port <= 65534:
        raise ConfigError(f"port {port} in {text!r} is outside 1 to 65534 (port + 1 is used too)")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"address {text!r}: write an IPv6 address as [ADDRESS]:PORT")
    if not host:
        host = default_host if default_host is not None else own_host()
    return Address(host, port)


def own_host() -> str:
    """The IP that this machine's own name stands for, or the name when it stands for none."""
    name = socket.gethostname()
    try:
        return str(socket.gethostbyname(name))
    except OSError:
        return name


def check_nid(nid: str) -> str:
    """Refuse node ids that could not be shown or used in a file name; returns `nid`."""
    if not nid or len(nid.encode("utf-8", "surrogateescape")) > NID_BYTES_MAX:
        raise ConfigError(f"node id {nid!r} must have 1 to {NID_BYTES_MAX} bytes")
    if not nid.isprintable() or "/" in nid or "," in nid or " " in nid:
        raise ConfigError(f"node id {nid!r} may not hold blanks, commas, slashes or control codes")
    return nid


def parse_ensemble(text: str | None) -> dict[str, str]:
    """Read `-e`: comma-separated `NID/HOST:PORT` or `HOST:PORT` into {nid: "host:port"}.

    An entry without an id is filed under `__TEMP_host:port__`, as pyraft does, until its node
    says who it is. Raises ConfigError for an empty list, a bad entry or an id given twice.
    """
    ensemble: dict[str, str] = {}
    if text is None:
        return ensemble
    for entry in text.split(","):
        nid, slash, where = entry.strip().rpartition("/")
        address = str(parse_address(where))
        if slash:
            check_nid(nid)
        else:
            nid = f"{TEMP_PREFIX}{address}__"
        if nid in ensemble:
            raise ConfigError(f"{entry.strip()!r} is in the member list twice")
        ensemble[nid] = address
    return ensemble


def listed_members(ensemble: dict[str, str]) -> list[tuple[str, str]]:
    """The pairs (nid or "", "host:port") that a member list stands for."""
    return [
        ("" if nid.startswith(TEMP_PREFIX) else nid, address) for nid, address in ensemble.items()
    ]
