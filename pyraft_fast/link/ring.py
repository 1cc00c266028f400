"""Waking across the ring: eventfds as doorbells, and a reader that rings them itself.

The ring (pyraft_fast._ring) says who must be woken; here that becomes a write to an eventfd. A
doorbell carries no data: rung twice it is heard once, and whoever hears it looks into the ring.
The reader answers the bell by `clear` first and by taking afterwards, never the other way round:
a bell that rings between the two is then heard again, and no record lies unseen.
"""

from __future__ import annotations

import os

from pyraft_fast._ring import Ring

__all__ = ["Reader", "Ring", "clear", "make_bell", "wake"]


def make_bell() -> int:
    """A new doorbell: a non-blocking eventfd that exec closes. Raises OSError."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def wake(bell: int) -> None:
    """Ring `bell`; whoever watches it for reading wakes up."""
    try:  # here and below: a context manager would cost more than the call
        os.eventfd_write(bell, 1)
    except BlockingIOError:  # rung 2**64-2 times and never heard
        return


def clear(bell: int) -> None:
    """Silence `bell`, before taking from the ring."""
    try:
        os.eventfd_read(bell)
    except BlockingIOError:  # it was not rung
        return


class Reader:
    """The reading half of a ring with the writer's bell: nobody has to remember to ring it."""

    def __init__(self, ring: Ring, writer_bell: int) -> None:
        self._ring = ring
        self._writer_bell = writer_bell
        self._held = False  # views were handed out and not released

    def take(self, bytes_max: int) -> list[memoryview | bytes]:
        """Records that have come, about `bytes_max` bytes; views are valid until `release`.

        An empty list means that there is no whole record now; then `sleep` tells whether to
        come again at once. Raises InvariantError when the ring is corrupt.
        """
        records = self._ring.take(bytes_max)
        if records:
            self._held = True
        elif not self._held:
            self._give_back()  # the part of a large record that this took
        return records

    def release(self) -> None:
        """Give back the room of everything taken; wakes the writer if it waits for room."""
        self._held = False
        self._give_back()

    def sleep(self) -> bool:
        """Say that this side sleeps until its bell rings; False: take again instead."""
        return self._ring.sleep()

    def posted(self) -> tuple[int, int, int] | None:
        """The three words on the writer's notice, together; None while they change."""
        return self._ring.posted()

    def heard(self) -> int:
        """How many bytes the writer has read from the pipe, since the beginning."""
        return self._ring.heard()

    def _give_back(self) -> None:
        if self._ring.release():
            wake(self._writer_bell)
