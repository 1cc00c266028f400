"""How the kernel schedules a process of the node beside the one that has clients waiting."""

from __future__ import annotations

import contextlib
import os


def run_as_batch() -> None:
    """Do not push aside what runs when this process wakes; what is idle still runs it at once.

    Holds for threads started later, too. Whoever chose another policy for the node keeps it.
    """
    with contextlib.suppress(OSError):  # a sandbox that forbids it: only speed is lost
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
