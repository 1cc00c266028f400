# Replies, RESP2 and RESP3, as a client or a proxy reads them. Included by _resp.pyx.

cdef struct Frame:
    char kind  # the type byte of an array, set, push, map or attribute
    Py_ssize_t left  # items it still lacks


cdef object frozen(object value):
    """A value as a map key or set member: containers become ones that can be hashed."""
    if type(value) is Map:
        return tuple([(key, frozen(item)) for key, item in value.items()])
    if isinstance(value, list):
        return tuple([frozen(item) for item in value])
    return frozenset(value) if isinstance(value, set) else value


@cython.final
cdef class ReplyParser(_Inbox):
    """Replies of a server, from the bytes that arrive.

    Bulk strings come as bytes (with `text` as str, UTF-8 with surrogateescape), simple strings as
    Status, verbatim ones as Verbatim, errors as ReplyError objects, nil as None, pushes as Push,
    maps as Map, sets as set; containers inside a set or as a key become tuples
    and frozensets. Attributes are
    dropped. With `inline` a line that begins with no type byte is an inline request, a list of
    str. `items_max` bounds the items of one container, NESTING_MAX how deep they go.
    """

    cdef bint text
    cdef bint inline
    cdef Py_ssize_t bulk_bytes_max
    cdef Py_ssize_t items_max
    cdef Py_ssize_t bulk  # bytes of the string being read, -1 before its head is read
    cdef char bulk_kind
    cdef int depth
    cdef Frame frames[NESTING_MAX]
    cdef list items  # of each frame, a flat list

    def __cinit__(
        self,
        *,
        bint text=False,
        bint inline=False,
        Py_ssize_t bulk_bytes_max=BULK_BYTES_MAX,
        Py_ssize_t items_max=ARGC_MAX,
        Py_ssize_t line_bytes_max=INLINE_BYTES_MAX,
    ):
        if line_bytes_max < LINE_BYTES_LEAST:
            raise ValueError(f"line_bytes_max is at least {LINE_BYTES_LEAST}")
        self.text = text
        self.inline = inline
        self.bulk_bytes_max = bulk_bytes_max
        self.items_max = items_max
        self.line_bytes_max = line_bytes_max
        self.bulk = -1
        self.items = []

    def take(self, Py_ssize_t count_max=PY_SSIZE_T_MAX, /):
        """At most `count_max` complete replies; empty when none is there.

        Raises ProtocolError at the first byte that cannot be right, after the replies before it
        were handed out; and at every call from then on.
        """
        cdef list replies = []
        self.enter()
        try:
            while len(replies) < count_max and self.failure is None:
                if self.read_value(replies) != 1:
                    break
        finally:
            self.parsing = False
        if self.failure is not None and not replies:
            raise ProtocolError(self.failure)
        self.tidy()
        return replies

    cdef int read_value(self, list replies) except -2:
        """Read one scalar or the head of a container: 1 read, 0 not all there, -1 failed."""
        cdef char kind
        if self.bulk >= 0:
            return self.read_bulk(replies)
        if self.start == self.end:
            return 0
        kind = self.data[self.start]
        if kind in b"$=!":
            return self.begin_bulk(kind, replies)
        if kind in b"*~>%|":
            return self.begin_container(kind, replies)
        if kind in b"+-:_#,(":
            return self.read_simple(kind, replies)
        if self.inline and not self.depth:
            words = self.read_inline()
            if words:
                replies.append(words)
            return words is not None
        got = PyUnicode_DecodeUTF8(self.data + self.start, 1, "surrogateescape")
        return self.fail(f"invalid reply type {got!a}")

    cdef int begin_bulk(self, char kind, list replies) except -2:
        cdef long long size = 0
        cdef int found = self.read_length(
            "invalid bulk length", "too big bulk count string", &size
        )
        if found != 1:
            return found
        if size == -1 and kind == 36:
            self.deliver(None, replies)
            return 1
        if size < 0 or size > self.bulk_bytes_max:
            return self.fail("invalid bulk length")
        self.bulk = <Py_ssize_t> size
        self.bulk_kind = kind
        return self.read_bulk(replies)

    cdef int read_bulk(self, list replies) except -2:
        cdef Py_ssize_t size = self.bulk
        cdef const char* p = self.data + self.start
        if self.end - self.start < size + 2:
            return 0
        if p[size] != 13 or p[size + 1] != 10:
            return self.fail("expected CR LF after bulk")
        if self.bulk_kind == 33:  # '!'
            value = ReplyError(resp_word(p, size))
        elif self.bulk_kind == 61:  # '='
            if size < 4 or p[3] != 58:
                return self.fail("invalid verbatim string")
            value = Verbatim(resp_word(p + 4, size - 4))
        elif self.text:
            value = resp_word(p, size)
        else:
            value = PyBytes_FromStringAndSize(p, size)
        self.start += size + 2
        self.bulk = -1
        self.deliver(value, replies)
        return 1

    cdef int begin_container(self, char kind, list replies) except -2:
        cdef long long count = 0
        cdef int found = self.read_length(
            "invalid multibulk length", "too big mbulk count string", &count
        )
        if found != 1:
            return found
        if count == -1 and kind == 42:
            self.deliver(None, replies)
            return 1
        if count < 0 or count > self.items_max:
            return self.fail("invalid multibulk length")
        if self.depth == NESTING_MAX:
            return self.fail(f"replies nested deeper than {NESTING_MAX}")
        if kind == 37 or kind == 124:  # '%' and '|' announce pairs
            count *= 2
        self.frames[self.depth].kind = kind
        self.frames[self.depth].left = <Py_ssize_t> count
        self.depth += 1
        self.items.append([])
        if count == 0:
            self.finish(replies)
        return 1

    cdef int deliver(self, object value, list replies) except -1:
        """Put a complete value where it belongs, and finish the containers it completes."""
        if self.depth == 0:
            replies.append(value)
            return 0
        (<list> self.items[self.depth - 1]).append(value)
        self.frames[self.depth - 1].left -= 1
        if self.frames[self.depth - 1].left == 0:
            self.finish(replies)
        return 0

    cdef int finish(self, list replies) except -1:
        self.depth -= 1
        cdef char kind = self.frames[self.depth].kind
        cdef list items = self.items.pop()
        if kind == 42:
            self.deliver(items, replies)
        elif kind == 62:
            self.deliver(Push(items), replies)
        elif kind == 126:
            self.deliver({frozen(item) for item in items}, replies)
        elif kind == 37:
            keys = [frozen(key) for key in items[::2]]
            self.deliver(Map(zip(keys, items[1::2])), replies)
        return 0

    cdef int read_simple(self, char kind, list replies) except -2:
        cdef Py_ssize_t length
        cdef int found = self.read_line("too big reply line", &length)
        if found != 1:
            return found
        cdef const char* p = self.data + self.start
        if p[length - 1] != 13:
            return self.fail("reply line without CR LF")
        line = resp_word(p + 1, length - 2)
        try:
            value = simple_value(kind, line)
        except ValueError:
            return self.fail(f"invalid {SIMPLE_NAMES[kind]} {line[:40]!a}")
        self.start += length + 1
        self.scanned = 0
        self.deliver(value, replies)
        return 1


cdef dict SIMPLE_NAMES = {58: "integer", 95: "nil", 35: "boolean", 44: "double", 40: "big number"}
cdef frozenset DOUBLE_LETTERS = frozenset("0123456789+-.eE")


cdef object simple_value(char kind, str line):
    """The value of a line behind its type byte. Raises ValueError when it is none."""
    cdef long long number = 0
    if kind == 43:  # '+'
        return Status(line)
    if kind == 45:  # '-'
        return ReplyError(line)
    if kind == 58:  # ':'
        data = line.encode("utf-8", "surrogateescape")
        if not resp_strict_number(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &number):
            raise ValueError(line)
        return number
    if kind == 95 and not line:  # '_'
        return None
    if kind == 35 and line in ("t", "f"):  # '#'
        return line == "t"
    if kind == 44 and (line in ("inf", "-inf", "nan") or DOUBLE_LETTERS.issuperset(line)):
        return float(line)
    if kind == 40:  # '('
        digits = line[1:] if line[:1] in ("-", "+") else line
        if digits.isascii() and digits.isdigit():
            return int(line)
    raise ValueError(line)
