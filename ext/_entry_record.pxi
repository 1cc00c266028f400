# Records: header, checksum, commands. Included by _entry.pyx.

HEADER_SIZE = HEADER_BYTES

KIND_NOTHING = 0  # no record: zeroed file, end of the log
KIND_NOOP = 1  # a term starts
KIND_COMMANDS = 2
KIND_CONFIG = 3  # who the members are
KIND_STATE = 16  # on disk only: term, vote, commit
KIND_SEGMENT = 17  # on disk only: first record of a file
KIND_RESET = 18  # on disk only: the log starts again behind a snapshot
KIND_READ = 32  # ring only: a read index is known
KIND_SNAPSHOT = 33  # ring only: install a snapshot
KIND_READ_FAILED = 34  # ring only
KIND_META = 48  # snapshot files only
KIND_CHUNK = 49
KIND_END = 50

cdef enum:
    COMMANDS = 2


def crc32c(data, uint32_t seed=0):
    """CRC-32C of `data` behind bytes whose checksum is `seed`; a u32.

    So crc32c(b, crc32c(a)) == crc32c(a + b). Source: RFC 3720, appendix B.4.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return checksum(seed, <const unsigned char*> view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


def _crc32c_by(str way, data, uint32_t seed=0):
    """One way of computing it, "table" or "hardware", whatever this CPU prefers; for tests.

    The caller asks for "hardware" only where CRC32C_HARDWARE says so.
    """
    cdef const unsigned char[::1] view = memoryview(data).cast("B")
    cdef const unsigned char* start = &view[0] if view.shape[0] else NULL
    if way == "hardware" and crc32c_uses_sse42:
        return crc32c_by_sse42(seed, start, <size_t> view.shape[0])
    return crc32c_by_table(seed, start, <size_t> view.shape[0])


@cython.final
@cython.freelist(64)
cdef class Header:
    """The fields of a record's header, as they were read; nothing says that they are right."""

    cdef readonly uint32_t length
    cdef readonly uint32_t crc
    cdef readonly u64 index
    cdef readonly u64 term
    cdef readonly u64 time_ms
    cdef readonly u64 origin
    cdef readonly u64 start
    cdef readonly u64 batch
    cdef readonly uint32_t count
    cdef readonly uint8_t kind

    def __init__(self):
        raise TypeError("a Header comes from header()")

    def _astuple(self):
        return (self.length, self.crc, self.index, self.term, self.time_ms, self.origin,
                self.start, self.batch, self.count, self.kind)

    def __eq__(self, other):
        if not isinstance(other, Header):
            return NotImplemented
        return self._astuple() == (<Header> other)._astuple()

    def __hash__(self):
        return hash(self._astuple())

    def __repr__(self):
        return (
            f"Header(length={self.length}, crc={self.crc}, index={self.index}, "
            f"term={self.term}, time_ms={self.time_ms}, origin={self.origin}, "
            f"start={self.start}, batch={self.batch}, count={self.count}, kind={self.kind})"
        )


cdef Header read_header(const unsigned char* at):
    cdef Header head = Header.__new__(Header)
    head.length = <uint32_t> get_le(at, 4)
    head.crc = <uint32_t> get_le(at + 4, 4)
    head.index = get_le(at + 8, 8)
    head.term = get_le(at + 16, 8)
    head.time_ms = get_le(at + 24, 8)
    head.origin = get_le(at + 32, 8)
    head.start = get_le(at + 40, 8)
    head.batch = get_le(at + 48, 8)
    head.count = <uint32_t> get_le(at + 56, 4)
    head.kind = at[60]
    return head


