"""The Dockerfile's steps against the package's real build (no container engine is needed).

The files it copies are put into an empty folder, as its build stage does, and the wheel is built
from them alone; the rest is checked by reading.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def steps() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_two_slim_stages_and_a_non_root_user_with_a_volume() -> None:
    kinds = [kind for kind, _ in steps()]
    bases = [rest for kind, rest in steps() if kind == "FROM"]
    assert len(bases) == 2
    assert all("-slim" in base for base in bases)
    last = kinds[len(kinds) - 1 - kinds[::-1].index("FROM") :]
    assert "USER" in last
    assert ("VOLUME", "/data") in steps()
    assert dict(steps())["USER"] == "raft"
    assert last.index("USER") < last.index("ENTRYPOINT")


def test_entrypoint_takes_the_same_flags_as_the_command() -> None:
    import json

    table = dict(steps())
    words = json.loads(table["ENTRYPOINT"]) + json.loads(table["CMD"])
    assert words[0] == "pyraft-fast"
    code = (
        "import argparse, sys; from pyraft_fast import raft\n"
        "args = raft.parse_default_args(argparse.ArgumentParser(), sys.argv[1:])\n"
        "print(args.folder, args.addr.rpartition(':')[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words[1:]], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "/data 5010\n", done


@pytest.mark.timeout(600)
def test_copied_files_are_enough_to_build_the_wheel(tmp_path: Path) -> None:
    copies = [shlex.split(rest) for kind, rest in steps() if kind == "COPY"]
    source = tmp_path / "src"
    source.mkdir()
    for words in copies:
        if words[0].startswith("--from"):
            continue
        *names, target = words
        for name in names:
            origin = ROOT / name
            place = source / target if target != "./" else source / name
            if origin.is_dir():
                ignored = shutil.ignore_patterns("*.so", "__pycache__")
                shutil.copytree(origin, place, ignore=ignored)
            else:
                shutil.copy2(origin, place)
    (command,) = re.findall(r"pip (wheel .*)", _run_steps())
    words = shlex.split(command.replace("/wheels", str(tmp_path / "wheels")))
    subprocess.run([sys.executable, "-m", "pip", *words, "--no-deps", "-q"], check=True, cwd=source)
    assert list((tmp_path / "wheels").glob("pyraft_fast-*.whl"))


def _run_steps() -> str:
    return "\n".join(rest for kind, rest in steps() if kind == "RUN")


def test_what_is_copied_is_not_hidden_by_dockerignore() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    }
    for kind, rest in steps():
        words = shlex.split(rest)
        if kind == "COPY" and not words[0].startswith("--from"):
            for name in words[:-1]:
                assert name in allowed, name
