# cython: language_level=3, auto_pickle=False, autotestdict=False
"""What nodes say to each other: entries, messages, and the frames that carry them as bytes.

A frame, little-endian:

     0 u32 length         of the whole frame
     4 u8  type
     5 u8  version        = 1
     6 u16 header_bytes   of the msgpack header
     8 u32 crc32c         of the header, seeded with type and header_bytes
    12 header             msgpack; of a message ten numbers, see `Message`
       body               raw bytes: log records (each carries its own checksum), a batch, a chunk

What it decides: whether bytes are a whole frame, and whether a frame is a message that one node may
send another. What it refuses to know: what a message means, and where bytes come from and go to.
Invariants: nothing received is trusted: a length outside the bound, a wrong version, a checksum
that does not match, fields of another type or entries in the wrong order raise ProtocolError; never
is anything allocated that a length merely claims.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from pyraft_fast._entry import header, packb, seal, unpackb
from pyraft_fast.errors import ProtocolError, check

ctypedef unsigned long long u64

cdef extern from "crc32c.h":
    void crc32c_setup() noexcept nogil
    uint32_t crc32c_extend(uint32_t crc, const unsigned char* data, size_t size) noexcept nogil

cdef extern from "entry_bytes.h":
    void put_le(unsigned char* at, u64 value, int width) noexcept nogil
    u64 get_le(const unsigned char* at, int width) noexcept nogil
    void put_be(unsigned char* at, u64 value, int width) noexcept nogil
    u64 get_be(const unsigned char* at, int width) noexcept nogil

include "limits.pxi"
include "_record_check.pxi"
include "_wire_frame.pxi"
include "_wire_message.pxi"

crc32c_setup()
