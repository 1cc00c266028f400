"""One entry of the log, as the rules see it.

The sealed record is what goes to the disk, to the peers and into the ring, byte for byte. The rules
read its place, its term and its kind, and never look into the payload of commands.
"""

from __future__ import annotations

from pyraft_fast._wire import Entry

__all__ = ["Entry"]
