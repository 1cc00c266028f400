"""One line that is written over, for people who wait."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Show what is being done; an empty text clears the line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
