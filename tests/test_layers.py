"""The import law: which room may import which. Any other arrow fails."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pyraft_fast"
GROUND = {"errors", "limits", "version", "address", "read_level"}
CODECS = {
    "_dice", "_digest", "_entry", "_hub", "_pen", "_quorum", "_ranks", "_resp", "_ring", "_slot",
    "_turn", "_wire",
}  # fmt: skip

# room -> rooms and modules of ours that it may import, itself aside
LAW: dict[str, set[str]] = {
    "errors": set(),
    "limits": set(),
    "version": set(),
    "address": {"errors", "limits"},
    "read_level": {"errors", "limits"},
    "common": {"errors", "limits"},
    "compiled": set(),
    "core": {"errors", "limits", "compiled", "_entry", "_quorum", "_wire"},
    "storage": {"errors", "limits", "_entry", "core"},
    "link": {"errors", "limits", "_ring", "_slot", "_entry"},
    "consensus": GROUND
    | {"compiled", "core", "storage", "link", "_entry", "_pen", "_quorum", "_ring", "_wire"},
    "protocol": {"errors", "limits", "_resp"},
    "worker": GROUND | {"common", "protocol", "_dice", "_digest", "_ranks", "_resp"},
    "serving": GROUND | {"common", "link", "storage", "worker", "protocol", *CODECS},
    "peer": {"address"},
    "node": GROUND | {"common", "log", "peer", "serving", "worker"},
    "raft": GROUND | {"common", "node"},
    "log": GROUND | {"common", "storage", "_entry"},
    "resp": {"protocol"},
    "recover": GROUND | {"consensus", "storage"},
    "bench": {"errors", "version", "raft"},  # drives programs from outside
    "cli": GROUND | {"bench", "raft", "recover", "storage", "common"},
    "run_raft": {"cli"},
    "__main__": {"cli"},
    "__init__": GROUND | {"common", "node", "raft", "protocol"},
}

# What the rules may take from the standard library: no socket, file, clock or dice of their own.
CORE_STDLIB = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "heapq", "itertools",
    "operator", "random", "typing",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "pyraft_fast":
                for alias in node.names:
                    yield f"pyraft_fast.{alias.name}", node.lineno
            elif node.module:
                yield node.module, node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_law(path: Path) -> None:
    room = room_of(path)
    assert room in LAW, f"{path} stands in no known room"
    for name, line in imports(path):
        if not name.startswith("pyraft_fast"):
            continue
        target = name.split(".")[1] if "." in name else "__init__"
        if target in {room, "__init__"} and target == room:
            continue
        assert target in LAW[room], f"{path}:{line}: {room} may not import {target}"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.name
)  # fmt: skip
def test_the_rules_know_no_io_clock_or_dice(path: Path) -> None:
    for name, line in imports(path):
        top = name.split(".")[0]
        if top != "pyraft_fast":
            assert top in CORE_STDLIB, f"{path}:{line}: the core imports {name}"


def test_dice_are_only_typed_in_the_core() -> None:
    """`random` may be imported for the type of the dice that are handed in, never rolled."""
    for path in (PACKAGE / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            if node.value.id == "random":
                assert node.attr == "Random", f"{path}:{node.lineno}: random.{node.attr}"


def test_every_module_imports_without_side_effects_on_logging() -> None:
    import logging
    import subprocess

    code = (
        "import logging, pyraft_fast\n"
        "assert not logging.getLogger().handlers\n"
        "assert not logging.getLogger('pyraft_fast').level\n"
    )
    assert logging
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
