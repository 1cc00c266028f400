"""`-l`: a snapshot from elsewhere, put into a node's empty folder to found a new cluster from.

The file may be one of ours or pyraft's text. Its items are written as a snapshot of this node;
consensus then founds the cluster on top of it, so that other nodes get it like any snapshot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, Final

from pyraft_fast.errors import CommandError, StartError, StorageError
from pyraft_fast.serving.settings import Settings
from pyraft_fast.serving.startup import make_folder
from pyraft_fast.storage import legacy, names, snapshot
from pyraft_fast.worker.codes import freeze
from pyraft_fast.worker.types import RedisList, TreeNode

_TEXT_STARTS: Final = b"{"  # pyraft's snapshot is a dict's text; ours begins with a record's length
Items = Iterator[tuple[Any, int, Any, int | None]]


def import_snapshot(path: str, settings: Settings) -> str:
    """Write the data of `path` as a snapshot of this node; returns where.

    Raises StartError when the folder holds a log already, StorageError when `path` is no snapshot.
    """
    make_folder(settings.folder)
    if names.segments(os.listdir(settings.folder), settings.nid):
        raise StartError(
            f"folder {settings.folder} holds a log of node {settings.nid} already; a snapshot to "
            "load starts a new cluster: use an empty folder, or start without -l"
        )
    if is_legacy(path):
        items, now = legacy_items(path), time.time_ns() // 1_000_000
    else:
        meta = snapshot.verify_snapshot(path)
        items, now = iter(snapshot.read_items(path)), meta.time_ms
    target = snapshot.snapshot_path(settings.folder, settings.nid, int(time.time()), 1)
    head = snapshot.Meta(
        cluster=0, index=1, term=1, time_ms=now, membership=b"", sessions={}, keys=0
    )
    if os.path.abspath(target) != os.path.abspath(path):
        snapshot.write_snapshot(target, head, items)
    return target


def is_legacy(path: str) -> bool:
    """Whether a file looks like pyraft's snapshot text. Raises StorageError."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip().startswith(_TEXT_STARTS)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None


def legacy_items(path: str) -> Items:
    """The items of pyraft's snapshot text, as the types that commands here work on.

    Raises StorageError naming the key whose value has no form here.
    """
    found = legacy.read(path)
    for key, value in found.items.items():
        deadline = found.ttl.get(key)
        try:
            code, plain = freeze(modern(value))
        except CommandError as error:
            raise StorageError(f"{path}: key {key!r}: {error}") from None
        yield key, code, plain, None if deadline is None else round(deadline * 1000)


def modern(value: Any) -> Any:
    """pyraft's plain list as a RedisList, its nested dicts as trees; other values as they are."""
    if isinstance(value, list):
        return RedisList(value)
    if isinstance(value, dict) and any(isinstance(entry, dict) for entry in value.values()):
        return _tree(value)
    return value


def _tree(entries: dict[Any, Any]) -> TreeNode:
    return TreeNode(
        (name, _tree(entry) if isinstance(entry, dict) else entry)
        for name, entry in entries.items()
    )
