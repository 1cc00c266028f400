"""Limits on shape, so that files stay readable: lengths of functions, files and lines."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
LINE_CHARACTERS_MAX = 100
PRINTING = {"cli.py", "proxy.py"}

PYTHON = sorted((ROOT / "pyraft_fast").rglob("*.py"))
CYTHON = sorted((ROOT / "ext").glob("*.px[id]")) + sorted((ROOT / "ext").glob("*.pyx"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PYTHON + CYTHON + TESTS, ids=name_of)
def test_files_and_lines_are_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= FILE_LINES_MAX, f"{len(lines)} lines"
    for number, line in enumerate(lines, 1):
        assert len(line) <= LINE_CHARACTERS_MAX, f"line {number}"
        assert "\t" not in line, f"line {number}"


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_product_modules_have_good_habits(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.stat().st_size:
        assert ast.get_docstring(tree), "a module opens with what it decides"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: use errors.check"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"line {node.lineno}"
            if path.name not in PRINTING:
                assert node.func.id != "print", f"line {node.lineno}: use the logger"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            for banned in ("pickle", "marshal", "shelve"):
                assert banned not in names, f"line {node.lineno}: {banned}"


def public_definitions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.parse(path.read_text()).body if isinstance(node, kinds)]
    return [node for node in found if not node.name.startswith("_")]


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_public_functions_and_classes_say_what_they_mean(path: Path) -> None:
    for node in public_definitions(path):
        assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_no_module_is_an_orphan() -> None:
    """Every module is imported somewhere, or is an entry point."""
    entries = {"__main__", "__init__", "run_raft", "resp", "log", "raft", "proxy"}
    entries |= {"cas_node", "syncobj_driver"}  # programs that the benchmark starts
    imported: set[str] = set()
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    for path in PYTHON:
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert path.stem in entries or dotted in imported, f"nothing imports {dotted}"


def test_everything_said_about_the_project_speaks_of_the_project() -> None:
    """No machine's paths and no registry's host in what is shipped."""
    banned = re.compile(r"/(?:work|root|home)/[a-z]|pypi\.org/simple|/opt/")
    for path in [*PYTHON, *CYTHON, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "Dockerfile"]:
        found = banned.search(path.read_text())
        assert not found, f"{path}: {found}"
