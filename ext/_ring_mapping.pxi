# The shared memory of a ring, and whether it is one. Included by _ring.pyx.


@cython.final
cdef class _Mapping:
    """The mapped memory. It goes when the ring and the last view into it are gone."""

    cdef unsigned char* base
    cdef size_t length

    def __cinit__(self, int fd, size_t length):
        cdef void* base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if base == MAP_FAILED:
            self.base = NULL
            raise OSError("the ring cannot be mapped")
        self.base = <unsigned char*> base
        self.length = length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, self.base + CONTROL_BYTES, <Py_ssize_t> (self.length - CONTROL_BYTES),
            1, flags,
        )

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.length)


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
