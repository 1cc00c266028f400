# cython: language_level=3, auto_pickle=False, autotestdict=False
"""A ring of records in shared memory, for one writing and one reading process.

It decides where bytes lie, when they may be seen and when they may be overwritten, and who has to
be woken. It refuses to know what a record means, and it never waits: a full ring says no, an empty
one yields nothing. The kernel frees the memory when both processes are gone.

Page 0 holds the control words (ring_atomics.h), then comes the data area: frames, 8-aligned, of
u32 length, u32 flags, bytes. A frame lies in one piece, so that it can be handed out in place;
where it would reach past the end, a PAD frame fills the rest. A record whose frame passes a quarter
of the ring travels as FIRST, MIDDLE ..., LAST and may be larger than the ring. Beside the frames
hangs a notice: three words of the writer, the newest only, which the reader looks at when it likes.

Invariants: tail <= head <= tail + size; all positions are multiples of 8 and only grow; between
tail and head lie whole frames. Whatever is read from the shared page is checked against them, and
lengths are read once: a mad process on the other side costs an InvariantError, not a wild read. The
file is sealed against shrinking, so access cannot fault either.
"""

cimport cython
import fcntl
import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close as close_fd, getpid

from pyraft_fast.errors import InvariantError
from pyraft_fast.limits import RING_BYTES as _RING_BYTES

include "limits.pxi"

cdef extern from "ring_atomics.h" nogil:
    const int RING_DEBUG
    ctypedef struct ring_control:
        uint64_t magic
        uint32_t version
        uint64_t size
        uint64_t head
        uint64_t tail
        uint32_t reader_sleeps
        uint32_t writer_waits
        uint64_t turn
        uint64_t heard
    uint64_t ring_load_position(const uint64_t* word)
    void ring_store_position(uint64_t* word, uint64_t value)
    uint32_t ring_load_once(const uint32_t* word)
    uint32_t ring_load_flag(const uint32_t* word)
    void ring_store_flag(uint32_t* word, uint32_t value)
    uint32_t ring_exchange_flag(uint32_t* word, uint32_t value)
    void ring_fence()
    void ring_write_notice(ring_control* control, const uint64_t* words)
    int ring_read_notice(const ring_control* control, uint64_t* words)
    uint64_t ring_forks
    int ring_count_forks()

cdef enum:
    FRAME_BYTES = 8  # length and flags before each frame's bytes
    LAYOUT_VERSION = 3
    WHOLE = 0
    FIRST = 1
    MIDDLE = 2
    LAST = 3
    PAD = 4
    POISON = 0xDB

cdef uint64_t MAGIC = 0x676E697274666172  # "raftring" in memory
cdef uint64_t SIZE_MAX = 1 << 31  # the waiting writer's wish must fit 32 bits

DEBUG = bool(RING_DEBUG)
SIZE_MIN = 4096

if ring_count_forks():
    raise MemoryError("no room to be told of forks")


cdef inline uint64_t align8(uint64_t length) noexcept nogil:
    return (length + 7) & ~<uint64_t>7


include "_shared_memory.pxi"


cdef int _check_layout(_Mapping mapping) except -1:
    cdef ring_control* control = <ring_control*> mapping.base
    cdef uint64_t size = control.size
    cdef uint64_t head = control.head
    cdef uint64_t tail = control.tail
    if control.magic != MAGIC or control.version != LAYOUT_VERSION:
        raise InvariantError(f"no ring: magic {control.magic:#x}, version {control.version}")
    if size + CONTROL_BYTES != mapping.length or size & (size - 1):
        raise InvariantError(f"ring of {size} bytes in a mapping of {mapping.length}")
    if head < tail or head - tail > size or head & 7 or tail & 7:
        raise InvariantError(f"ring: head {head}, tail {tail}, size {size}")
    return 0


