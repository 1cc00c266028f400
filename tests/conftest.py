"""For every test.

Where the tests run in the background, the shell has SIGINT ignored, and so would every node that
a test starts, as it should when a person asks for that. The tests are about the other case.
"""

from __future__ import annotations

import signal
import threading

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)
