# Is this a whole record? Included by every module that reads records.
#
# The includer has crc32c.h and entry_bytes.h, and has called crc32c_setup().

cdef enum:
    HEADER_BYTES = 64
    FORMAT_VERSION = 1
    LONG_BYTES = 65536  # checksums of more than this let other threads run


cdef uint32_t checksum(uint32_t seed, const unsigned char* data, Py_ssize_t size) noexcept:
    cdef uint32_t crc
    if size < LONG_BYTES:
        return crc32c_extend(seed, data, <size_t> size)
    with nogil:
        crc = crc32c_extend(seed, data, <size_t> size)
    return crc


cdef bint is_whole(const unsigned char* at, Py_ssize_t left) noexcept:
    """Whether a whole record begins at `at`, of which `left` bytes may be read."""
    cdef Py_ssize_t length
    if left < HEADER_BYTES:
        return False
    length = <Py_ssize_t> get_le(at, 4)
    if length < HEADER_BYTES or length > RECORD_BYTES_MAX or length > left:
        return False
    if at[60] == 0 or at[61] != FORMAT_VERSION or at[62] != 0 or at[63] != 0:
        return False
    return get_le(at + 4, 4) == checksum(0, at + 8, length - 8)
