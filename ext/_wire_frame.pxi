# Frames: bytes in, typed frames out. Included by _wire.pyx.

cdef enum:
    PREFIX_BYTES = 12
    FRAME_VERSION = 1
    MESSAGE_TYPE = 4  # the one type of frame that is known here
    KEEP_BYTES = 1048576  # a buffer grown past this is dropped when it is empty again

VERSION = FRAME_VERSION
READ_BYTES = 262144
FIRST_FRAME_BYTES_MAX = 65536 + PREFIX_BYTES  # before the other side said who it is


cdef uint32_t head_crc(int kind, const unsigned char* head, Py_ssize_t size) noexcept:
    return crc32c_extend(<uint32_t> ((kind << 16) | size), head, <size_t> size)


cdef bytes frame_start(int kind, const unsigned char* head, Py_ssize_t size, Py_ssize_t body_bytes):
    """The start of a frame with this header, up to where its body follows."""
    cdef Py_ssize_t length = PREFIX_BYTES + size + body_bytes
    cdef bytes start
    cdef unsigned char* at
    if length > PEER_FRAME_BYTES_MAX or size > 0xFFFF:
        raise ProtocolError(f"a peer frame of {length} bytes passes the bound")
    start = PyBytes_FromStringAndSize(NULL, PREFIX_BYTES + size)
    at = <unsigned char*> PyBytes_AS_STRING(start)
    put_le(at, <u64> length, 4)
    at[4] = <unsigned char> kind
    at[5] = FRAME_VERSION
    put_le(at + 6, <u64> size, 2)
    put_le(at + 8, head_crc(kind, head, size), 4)
    memcpy(at + PREFIX_BYTES, head, <size_t> size)
    return start


def encode_frame(uint8_t kind, header, Py_ssize_t body_bytes=0):
    """The start of a frame, up to where its body of `body_bytes` follows.

    Raises ProtocolError when the whole would pass PEER_FRAME_BYTES_MAX.
    """
    cdef bytes head = packb(header)
    return frame_start(
        kind, <const unsigned char*> PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head), body_bytes
    )


@cython.final
@cython.freelist(16)
cdef class Frame:
    """One received frame. `body` lies in the reader's buffer: copy what must outlive the turn."""

    cdef readonly int type
    cdef object known  # the header, if it is decoded already
    cdef bint is_decoded
    cdef object view  # what `body` shows, if it was given
    cdef bytearray buffer  # where the frame lies, if it was received ...
    cdef Py_ssize_t at  # ... and where in it the header begins
    cdef Py_ssize_t head_bytes
    cdef Py_ssize_t end

    def __init__(self, int type, header, body):
        self.type = type
        self.known = header
        self.is_decoded = True
        self.view = body

    @property
    def header(self):
        """What the header holds. Raises ProtocolError when that is no msgpack."""
        if not self.is_decoded:
            self.known = unpackb(memoryview(self.buffer)[self.at : self.at + self.head_bytes])
            self.is_decoded = True
        return self.known

    @property
    def body(self):
        """The bytes behind the header, read-only."""
        if self.view is None:
            whole = memoryview(self.buffer)[self.at + self.head_bytes : self.end]
            self.view = whole.toreadonly()
        return self.view


@cython.final
cdef class FrameReader:
    """Turns received bytes into frames, in the shape of asyncio.BufferedProtocol."""

    cdef public Py_ssize_t frame_bytes_max
    cdef bytearray buffer
    cdef Py_ssize_t start  # first byte not yet handed out
    cdef Py_ssize_t end  # first free byte

    def __init__(self, Py_ssize_t frame_bytes_max=FIRST_FRAME_BYTES_MAX):
        self.frame_bytes_max = frame_bytes_max
        self.buffer = bytearray(min(READ_BYTES, FIRST_FRAME_BYTES_MAX))
        self.start = self.end = 0

    def get_buffer(self, sizehint=-1):
        """Room for the next read; call buffer_updated with how much of it was filled."""
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(self.buffer)
        if self.start == self.end:
            self.start = self.end = 0
            if size > KEEP_BYTES:
                self.buffer = bytearray(READ_BYTES)
        elif self.end == size or self.end - self.start < self.start:
            self.make_room()
        return memoryview(self.buffer)[self.end :]

    cdef int make_room(self) except -1:
        cdef Py_ssize_t used = self.end - self.start
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(self.buffer)
        cdef bytearray fresh = bytearray(max(READ_BYTES, size * 2 if used > size // 2 else size))
        memcpy(
            PyByteArray_AS_STRING(fresh), PyByteArray_AS_STRING(self.buffer) + self.start,
            <size_t> used,
        )
        self.buffer = fresh
        self.start = 0
        self.end = used
        return 0

    def buffer_updated(self, Py_ssize_t count):
        """`count` bytes arrived in the view that get_buffer gave."""
        if count < 0 or count > PyByteArray_GET_SIZE(self.buffer) - self.end:
            check(False, "read past the frame buffer", count)
        self.end += count

    def feed(self, data):
        """Take bytes from elsewhere (tests, files)."""
        at = 0
        while at < len(data):
            room = self.get_buffer()
            count = min(len(room), len(data) - at)
            room[:count] = data[at : at + count]
            self.buffer_updated(count)
            at += count

    def frames(self):
        """Complete frames received so far. Raises ProtocolError at the first bad byte."""
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef Frame frame = self.following()
        if frame is None:
            raise StopIteration
        return frame

    cdef Frame following(self):
        """The next frame, None while it is not complete."""
        cdef Py_ssize_t have = self.end - self.start
        cdef Py_ssize_t length, head_bytes
        cdef const unsigned char* at
        cdef Frame frame
        if have < PREFIX_BYTES:
            return None
        at = <const unsigned char*> PyByteArray_AS_STRING(self.buffer) + self.start
        length = <Py_ssize_t> get_le(at, 4)
        head_bytes = <Py_ssize_t> get_le(at + 6, 2)
        if at[5] != FRAME_VERSION:
            raise ProtocolError(
                f"the peer speaks frame version {at[5]}, this node {FRAME_VERSION}"
            )
        if length < PREFIX_BYTES + head_bytes or length > self.frame_bytes_max:
            raise ProtocolError(f"a peer frame claims {length} bytes")
        if have < length:
            return None
        if head_crc(at[4], at + PREFIX_BYTES, head_bytes) != get_le(at + 8, 4):
            raise ProtocolError("a peer frame's header does not match its checksum")
        frame = Frame.__new__(Frame)
        frame.type = at[4]
        frame.buffer = self.buffer
        frame.at = self.start + PREFIX_BYTES
        frame.head_bytes = head_bytes
        frame.end = self.start + length
        if frame.type != MESSAGE_TYPE:
            frame.header  # a message's is read where it lies; any other is checked here
        self.start += length
        return frame
