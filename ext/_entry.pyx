# cython: language_level=3, auto_pickle=False, autotestdict=False
"""The log record and the values in it: one format for the log on disk, peers and the ring.

A record is a header of 64 bytes, little-endian, and a payload:

     0 u32 length    header and payload        32 u64 origin    whose batch this is, 0 for none
     4 u32 crc32c    of the bytes 8..length    40 u64 start     session of that node
     8 u64 index                               48 u64 batch     number in the session, from 1
    16 u64 term                                56 u32 count     commands in the payload
    24 u64 time_ms   cluster time              60 u8 kind, u8 version = 1, u16 reserved = 0

The payload of a COMMANDS record is `count` msgpack arrays [worker offset, word, word, ...], one
behind the other. Values are None, bool, int (64 bit), float, str, bytes, list and dict; a str is
UTF-8 with surrogateescape, so any bytes survive. Other kinds carry one value, or nothing.

What it decides: the bytes of a value, whether bytes are a whole record, the bytes of a group of
them, and those of a snapshot's items and how many lie together. What it refuses to know: what a
command or a kind means, and where records lie: the place of a group is handed in. Invariants:
equal values give equal bytes on every node; decoding never reads outside the buffer, nor makes
anything larger than the bytes it was given justify; a value that cannot come back as it was is
refused, apart from tuples and list-like classes, which come back as lists.
"""

from collections import deque

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_Check,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_Check, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.list cimport PyList_Check, PyList_New, PyList_SET_ITEM
from cpython.long cimport (
    PyLong_AsLongLongAndOverflow,
    PyLong_AsUnsignedLongLong,
    PyLong_Check,
)
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.sequence cimport PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE
from cpython.tuple cimport PyTuple_Check
from cpython.unicode cimport (
    PyUnicode_AsEncodedString,
    PyUnicode_Check,
    PyUnicode_DecodeUTF8,
    PyUnicode_GET_LENGTH,
)
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove, memset

from pyraft_fast.errors import CommandError, InvariantError, ProtocolError, SnapshotError, check

ctypedef unsigned long long u64

cdef extern from *:
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type
    PyTypeObject PyDict_Type
    PyTypeObject PyLong_Type
    int PyDict_Next(object entries, Py_ssize_t* place, PyObject** key, PyObject** value) except -1
    PyObject* PyDict_GetItemWithError(object entries, PyObject* key) except? NULL
    PyObject* PyIter_Next(object iterator) except? NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_1BYTE_DATA(object text)
    # the same, of what nobody holds for us
    PyTypeObject* kind_of "Py_TYPE"(PyObject* value)
    bint is_ascii_text "PyUnicode_IS_COMPACT_ASCII"(PyObject* text)
    void* text_data "PyUnicode_1BYTE_DATA"(PyObject* text)
    Py_ssize_t text_size "PyUnicode_GET_LENGTH"(PyObject* text)
    object PyUnicode_New(Py_ssize_t size, unsigned int character_max)

cdef extern from "crc32c.h":
    int crc32c_uses_sse42
    void crc32c_setup() noexcept nogil
    uint32_t crc32c_extend(uint32_t crc, const unsigned char* data, size_t size) noexcept nogil
    uint32_t crc32c_by_table(uint32_t crc, const unsigned char* data, size_t size) noexcept nogil
    uint32_t crc32c_by_sse42(uint32_t crc, const unsigned char* data, size_t size) noexcept nogil

cdef extern from "entry_bytes.h":
    void put_le(unsigned char* at, u64 value, int width) noexcept nogil
    u64 get_le(const unsigned char* at, int width) noexcept nogil
    void put_be(unsigned char* at, u64 value, int width) noexcept nogil
    u64 get_be(const unsigned char* at, int width) noexcept nogil
    int is_ascii(const unsigned char* at, size_t size) noexcept nogil

include "limits.pxi"
include "_entry_pack.pxi"
include "_entry_unpack.pxi"
include "_record_check.pxi"
include "_entry_record.pxi"
include "_entry_group.pxi"
include "_entry_long.pxi"
include "_entry_items.pxi"

crc32c_setup()
CRC32C_HARDWARE = bool(crc32c_uses_sse42)


def packb(value, /):
    """`value` as msgpack bytes.

    Raises CommandError, with type and position, for what the log cannot hold, for more than
    NESTING_MAX containers inside each other and for more than RECORD_BYTES_MAX bytes.
    """
    cdef Out out
    memset(&out, 0, sizeof(out))
    out.limit = RECORD_BYTES_MAX
    try:
        pack(&out, value, 0)
        if out.used > out.limit:
            too_large(&out)
        return PyBytes_FromStringAndSize(<char*> out.data, out.used)
    finally:
        PyMem_Free(out.data)


def unpackb(buffer, /):
    """The one value that the whole of `buffer` holds.

    Raises ProtocolError, with the offset, for bytes that are cut short, trail behind the value,
    nest deeper than NESTING_MAX, or hold an extension type or a dict's key other than str, int
    and bytes. Longer forms than needed are read; of equal keys the last one counts.
    """
    cdef Py_buffer view
    cdef In source
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        source.data = <const unsigned char*> view.buf
        source.size = view.len
        source.at = source.owed = 0
        value = take(&source, 0)
        if source.at != source.size:
            raise ProtocolError(f"{source.size - source.at} bytes behind the value")
        return value
    finally:
        PyBuffer_Release(&view)


@cython.final
cdef class Batch:
    """Commands gathered for one record; `count` of them in `nbytes` bytes of payload."""

    cdef Out out
    cdef bint busy
    cdef readonly Py_ssize_t count

    def __cinit__(self):
        memset(&self.out, 0, sizeof(Out))
        self.out.limit = RECORD_BYTES_MAX - HEADER_BYTES
        self.out.is_command = True

    def __dealloc__(self):
        PyMem_Free(self.out.data)

    @property
    def nbytes(self):
        """Bytes of payload so far."""
        return self.out.used

    def __len__(self):
        return self.count

    def add(self, words, long long offset=0):
        """Append a command for the worker at `offset` (a number, not a byte position).

        Raises CommandError naming word and type for what cannot be encoded, and when the batch
        would pass BATCH_COMMANDS_MAX commands or RECORD_BYTES_MAX bytes. After any exception the
        batch is as it was before.
        """
        cdef Py_ssize_t used = self.out.used
        cdef bint done = False
        self.enter()
        try:
            if self.count >= BATCH_COMMANDS_MAX:
                raise CommandError(f"a batch has at most {BATCH_COMMANDS_MAX} commands")
            pack_command(&self.out, words, offset)
            if self.out.used > self.out.limit:
                too_large(&self.out)
            self.count += 1
            done = True
        finally:
            self.busy = False
            if not done:
                self.out.used = used

    def peek(self):
        """The payload so far, as bytes."""
        self.enter()
        try:
            return PyBytes_FromStringAndSize(<char*> self.out.data, self.out.used)
        finally:
            self.busy = False

    def take(self):
        """The payload as bytes; the batch is empty afterwards."""
        data = self.peek()
        empty(&self.out)
        self.count = 0
        return data

    cdef int enter(self) except -1:
        """Encoding may run code of a list-like class, and that may come back here."""
        if self.busy:
            raise InvariantError("invariant broken: a batch is not used while it encodes")
        self.busy = True
        return 0