def header(buffer, Py_ssize_t offset=0):
    """The Header at `offset`; its checksum is not looked at.

    Raises ProtocolError when fewer than HEADER_SIZE bytes are there.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if offset < 0 or view.len - HEADER_BYTES < offset:
            raise ProtocolError(f"no record header at byte {offset} of {view.len}")
        return read_header(<const unsigned char*> view.buf + offset)
    finally:
        PyBuffer_Release(&view)


def verify(buffer, Py_ssize_t offset=0):
    """Whether a whole record lies at `offset`: length, kind, version and checksum are right."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if offset < 0 or offset > view.len:
            return False
        return is_whole(<const unsigned char*> view.buf + offset, view.len - offset)
    finally:
        PyBuffer_Release(&view)


cdef void seal_at(
    unsigned char* at, Py_ssize_t length, uint8_t kind, u64 index, u64 term, u64 time_ms,
    u64 origin, u64 start, u64 batch, uint32_t count,
) noexcept:
    """Put the header before a payload that makes the record at `at` `length` bytes long."""
    put_le(at, <u64> length, 4)
    put_le(at + 8, index, 8)
    put_le(at + 16, term, 8)
    put_le(at + 24, time_ms, 8)
    put_le(at + 32, origin, 8)
    put_le(at + 40, start, 8)
    put_le(at + 48, batch, 8)
    put_le(at + 56, count, 4)
    at[60] = kind
    at[61] = FORMAT_VERSION
    at[62] = at[63] = 0
    put_le(at + 4, checksum(0, at + 8, length - 8), 4)


def seal(
    uint8_t kind, u64 index, u64 term, u64 time_ms, u64 origin, u64 start, u64 batch,
    uint32_t count, payload,
):
    """A whole record as bytes.

    Raises OverflowError for a number that does not fit its field, InvariantError for kind 0 or
    a record of more than RECORD_BYTES_MAX bytes.
    """
    cdef Py_buffer view
    cdef bytes record
    cdef unsigned char* at
    cdef Py_ssize_t length
    if kind == 0:
        raise InvariantError("invariant broken: a record has a kind")
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        if view.len > RECORD_BYTES_MAX - HEADER_BYTES:
            raise InvariantError(f"invariant broken: a payload of {view.len} bytes is no record")
        length = HEADER_BYTES + view.len
        record = PyBytes_FromStringAndSize(NULL, length)
        at = <unsigned char*> PyBytes_AS_STRING(record)
        memcpy(at + HEADER_BYTES, view.buf, <size_t> view.len)
        seal_at(at, length, kind, index, term, time_ms, origin, start, batch, count)
        return record
    finally:
        PyBuffer_Release(&view)


cdef list take_commands(const unsigned char* data, Py_ssize_t size, Py_ssize_t start, object count):
    """Commands from `start` to `size`, exactly `count` of them unless it is None."""
    cdef In source
    cdef list commands = []
    source.data = data
    source.size = size
    source.at = start
    source.owed = 0
    while source.at < size:
        commands.append(take_command(&source))
    if count is not None and len(commands) != count:
        raise ProtocolError(f"{len(commands)} commands where {count} were announced")
    return commands


