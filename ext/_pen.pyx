# cython: language_level=3, auto_pickle=False, autotestdict=False
"""The pen: it writes to files while the interpreter does something else.

A thread of Python's would have to take the interpreter's lock to begin, between its system calls
and to report; each time it and the loop wait for each other. The pen's thread is handed bytes,
writes and syncs them in one system call where the system can, and rings a bell. Where the kernel
does all that by itself (`pen_direct.h`, `pen_send`), the thread sleeps on.

It decides nothing: not what is written, nor whether a failed write may be tried again.
"""

cimport cython
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from posix.types cimport off_t

from pyraft_fast.errors import InvariantError

cdef extern from "pen_thread.h" nogil:
    enum:
        PEN_IDLE
        PEN_JOB
        PEN_DONE
        PEN_ENDED
    ctypedef struct pen:
        int error
        uint64_t took_ns
    pen* pen_start(int bell, int may_pass)
    void pen_begin(pen* p, int fd, const char* data, size_t length, off_t offset, int is_synced)
    void pen_do(pen* p, int fd, const char* data, size_t length, off_t offset, int is_synced)
    int pen_state(pen* p)
    void pen_settle(pen* p)
    int pen_wait(pen* p, double seconds, int ended)
    int pen_stop(pen* p, double seconds)


@cython.final
cdef class Pen:
    """One write at a time, off the caller's thread. The methods are for one thread, except `wait`.

    `bell` is an eventfd that is rung when a write is done; it stays the caller's and must live
    longer than the pen. `blank_behind` says that files hold nothing but zeros behind what is
    written synced: then whole blocks may be written, past the page cache and without the thread,
    where the system can.
    """

    cdef pen* _pen
    cdef bytes _data  # keeps the bytes of the write under way

    def __cinit__(self):
        self._pen = NULL

    def __init__(self, int bell, bint blank_behind=False):
        if self._pen != NULL:
            raise InvariantError("a pen is started once")
        self._pen = pen_start(bell, blank_behind)
        if self._pen == NULL:
            raise OSError(errno, os.strerror(errno))

    # No __dealloc__: a thread that hangs in the disk would write into freed memory. There is one
    # pen in a process.

    def write(self, int fd, bytes data not None, off_t offset, bint synced):
        """Begin to write all of `data` at `offset`; `synced`: it is durable when that is done.

        Only these bytes are synced, not what was written to the file before. Raises
        InvariantError while a write is under way or not yet taken.
        """
        if self._alive() != PEN_IDLE:
            raise InvariantError("one write at a time")
        self._data = data
        pen_begin(
            self._pen, fd, PyBytes_AS_STRING(data), <size_t> PyBytes_GET_SIZE(data), offset, synced
        )

    def write_here(self, int fd, bytes data not None, off_t offset, bint synced):
        """As `write`, on the calling thread, which waits for it; no bell is rung."""
        if self._alive() != PEN_IDLE:
            raise InvariantError("one write at a time")
        cdef pen* p = self._pen
        cdef const char* start = PyBytes_AS_STRING(data)
        cdef size_t length = <size_t> PyBytes_GET_SIZE(data)
        self._data = data
        with nogil:
            pen_do(p, fd, start, length, offset, synced)

    def take(self):
        """How long the finished write took, in microseconds.

        Raises OSError if it failed: then nobody knows which bytes arrived, and which are durable.
        Raises InvariantError when no write is finished.
        """
        if self._alive() != PEN_DONE:
            raise InvariantError("no write is finished")
        self._data = None
        cdef int error = self._pen.error
        took_us = self._pen.took_ns // 1000
        pen_settle(self._pen)
        if error:
            raise OSError(error, os.strerror(error))
        return took_us

    def wait(self, double seconds):
        """Wait until no write is under way; False: not within `seconds`. Any thread."""
        cdef pen* p = self._pen
        cdef int is_over
        self._alive()
        with nogil:
            is_over = pen_wait(p, seconds, 0)
        return bool(is_over)

    def stop(self, double seconds):
        """End the thread behind the write under way; False: not within `seconds`."""
        cdef pen* p = self._pen
        cdef int is_over
        self._alive()
        with nogil:
            is_over = pen_stop(p, seconds)
        return bool(is_over)

    cdef int _alive(self) except -1:
        if self._pen == NULL:
            raise InvariantError("the pen was not started")
        return pen_state(self._pen)
