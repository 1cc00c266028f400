"""The bounds that C code uses are the bounds that Python code uses."""

from __future__ import annotations

import re
from pathlib import Path

from pyraft_fast import limits

ROOT = Path(__file__).resolve().parents[1]


def mirrored() -> dict[str, int]:
    text = (ROOT / "ext" / "limits.pxi").read_text()
    return {name: int(value) for name, value in re.findall(r"^    (\w+) = (\d+)$", text, re.M)}


def test_every_mirrored_bound_is_the_same() -> None:
    found = mirrored()
    assert found
    assert found == {name: getattr(limits, name, None) for name in found}


def test_no_line_of_the_mirror_was_missed() -> None:
    lines = (ROOT / "ext" / "limits.pxi").read_text().splitlines()
    bounds = [line for line in lines if line and not line.startswith(("#", "cdef"))]
    assert len(bounds) == len(mirrored())


def test_all_bounds_are_positive_numbers() -> None:
    names = [name for name in vars(limits) if name.isupper()]
    assert len(names) > 20
    for name in names:
        assert getattr(limits, name) > 0, name


def test_bounds_that_contain_each_other() -> None:
    assert limits.BULK_BYTES_MAX <= limits.COMMAND_BYTES_MAX < limits.RECORD_BYTES_MAX
    # a reply fits, whatever lies in front of it without being too much to go on
    assert limits.REPLY_BYTES_MAX + 2 * limits.OUTPUT_BYTES_PAUSE <= limits.OUTPUT_BYTES_MAX
    assert limits.BULK_BYTES_MAX < limits.REPLY_BYTES_MAX
    # a batch below the soft bound always has room for one more command
    assert limits.BATCH_BYTES_SOFT + limits.COMMAND_BYTES_MAX < limits.RECORD_BYTES_MAX
    assert limits.RECORD_BYTES_MAX < limits.PIPE_FRAME_BYTES_MAX
    assert limits.RECORD_BYTES_MAX < limits.PEER_FRAME_BYTES_MAX <= limits.PEER_QUEUE_BYTES_MAX
    # all that a node may have under way to a leader fits into the queue of one link
    assert limits.PENDING_BYTES_MAX + limits.BATCH_BYTES_SOFT < limits.PEER_QUEUE_BYTES_MAX