def decode_commands(buffer, Py_ssize_t start=0, count=None):
    """Commands of a payload, or of a record with start=HEADER_SIZE: a list of (offset, words).

    `count`, where given, must be right. Raises ProtocolError for anything but whole commands.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if start < 0 or start > view.len:
            raise ProtocolError(f"no commands at byte {start} of {view.len}")
        return take_commands(<const unsigned char*> view.buf, view.len, start, count)
    finally:
        PyBuffer_Release(&view)


cdef Py_ssize_t commands_end(const unsigned char* data, Py_ssize_t size) except -1:
    """Where the record at `data`, which must be one of commands, ends."""
    if size < HEADER_BYTES:
        raise ProtocolError(f"{size} bytes are no record")
    cdef Py_ssize_t length = <Py_ssize_t> get_le(data, 4)
    if length < HEADER_BYTES or length > size:
        raise ProtocolError(f"a record of {length} bytes in {size}")
    if data[60] != COMMANDS:
        raise ProtocolError(f"a record of kind {data[60]} has no commands")
    return length


def decode_record(record, /):
    """Commands of a COMMANDS record, which may have bytes behind it: a list of (offset, words).

    Raises ProtocolError for another kind, or when header and payload do not fit each other.
    The checksum is for whoever brought the record; see `verify`.
    """
    cdef Py_buffer view
    cdef const unsigned char* data
    cdef Py_ssize_t length
    PyObject_GetBuffer(record, &view, PyBUF_SIMPLE)
    try:
        data = <const unsigned char*> view.buf
        length = commands_end(data, view.len)
        return take_commands(data, length, HEADER_BYTES, get_le(data + 56, 4))
    finally:
        PyBuffer_Release(&view)


@cython.final
cdef class Commands:
    """Commands of a COMMANDS record in pieces, for whoever uses up one before the next is made.

    The record must not change meanwhile. Raises ProtocolError as `decode_record` does, for what
    lies in the payload when it gets there.
    """

    cdef Py_buffer view
    cdef bint held
    cdef In source
    cdef Py_ssize_t left

    def __cinit__(self, record, /):
        PyObject_GetBuffer(record, &self.view, PyBUF_SIMPLE)
        self.held = True
        self.source.data = <const unsigned char*> self.view.buf
        self.source.size = commands_end(self.source.data, self.view.len)
        self.source.at = HEADER_BYTES
        self.left = <Py_ssize_t> get_le(self.source.data + 56, 4)

    def __init__(self, record, /):
        """`record` is a record of commands, which may have bytes behind it."""

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    def take(self, Py_ssize_t count_max, /):
        """The next commands, a list of (offset, words), at most `count_max`; empty at the end."""
        cdef list commands = []
        cdef In* source = &self.source
        while self.left > 0 and len(commands) < count_max:
            if source.at == source.size:
                raise ProtocolError(f"{self.left} commands less than were announced")
            commands.append(take_command(source))
            self.left -= 1
        if self.left == 0 and source.at < source.size:
            raise ProtocolError("more commands than were announced")
        return commands


@cython.final
cdef class Records:
    """Iterates over sealed records; `offset` is where the next one is expected."""

    cdef object buffer
    cdef readonly Py_ssize_t offset
    cdef Py_ssize_t align

    def __init__(self, buffer, Py_ssize_t start, Py_ssize_t align):
        if start < 0 or align < 1:
            raise InvariantError(f"invariant broken: records from {start}, aligned to {align}")
        self.buffer = buffer
        self.offset = start
        self.align = align

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_buffer view
        cdef const unsigned char* at
        cdef Py_ssize_t left, length
        PyObject_GetBuffer(self.buffer, &view, PyBUF_SIMPLE)
        try:
            left = view.len - self.offset
            if left <= 0:
                raise StopIteration
            at = <const unsigned char*> view.buf + self.offset
            if are_zeros(at, left if left < HEADER_BYTES else HEADER_BYTES):
                raise StopIteration
            if not is_whole(at, left):
                raise ProtocolError(f"no whole record at byte {self.offset}")
            length = <Py_ssize_t> get_le(at, 4)
            record = PyBytes_FromStringAndSize(<const char*> at, length)
            self.offset += (length + self.align - 1) // self.align * self.align
            return record
        finally:
            PyBuffer_Release(&view)


cdef bint are_zeros(const unsigned char* at, Py_ssize_t size) noexcept:
    """For at most HEADER_BYTES bytes."""
    cdef unsigned char zeros[HEADER_BYTES]
    memset(zeros, 0, HEADER_BYTES)
    return memcmp(at, zeros, <size_t> size) == 0


def records(buffer, Py_ssize_t start=0, Py_ssize_t align=8):
    """Iterate over the sealed records from `start` on, each as bytes of its own.

    The next record begins at the next multiple of `align` bytes from the last one's beginning.
    Ends with the buffer or at zeros (KIND_NOTHING); raises ProtocolError at anything else that
    is no whole record, and leaves `offset` of the iterator there.
    """
    return Records(buffer, start, align)