@cython.final
cdef class Ring:
    """One side of a ring. A process uses either the writing or the reading half of it.

    Views that `take` returned must not be looked into after `release`: the writer overwrites
    their bytes (debug builds poison them at once). `close` may come while views exist; the memory
    stays until they are gone. After a fork the copy in the new process refuses all but `close`.
    Not for several threads at once.
    """

    cdef _Mapping _mapping
    cdef object _view  # of the whole data area; slices of it keep the mapping alive
    cdef ring_control* _control
    cdef unsigned char* _data
    cdef uint64_t _size
    cdef int _fd
    cdef int _pid
    cdef uint64_t _forks
    # writing half
    cdef uint64_t _head
    cdef uint64_t _tail_seen
    cdef uint64_t _heard
    cdef bint _waiting
    cdef object _partial  # the record that is partly published
    cdef Py_ssize_t _partial_bytes
    cdef Py_ssize_t _offset  # bytes of it that are published
    # reading half
    cdef uint64_t _tail
    cdef uint64_t _taken  # up to here frames were handed out
    cdef uint64_t _head_seen
    cdef bytearray _assembly  # fragments so far of a large record
    # statistics
    cdef uint64_t _published, _full_seen, _wakes, _records_taken, _room_wakes

    def __cinit__(self):
        self._control = NULL
        self._fd = -1

    def __init__(self):
        raise TypeError("use Ring.create() or Ring.attach()")

    def __dealloc__(self):
        self._control = NULL
        if self._fd >= 0:
            close_fd(self._fd)  # the module `os` may be gone when the interpreter ends

    @staticmethod
    def create(size=_RING_BYTES):
        """A new, empty ring of `size` bytes, a power of two of at least 4096.

        Raises InvariantError for another size and OSError when there is no memory.
        """
        if not SIZE_MIN <= size <= SIZE_MAX or size & (size - 1):
            raise InvariantError(f"a ring cannot have {size} bytes")
        cdef uint64_t size_bytes = size
        fd = make_memory("ring", CONTROL_BYTES + size)
        try:
            mapping = _Mapping(fd, CONTROL_BYTES + size)
        except BaseException:
            os.close(fd)
            raise
        cdef ring_control* control = <ring_control*> (<_Mapping> mapping).base
        control.size = size_bytes
        control.version = LAYOUT_VERSION
        control.magic = MAGIC
        return _ring_over(fd, mapping)

    @staticmethod
    def attach(fd, /):
        """The other side of the ring in `fd`, which stays the caller's (it is duplicated).

        Raises InvariantError when this is no ring, or one that could still shrink.
        """
        own = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            mapping = map_memory("ring", fd, own, SIZE_MIN)
            _check_layout(mapping)
        except BaseException:
            os.close(own)
            raise
        return _ring_over(own, mapping)

    @property
    def fd(self):
        """The descriptor of the shared memory, for the process that is to attach; -1 if closed."""
        return self._fd

    @property
    def size(self):
        """Bytes of the data area."""
        return self._size

    def stats(self):
        """What this side has done, since it was made; `used` is in bytes, the rest counts."""
        self._alive()
        used = ring_load_position(&self._control.head) - ring_load_position(&self._control.tail)
        return {
            "published": self._published,
            "full_seen": self._full_seen,
            "wakes": self._wakes,
            "taken": self._records_taken,
            "room_wakes": self._room_wakes,
            "used": used,
        }

    def close(self):
        """Give the descriptor and the mapping back; the latter once no view needs it any more."""
        self._control = NULL
        self._data = NULL
        self._view = None
        self._mapping = None
        self._partial = None
        self._assembly = None
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    cdef int _alive(self) except -1:
        if self._control == NULL:
            raise InvariantError("the ring is closed")
        if ring_forks != self._forks:  # asking for the process id is a system call
            raise InvariantError(f"the ring belongs to process {self._pid}, before the fork")
        return 0

    # The writing half

    def publish(self, record, /):
        """Put one record in; True when it is in whole.

        False means that there is no room now; the reader will ask for a wake-up then. A large
        record may be in partly: call again with the same object, and no other, until True.
        Raises InvariantError for an empty or oversized record, another one in between, or a
        corrupt control page.
        """
        self._alive()
        cdef Py_buffer buffer
        cdef bint whole
        if self._partial is not None and self._partial is not record:
            raise InvariantError(f"another record before the rest of one, at {self._offset} bytes")
        PyObject_GetBuffer(record, &buffer, PyBUF_SIMPLE)
        try:
            if not 0 < buffer.len <= RECORD_BYTES_MAX:
                raise InvariantError(f"a record of {buffer.len} bytes")
            if self._partial is not None and buffer.len != self._partial_bytes:
                raise InvariantError(f"a record changed from {self._partial_bytes} bytes")
            if self._offset == 0 and FRAME_BYTES + align8(buffer.len) <= self._size // 4:
                whole = self._put(WHOLE, <const unsigned char*> buffer.buf, buffer.len)
            else:
                whole = self._put_fragments(<const unsigned char*> buffer.buf, buffer.len)
            if self._offset and not whole:
                self._partial, self._partial_bytes = record, buffer.len
        finally:
            PyBuffer_Release(&buffer)
        if whole:
            self._partial = None
            self._offset = 0
            self._published += 1
        else:
            self._full_seen += 1
        return whole

    def wake_needed(self):
        """Whether the reader sleeps and must be woken now; asked after publishing, once a turn."""
        self._alive()
        ring_fence()
        if ring_load_flag(&self._control.reader_sleeps) == 0:
            return False
        if ring_exchange_flag(&self._control.reader_sleeps, 0) == 0:
            return False
        self._wakes += 1
        return True

    def post(self, uint64_t first, uint64_t second, uint64_t third, /):
        """Put three words in the place of those on the notice, for the reader to see together."""
        self._alive()
        cdef uint64_t[3] words = [first, second, third]
        ring_write_notice(self._control, words)
        ring_fence()  # before anybody is told of what they stand for

    def hear(self, uint64_t count, /):
        """Say that this process has read `count` more bytes from the pipe beside the ring."""
        self._alive()
        self._heard += count
        ring_store_position(&self._control.heard, self._heard)

    cdef int _put_fragments(self, const unsigned char* data, Py_ssize_t length) except -1:
        cdef uint64_t chunk, rest, contiguous
        cdef uint32_t flags
        while self._offset < length:
            rest = <uint64_t> (length - self._offset)
            chunk = min(rest, self._size // 4 - FRAME_BYTES)
            contiguous = self._size - (self._head & (self._size - 1))
            if contiguous > FRAME_BYTES:  # up to the end rather than padding
                chunk = min(chunk, contiguous - FRAME_BYTES)
            flags = FIRST if self._offset == 0 else LAST if chunk == rest else MIDDLE
            if not self._put(flags, data + self._offset, chunk):
                return 0
            self._offset += <Py_ssize_t> chunk
        return 1

    cdef int _put(self, uint32_t flags, const unsigned char* data, uint64_t length) except -1:
        """Write one frame, behind a PAD where it would not lie in one piece; 0: no room."""
        cdef uint64_t frame = FRAME_BYTES + align8(length)
        cdef uint64_t at = self._head & (self._size - 1)
        cdef uint64_t contiguous = self._size - at
        cdef uint64_t pad = contiguous if frame > contiguous else 0
        if not self._make_room(pad + frame):
            return 0
        if pad:
            self._put_header(at, <uint32_t> (pad - FRAME_BYTES), PAD)
            at = 0
        self._put_header(at, <uint32_t> length, flags)
        memcpy(self._data + at + FRAME_BYTES, data, length)
        self._head += pad + frame
        ring_store_position(&self._control.head, self._head)
        return 1

    cdef void _put_header(self, uint64_t at, uint32_t length, uint32_t flags) noexcept:
        cdef uint32_t* header = <uint32_t*> (self._data + at)
        header[0] = length
        header[1] = flags

    cdef int _make_room(self, uint64_t need) except -1:
        """1 when `need` bytes are free. Else the reader is asked to tell when half the ring is:
        asking for the first free byte would wake this process for every record."""
        if self._size - (self._head - self._tail_seen) < need:
            self._look_at_tail()
            if self._size - (self._head - self._tail_seen) < need:
                self._waiting = True
                ring_store_flag(&self._control.writer_waits, <uint32_t> (self._size // 2))
                ring_fence()
                self._look_at_tail()
                if self._size - (self._head - self._tail_seen) < need:
                    return 0
        if self._waiting:
            self._waiting = False
            ring_store_flag(&self._control.writer_waits, 0)
        return 1

    cdef int _look_at_tail(self) except -1:
        cdef uint64_t tail = ring_load_position(&self._control.tail)
        if tail < self._tail_seen or tail > self._head or tail & 7:
            raise InvariantError(
                f"ring: tail {tail} after {self._tail_seen}, head {self._head}, size {self._size}"
            )
        self._tail_seen = tail
        return 0

    # The reading half

    def take(self, Py_ssize_t bytes_max, /):
        """Records that have come, in order: at least one frame if any, then up to `bytes_max`.

        Whole ones are views into the ring, valid until `release`; large ones are bytes. The list
        may be empty though there was something: a part of a large record. So call `release`
        after each take, or the writer may wait for ever. Raises InvariantError at a corrupt
        frame or control page, after the good records before it were handed out.
        """
        self._alive()
        cdef list records = []
        cdef uint64_t head = self._look_at_head()
        cdef uint64_t start = self._taken
        try:
            while self._taken != head:
                self._take_frame(head, records)
                if <Py_ssize_t> (self._taken - start) >= bytes_max:
                    break
        except InvariantError:
            if not records:
                raise
        self._records_taken += <uint64_t> len(records)
        return records

    def release(self):
        """Give back the room of all that was taken; True: the writer waits, wake it now."""
        self._alive()
        cdef uint64_t free
        cdef uint32_t wanted
        if self._taken == self._tail:
            return False
        if RING_DEBUG:
            self._poison()
        self._tail = self._taken
        ring_store_position(&self._control.tail, self._tail)
        ring_fence()
        wanted = ring_load_flag(&self._control.writer_waits)
        if wanted == 0:
            return False
        free = self._size - (self._look_at_head() - self._tail)
        if free < wanted or ring_exchange_flag(&self._control.writer_waits, 0) == 0:
            return False
        self._room_wakes += 1
        return True

    def posted(self):
        """The words on the notice, zeros at first; None while they are being changed."""
        self._alive()
        cdef uint64_t[3] words
        if ring_read_notice(self._control, words):
            return words[0], words[1], words[2]
        return None

    def heard(self):
        """How many bytes the writer has read from the pipe beside the ring."""
        self._alive()
        return ring_load_position(&self._control.heard)

    def sleep(self):
        """Announce that this side sleeps; False when something has come: take again instead.

        Raises InvariantError when taken room was not released: the writer could be waiting for it.
        """
        self._alive()
        if self._taken != self._tail:
            raise InvariantError(f"sleep before release of {self._taken - self._tail} bytes")
        if self._look_at_head() != self._taken:
            return False
        ring_store_flag(&self._control.reader_sleeps, 1)
        ring_fence()
        if self._look_at_head() != self._taken:
            ring_store_flag(&self._control.reader_sleeps, 0)
            return False
        return True

    cdef uint64_t _look_at_head(self) except? 0:
        cdef uint64_t head = ring_load_position(&self._control.head)
        if head < self._head_seen or head - self._tail > self._size or head & 7:
            raise InvariantError(
                f"ring: head {head} after {self._head_seen}, tail {self._tail}, size {self._size}"
            )
        self._head_seen = head
        return head

    cdef int _take_frame(self, uint64_t head, list records) except -1:
        cdef uint64_t at = self._taken & (self._size - 1)
        cdef const uint32_t* header = <const uint32_t*> (self._data + at)
        cdef uint64_t length = ring_load_once(header)
        cdef uint32_t flags = ring_load_once(header + 1)
        cdef uint64_t frame = FRAME_BYTES + align8(length)
        cdef uint64_t contiguous = self._size - at
        cdef bint begins = flags == WHOLE or flags == FIRST
        cdef bint good = flags <= PAD and frame <= contiguous and frame <= head - self._taken
        if flags == PAD:
            good = good and frame == contiguous
        else:
            good = good and length > 0 and begins == (self._assembly is None)
            good = good and frame <= self._size // 4
        if not good:
            raise InvariantError(
                f"ring: frame of {length} bytes, flags {flags}, at {self._taken}, head {head}, "
                f"size {self._size}, {'inside' if self._assembly is not None else 'no'} record"
            )
        if flags == WHOLE:
            at += FRAME_BYTES
            records.append(self._view[at : at + length])
        elif flags != PAD:
            self._assemble(flags, self._data + at + FRAME_BYTES, <Py_ssize_t> length, records)
        self._taken += frame
        return 0

    cdef int _assemble(
        self, uint32_t flags, const unsigned char* data, Py_ssize_t length, list records
    ) except -1:
        if flags == FIRST:
            self._assembly = bytearray()
        cdef Py_ssize_t have = PyByteArray_GET_SIZE(self._assembly)
        if have + length > RECORD_BYTES_MAX:
            raise InvariantError(f"ring: a record passes {have + length} bytes")
        PyByteArray_Resize(self._assembly, have + length)
        memcpy(PyByteArray_AS_STRING(self._assembly) + have, data, <size_t> length)
        if flags == LAST:
            records.append(bytes(self._assembly))
            self._assembly = None
        return 0

    cdef void _poison(self) noexcept:
        """Debug builds: make use of a view after `release` visible."""
        cdef uint64_t at = self._tail & (self._size - 1)
        cdef uint64_t count = self._taken - self._tail
        cdef uint64_t first = min(count, self._size - at)
        memset(self._data + at, POISON, first)
        memset(self._data, POISON, count - first)


cdef Ring _ring_over(int fd, _Mapping mapping):
    """A Ring over a mapping whose control page is good; owns `fd`."""
    cdef Ring ring = Ring.__new__(Ring)
    ring._fd = fd
    ring._pid = getpid()
    ring._forks = ring_forks
    ring._mapping = mapping
    ring._view = memoryview(mapping)
    ring._control = <ring_control*> mapping.base
    ring._data = mapping.base + CONTROL_BYTES
    ring._size = ring._control.size
    ring._heard = ring_load_position(&ring._control.heard)
    ring._head = ring._head_seen = ring_load_position(&ring._control.head)
    ring._tail = ring._tail_seen = ring._taken = ring_load_position(&ring._control.tail)
    return ring
