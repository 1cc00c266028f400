# cython: language_level=3, auto_pickle=False, autotestdict=False
"""One batch in shared memory that grows until the other process takes it.

What goes through a pipe is closed when it is sent, and lies there for as long as the other side is
busy. In a slot it takes in what comes meanwhile: the taker finds all there is when it gets to it,
and no command waits for the batch behind. A taker that finds nothing is told, through the pipe.

It decides whose the bytes are at every moment, and whether the taker must be told. It refuses to
know what they mean, and it never waits: each call says how it went. What is read from the shared
page is read once and checked: a mad process on the other side costs an InvariantError, not a wild
read. The kernel frees the memory when both processes are gone.
"""

cimport cython
import fcntl
import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close as close_fd

from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import SLOT_BYTES as _SLOT_BYTES

include "limits.pxi"

cdef extern from "slot_atomics.h" nogil:
    const uint32_t SLOT_EMPTY, SLOT_FULL, SLOT_ADDING, SLOT_TAKING
    ctypedef struct slot_control:
        uint64_t magic
        uint64_t size
        uint64_t start
        uint64_t number
        uint64_t count
        uint64_t length
    uint64_t slot_load_once(const uint64_t* word)
    uint32_t slot_state(const slot_control* control)
    int slot_claim(slot_control* control, uint32_t claimed)
    void slot_leave(slot_control* control, uint32_t state)
    void slot_ask(slot_control* control)
    int slot_take_asked(slot_control* control)

cdef uint64_t MAGIC = 0x746F6C7374666172  # "raftslot" in memory

NOT_ADDED = 0
ADDED = 1
ADDED_TELL = 2


include "_shared_memory.pxi"


@cython.final
cdef class Slot:
    """One side of a slot. A process uses either the giving or the taking half of it.

    Not for several threads at once.
    """

    cdef _Mapping _mapping
    cdef slot_control* _control
    cdef unsigned char* _data
    cdef uint64_t _size
    cdef int _fd
    # giving half: what the batch in the slot has; the shared words are only written
    cdef uint64_t _count
    cdef uint64_t _length

    def __cinit__(self):
        self._control = NULL
        self._fd = -1

    def __init__(self):
        raise TypeError("use Slot.create() or Slot.attach()")

    def __dealloc__(self):
        self._control = NULL
        if self._fd >= 0:
            close_fd(self._fd)  # the module `os` may be gone when the interpreter ends

    @staticmethod
    def create(size=_SLOT_BYTES):
        """A new, empty slot for batches of up to `size` bytes.

        Raises InvariantError for a size that is not positive and OSError without memory.
        """
        if size <= 0:
            raise InvariantError(f"a slot cannot have {size} bytes")
        fd = make_memory("slot", CONTROL_BYTES + size)
        try:
            slot = _slot_over(fd, _Mapping(fd, CONTROL_BYTES + size))
        except BaseException:
            os.close(fd)
            raise
        slot._control.size = size
        slot._control.magic = MAGIC
        slot_ask(slot._control)  # whoever takes from it has not looked yet
        return slot

    @staticmethod
    def attach(fd, /):
        """The other side of the slot in `fd`, which stays the caller's (it is duplicated).

        Raises InvariantError when this is no slot, or one that could still shrink.
        """
        own = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            mapping = map_memory("slot", fd, own, 1)
            _check_slot(mapping)
        except BaseException:
            os.close(own)
            raise
        return _slot_over(own, mapping)

    @property
    def fd(self):
        """The descriptor of the shared memory, for the process that is to attach; -1 if closed."""
        return self._fd

    @property
    def size(self):
        """Bytes that a batch may have."""
        return self._size

    def close(self):
        """Give the descriptor and the memory back."""
        self._control = NULL
        self._data = NULL
        self._mapping = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    cdef int _alive(self) except -1:
        if self._control == NULL:
            raise InvariantError("the slot is closed")
        return 0

    # The giving half

    def put(self, uint64_t start, uint64_t number, uint64_t count, payload, /):
        """Put a batch in.

        NOT_ADDED when the one before still lies there, or this one is too large. ADDED_TELL when
        the taker has to be told.
        """
        self._alive()
        cdef Py_buffer view
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            if slot_state(self._control) != SLOT_EMPTY or <uint64_t> view.len > self._size:
                return NOT_ADDED
            self._control.start = start
            self._control.number = number
            self._count = self._length = 0
            return self._append(count, &view)
        finally:
            PyBuffer_Release(&view)

    def add(self, uint64_t count, payload, /):
        """Add commands to the batch that was put in last.

        NOT_ADDED when it was taken, or has no room. ADDED_TELL when the taker has to be told: it
        came while this was adding.
        """
        self._alive()
        cdef Py_buffer view
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            if self._count + count > BATCH_COMMANDS_MAX:
                return NOT_ADDED
            if <uint64_t> view.len > self._size - self._length:
                return NOT_ADDED
            if not slot_claim(self._control, SLOT_ADDING):
                return NOT_ADDED
            return self._append(count, &view)
        finally:
            PyBuffer_Release(&view)

    cdef int _append(self, uint64_t count, Py_buffer* view) except -1:
        """Copy commands behind those that are there, and let the slot go."""
        memcpy(self._data + self._length, view.buf, view.len)
        self._length += view.len
        self._count += count
        self._control.count = self._count
        self._control.length = self._length
        slot_leave(self._control, SLOT_FULL)
        return ADDED_TELL if slot_take_asked(self._control) else ADDED

    # The taking half

    def take(self):
        """(start, number, count, payload) of the batch that lies there.

        None when there is none, or something is being added to it: then the giver tells of the
        next chance. Raises InvariantError for what cannot be.
        """
        self._alive()
        cdef slot_control* control = self._control
        cdef uint64_t length, count
        if not slot_claim(control, SLOT_TAKING):
            slot_ask(control)
            if not slot_claim(control, SLOT_TAKING):
                return None
            slot_take_asked(control)
        count = slot_load_once(&control.count)
        length = slot_load_once(&control.length)
        if length > self._size or count > BATCH_COMMANDS_MAX:
            raise InvariantError(
                f"{count} commands of {length} bytes in a slot of {self._size} bytes"
            )
        batch = (
            control.start, control.number, count,
            PyBytes_FromStringAndSize(<char*> self._data, <Py_ssize_t> length),
        )
        slot_leave(control, SLOT_EMPTY)
        return batch


cdef int _check_slot(_Mapping mapping) except -1:
    cdef slot_control* control = <slot_control*> mapping.base
    if control.magic != MAGIC or control.size + CONTROL_BYTES != mapping.length:
        raise InvariantError(f"no slot: magic {control.magic:#x}, size {control.size}")
    return 0


cdef Slot _slot_over(int fd, _Mapping mapping):
    """A Slot over a mapping whose control page is good or about to be; owns `fd`."""
    cdef Slot slot = Slot.__new__(Slot)
    slot._mapping = mapping
    slot._control = <slot_control*> mapping.base
    slot._data = mapping.base + CONTROL_BYTES
    slot._size = mapping.length - CONTROL_BYTES
    slot._fd = fd
    return slot
