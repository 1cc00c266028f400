"""What the serving side tells its child at start, checked once, at the border."""

from __future__ import annotations

from typing import Final, NamedTuple

from pyraft_fast.address import check_nid, parse_address
from pyraft_fast.consensus.diskwork import ALWAYS, EVERYSEC, NEVER
from pyraft_fast.consensus.frames import Fields
from pyraft_fast.errors import ConfigError, ProtocolError
from pyraft_fast.limits import KIB, MEMBERS_MAX, SEGMENT_BYTES

TICK_MS: Final = 10
HEARTBEAT_MS: Final = 50
ELECTION_MS_MIN: Final = 300
ELECTION_MS_MAX: Final = 600
SEGMENT_BYTES_MIN: Final = 64 * KIB


class Settings(NamedTuple):
    """One node's settings. `ensemble` holds (nid or "", "host:port"); times are milliseconds."""

    nid: str
    addr: str
    folder: str
    ensemble: tuple[tuple[str, str], ...]
    overwrite_peer: bool
    heartbeat_ms: int
    election_ms_min: int
    election_ms_max: int
    fsync: str
    segment_bytes: int
    load: bool
    commit_at_once: bool


_DEFAULTS: Final[dict[str, object]] = {
    "ensemble": [],
    "overwrite_peer": False,
    "heartbeat_ms": HEARTBEAT_MS,
    "election_ms_min": ELECTION_MS_MIN,
    "election_ms_max": ELECTION_MS_MAX,
    "fsync": ALWAYS,
    "segment_bytes": SEGMENT_BYTES,
    "load": False,
    "commit_at_once": False,
}


def read_settings(received: object) -> Settings:
    """The settings in a START frame, with defaults for what is absent. Raises ConfigError."""
    try:
        return _read(received)
    except ProtocolError as error:
        raise ConfigError(str(error)) from error


def _read(received: object) -> Settings:
    if not isinstance(received, dict):
        raise ConfigError("the settings are not a map")
    fields = Fields({**_DEFAULTS, **received}, "the settings")
    settings = Settings(
        check_nid(fields.text("nid", 512)),
        str(parse_address(fields.text("addr", 512))),
        fields.text("folder"),
        _read_ensemble(received.get("ensemble", [])),
        fields.flag("overwrite_peer"),
        fields.number("heartbeat_ms", 60_000),
        fields.number("election_ms_min", 600_000),
        fields.number("election_ms_max", 600_000),
        fields.text("fsync", 16),
        fields.number("segment_bytes", 2**40),
        fields.flag("load"),
        fields.flag("commit_at_once"),
    )
    if settings.fsync not in (ALWAYS, EVERYSEC, NEVER):
        raise ConfigError(f"fsync must be always, everysec or never, not {settings.fsync!r}")
    if settings.heartbeat_ms < TICK_MS:
        raise ConfigError(f"heartbeats come every {TICK_MS} ms at the fastest")
    if not 2 * settings.heartbeat_ms < settings.election_ms_min < settings.election_ms_max:
        raise ConfigError("election times must be more than two heartbeats, and a range")
    if settings.segment_bytes < SEGMENT_BYTES_MIN:
        raise ConfigError(f"a log segment has at least {SEGMENT_BYTES_MIN} bytes")
    return settings


def _read_ensemble(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list | tuple) or len(value) > MEMBERS_MAX:
        raise ConfigError(f"the member list is not a list of at most {MEMBERS_MAX} members")
    members: list[tuple[str, str]] = []
    for entry in value:
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise ConfigError(f"{entry!r} in the member list is not an id and an address")
        nid, address = entry
        if not isinstance(nid, str) or not isinstance(address, str):
            raise ConfigError(f"{entry!r} in the member list is not an id and an address")
        if nid:
            check_nid(nid)
        members.append((nid, str(parse_address(address))))
    return tuple(members)
