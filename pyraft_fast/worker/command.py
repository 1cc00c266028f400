"""COMMAND: the handler table described in the shapes that redis-cli and cluster clients read.

redis-cli insists: DOCS is a map of maps with bulk strings, `arguments` an array of maps;
COMMAND is an array of arrays whose first four elements are name, arity, flags and first key.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pyraft_fast.errors import CommandError
from pyraft_fast.protocol.replies import Map, Status
from pyraft_fast.worker.docs import DOCS, Doc
from pyraft_fast.worker.table import Row
from pyraft_fast.worker.words import Words, arity_error, glob, integer, option, subcommand_error

_TOKEN: Final = re.compile(r"\[[^\]]*\]|<[^>]*>|\S+")


def all_rows(node: Any) -> list[Row]:
    """Every command of the node, those that serving answers by itself included."""
    worker = node.worker
    rows = {row.name: row for row in [*worker.extra_rows, *worker.table.all_rows()]}
    return [rows[name] for name in sorted(rows)]


def doc_of(row: Row) -> Doc:
    """The command's documentation; for a user's handler, made from its docstring and limits."""
    doc = DOCS.get(row.name)
    if doc is not None:
        return doc
    text = (getattr(row.function, "__doc__", None) or "").strip()
    summary = text.splitlines()[0] if text else "A handler of this program."
    names = [f"argument{at}" for at in range(1, min(row.min, 8) + 1)]
    more = [] if row.max == row.min > 0 else ["[argument ...]"]
    return Doc("generic", "0.1.0", 0, 0, 0, " ".join(names + more), summary)


def _flags(row: Row) -> list[Status]:
    flags = ["write"] if row.logged else ["readonly"]
    if row.local:
        flags = ["admin", "loading", "stale"]
    return [Status(flag) for flag in flags]


def describe(row: Row) -> list[Any]:
    """One command as COMMAND and COMMAND INFO show it."""
    doc = doc_of(row)
    return [
        row.name, row.arity, _flags(row), doc.first, doc.last, doc.step,
        [Status(f"@{doc.group.replace('-', '')}")], [], [], [],
    ]  # fmt: skip


def _argument(word: str) -> dict[str, Any] | None:
    """One piece of a syntax line as a map of COMMAND DOCS, or None for a mere `...`."""
    optional = word.startswith("[")
    inner = word.strip("[]<>").strip()
    multiple = inner.endswith("...")
    inner = inner.removesuffix("...").strip()
    if not inner:
        return None
    flags = [Status(name) for name, on in (("optional", optional), ("multiple", multiple)) if on]
    argument: dict[str, Any] = {"name": inner.lower().replace(" ", "-"), "type": "string"}
    if "|" in inner:
        argument["type"] = "oneof"
        argument["arguments"] = [Map(_token(choice)) for choice in inner.split("|")]
    elif inner.isupper():
        argument = _token(inner)
    elif inner.split(" ")[0].isupper():
        token, *names = inner.split(" ")
        argument = {"name": names[0].lower() if names else token.lower(), "type": "string"}
        if len(names) > 1:
            argument = {"name": token.lower(), "type": "block"}
            argument["arguments"] = [Map({"name": name, "type": "string"}) for name in names]
        argument["token"] = token
    elif inner == "key":
        argument["type"] = "key"
        argument["key_spec_index"] = 0
    if flags:
        argument["flags"] = flags
    return argument


def _token(word: str) -> dict[str, Any]:
    return {"name": word.lower(), "type": "pure-token", "token": word}


def document(row: Row) -> Map:
    """One command's value in COMMAND DOCS."""
    doc = doc_of(row)
    fields: dict[str, Any] = {"summary": doc.summary, "since": doc.since, "group": doc.group}
    arguments: list[Map] = []
    for word in _TOKEN.findall(doc.syntax):
        argument = _argument(word)
        if argument is not None:
            arguments.append(Map(argument))
        elif arguments:
            arguments[-1].setdefault("flags", []).append(Status("multiple"))
    if arguments:
        fields["arguments"] = arguments
    return Map(fields)


def _chosen(node: Any, names: Words) -> list[Row | None]:
    rows = {row.name: row for row in all_rows(node)}
    return [rows.get(str(name).lower()) for name in names]


def _info(node: Any, words: Words) -> list[Any]:
    rows = _chosen(node, words[2:]) if len(words) > 2 else all_rows(node)
    return [None if row is None else describe(row) for row in rows]


def _docs(node: Any, words: Words) -> Map:
    rows = _chosen(node, words[2:]) if len(words) > 2 else all_rows(node)
    return Map({row.name: document(row) for row in rows if row is not None})


def _list(node: Any, words: Words) -> list[str]:
    names = [row.name for row in all_rows(node)]
    if len(words) == 2:
        return names
    if len(words) != 5 or option(words[2]) != "FILTERBY":
        raise CommandError("syntax error")
    kind, wanted = option(words[3]), str(words[4])
    if kind == "PATTERN":
        matches = glob(wanted.lower())
        return [name for name in names if matches(name)]
    if kind == "ACLCAT":
        group = wanted.lower().lstrip("@")
        return [row.name for row in all_rows(node) if doc_of(row).group.replace("-", "") == group]
    if kind == "MODULE":
        return []
    raise CommandError("syntax error")


def _getkeys(node: Any, words: Words) -> list[Any]:
    if len(words) < 3:
        raise arity_error("command|getkeys")
    row = _chosen(node, words[2:3])[0]
    if row is None:
        raise CommandError("Invalid command specified")
    command = words[2:]
    if not row.fits(len(command) - 1):
        raise CommandError("Invalid number of arguments specified for command")
    if row.name == "sintercard":
        return list(command[2 : 2 + integer(command[1])])
    doc = doc_of(row)
    if not doc.step:
        raise CommandError("The command has no key arguments")
    last = doc.last if doc.last >= 0 else len(command) + doc.last
    return list(command[doc.first : last + 1 : doc.step])


def do_command(node: Any, words: Words) -> Any:
    """`COMMAND [subcommand] [argument ...]`: describes the commands."""
    if len(words) == 1:
        return [describe(row) for row in all_rows(node)]
    name = option(words[1])
    if name == "COUNT" and len(words) == 2:
        return len(all_rows(node))
    if name == "HELP":
        return [Status(f"COMMAND {sub}") for sub in ("", "COUNT", *_SUBCOMMANDS)]
    found = _SUBCOMMANDS.get(name)
    if found is None:
        raise subcommand_error("command", words[1])
    return found(node, words)


_SUBCOMMANDS: Final[dict[str, Any]] = {
    "INFO": _info,
    "DOCS": _docs,
    "LIST": _list,
    "GETKEYS": _getkeys,
}
