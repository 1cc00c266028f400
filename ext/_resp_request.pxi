# Requests: arrays of bulk strings, and inline commands. Included by _resp.pyx.


@cython.final
cdef class Parser(_Inbox):
    """Commands of one client, from the bytes that arrive.

    `bulk_bytes_max` bounds one word, `argc_max` the words of a command, `inline_bytes_max` a line
    (an inline command or the head of an array or word), `command_bytes_max` all words together.
    """

    cdef list words  # of the command being read
    cdef Py_ssize_t left  # words it still lacks
    cdef Py_ssize_t bulk  # bytes of the word being read, -1 before its head is read
    cdef Py_ssize_t taken  # bytes of the words announced so far
    cdef Py_ssize_t bulk_bytes_max
    cdef Py_ssize_t argc_max
    cdef Py_ssize_t command_bytes_max

    def __cinit__(
        self,
        *,
        Py_ssize_t bulk_bytes_max=BULK_BYTES_MAX,
        Py_ssize_t argc_max=ARGC_MAX,
        Py_ssize_t inline_bytes_max=INLINE_BYTES_MAX,
        Py_ssize_t command_bytes_max=COMMAND_BYTES_MAX,
    ):
        if inline_bytes_max < LINE_BYTES_LEAST:
            raise ValueError(f"inline_bytes_max is at least {LINE_BYTES_LEAST}")
        self.bulk_bytes_max = bulk_bytes_max
        self.argc_max = argc_max
        self.line_bytes_max = inline_bytes_max
        self.command_bytes_max = command_bytes_max
        self.bulk = -1

    def take(self, Py_ssize_t count_max=PY_SSIZE_T_MAX, /):
        """At most `count_max` complete commands, each a list of str; empty when none is there.

        Raises ProtocolError, with the text redis-server uses, at the first byte that cannot be
        right, after the commands before it were handed out; and at every call from then on.
        """
        cdef list commands = []
        cdef list command
        cdef Py_ssize_t count = 0
        self.enter()
        try:
            while count < count_max and self.failure is None:
                command = self.read_command()
                if command is None:
                    break
                commands.append(command)
                count += 1
        finally:
            self.parsing = False
        if self.failure is not None and not count:
            raise ProtocolError(self.failure)
        self.tidy()
        return commands

    cdef list read_command(self):
        """The next command; None when it is not all there or the parser failed."""
        cdef list words
        while self.words is None:
            if self.start == self.end:
                return None
            if self.data[self.start] != 42:  # '*'
                words = self.read_inline()
                if words is None or words:
                    return words
            elif self.begin_array() != 1:
                return None
        if self.read_bulks() != 1:
            return None
        words = self.words
        self.words = None
        return words

    cdef int begin_array(self) except -2:
        """Read the head of an array; one without words is skipped."""
        cdef long long count = 0
        cdef Py_ssize_t quick = 0
        cdef Py_ssize_t room
        cdef int found
        cdef const char* after = resp_quick_length(
            self.data + self.start + 1, self.data + self.end, &quick
        )
        if after != NULL:
            count = quick
            self.start = after - self.data
            self.scanned = 0
        else:
            found = self.read_length(
                "invalid multibulk length", "too big mbulk count string", &count
            )
            if found != 1:
                return found
        if count > self.argc_max:
            return self.fail("invalid multibulk length")
        if count > 0:
            # Room for what may be there already, not for what is only announced.
            room = (self.end - self.start) // 6 + 1
            self.words = resp_new_list(room if room < count else <Py_ssize_t> count)
            self.left = <Py_ssize_t> count
            self.taken = 0
        return 1

    cdef int begin_bulk(self, const char* p) except -2:
        """Read the head of a word at `p` where the quick way did not; sets `bulk`."""
        cdef long long size = 0
        cdef int found
        self.start = p - self.data
        self.bulk = -1
        if self.start == self.end:
            return 0
        if p[0] != 36:  # '$'
            got = PyUnicode_DecodeUTF8(p, 1, "surrogateescape")
            return self.fail(f"expected '$', got '{' ' if got in '\r\n' else got}'")
        found = self.read_length("invalid bulk length", "too big bulk count string", &size)
        if found != 1:
            return found
        if size < 0 or size > self.bulk_bytes_max:
            return self.fail("invalid bulk length")
        self.bulk = <Py_ssize_t> size
        return 1

    cdef int read_bulks(self) except -2:
        """Read words until the command is complete: 1 complete, 0 not all there, -1 failed."""
        cdef list words = self.words
        cdef const char* p = self.data + self.start
        cdef const char* end = self.data + self.end
        cdef const char* after
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t bulk = self.bulk
        cdef PyObject* word
        cdef int found
        while self.left:
            if bulk < 0:
                after = NULL
                if end - p > 3 and p[0] == 36:
                    after = resp_quick_length(p + 1, end, &size)
                if after != NULL and size <= self.bulk_bytes_max:
                    p = after
                    bulk = size
                else:
                    found = self.begin_bulk(p)
                    if found != 1:
                        return found
                    p = self.data + self.start
                    bulk = self.bulk
                self.scanned = 0
                if bulk > self.command_bytes_max - self.taken:
                    return self.fail("too big command")
                self.taken += bulk
            if end - p < bulk + 2:
                break
            if p[bulk] != 13 or p[bulk + 1] != 10:
                return self.fail("expected CR LF after bulk")
            if PyList_GET_SIZE(words):
                word = resp_word_pointer(p, bulk)
            else:
                word = resp_name_pointer(p, bulk)
            resp_append(<PyObject*> words, word)
            p += bulk + 2
            bulk = -1
            self.left -= 1
        self.start = p - self.data
        self.bulk = bulk
        return self.left == 0
