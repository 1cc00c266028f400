# Received bytes that are not parsed yet. Included by _resp.pyx.
#
# Bytes lie between `start` and `end` of one block of memory. Whoever holds a view of a block keeps
# it alive; a block that somebody looks at is never moved or shortened, a new one takes its place.
# Room grows by doubling and only for bytes that arrived, so a peer pays for what it takes.

cdef enum:
    ROOM_FIRST = 16384
    ROOM_IDLE = 65536  # more than this is given back when all is parsed
    WINDOW_MIN = 4096  # offered to a reader at least
    LINE_BYTES_LEAST = 32  # no bound on lines is below this, so that any number fits


cdef class _Block:
    """Memory for received bytes; seen through the buffer protocol: its part from `free` on."""

    cdef char* data
    cdef Py_ssize_t room
    cdef Py_ssize_t free
    cdef int views

    def __cinit__(self, Py_ssize_t room):
        self.data = <char*> PyMem_Malloc(room)
        if self.data == NULL:
            raise MemoryError()
        self.room = room

    def __dealloc__(self):
        PyMem_Free(self.data)

    def __getbuffer__(self, Py_buffer* view, int flags):
        view.buf = self.data + self.free
        view.obj = self
        view.len = self.room - self.free
        view.readonly = 0
        view.itemsize = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = <char*> b"B"
        view.ndim = 1
        view.shape = &view.len
        view.strides = &view.itemsize
        view.suboffsets = NULL
        view.internal = NULL
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1


cdef class _Inbox:
    """The bytes that arrived, and what both kinds of parsers do with them."""

    cdef _Block block
    cdef char* data  # of the block
    cdef Py_ssize_t room
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t scanned  # bytes after `start` that hold no end of line
    cdef object window  # the view handed out last
    cdef Py_ssize_t window_at
    cdef bint busy  # the last read filled all the room there was
    cdef bint parsing  # pointers into the block are in use
    cdef Py_ssize_t line_bytes_max
    cdef str failure  # text of the error, once there is one

    @property
    def pending(self):
        """Bytes that arrived and are not parsed yet."""
        return self.end - self.start

    def feed(self, data, /):
        """Append bytes (anything with the buffer protocol)."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len:
                self.make_room(view.len)
                memcpy(self.data + self.end, view.buf, view.len)
                self.end += view.len
        finally:
            PyBuffer_Release(&view)

    def get_buffer(self, hint=-1, /):
        """Writable room for the next read, at least 4 KiB (asyncio.BufferedProtocol).

        Fill it from its beginning and call `buffer_updated`; it is void after that.
        """
        cdef Py_ssize_t wanted = WINDOW_MIN
        if self.busy and self.start == self.end and self.room < ROOM_IDLE:
            wanted = ROOM_IDLE
        self.make_room(wanted)
        if self.window is None or self.window_at != self.end:
            self.block.free = self.end
            self.window = PyMemoryView_FromObject(self.block)
            self.window_at = self.end
        return self.window

    def buffer_updated(self, Py_ssize_t size, /):
        """`size` bytes were written into what `get_buffer` returned last.

        Raises ValueError when there was no room for as many.
        """
        if self.window is None or self.window_at != self.end:
            raise ValueError("no buffer was asked for since the last read")
        if size < 0 or size > self.room - self.end:
            raise ValueError("more bytes than the buffer has")
        self.end += size
        self.busy = self.end == self.room

    cdef int make_room(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t used = self.end - self.start
        if self.parsing:
            raise RuntimeError("fed while it parses")
        if used == 0:
            self.start = self.end = 0
        if size <= self.room - self.end:
            return 0
        if size > PY_SSIZE_T_MAX // 4 - used:
            raise MemoryError()
        if self.block is not None and self.start >= used and size <= self.room - used:
            self.window = None
            if self.block.views == 0:  # at most as many bytes move as were parsed since
                memmove(self.data, self.data + self.start, used)
                self.start = 0
                self.end = used
                return 0
        cdef Py_ssize_t room = 2 * self.room if self.room else ROOM_FIRST
        if used == 0 and size <= ROOM_IDLE:
            room = size if size > ROOM_FIRST else ROOM_FIRST
        while room < used + size:
            room *= 2
        cdef _Block block = _Block(room)
        if used:
            memcpy(block.data, self.data + self.start, used)
        self.block = block
        self.data = block.data
        self.room = room
        self.start = 0
        self.end = used
        self.window = None
        return 0

    cdef int enter(self) except -1:
        if self.parsing:  # from a finalizer, or another thread
            raise RuntimeError("pulled while it parses")
        self.parsing = True
        return 0

    cdef void tidy(self) noexcept:
        """Forget parsed bytes; give memory back when there are no others."""
        if self.start == self.end:
            self.start = self.end = 0
            if self.room > ROOM_IDLE:
                self.block = None
                self.window = None
                self.data = NULL
                self.room = 0

    cdef int fail(self, str text) except -2:
        """Remember the error; -1, so that parsers can return it."""
        self.failure = f"Protocol error: {text}"
        return -1

    cdef int read_length(self, str what, str too_big, long long* number) except -2:
        """A byte, a number, CR LF: 1 read, 0 not all there, -1 failed (which names `what`)."""
        cdef const char* p = self.data + self.start
        cdef Py_ssize_t size = self.end - self.start
        cdef const char* stop = <const char*> memchr(p + self.scanned, 13, size - self.scanned)
        cdef Py_ssize_t length = size if stop == NULL else stop - p
        if length > self.line_bytes_max:
            return self.fail(too_big)
        self.scanned = length
        if size - length < 2:
            return 0
        if stop[1] != 10 or not resp_strict_number(p + 1, length - 1, number):
            return self.fail(what)
        self.start += length + 2
        self.scanned = 0
        return 1

    cdef int read_line(self, str too_big, Py_ssize_t* length) except -2:
        """Look for LF: 1 found after `length` bytes, 0 not there yet, -1 failed."""
        cdef const char* p = self.data + self.start
        cdef Py_ssize_t size = self.end - self.start
        cdef const char* stop = <const char*> memchr(p + self.scanned, 10, size - self.scanned)
        length[0] = size if stop == NULL else stop - p
        if length[0] > self.line_bytes_max:
            return self.fail(too_big)
        self.scanned = length[0]
        return stop != NULL

    cdef list read_inline(self):
        """The words of the line at `start`; None when it is not all there or failed."""
        cdef Py_ssize_t length
        if self.read_line("too big inline request", &length) != 1:
            return None
        cdef const char* p = self.data + self.start
        cdef Py_ssize_t text = length - 1 if length and p[length - 1] == 13 else length
        cdef char few[512]
        cdef char* room = few
        if text > <Py_ssize_t> sizeof(few):
            room = <char*> PyMem_Malloc(text)
            if room == NULL:
                raise MemoryError()
        try:
            words = split_words(p, p + text, room)
        finally:
            if room != few:
                PyMem_Free(room)
        if words is None:
            self.fail("unbalanced quotes in request")
            return None
        self.start += length + 1
        self.scanned = 0
        return words


cdef list split_words(const char* p, const char* end, char* room):
    """Words of a line, quoted as redis-cli quotes; None where quotes are unbalanced."""
    cdef list words = []
    cdef Py_ssize_t size
    cdef int found
    while True:
        found = resp_split_word(&p, end, room, &size)
        if found < 0:
            return None
        if found == 0:
            return words
        words.append(resp_word(room, size) if words else resp_name(room, size))
