# Memory that both processes of a node map: a control page, and data behind it. Included by
# _ring.pyx and _slot.pyx, which say what lies there.

cdef enum:
    CONTROL_BYTES = 4096


@cython.final
cdef class _Mapping:
    """The mapped memory. It goes when nobody holds it and the last view into it is gone."""

    cdef unsigned char* base
    cdef size_t length

    def __cinit__(self, int fd, size_t length):
        cdef void* base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if base == MAP_FAILED:
            self.base = NULL
            raise OSError("the shared memory cannot be mapped")
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


cdef int make_memory(str what, size_t length) except -1:
    """A descriptor of so many bytes that cannot shrink or grow; raises OSError."""
    fd = os.memfd_create(f"pyraft-fast {what}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, length)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(fd)
        raise
    return fd


cdef _Mapping map_memory(str what, int given, int fd, size_t least):
    """What `fd`, a copy of `given`, holds.

    Raises InvariantError for less than `least` bytes of data, or for what could still shrink.
    """
    length = os.fstat(fd).st_size
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if not seals & fcntl.F_SEAL_SHRINK or length < CONTROL_BYTES + least:
        raise InvariantError(f"descriptor {given} is no {what} ({length} bytes, seals {seals})")
    return _Mapping(fd, length)
