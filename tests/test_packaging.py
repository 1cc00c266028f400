"""Both parcels, built from a copy of the tree and opened: what is in, what is not, and it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from pyraft_fast.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = (
    "_dice", "_digest", "_entry", "_hub", "_pen", "_quorum", "_ranks", "_resp", "_ring", "_slot",
    "_turn", "_wire",
)  # fmt: skip


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist made from the tracked files, and the wheel made from that sdist."""
    work = tmp_path_factory.mktemp("parcels")
    source = work / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (sdist,) = (work / "dist").glob("*.tar.gz")
    (wheel,) = (work / "dist").glob("*.whl")
    return sdist, wheel


@pytest.mark.timeout(600)
def test_sdist_holds_all_sources_and_nothing_built(parcels: tuple[Path, Path]) -> None:
    with tarfile.open(parcels[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for extension in EXTENSIONS:
        assert f"ext/{extension}.pyx" in names
        assert f"ext/{extension}.c" not in names
        assert f"pyraft_fast/{extension}.pyi" in names
    wanted = {
        "ext/crc32c.h", "ext/limits.pxi", "ext/ring_atomics.h", "setup.py", "pyproject.toml",
        "Dockerfile", "Makefile", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE",
        "docs/performance.md",
        "examples/plain_node.py", "tests/process/cluster.py", "tools/prepare.sh",
        "pyraft_fast/py.typed",
    }  # fmt: skip
    assert wanted <= names, wanted - names
    assert not [name for name in names if re.search(r"\.(so|pyc|o)$|__pycache__", name)]


@pytest.mark.timeout(600)
def test_wheel_holds_the_package_and_nothing_else(parcels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(parcels[1]) as archive:
        names = archive.namelist()
        metadata = archive.read(f"pyraft_fast-{VERSION}.dist-info/METADATA").decode()
    roots = {name.split("/")[0] for name in names}
    assert roots == {"pyraft_fast", f"pyraft_fast-{VERSION}.dist-info"}
    for extension in EXTENSIONS:
        assert [n for n in names if re.match(rf"pyraft_fast/{extension}\..*\.so$", n)]
        assert f"pyraft_fast/{extension}.pyi" in names
    for module in ("_consensus__mypyc", "core/raft", "consensus/driver"):
        assert [n for n in names if re.match(rf"pyraft_fast/{module}\..*\.so$", n)], module
    assert "pyraft_fast/py.typed" in names
    assert not [name for name in names if name.endswith((".pyx", ".c", ".h", ".pxi"))]
    packaged = {name for name in names if name.endswith(".py")}
    present = {str(p.relative_to(ROOT)) for p in (ROOT / "pyraft_fast").rglob("*.py")}
    assert packaged == present
    required = re.findall(r"^Requires-Dist: ([A-Za-z0-9_-]+)[^;\n]*(?:;.*)?$", metadata, re.M)
    runtime = {r for r in required if not re.search(rf"Requires-Dist: {r}.*extra ==", metadata)}
    assert runtime == {"msgpack", "uvloop"}, "no client, no build tool"


@pytest.mark.timeout(600)
def test_wheel_installs_and_serves_from_outside_the_tree(
    parcels: tuple[Path, Path], tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(parcels[1])],
        check=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    shown = subprocess.run(
        [home / "bin" / "pyraft-fast", "--version"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=env,
    ).stdout  # fmt: skip
    assert shown == f"pyraft-fast {VERSION}\n"
    code = (
        "import sys; from pyraft_fast import RaftNode\n"
        "node = RaftNode('1', sys.argv[1], folder='data'); node.start()\n"
        "print(node.request('set', 'key', 'value'), node.request('get', 'key'))\n"
        "node.shutdown(); node.join()\n"
    )
    from tests.process.cluster import free_port

    done = subprocess.run(
        [python, "-c", code, f"127.0.0.1:{free_port()}"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60,
    )  # fmt: skip
    assert done.stdout == "True value\n", done
