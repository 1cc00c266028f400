"""Deliberate bugs: a few characters of the product's source, changed while a test runs.

An `Edit` names a function and replaces one place in its source by another. The changed source is
compiled where the function lives, and its code is put into the very function object, so whoever
holds a reference to it (tables, imports, methods) runs the bug, without a copy of the product. An
edit whose place is not in the source any more fails loudly: then the product has moved on, and the
bug is to be written anew.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

ROOM = "pyraft_fast."


class Misfit(Exception):
    """An edit does not fit the product's source any more."""


@dataclass(frozen=True)
class Edit:
    """In `function` ("core.raft:Raft.step") the text `old`, found once, becomes `new`."""

    function: str
    old: str
    new: str

    @property
    def where(self) -> str:
        """File and function, for people."""
        module, name = self.function.split(":")
        return f"{module.replace('.', '/')}.py {name}"


def find(name: str) -> FunctionType:
    """The function object behind "core.raft:Raft.step"; of a property, its getter."""
    module, path = name.split(":")
    found: Any = importlib.import_module(ROOM + module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part, None)
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if not isinstance(found, FunctionType):
        raise Misfit(f"{name} is no function of the product")
    return found


@cache
def _source(name: str) -> str:
    return textwrap.dedent(inspect.getsource(find(name)))


@cache
def changed(name: str, edits: tuple[Edit, ...]) -> CodeType:
    """The code of function `name` with `edits` made. Raises Misfit."""
    function = find(name)
    source = _source(name)
    for edit in edits:
        if source.count(edit.old) != 1:
            raise Misfit(f"{name} has {source.count(edit.old)} places {edit.old!r}, not one")
        source = source.replace(edit.old, edit.new)
    lines = source.splitlines()
    while lines[0].startswith("@"):
        del lines[0]
    flags = annotations.compiler_flag  # of the import above, which the product's files have too
    compiled = compile("\n".join(lines), f"<bug in {name}>", "exec", flags, dont_inherit=True)
    space = dict(function.__globals__)
    exec(compiled, space)
    code: CodeType = space[function.__name__].__code__
    if code.co_freevars != function.__code__.co_freevars:
        raise Misfit(f"{name} uses names of what encloses it, so its code cannot be exchanged")
    return code


@contextlib.contextmanager
def made(*edits: Edit) -> Iterator[None]:
    """Run with `edits` in force; everything is as before afterwards. Raises Misfit."""
    names = dict.fromkeys(edit.function for edit in edits)
    codes = [
        (find(name), changed(name, tuple(edit for edit in edits if edit.function == name)))
        for name in names
    ]
    before = [(function, function.__code__) for function, _ in codes]
    try:
        for function, code in codes:
            function.__code__ = code
        yield
    finally:
        for function, code in before:
            function.__code__ = code
